"""Yearly sunspot numbers: what each method makes of one small network, from the same random starts.

    OMP_NUM_THREADS=1 python benchmarks/sunspots.py                     # everything, about 15 minutes of CPU time
    OMP_NUM_THREADS=1 python benchmarks/sunspots.py --starts 3          # see that it works
    python benchmarks/sunspots_pictures.py                              # the pictures of docs/sunspots.md

A network 10-5-1 reads ten years and forecasts the next; a network 2-3-1 with sparse wiring and an input skip reads two.
NMSE is the mean squared error over the variance of the true values. Seconds are CPU seconds of one thread. All numbers
are float64, and the series is scaled to [-1, 1] by the years that are trained on.
"""

import argparse
import dataclasses
import functools
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from table import Row, write_json
from torch import Tensor, nn

from thalweg.curvature.hessian import Hessian, Scheme
from thalweg.data.builtin.series import sunspots
from thalweg.heads.squared import Squared
from thalweg.models.mlp import MLP, MaskedLinear
from thalweg.objective import Objective
from thalweg.optim.damping import Damping
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Gradient
from thalweg.optim.initial import InverseGaussNewton
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo
from thalweg.optim.newton import Absolute, Floor, Newton, Shift
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.quasi_newton import BFGS, SelfScaledBFGS, SelfScaledBroyden
from thalweg.optim.stochastic import StochasticArmijo
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status

ITERATIONS = 100
GOALS = {"leaky ReLU": 0.075, "tanh": 0.062}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"leaky ReLU": nn.LeakyReLU, "tanh": nn.Tanh}
R_OPERATOR = functools.partial(Hessian, scheme=Scheme.FORWARD_OVER_REVERSE)


@final
@dataclasses.dataclass(frozen=True)
class Method:
    """A way down.

    Args:
        name: in the table.
        make: parameters -> optimizer.
        published: NMSE that a published classroom study gives for its kind, as text.
        second_order: whether the goals are set for it.
        key: short name of those that get a curve in the pictures and are tried on every experiment.
        starts: fewer random starts than the others get; 0: as many.
    """

    name: str
    make: Callable[[list[Tensor]], torch.optim.Optimizer]
    published: str = ""
    second_order: bool = True
    key: str = ""
    starts: int = 0


def descent(*parts: Any) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
    """Return a maker of a direction with a step size."""
    return lambda parameters: Descent(parameters, *parts)


# After so many pairs a quasi-Newton matrix is made anew from Gauss-Newton curvature.
START = InverseGaussNewton(damping=1e-3, refresh=30)
METHODS = [
    Method("gradient descent, fixed step 0.1", lambda p: torch.optim.SGD(p, lr=0.1), "0.196", False, "gradient"),
    Method("gradient descent, Armijo", descent(Gradient(), Armijo()), "0.196", False),
    Method("Adam, rate 0.01", lambda p: torch.optim.Adam(p, lr=0.01), "", False, "Adam"),
    Method("BFGS, strong Wolfe", descent(BFGS(), StrongWolfe()), "0.286", True),
    Method("BFGS from Gauss-Newton, strong Wolfe", descent(BFGS(initial=START), StrongWolfe()), "0.286", True, "BFGS"),
    Method("self-scaled BFGS from Gauss-Newton, strong Wolfe", descent(SelfScaledBFGS(initial=START), StrongWolfe())),
    Method(
        "self-scaled Broyden from Gauss-Newton, strong Wolfe",
        descent(SelfScaledBroyden(initial=START), StrongWolfe()),
        key="Broyden",
    ),
    Method("L-BFGS, strong Wolfe", descent(LBFGS(), StrongWolfe())),
    Method(
        "L-BFGS from Gauss-Newton, strong Wolfe",
        descent(LBFGS(initial=InverseGaussNewton(damping=1e-3, refresh=10)), StrongWolfe()),
        key="L-BFGS",
    ),
    Method("Newton, modified, damped, Armijo", descent(Newton(Floor(1e-6), Damping()), Armijo()), "0.578 (2-3-1)"),
    Method(
        "Newton, saddle-free, damped, Armijo",
        descent(Newton(Absolute(), Damping()), Armijo()),
        "0.578 (2-3-1)",
        key="Newton",
    ),
    Method(
        "Newton, shifted, damped, stochastic Armijo",
        descent(Newton(Shift(), Damping()), StochasticArmijo()),
        "0.578 (2-3-1)",
    ),
    Method(
        "Newton, saddle-free, damped, R-operator Hessian",
        descent(Newton(Absolute(), Damping(), R_OPERATOR), Armijo()),
        "not available",
        starts=5,
    ),
    Method("Newton-CG, Hessian, Armijo", descent(NewtonCG(Hessian), Armijo())),
    Method(
        "Newton-CG, Gauss-Newton, stochastic Armijo",
        descent(NewtonCG(), StochasticArmijo()),
        key="Newton-CG",
    ),
    Method("Levenberg-Marquardt, Armijo", descent(LevenbergMarquardt(), Armijo()), key="Levenberg-Marquardt"),
]


