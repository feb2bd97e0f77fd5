"""Two-layer networks to a proved gap, relaxed bounds where cells are too many, threshold networks, separability.

    OMP_NUM_THREADS=1 python benchmarks/certify_networks.py                       # about six minutes of CPU time
    OMP_NUM_THREADS=1 python benchmarks/certify_networks.py --only listed threshold

Data are Gaussian; targets of the networks are tanh of a linear function plus a sine, with noise. The strength of the
penalty is given as a fraction of the one from which on the empty network is best. CPU seconds of one thread.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from sunspots import ALL, windows
from table import Row, write_json

from thalweg.certificates.halfspaces.separable import separability
from thalweg.certificates.halfspaces.threshold import Gate, fewest_errors
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.certificates.number_losses import SquaredLoss
from thalweg.certificates.two_layer.column_generation import best_network
from thalweg.certificates.two_layer.level import certify_point
from thalweg.certificates.two_layer.neurons import Bias
from thalweg.certificates.two_layer.oracles import oracle_of
from thalweg.certificates.two_layer.point import TwoLayerPoint
from thalweg.certificates.two_layer.problem import TwoLayerProblem, Weights

SECONDS = 20.0  # for each relaxed bound


def problem_of(num: int, rank: int, fraction: float, bias: Bias = Bias.NONE) -> TwoLayerProblem:
    """Return a regression problem, its penalty a fraction of the largest that matters."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num, rank))
    y = np.tanh(x @ rng.normal(size=rank)) + 0.5 * np.sin(3.0 * x[:, 0]) + 0.1 * rng.normal(size=num)
    first = TwoLayerProblem(x, SquaredLoss(torch.from_numpy(y[:, None])), 1.0, 0.0, bias, bias)
    return dataclasses.replace(first, l2=fraction * largest_l2(first))


def listed() -> Iterator[Row]:
    """Networks on inputs of low rank, where every cell is looked into."""
    for num, rank, fraction in [
        (150, 3, 0.3), (150, 3, 0.1), (150, 3, 0.01), (400, 2, 0.1), (100, 3, 0.1), (60, 4, 0.1), (30, 5, 0.1),
    ]:  # fmt: skip
        problem = problem_of(num, rank, fraction)
        start = time.process_time()
        solution = best_network(problem, oracle_of(problem))
        seconds = time.process_time() - start
        gap = (solution.objective - solution.bound) / solution.objective
        details = {"gap": gap, "rounds": solution.rounds, "width": len(solution.weights.ingoing)}
        target = ("5 s", seconds <= 5.0 and gap <= 1e-8) if (num, rank) == (150, 3) else ("", None)
        yield Row("listed", f"n={num}, rank {rank}, {fraction:g} of the largest l2", seconds, "CPU s", *target, details)
        yield Row("listed", f"n={num}, rank {rank}, {fraction:g}: proved gap", gap * 1e9, "1e-9 of the loss")


def relaxed() -> Iterator[Row]:
    """Networks on inputs of higher rank, with the semidefinite bound: how much of the loss is left unproved."""
    for num, rank, fraction in [
        (60, 10, 0.1), (100, 10, 0.3), (100, 10, 0.1), (150, 20, 0.1), (200, 20, 0.3), (500, 20, 0.3), (500, 20, 0.1),
    ]:  # fmt: skip
        what = f"n={num}, rank {rank}, {fraction:g} of the largest l2"
        yield unproved(problem_of(num, rank, fraction), what, num <= 150 and fraction >= 0.1)
    for num, rank, fraction in [(100, 10, 0.1), (150, 20, 0.1)]:
        what = f"n={num}, rank {rank}, {fraction:g} of the largest l2"
        yield unproved(problem_of(num, rank, fraction, Bias.FREE), f"{what}, free biases", num <= 150)
        yield unproved(classes_of(num, rank, fraction), f"{what}, 3 classes", num <= 150)
    x, y = windows(ALL, 10)
    problem = TwoLayerProblem(x.double().numpy(), SquaredLoss(y.double()), 1e-3, 0.01)
    yield unproved(problem, "sunspots, ten years in, l2 = 1e-3, free biases", wanted=True, target=50.0)


