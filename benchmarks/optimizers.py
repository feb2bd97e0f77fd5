"""Second-order optimizers next to torch.optim.LBFGS, SciPy and scikit-learn: to the same gradient, or in the same time.

    OMP_NUM_THREADS=1 python benchmarks/optimizers.py                  # everything, about six minutes
    OMP_NUM_THREADS=1 python benchmarks/optimizers.py --only logistic  # some parts: logistic network scaling
    OMP_NUM_THREADS=1 python benchmarks/optimizers.py --quick          # see that it works; the figures mean nothing

Times are CPU seconds of one thread. Every method works on the same numbers from the same start, and is charged for all
that it does until it is done.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np
import scipy.optimize
import scipy.special
import torch
from sklearn.linear_model import LogisticRegression
from table import Row, write_json
from torch import Tensor, nn

from thalweg import vectors
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, AbstractStepSize
from thalweg.optim.descent import Descent
from thalweg.optim.initial import InverseDiagonal
from thalweg.optim.lbfgs import LBFGS, ScaledIdentity
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.quasi_newton import BFGS, SelfScaledBFGS, SelfScaledBroyden
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status

RESULTS = Path(__file__).parent / "results" / "optimizers.json"
TOLERANCE = 1e-6
L2 = 1e-6


# --- Logistic regression ----------------------------------------------------------------------------------------------


@final
class Logistic:
    """Ill-conditioned logistic regression in float64: the mean loss plus `L2 / 2 |w|^2`, no constant.

    5 % of the entries are normal random numbers, the others 0 (all stored); the columns' scales go evenly, by their
    logarithm, from 0.1 to 10, in random order. Labels are drawn from the logistic model of random weights, scaled so
    that the logits have a standard deviation of 2.
    """

    def __init__(self, rows: int, columns: int) -> None:
        generator = np.random.default_rng(0)
        x = generator.standard_normal((rows, columns)) * (generator.random((rows, columns)) < 0.05)
        x *= generator.permutation(np.logspace(-1.0, 1.0, columns))
        logits = x @ generator.standard_normal(columns)
        logits *= 2.0 / logits.std()
        y = (generator.random(rows) < scipy.special.expit(logits)).astype(np.float64)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def objective(self) -> Objective:
        """Return it as an objective at zero weights: differentiated as any other model is."""
        model = nn.Linear(self.x.shape[1], 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(model.weight)
        return Objective(model, nn.BCEWithLogitsLoss(), self.x, self.y.unsqueeze(1), l2=L2)

    def value_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """Return both by their formulas, in NumPy."""
        x, y = self.x.numpy(), self.y.numpy()
        logits = x @ w
        value = np.logaddexp(0.0, logits).sum() - y @ logits
        slope = scipy.special.expit(logits) - y
        return value / len(y) + 0.5 * L2 * (w @ w), x.T @ slope / len(y) + L2 * w


@final
class Reached(Exception):  # noqa: N818
    """The gradient is small enough: how methods without such a rule are stopped."""


@final
class Solved:
    """CPU seconds of one solve, the gradient's norm at its end and how much was evaluated."""

    def __init__(self, seconds: float, norm: float, **work: int) -> None:
        self.seconds, self.norm, self.work = seconds, norm, work


def solve_by_ours(problem: Logistic, direction: AbstractDirection, step_size: AbstractStepSize) -> Solved:
    objective = problem.objective()
    start = time.process_time()
    optimizer = Descent(objective.parameters, direction, step_size, tolerance=TOLERANCE)
    while optimizer.status in (Status.RUNNING, Status.STEPPED):
        optimizer.step(objective)
    seconds = time.process_time() - start
    work = {"gradients": objective.num_gradients, "values": objective.num_values, "products": objective.num_products}
    return Solved(seconds, float(vectors.norm(objective.value_and_gradient()[1])), **work)