# ---- the data ----


@final
@dataclasses.dataclass(frozen=True)
class Years:
    """Which years are trained on (all their targets), and which are only forecast."""

    first: int
    last: int
    tests: tuple[tuple[int, int], ...] = ()


ALL = Years(1700, 2008)  # the built-in sample
CLASSIC = Years(1700, 1987)  # the years of the published study
SPLIT = Years(1700, 1920, ((1921, 1955), (1956, 1979)))


def windows(years: Years, lags: int, part: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Return inputs `[examples, lags]`, the latest year first, and targets `[examples, 1]`, scaled to [-1, 1].

    Args:
        years: those trained on tell the scale.
        lags: years read.
        part: first and last year of the targets; None: those trained on, after the first `lags`.
    """
    first, last = part or (years.first + lags, years.last)
    series = torch.tensor([value for _, value in sunspots()], dtype=torch.float64)
    known = series[years.first - 1700 : years.last - 1699]
    scaled = 2.0 * (series - known.min()) / (known.max() - known.min()) - 1.0
    rows = scaled[first - lags - 1700 : last - 1699].unfold(0, lags + 1, 1)
    return rows[:, :-1].flip(1).contiguous(), rows[:, -1:].contiguous()


# ---- the networks ----


def dense_network(activation: str, seed: int) -> nn.Module:
    """Return a 10-5-1 network with PyTorch's own random start."""
    torch.manual_seed(seed)
    return MLP([10, 5, 1], activation=ACTIVATIONS[activation]).double()


PUBLISHED_START = (-0.25, 0.33, 0.14, -0.17, 0.16, 0.43, 0.21, 0.25)


def sparse_network(start: tuple[float, ...]) -> nn.Module:
    """Return a 2-3-1 network of 8 weights without biases.

    The first hidden unit reads the last year, the second both years, the third the year before; that year also leads
    straight to the output. `start` goes unit by unit and ends with the output's weights of the third, second and first
    unit.
    """
    masks = [torch.tensor([[1, 0], [1, 1], [0, 1]]), None, torch.tensor([[0, 1]])]
    model = MLP([2, 3, 1], activation=nn.LeakyReLU, bias=False, input_skip=True, masks=masks).double()
    first, last, shortcut = model.layers[0], model.layers[1], model.shortcut
    assert isinstance(first, MaskedLinear)
    assert isinstance(last, nn.Linear)
    assert isinstance(shortcut, MaskedLinear)
    hidden, output, skip = first.stored, last.weight, shortcut.stored
    places = [(hidden, 0, 0), (hidden, 1, 0), (hidden, 1, 1), (skip, 0, 1), (hidden, 2, 1)]
    places += [(output, 0, 2), (output, 0, 1), (output, 0, 0)]
    with torch.no_grad():
        for (matrix, row, column), value in zip(places, start, strict=True):
            matrix[row, column] = value
    return model


def random_start(seed: int) -> tuple[float, ...]:
    """Return 8 weights, uniform in [-0.5, 0.5]."""
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(8, generator=generator, dtype=torch.float64) - 0.5).tolist())


# ---- one run ----


@final
@dataclasses.dataclass(frozen=True)
class Result:
    """One start of one method: NMSE at the end and on the way, on the years held back, seconds, the forecasts."""

    nmse: float
    tests: list[float]
    seconds: float
    trace: list[float]
    forecasts: list[float]
    tested: list[float]