def unproved(problem: TwoLayerProblem, what: str, wanted: bool, target: float = 10.0) -> Row:
    """Return the row of a problem: what is left between the best network that was found and the proved bound."""
    dimension, width = problem.features.shape[1], problem.loss.num_outputs
    nothing = Weights(
        np.zeros((1, dimension)), np.zeros(1), np.zeros((1, width)), np.zeros(width), np.zeros((dimension, width))
    )
    start, wall = time.process_time(), time.perf_counter()
    point = TwoLayerPoint(problem, nothing)
    level, solution = certify_point(point, oracle_of(problem), max_rounds=30, seconds=SECONDS)
    reached = solution.objective
    gap = 100.0 * (reached - level.bound) / reached
    details = {
        "seconds": time.process_time() - start,
        "wall": time.perf_counter() - wall,
        "bound": level.bound,
        "reached": reached,
        "width": len(solution.weights.ingoing),
        "method": level.evidence["method"],
    }
    limit = (f"{target:g} %", gap <= target) if wanted else ("", None)
    return Row("relaxed", what, gap, "% unproved", *limit, details)


def classes_of(num: int, rank: int, fraction: float) -> TwoLayerProblem:
    """Return a problem of three classes without biases, its penalty a fraction of the largest that matters."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num, rank))
    scores = np.tanh(x @ rng.normal(size=(rank, 3))) + 0.3 * rng.normal(size=(num, 3))
    loss = SoftmaxLoss.of_labels(torch.from_numpy(scores.argmax(1)), 3)
    first = TwoLayerProblem(x, loss, 1.0, 0.0, Bias.NONE, Bias.NONE)
    return dataclasses.replace(first, l2=fraction * largest_l2(first))


def largest_l2(problem: TwoLayerProblem) -> float:
    """Return the penalty from which on no neuron is worth its cost, as far as a search finds one."""
    linear = np.zeros((len(problem.features), problem.loss.num_outputs))
    if problem.output_bias is Bias.FREE:
        linear = linear + problem.loss.targets.numpy().mean(0)
    return oracle_of(problem).search(problem.array_loss.residual(linear), 0.0).neurons[0].value


def threshold() -> Iterator[Row]:
    """The AND of two threshold units on 60 points with random labels in 3 dimensions."""
    seconds, errors = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, labels = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
        start = time.process_time()
        errors.append(fewest_errors(x, labels, Gate.AND).errors)
        seconds.append(time.process_time() - start)
    yield Row("splits", "AND of two units, d=3, n=60, slowest of 10", max(seconds), "CPU s", "2 s", max(seconds) <= 2.0,
              {"median": statistics.median(seconds), "errors": errors})  # fmt: skip


def separable() -> Iterator[Row]:
    """Inseparable data: the linear program and its proof of at most d + 2 points, whose multipliers are enclosed."""
    for num, dimension in ((5000, 100), (20_000, 50)):
        rng = np.random.default_rng(0)
        x, sign = rng.normal(size=(num, dimension)), rng.choice([-1, 1], num)
        start = time.process_time()
        found = separability(x, sign)
        seconds = time.process_time() - start
        target = ("1 s", seconds <= 1.0 and not found.separable) if dimension == 50 else ("", None)
        yield Row("separable", f"n={num}, d={dimension}", seconds, "CPU s", *target,
                  {"points": len(found.points)})  # fmt: skip


PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "listed": listed, "relaxed": relaxed, "threshold": threshold, "separable": separable,
}  # fmt: skip


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "certify_networks.json")
    options = parser.parse_args()
    rows = []
    for name in options.only:
        for row in PARTS[name]():
            print(row.line(), flush=True)
            rows.append(row)
    write_json(options.out, rows)


if __name__ == "__main__":
    main()