def solve_by_torch(problem: Logistic, memory: int) -> Solved:
    objective = problem.objective()

    def closure() -> Tensor:
        loss = objective()
        if vectors.norm([p.grad for p in objective.parameters if p.grad is not None]) <= TOLERANCE:
            raise Reached
        return loss

    start = time.process_time()
    optimizer = torch.optim.LBFGS(
        objective.parameters,
        max_iter=10_000,
        max_eval=10_000,
        history_size=memory,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    with contextlib.suppress(Reached):
        optimizer.step(closure)
    seconds = time.process_time() - start
    norm = float(vectors.norm([p.grad for p in objective.parameters if p.grad is not None]))
    return Solved(seconds, norm, gradients=objective.num_gradients)


def solve_by_scipy(problem: Logistic, function: Callable[[np.ndarray], tuple[float, np.ndarray]]) -> Solved:
    norms: list[float] = []

    def watched(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = function(w)
        norms.append(float(np.linalg.norm(gradient)))
        if norms[-1] <= TOLERANCE:
            raise Reached
        return value, gradient

    start = time.process_time()
    options = {"maxcor": 10, "maxiter": 10_000, "maxfun": 10_000, "ftol": 0.0, "gtol": 0.0}
    with contextlib.suppress(Reached):
        scipy.optimize.minimize(watched, np.zeros(problem.x.shape[1]), jac=True, method="L-BFGS-B", options=options)
    return Solved(time.process_time() - start, norms[-1], gradients=len(norms))


def through_autograd(problem: Logistic) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    objective = problem.objective()

    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.no_grad():
            objective.parameters[0].copy_(torch.from_numpy(w).view(1, -1))
        loss, (gradient,) = objective.value_and_gradient()
        return float(loss), gradient.view(-1).numpy()

    return function


def solve_by_sklearn(problem: Logistic, solver: str) -> Solved:
    x, y = problem.x.numpy(), problem.y.numpy()
    # Its tolerance is on the largest entry of the gradient; 1e-8 ends close to what the others reach.
    model = LogisticRegression(C=1.0 / (len(y) * L2), fit_intercept=False, solver=solver, tol=1e-8, max_iter=1000)
    start = time.process_time()
    model.fit(x, y)
    seconds = time.process_time() - start
    norm = float(np.linalg.norm(problem.value_and_gradient(model.coef_[0])[1]))
    return Solved(seconds, norm, iterations=int(model.n_iter_[0]))


def logistic_solvers(problem: Logistic) -> dict[str, Callable[[], Solved]]:
    return {
        "Newton-CG, Armijo": lambda: solve_by_ours(problem, NewtonCG(damping=None), Armijo()),
        "L-BFGS from the inverse diagonal, strong Wolfe": lambda: solve_by_ours(
            problem, LBFGS(memory=20, initial=InverseDiagonal()), StrongWolfe()
        ),
        "L-BFGS, strong Wolfe": lambda: solve_by_ours(problem, LBFGS(memory=20), StrongWolfe()),
        "L-BFGS from the scaled identity, strong Wolfe": lambda: solve_by_ours(
            problem, LBFGS(memory=20, initial=ScaledIdentity()), StrongWolfe()
        ),
        "torch.optim.LBFGS, memory 100": lambda: solve_by_torch(problem, 100),
        "torch.optim.LBFGS, memory 10": lambda: solve_by_torch(problem, 10),
        "SciPy L-BFGS-B, gradient by formula": lambda: solve_by_scipy(problem, problem.value_and_gradient),
        "SciPy L-BFGS-B, gradient by autograd": lambda: solve_by_scipy(problem, through_autograd(problem)),
        "scikit-learn lbfgs": lambda: solve_by_sklearn(problem, "lbfgs"),
        "scikit-learn newton-cg": lambda: solve_by_sklearn(problem, "newton-cg"),
        "scikit-learn newton-cholesky": lambda: solve_by_sklearn(problem, "newton-cholesky"),
    }


def logistic(quick: bool) -> list[Row]:
    for solver in logistic_solvers(Logistic(200, 20)).values():  # what is loaded at the first call is not charged
        solver()
    solved = {}
    for name, solver in logistic_solvers(Logistic(*((2_000, 200) if quick else (20_000, 2_000)))).items():
        solved[name] = solver()
        print(f"  {name}: {solved[name].seconds:.2f} s, {solved[name].norm:.1e}, {solved[name].work}", flush=True)
    rows = [
        Row("logistic", name, one.seconds, "CPU s", details={"gradient_norm": one.norm, **one.work})
        for name, one in solved.items()
    ]
    newton, torch_best = solved["Newton-CG, Armijo"], min(s.seconds for n, s in solved.items() if "torch" in n)
    scipy_best = min(s.seconds for n, s in solved.items() if "SciPy" in n)
    ours = min(solved[n].seconds for n in solved if n.startswith("L-BFGS"))
    times, share = torch_best / newton.seconds, ours / scipy_best
    rows.append(Row("logistic", "torch.optim.LBFGS over our Newton-CG", times, "times", ">= 3", times >= 3.0))
    rows.append(Row("logistic", "our L-BFGS over SciPy's", share, "of its time", "<= 1", share <= 1.0))
    default = solved["L-BFGS, strong Wolfe"].seconds
    share = default / solved["L-BFGS from the inverse diagonal, strong Wolfe"].seconds
    rows.append(Row("logistic", "L-BFGS by default over that told to", share, "of its time", "<= 1.1", share <= 1.1))
    return rows


# --- A small network on all of its data -------------------------------------------------------------------------------


def network() -> Objective:
    r"""Return a tanh network 2-32-32-1 (1,185 parameters, float64) on a smooth function at 900 points.

    $$y = \sin(\pi a) \cos(\pi b) + \tfrac12 e^{-4 (a^2 + b^2)}, \qquad a, b \in [-1, 1]$$
    """
    torch.manual_seed(0)
    side = torch.linspace(-1.0, 1.0, 30, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    a, b = x[:, :1], x[:, 1:]
    y = torch.sin(math.pi * a) * torch.cos(math.pi * b) + 0.5 * torch.exp(-4.0 * (a * a + b * b))
    layers = [nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)]
    return Objective(nn.Sequential(*layers).double(), nn.MSELoss(), x, y)


def fit_for(seconds: float, make: Callable[[Objective], Callable[[], bool]]) -> tuple[float, Objective]:
    """Return the loss after a time. `make` returns what takes some steps and says whether to go on."""
    objective = network()
    step = make(objective)
    start = time.process_time()
    while time.process_time() - start < seconds and step():
        pass
    return float(objective.value()), objective


def by_ours(direction: AbstractDirection, step_size: AbstractStepSize) -> Callable[[Objective], Callable[[], bool]]:
    def make(objective: Objective) -> Callable[[], bool]:
        optimizer = Descent(objective.parameters, direction, step_size)

        def step() -> bool:
            optimizer.step(objective)
            return optimizer.status.good

        return step

    return make


def by_torch(optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]) -> Callable[[Objective], Callable[[], bool]]:
    def make(objective: Objective) -> Callable[[], bool]:
        inner = optimizer(objective.parameters)

        def step() -> bool:
            inner.step(objective)
            return True

        return step

    return make


def torch_lbfgs(memory: int) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
    settings: dict[str, Any] = {"tolerance_grad": 0.0, "tolerance_change": 0.0, "line_search_fn": "strong_wolfe"}
    return lambda parameters: torch.optim.LBFGS(parameters, max_iter=20, history_size=memory, **settings)


def networks(quick: bool) -> list[Row]:
    seconds = 1.0 if quick else 30.0
    methods = {
        "self-scaled Broyden, strong Wolfe": by_ours(SelfScaledBroyden(), StrongWolfe()),
        "Levenberg-Marquardt, Armijo": by_ours(LevenbergMarquardt(), Armijo()),
        "self-scaled BFGS, strong Wolfe": by_ours(SelfScaledBFGS(), StrongWolfe()),
        "BFGS, strong Wolfe": by_ours(BFGS(), StrongWolfe()),
        "L-BFGS, memory 100, strong Wolfe": by_ours(LBFGS(memory=100), StrongWolfe()),
        "torch.optim.LBFGS, memory 100": by_torch(torch_lbfgs(100)),
        "torch.optim.LBFGS, memory 10": by_torch(torch_lbfgs(10)),
        "torch.optim.Adam, rate 0.01": by_torch(lambda parameters: torch.optim.Adam(parameters, lr=1e-2)),
    }
    rows, losses = [], {}
    for name, make in methods.items():
        losses[name], objective = fit_for(seconds, make)
        print(f"  {name}: {losses[name]:.2e} after {objective.num_gradients} gradients", flush=True)
        details = {"loss": losses[name], "gradients": objective.num_gradients}
        rows.append(Row("network", name, math.log10(losses[name]), "log10 loss", details=details))
    reference = min(losses["torch.optim.LBFGS, memory 100"], losses["torch.optim.LBFGS, memory 10"])
    for name in list(methods)[:2]:
        times = reference / losses[name]
        what = f"torch.optim.LBFGS's loss over that of {name.split(',')[0]}"
        rows.append(Row("network", what, times, "times", ">= 100", times >= 100.0))
    return rows


# --- What a dense update costs ----------------------------------------------------------------------------------------


def scaling(quick: bool) -> list[Row]:
    """Time one step of BFGS, all but the evaluation, on quadratics of growing size: four times for twice the size."""
    sizes = (200, 400) if quick else (1_000, 2_000, 4_000, 8_000)
    rows, seconds = [], []
    for size in sizes:
        x = torch.zeros(size, dtype=torch.float64, requires_grad=True)
        scales = torch.linspace(1.0, 2.0, size, dtype=torch.float64)

        def closure(x: Tensor = x, scales: Tensor = scales) -> Tensor:
            x.grad = scales * (x.detach() - 1.0)
            return 0.5 * (scales * (x.detach() - 1.0) ** 2).sum()

        optimizer = Descent([x], BFGS(), Armijo())
        for _ in range(2):  # the matrix is made
            optimizer.step(closure)
        times = []
        for _ in range(5):
            start = time.process_time()
            optimizer.step(closure)
            times.append(time.process_time() - start)
        seconds.append(sorted(times)[2])
        rows.append(Row("scaling", f"one step of BFGS, {size:,} parameters", 1000.0 * seconds[-1], "CPU ms"))
    power = math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])
    rows.append(Row("scaling", "power of the number of parameters", power, "", "<= 2.3", power <= 2.3))
    return rows


PARTS = {"logistic": logistic, "network": networks, "scaling": scaling}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="see that it works; the figures mean nothing")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for part in arguments.only:
        print(f"{part} ...", flush=True)
        rows += PARTS[part](arguments.quick)
    for row in rows:
        print(row.line())
    write_json(arguments.out, rows, threads=1, quick=arguments.quick)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
