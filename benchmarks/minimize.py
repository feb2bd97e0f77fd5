"""`thalweg.minimize` as it is beside `scipy.optimize.minimize` as it is: problems solved, evaluations, CPU seconds.

    OMP_NUM_THREADS=1 python benchmarks/minimize.py   # half a minute

The problems are those of More, Garbow and Hillstrom, with their published starts. SciPy gets the same gradients, from
the same function, and ends by its defaults at a gradient of 1e-5, ours at 1e-6. An evaluation is one of the value,
or of value and gradient together.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import scipy.optimize
import torch
from table import Row, write_json
from torch import Tensor

from thalweg import LBFGS, minimize

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from least_squares_problems import PROBLEMS, LeastSquares

RESULTS = Path(__file__).parent / "results" / "minimize.json"
METHODS = ("ours", "ours, L-BFGS", "BFGS", "L-BFGS-B")


def solve(method: str, problem: LeastSquares) -> dict[str, Any]:
    """Return what one method reaches from the start: whether it is a published minimum, evaluations, CPU seconds."""

    def function(x: Tensor) -> Tensor:
        return 0.5 * problem.residuals(x).square().sum()

    def with_gradient(array: Any) -> tuple[float, Any]:
        x = torch.tensor(array, requires_grad=True)
        value = function(x)
        value.backward()
        assert x.grad is not None
        return value.item(), x.grad.numpy()

    start = time.process_time()
    if method.startswith("ours"):
        found = minimize(function, problem.start, direction=LBFGS() if "L-BFGS" in method else None)
        value, evaluations, ended = found.value, found.num_values + found.num_gradients, found.status.name
    else:
        reference = scipy.optimize.minimize(with_gradient, problem.start.numpy(), jac=True, method=method)
        value, evaluations, ended = float(reference.fun), int(reference.nfev), str(reference.message)
    seconds = time.process_time() - start
    solved = problem.solved(2.0 * value)
    return {"solved": solved, "evaluations": evaluations, "seconds": seconds, "value": value, "ended": ended}


def rows_of(method: str, found: dict[str, dict[str, dict[str, Any]]]) -> list[Row]:
    """Return the figures of one method."""
    own, solved = found[method], [name for name, one in found[method].items() if one["solved"]]
    rows = [Row(method, f"solved, of {len(own)}", len(solved), "problems", details=own)]
    for other in ("BFGS", "L-BFGS-B"):
        if other != method:
            pairs = [(own[name], found[other][name]) for name in solved if found[other][name]["solved"]]
            ratio = statistics.median(mine["evaluations"] / theirs["evaluations"] for mine, theirs in pairs)
            rows.append(Row(method, f"evaluations / SciPy's {other}, median of {len(pairs)}", ratio, "solved by both"))
    rows.append(Row(method, "evaluations in all", sum(one["evaluations"] for one in own.values()), "evaluations"))
    return [*rows, Row(method, "CPU time in all", sum(one["seconds"] for one in own.values()), "seconds")]


def main() -> None:
    """Solve all problems by all methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures are written")
    arguments = parser.parse_args()
    solve("ours", next(iter(PROBLEMS.values())))  # what is imported at first is not counted
    found = {method: {name: solve(method, problem) for name, problem in PROBLEMS.items()} for method in METHODS}
    rows = [row for method in METHODS for row in rows_of(method, found)]
    for row in rows:
        print(row.line())
    write_json(arguments.out, rows)


if __name__ == "__main__":
    main()
