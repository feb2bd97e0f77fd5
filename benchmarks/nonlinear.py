"""The problems of More, Garbow and Hillstrom (1981): what each method solves, and with how many evaluations.

    OMP_NUM_THREADS=1 python benchmarks/nonlinear.py                  # everything, some minutes
    OMP_NUM_THREADS=1 python benchmarks/nonlinear.py --small          # the 35 of the paper without the larger sizes
    OMP_NUM_THREADS=1 python benchmarks/nonlinear.py --methods LM     # those whose names hold one of the words

A problem is solved where the sum of squares is within 1e-6 of a published minimum (relative, plus 1e-12). Evaluations
are counted until then: of the function, as MINPACK's `nfev`, and of the gradient or Jacobian, as `njev`; where a method
has both from one call, the call counts once for each. A method gives up after 1,000 of them or 10 CPU seconds. All
numbers are float64.
"""

import argparse
import dataclasses
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import scipy.optimize
import torch
from table import Row, write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from least_squares_problems import PROBLEMS, LeastSquares

from thalweg.curvature.hessian import Hessian
from thalweg.errors import InputError
from thalweg.optim.base import AbstractDirection, AbstractStepSize
from thalweg.optim.descent import Descent
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo
from thalweg.optim.newton import Newton
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.quasi_newton import BFGS, SelfScaledBroyden
from thalweg.optim.trust_region import TrustRegion
from thalweg.optim.wolfe import StrongWolfe

MOST, SECONDS = 1000, 10.0  # evaluations of the function and CPU seconds for one problem
REFERENCE = "MINPACK lmder"


@final
class Solved(Exception):  # noqa: N818  (no error: the way out of a solver that does not know the goal)
    """The goal was reached, or nothing is left to be spent."""


