"""Compare what the certificates of linear problems prove with exact arithmetic, over all scales.

    OMP_NUM_THREADS=1 python benchmarks/rounding.py 5000            # the bounds, and the optima of 5000 smooth problems
    OMP_NUM_THREADS=1 python benchmarks/rounding.py 1000 --first 7 --optima 0

For each loss and penalty, problems with features, targets and weights of 1e-8 to 1e8 and penalties of 1e-12 to 1e4 are
drawn, and of each: an honest certificate, which the checker must accept and whose proved bound must not be above the
exact value of its dual point (fractions, and 60 digits for logarithms); the same evidence with changed numbers, which
the checker may refuse, but may not overrate; and, for smooth losses under L2, the optimum by Newton's method in 60
digits, which no claimed bound may be above. There is no tolerance anywhere. The exit code is 1 if anything is violated.
"""

import argparse
import sys
import time
from pathlib import Path

import mpmath
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from dual_cases import KINDS, PENALTIES, exact_bound, exact_loss, optimum, wild_certificate, wild_evidence

from thalweg.certificates.certificate.interval import level_to_json
from thalweg.certificates.checker import check
from thalweg.certificates.linear.polish import polish
from thalweg.errors import InputError

SMOOTH = [kind for kind in KINDS if kind not in ("hinge", "squared_hinge")]


class Table:
    """Counts, and the sizes of rounding errors."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.errors: list[float] = []
        self.bad = 0

    def add(self, name: str) -> None:
        """Count one."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def violated(self, *words: object) -> None:
        """Count and print what must not happen."""
        self.bad += 1
        print("VIOLATED", *words, flush=True)


def honest(table: Table, seed: int, kind: str, penalty: str, wild: float) -> None:
    """Draw a certificate; compare what it proves with the exact value of its dual point."""
    try:
        level, _ = wild_certificate(np.random.default_rng(seed), kind, penalty, wild=wild)
    except InputError:
        table.add("left out")
        return
    e = dict(level.evidence)
    table.add("certificates")
    try:
        check.check_level(level_to_json(level), e)
    except check.Refused as error:
        table.violated("an honest one is refused", seed, kind, penalty, wild, error)
        return
    found = check.prove(e)
    exact = max(exact_bound(e), mpmath.mpf(e["offset"]))
    if mpmath.mpf(check.proved(found)) > exact or mpmath.mpf(level.bound) > exact:
        table.violated("bound above the exact dual value", seed, kind, penalty, wild, found, exact)
    if found.error:
        table.errors.append(found.error / max(found.size, abs(found.value)))


def forged(table: Table, seed: int, kind: str, penalty: str) -> None:
    """Change the numbers of a certificate; what the checker accepts must still be true."""
    try:
        e = wild_evidence(np.random.default_rng(seed), kind, penalty)
    except InputError:
        return
    table.add("changed")
    try:
        most = check.proved(check.prove(e))
    except (*check.ERRORS, check.Refused):
        table.add("of these refused")
        return
    if mpmath.mpf(most) > max(exact_bound(e), mpmath.mpf(e["offset"])):
        table.violated("a changed one is overrated", seed, kind, penalty)


def at_optimum(table: Table, seed: int, kind: str, wild: float) -> None:
    """Polish a head under L2, certify it, and compare with the optimum in 60 digits."""
    rng = np.random.default_rng(seed)
    try:
        _, head = wild_certificate(rng, kind, "l2", wild=wild)
        zero = head.loss.targets.new_zeros(head.features.shape[1], head.loss.num_outputs)
        result = polish(head, head.at(zero), tolerance=1e-12, seconds=5.0)
        level = head.certificate(result.point)
    except InputError:
        table.add("left out")
        return
    e = dict(level.evidence)
    table.add("optima")
    w, b = result.point.weight.numpy(), result.point.bias.numpy()
    lowest, decrement = optimum(e, w, b, steps=40)
    if decrement > abs(lowest) * mpmath.mpf("1e-20"):
        table.add("optima not reached to 20 digits")
    if mpmath.mpf(level.bound) > lowest:
        table.violated("bound above the optimum", seed, kind, wild, level.bound, lowest)
    rows = [[mpmath.mpf(float(one)) for one in row] for row in w]
    loss = exact_loss(e, rows, [mpmath.mpf(float(one)) for one in b])
    if lowest > loss:
        table.violated("Newton went up", seed, kind)


def main() -> int:
    """Draw the problems and print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", type=int)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--optima", type=int, default=None, help="how many optima; as many as problems if left out")
    options = parser.parse_args()
    begin, table, ordinary = time.process_time(), Table(), Table()
    pairs = [(kind, penalty) for kind in KINDS for penalty in PENALTIES]
    for number in range(options.problems):
        seed = options.first + number
        kind, penalty = pairs[number % len(pairs)]
        honest(table, seed, kind, penalty, 8.0)
        forged(table, seed + 10**6, kind, penalty)
        if number % 4 == 0:
            honest(ordinary, seed + 2 * 10**6, kind, penalty, 1.0)
    for number in range(options.problems if options.optima is None else options.optima):
        at_optimum(table, options.first + number + 3 * 10**6, SMOOTH[number % len(SMOOTH)], (8.0, 1.0, 3.0)[number % 3])
    for name, count in table.counts.items():
        print(f"{name:34s} {count:7d}")
    print(f"{'violated':34s} {table.bad + ordinary.bad:7d}")
    for name, one in (("scales 1e-8 to 1e8", table), ("scales 0.1 to 10", ordinary)):
        parts = np.quantile(one.errors, [0.5, 0.9, 0.99, 1.0]) if one.errors else []
        print(f"error / size of the terms, {name}: median, 90 %, 99 %, largest:", *(f"{part:.1e}" for part in parts))
    print(f"{time.process_time() - begin:.0f} CPU s")
    return 1 if table.bad + ordinary.bad else 0


if __name__ == "__main__":
    sys.exit(main())
