"""What becomes of runs when processes are killed, machines crash, disks are full and files damaged.

OMP_NUM_THREADS=1 python benchmarks/damage.py [PART ...] [--scale 0.1] [--case NAME] [--seed N] [--out damage.json]

A part's sequences go through all cases in turn, each with a seed; a line is printed for each that failed, with the
arguments that repeat it, which also keep its folder.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from disturbing import interruptions, misfortunes
from disturbing.bench import Bench, Result
from disturbing.damages import STATES, Damages
from disturbing.trainings import TIMED, TRAININGS
from table import Row, write_json

HERE = Path(__file__).parent
PARTS: Final = {  # how many sequences each has, and what they are
    "kill": (300, interruptions.killed),
    "crash": (150, interruptions.crashed),
    "timed": (10, interruptions.timed),
    "full": (40, misfortunes.full),
    "together": (60, misfortunes.together),
    "signal": (60, misfortunes.signaled),
    "clock": (30, misfortunes.clocked),
    "threads": (30, misfortunes.threaded),
    "read-only": (30, misfortunes.read_only),
    "damage": (1500, None),
}


def main() -> None:
    """Run the parts, print their table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all where none is given: {' '.join(PARTS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of sequences")
    parser.add_argument("--case", help="only this one")
    parser.add_argument("--seed", type=int, help="only this one; its folder is kept")
    parser.add_argument("--work", type=Path, help="folder to work in; default: a temporary one")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "damage.json")
    given = parser.parse_args()
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"there is no part {unknown.pop()}; the parts are {' '.join(PARTS)}")
    work = given.work or Path(tempfile.mkdtemp(prefix="thalweg-damage-"))
    bench, rows = Bench(work), []
    for part in given.parts or PARTS:
        rows.append(measured(part, bench, given.scale, given.case, given.seed))
        print(rows[-1].line(), flush=True)
    bench.close()
    write_json(given.out, rows)


def measured(part: str, bench: Bench, scale: float, only: str | None, seed: int | None) -> Row:
    """Run the sequences of a part; its row says how many ended well."""
    number, sequence = PARTS[part]
    number, begun = max(1, round(scale * number)), time.monotonic()
    run = sequence_of(sequence, bench)
    cases = [only] if only else list(STATES if sequence is None else TRAININGS) if part != "timed" else ["timed"]
    asked = [(cases[k % len(cases)], k // len(cases)) for k in range(number)] if seed is None else [(cases[0], seed)]
    kinds: Counter[str] = Counter()
    failed: list[dict[str, str]] = []
    for case, own in asked:
        result = run(case, own)
        kinds[result.kind] += 1
        if result.problem:
            failed.append({"again": result.again, "problem": result.problem})
            print(f"{result.again}\n    {result.problem[:1000]}", flush=True)
            if seed is not None:
                print(f"    kept in {bench.keep(f'{part}-{case}-{own}')}")
    details = {"seconds": time.monotonic() - begun, "kinds": dict(kinds), "failed": failed}
    well = len(asked) - len(failed)
    return Row(part, "ended as if undisturbed, or named", well, f"of {len(asked)}", "all", not failed, details)


def sequence_of(sequence: Callable[[Bench, object, int], Result] | None, bench: Bench) -> Callable[[str, int], Result]:
    """Return what runs one sequence of a case."""
    if sequence is None:
        damages = Damages(bench)
        return lambda case, seed: damages.damaged(STATES[case], seed)
    known = {**TRAININGS, TIMED.name: TIMED}
    return lambda case, seed: sequence(bench, known[case], seed)


if __name__ == "__main__":
    main()
