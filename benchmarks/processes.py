"""Whether two processes have the losses of one: every optimizer, head and model of the test, in float64.

OMP_NUM_THREADS=1 python benchmarks/processes.py [--steps 50] [--out processes.json]
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training" / "session"))

import test_ranks
from ranks import together
from table import Row, write_json

HERE = Path(__file__).parent
DIGITS = -math.log10(test_ranks.CLOSE)
EXACT = 17.0  # no difference at all


def main() -> None:
    """Train each case in one process and in two, print the largest relative difference of a loss, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "processes.json")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        test_ranks.write_data(Path(folder))
        alone = test_ranks.curves(folder, "one", given.steps)
        first, second = together(test_ranks.curves, folder, "two", given.steps, folder=folder, seconds=1800.0)
    for case, (status, losses) in alone.items():
        ended, others = first[case]
        apart = max(abs(one - two) / max(abs(one), 1e-300) for one, two in zip(losses, others, strict=True))
        digits = -math.log10(apart) if apart else EXACT
        is_same = first[case] == second[case] and ended == status
        unit = f"digits alike in {len(losses)} losses"
        rows.append(Row("two", case, digits, unit, f">= {DIGITS:.0f}", is_same and digits >= DIGITS))
        print(rows[-1].line(), flush=True)
    write_json(given.out, rows)


if __name__ == "__main__":
    main()