@final
@dataclasses.dataclass
class Counts:
    """Evaluations until a problem was solved, and the least sum of squares that was seen."""

    problem: LeastSquares
    values: int = 0
    gradients: int = 0
    best: float = math.inf
    start: float = dataclasses.field(default_factory=time.process_time)

    @property
    def is_late(self) -> bool:
        """Whether there is no time left."""
        return time.process_time() - self.start > SECONDS

    def look(self, total: float) -> None:
        """Take in one evaluation of the function; leave where it solves the problem or there were too many."""
        self.values += 1
        self.best = min(self.best, total)
        if self.problem.solved(total) or self.values >= MOST or self.is_late:
            raise Solved

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """The residuals, as one evaluation."""
        found = self.problem.residuals(torch.from_numpy(x)).numpy()
        self.look(float(found @ found))
        return found

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """Their Jacobian."""
        self.gradients += 1
        return torch.func.jacrev(self.problem.residuals)(torch.from_numpy(x)).numpy()

    def value(self, x: np.ndarray) -> float:
        """Half the sum of squares."""
        return 0.5 * float((self.residuals(x) ** 2).sum())

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Its gradient."""
        self.gradients += 1
        return torch.func.grad(self.half)(torch.from_numpy(x)).numpy()

    def hessian(self, x: np.ndarray) -> np.ndarray:
        """Its Hessian, which is not counted."""
        if self.is_late:
            raise Solved
        return torch.func.hessian(self.half)(torch.from_numpy(x)).numpy()

    def half(self, x: torch.Tensor) -> torch.Tensor:
        """Half the sum of squares of a tensor, with a graph."""
        return 0.5 * self.problem.residuals(x).square().sum()


Method = Callable[[Counts], None]


def minpack(counts: Counts) -> None:
    """Run lmder by SciPy's older door, whose counts are MINPACK's own."""
    counts.values = -1  # it looks once at the shape
    x = counts.problem.start.numpy().copy()
    precise = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 0.0}
    scipy.optimize.leastsq(counts.residuals, x, Dfun=counts.jacobian, full_output=True, maxfev=MOST, **precise)


def least_squares(method: str) -> Method:
    def run(counts: Counts) -> None:
        x = counts.problem.start.numpy().copy()
        precise = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
        scipy.optimize.least_squares(
            counts.residuals, x, jac=counts.jacobian, method=method, max_nfev=MOST, x_scale="jac", **precise
        )

    return run


def minimize(method: str, *, hessian: bool = False) -> Method:
    def run(counts: Counts) -> None:
        x = counts.problem.start.numpy().copy()
        options = {"maxiter": MOST, **({"ftol": 0.0, "gtol": 0.0, "maxfun": MOST} if method == "L-BFGS-B" else {})}
        hess = counts.hessian if hessian else None
        scipy.optimize.minimize(
            counts.value, x, jac=counts.gradient, hess=hess, method=method, tol=1e-15, options=options
        )

    return run


def torch_lbfgs(counts: Counts) -> None:
    x = counts.problem.start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x], max_iter=MOST, tolerance_grad=0.0, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = counts.half(x)
        loss.backward()
        counts.gradients += 1
        counts.look(2.0 * loss.item())
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]


def ours(direction: AbstractDirection, step_size: AbstractStepSize) -> Method:
    def run(counts: Counts) -> None:
        objective = counts.problem.objective()
        optimizer = Descent(objective.parameters, direction, step_size)
        # A line search that needs slopes has the value from the same call.
        both = isinstance(step_size, StrongWolfe)
        while True:
            total = counts.problem.sum_of_squares(objective.parameters[0].detach())
            counts.best = min(counts.best, total)
            found = optimizer.counts
            counts.gradients = found["gradients"]
            counts.values = max(found["values"] + (found["gradients"] if both else 1), 1)
            done = counts.values >= MOST or counts.is_late or not optimizer.status.continues
            if counts.problem.solved(total) or done:
                return
            optimizer.step(objective)

    return run


METHODS: dict[str, Method] = {
    REFERENCE: minpack,
    "SciPy least_squares trf": least_squares("trf"),
    "SciPy BFGS": minimize("BFGS"),
    "SciPy L-BFGS-B": minimize("L-BFGS-B"),
    "SciPy Newton-CG": minimize("Newton-CG", hessian=True),
    "SciPy trust-exact": minimize("trust-exact", hessian=True),
    "torch LBFGS, strong Wolfe": torch_lbfgs,
    "LM, trust region": ours(LevenbergMarquardt(), TrustRegion()),
    "LM, Armijo": ours(LevenbergMarquardt(), Armijo()),
    "Newton, trust region": ours(Newton(), TrustRegion()),
    "Newton, Armijo": ours(Newton(), Armijo()),
    "Newton-CG, Gauss-Newton, trust region": ours(NewtonCG(), TrustRegion()),
    "Newton-CG, Gauss-Newton, Armijo": ours(NewtonCG(), Armijo()),
    "Newton-CG, Hessian, trust region": ours(NewtonCG(Hessian), TrustRegion()),
    "Newton-CG, Hessian, Armijo": ours(NewtonCG(Hessian), Armijo()),
    "BFGS, strong Wolfe": ours(BFGS(), StrongWolfe()),
    "self-scaled Broyden, strong Wolfe": ours(SelfScaledBroyden(), StrongWolfe()),
    "L-BFGS, strong Wolfe": ours(LBFGS(), StrongWolfe()),
}


def attempt(problem: LeastSquares, method: Method) -> dict[str, float | bool | str]:
    """Run one method on one problem."""
    counts, error = Counts(problem), ""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            method(counts)
        except Solved:
            pass
        except (InputError, ValueError, ArithmeticError, np.linalg.LinAlgError) as wrong:
            error = str(wrong).split("\n", 1)[0]
    return {
        "problem": problem.name,
        "solved": problem.solved(counts.best),
        "values": counts.values,
        "gradients": counts.gradients,
        "best": counts.best,
        "seconds": time.process_time() - counts.start,
        "error": error,
    }


def ratio(results: list[dict], reference: list[dict], key: str) -> float:
    """Return the geometric mean of evaluations over the reference's, where both solve the problem."""
    pairs = [(a[key], b[key]) for a, b in zip(results, reference, strict=True) if a["solved"] and b["solved"]]
    return math.exp(sum(math.log(max(a, 1) / max(b, 1)) for a, b in pairs) / len(pairs)) if pairs else math.nan


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the 35 problems at the paper's sizes")
    parser.add_argument("--methods", nargs="+", default=[], help="only those whose names hold one of these words")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "nonlinear.json")
    arguments = parser.parse_args()
    problems = [problem for problem in PROBLEMS.values() if problem.number or not arguments.small]
    chosen = [name for name in METHODS if name == REFERENCE or not arguments.methods]
    chosen += [name for name in METHODS if name not in chosen and any(word in name for word in arguments.methods)]
    print(f"{'method':<40} solved of {len(problems)}   values / {REFERENCE}'s   gradients / its   CPU s   not solved")
    rows: list[Row] = []
    reference: list[dict] = []
    for name in chosen:
        results = [attempt(problem, METHODS[name]) for problem in problems]
        reference = reference or results
        solved = sum(bool(result["solved"]) for result in results)
        values, gradients = (ratio(results, reference, key) for key in ("values", "gradients"))
        seconds = sum(float(result["seconds"]) for result in results)
        left = ", ".join(str(result["problem"]) for result in results if not result["solved"])
        print(f"{name:<40} {solved:>6} {values:>18.2f} {gradients:>22.2f} {seconds:>14.1f}   {left}", flush=True)
        target = "<= 1.2" if name == "LM, trust region" else ""
        met = values <= 1.2 if target else None
        details = {"solved": solved, "values": values, "gradients": gradients, "seconds": seconds, "runs": results}
        rows.append(Row("nonlinear", name, values, f"evaluations / {REFERENCE}", target, met, details))
    write_json(arguments.out, rows, problems=len(problems), most=MOST)


if __name__ == "__main__":
    main()