def nmse(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Return the mean squared error over the targets' variance, and the forecasts."""
    with torch.no_grad():
        forecast = model(inputs)
    error = float((forecast - targets).square().mean() / targets.var(correction=0))
    return (error if math.isfinite(error) else math.inf), forecast


def run(model: nn.Module, method: Method, years: Years, lags: int) -> Result:
    """Train from where the model is."""
    inputs, targets = windows(years, lags)
    variance = float(targets.var(correction=0))
    objective = Objective(model, Squared(), inputs, targets)
    trace = []
    start = time.process_time()
    optimizer = method.make(objective.parameters)
    for _ in range(ITERATIONS):
        trace.append(2.0 * float(optimizer.step(objective)) / variance)  # type: ignore[arg-type, call-overload]
        if isinstance(optimizer, Descent) and optimizer.status in {Status.NO_STEP, Status.STATIONARY}:
            break
    seconds = time.process_time() - start
    end, forecasts = nmse(model, inputs, targets)
    tests = [nmse(model, *windows(years, lags, part)) for part in years.tests]
    trace += [end] * (ITERATIONS + 1 - len(trace))
    tested = [value for _, forecast in tests for value in forecast[:, 0].tolist()]
    return Result(end, [error for error, _ in tests], seconds, trace, forecasts[:, 0].tolist(), tested)


Task = tuple[str, str, int, int]


def work(task: Task) -> Result:
    """Run one start: which experiment, activation, method and seed."""
    experiment, activation, method, seed = task
    torch.set_num_threads(1)
    if experiment == "sparse":
        return run(sparse_network(random_start(seed)), METHODS[method], CLASSIC, 2)
    if experiment == "published start":
        return run(sparse_network(PUBLISHED_START), METHODS[method], CLASSIC, 2)
    years = {"all": ALL, "classic": CLASSIC, "split": SPLIT}[experiment]
    return run(dense_network(activation, seed), METHODS[method], years, 10)


# ---- all runs ----


def tasks(experiments: list[str], starts: int, wanted: list[str]) -> list[Task]:
    """Return every start of every method whose name holds one of the words wanted."""
    found: list[Task] = []
    for experiment in experiments:
        for index, method in enumerate(METHODS):
            num = min(starts, method.starts or starts)
            if wanted and not any(word in method.name for word in wanted):
                continue
            if experiment == "published start":
                found.append((experiment, "leaky ReLU", index, 0))
            elif experiment == "sparse" and method.key:
                found += [(experiment, "leaky ReLU", index, seed) for seed in range(num * 3 // 2)]
            elif experiment in {"all", "classic"} or (experiment == "split" and method.key):
                found += [(experiment, a, index, seed) for a in ACTIVATIONS for seed in range(num)]
    return found


def summary(results: list[Result]) -> dict[str, Any]:
    """Return median and best of some starts, the median on the way, and what the best start forecasts."""
    errors = sorted(result.nmse for result in results)
    best = min(results, key=lambda result: result.nmse)
    return {
        "median": statistics.median(errors),
        "best": errors[0],
        "seconds": statistics.median(result.seconds for result in results),
        "slowest": max(result.seconds for result in results),
        "tests": [statistics.median(part) for part in zip(*(result.tests for result in results), strict=True)],
        "all": errors,
        "trace": [statistics.median(values) for values in zip(*(result.trace for result in results), strict=True)],
        "forecasts": [round(value, 5) for value in best.forecasts],
        "tested": [round(value, 5) for value in best.tested],
    }


def rows(experiment: str, activation: str, found: dict[Task, Result]) -> list[Row]:
    """Return a row for each method."""
    made = []
    for index, method in enumerate(METHODS):
        own = [result for task, result in found.items() if task[:3] == (experiment, activation, index)]
        if not own:
            continue
        figures = summary(own)
        goal = GOALS[activation] if method.second_order and experiment in {"all", "classic"} else None
        figures |= {"published": method.published, "activation": activation, "experiment": experiment}
        figures |= {"key": method.key, "second_order": method.second_order}
        target = "" if goal is None else f"<= {goal}"
        met = None if goal is None else figures["median"] <= goal and figures["seconds"] < 1.0
        made.append(Row(experiment, f"{method.name}", figures["median"], "median NMSE", target, met, figures))
    return made


def show(made: list[Row]) -> None:
    """Print one experiment's table."""
    first = made[0].details
    print(f"\n{first['experiment']}, {first['activation']}, {len(first['all'])} starts")
    print(f"{'method':<52} {'median':>7} {'best':>7} {'tests':>15} {'seconds':>8}  {'published':<14} goal")
    for row in made:
        d = row.details
        tests = " ".join(f"{value:.3f}" for value in d["tests"])
        verdict = "" if row.met is None else "met" if row.met else "MISSED"
        print(
            f"{row.what:<52} {d['median']:7.4f} {d['best']:7.4f} {tests:>15} {d['seconds']:8.2f}  "
            f"{d['published']:<14} {row.target} {verdict}"
        )


def main() -> None:
    """Run, print, write."""
    every = ["all", "classic", "split", "sparse", "published start"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=every, default=[name for name in every if name != "classic"])
    parser.add_argument(
        "--starts", type=int, default=20, help="random starts of a method (half as many again for 2-3-1)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes; seconds are CPU seconds of each")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sunspots.json")
    parser.add_argument("--methods", nargs="+", default=[], help="only those whose names hold one of these words")
    arguments = parser.parse_args()
    todo = tasks(arguments.only, arguments.starts, arguments.methods)
    work(todo[0])  # what only the first call of a process costs
    with multiprocessing.get_context("fork").Pool(arguments.workers) as pool:
        found = dict(zip(todo, pool.imap(work, todo, chunksize=4), strict=True))
    made: list[Row] = []
    for experiment in arguments.only:
        for activation in ACTIVATIONS:
            part = rows(experiment, activation, found)
            if part:
                show(part)
                made += part
    write_json(arguments.out, made, starts=arguments.starts, iterations=ITERATIONS)


if __name__ == "__main__":
    main()
