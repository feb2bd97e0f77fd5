"""Yearly sunspot numbers: the proved best loss of a two-layer network, next to what each method reaches with 2-3-1.

    OMP_NUM_THREADS=1 python benchmarks/sunspots_certified.py               # a few minutes of CPU time
    OMP_NUM_THREADS=1 python benchmarks/sunspots_certified.py --starts 2    # see that it works

Two years in, the next one out; leaky ReLU (slope 0.01), full wiring, biases free, half the mean squared error plus
l2/2 times the squared weights. The bound holds for every width; "from the proof" is the best network of any width cut
to three units and trained on, which no random start has to find.
"""

import argparse
import functools
import statistics
import time
from pathlib import Path

import torch
from sunspots import ALL, METHODS, windows
from table import Row, write_json
from torch import nn

from thalweg.certificates.two_layer.level import certify_point
from thalweg.certificates.two_layer.oracles import oracle_of
from thalweg.certificates.two_layer.point import to_mlp, two_layer_point
from thalweg.curvature.culprit import CurvatureError
from thalweg.heads.squared import Squared
from thalweg.models.mlp import MLP
from thalweg.objective import Objective
from thalweg.optim.descent import Descent
from thalweg.optim.quasi_newton import BFGS
from thalweg.optim.wolfe import StrongWolfe

NAMES = [
    "gradient descent, Armijo",
    "Adam, rate 0.01",
    "BFGS, strong Wolfe",
    "L-BFGS, strong Wolfe",
    "Newton, saddle-free, damped, Armijo",
    "Newton-CG, Gauss-Newton, stochastic Armijo",
    "Levenberg-Marquardt, Armijo",
]
FIRST_ORDER = NAMES[:2]
LEAK = 0.01


def objective_of(model: nn.Module, l2: float) -> Objective:
    """Return the training loss on all years."""
    return Objective(model, Squared(), *windows(ALL, 2), l2=l2)


def train(model: nn.Module, make, l2: float, steps: int) -> float:
    """Return the lowest loss on the way."""
    objective = objective_of(model, l2)
    optimizer = make(list(model.parameters()))
    best, still = float(objective.value()), 0
    for _ in range(steps):
        try:
            optimizer.step(objective)
        except CurvatureError:  # exactly on a kink there is no curvature to step by
            break
        now = float(objective.value())
        still = still + 1 if now >= best - 1e-12 else 0
        best = min(best, now)
        if still >= 20:
            break
    return best


def certified(l2: float) -> tuple[list[Row], float]:
    """Return the rows about the proof, and the bound."""
    torch.manual_seed(0)
    point = two_layer_point(objective_of(MLP([2, 3, 1], activation=lambda: nn.LeakyReLU(LEAK)).double(), l2))
    start = time.process_time()
    level, solution = certify_point(point, oracle_of(point.problem), max_rounds=100)
    seconds = time.process_time() - start
    part = f"l2={l2:g}"
    small = to_mlp(point.problem.pruned(solution.weights, 3), LEAK)
    with torch.no_grad():  # the units of the proof lie on kinks; a smooth method must start beside them
        for parameter in small.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))
    cut = train(small, lambda p: Descent(p, BFGS(), StrongWolfe()), l2, 300)
    loss = point.problem.loss
    constant = float(loss.value(torch.full_like(loss.targets, loss.targets.mean().item())))
    gap = (solution.objective - level.bound) / solution.objective
    width = len(solution.weights.ingoing)
    return [
        Row(part, "proved optimum, any width", level.bound, "loss", details={"seconds": seconds}),
        Row(part, f"reached with {width} units", solution.objective, "loss", "1e-7", gap <= 1e-7, {"gap": gap}),
        Row(part, "from the proof: cut to 3 units, trained on", cut, "loss"),
        Row(part, "a constant", constant, "loss"),
        Row(part, "seconds of the proof", seconds, "CPU seconds", "", None, {"rounds": solution.rounds}),
    ], level.bound


def main() -> None:
    """Print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--l2", type=float, nargs="+", default=[1e-3, 1e-4])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sunspots_certified.json")
    options = parser.parse_args()
    rows: list[Row] = []
    for l2 in options.l2:
        proof, bound = certified(l2)
        for row in proof:
            print(f"{row.part} {row.what:<48} {row.value:.7f} {row.unit}", flush=True)
        rows += proof
        for method in (method for method in METHODS if method.name in NAMES):
            steps = 1000 if method.name in FIRST_ORDER else 200
            losses = []
            for seed in range(options.starts):
                torch.manual_seed(seed)
                model = MLP([2, 3, 1], activation=functools.partial(nn.LeakyReLU, LEAK)).double()
                losses.append(train(model, method.make, l2, steps))
            figures = {"median": statistics.median(losses), "worst": max(losses), "losses": losses}
            figures["above"] = [loss / bound - 1.0 for loss in losses]
            row = Row(f"l2={l2:g}", f"{method.name}: best", min(losses), "loss", "", None, figures)
            median = figures["median"]
            shares = [100.0 * (value / bound - 1.0) for value in (min(losses), median, max(losses))]
            text = ", ".join(f"{share:.2f}" for share in shares)
            print(
                f"{row.part} {method.name:<48} {min(losses):.7f} best; best, median, worst {text} % above", flush=True
            )
            assert min(losses) >= bound * (1.0 - 1e-9)
            rows.append(row)
    write_json(options.out, rows, starts=options.starts)


if __name__ == "__main__":
    main()
