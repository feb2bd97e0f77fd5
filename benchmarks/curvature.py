"""What curvature costs, in gradients of the same model on the same data, next to curvlinops, PyHessian and torch.func.

    OMP_NUM_THREADS=1 python benchmarks/curvature.py                # everything, some minutes
    OMP_NUM_THREADS=1 python benchmarks/curvature.py --only mlp     # some parts: dense mlp transformer

Times are CPU seconds of one thread. Whatever is compared is timed in turn with gradients, and the median of the ratios
is given, so that a busy machine disturbs both alike. Graphs are made and checked before, by all libraries; the price of
that has rows of its own. Peers get rows where they can be imported (README.md there says how).
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from curvature_peers import Needs, Peer, curvlinops, pyhessian
from table import Row, write_json
from torch import nn

from thalweg.batch import Batch
from thalweg.curvature.estimate import hutchinson_trace, xtrace
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian, Scheme
from thalweg.curvature.lanczos import extreme_eigenvalues, spectral_density
from thalweg.curvature.split_trace import hessian_trace
from thalweg.heads.softmax import Softmax
from thalweg.models.presets import ModelOptions, ModelShape, pooled_transformer
from thalweg.objective import Objective

RESULTS = Path(__file__).parent / "results" / "curvature.json"
PRODUCTS = {"mlp": {"Hessian": 1.9, "Gauss-Newton": 1.3}, "transformer": {"Hessian": 2.7, "Gauss-Newton": 1.7}}
JOBS = {
    "eigenvalues": "5 largest eigenvalues and the smallest",
    "trace": "trace to 2 %",
    "density": "density, 100 products",
}


def mlp() -> Objective:
    """A ReLU network 100-256-256-10 on 2,000 points whose labels a random linear map gives, with noise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(100, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    inputs = torch.randn(2000, 100)
    targets = (inputs @ torch.randn(100, 10) + 5.0 * torch.randn(2000, 10)).argmax(1)
    return trained(Objective(model, nn.CrossEntropyLoss(), inputs, targets), 60)


def transformer(num_samples: int) -> Objective:
    """A pre-norm encoder: 2 layers, width 128, 4 heads, vocabulary 5,000, 64 tokens, 4 classes."""
    torch.manual_seed(0)
    options = ModelOptions(width=128, hidden=512, layers=2, heads=4, dropout=0.0)
    model = pooled_transformer(ModelShape(vocabulary_size=5000, max_length=64), options)
    tokens = torch.randint(4, 5000, (num_samples, 64))
    targets = torch.randint(4, (num_samples,))
    return trained(Objective(model, Softmax(128, 4), Batch({"tokens": tokens}, targets)), 20)


def trained(objective: Objective, steps: int) -> Objective:
    optimizer = torch.optim.Adam(objective.parameters, lr=1e-3)
    for _ in range(steps):
        optimizer.step(objective)
    return objective


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


@final
class Clock:
    """Times whatever it is given in gradients of one objective, measured right before and right after it."""

    def __init__(self, part: str, objective: Objective) -> None:
        self.part, self.objective = part, objective
        objective()

    def gradients(self, function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
        """Return the median ratio, and the last result."""
        ratios, result = [], None
        num_gradients = 1 if repeats > 3 else 3
        for _ in range(repeats):
            around = [timed(self.objective)[0] for _ in range(num_gradients)]
            seconds, result = timed(function)
            around += [timed(self.objective)[0] for _ in range(num_gradients)]
            ratios.append(seconds / statistics.mean(around))
        return statistics.median(ratios), result


def products(clock: Clock, peer: Peer, repeats: int) -> list[Row]:
    objective = clock.objective
    vector = [torch.randn_like(parameter) for parameter in objective.parameters]
    kinds = {
        "Hessian": Hessian(objective),
        "Gauss-Newton": GaussNewton(objective),
        "Hessian, graph rebuilt": Hessian(objective, scheme=Scheme.REBUILT_GRAPH, check=False),
        "Hessian, forward over reverse": Hessian(objective, scheme=Scheme.FORWARD_OVER_REVERSE, check=False),
    }
    ways: dict[str, Callable[[], Any]] = {
        name: lambda operator=operator: operator.product(vector) for name, operator in kinds.items()
    }
    ways |= {f"{peer.name}'s {name}": way for name, way in peer.products.items()}
    rows = []
    for name, way in ways.items():
        way()
        value, _ = clock.gradients(way, repeats)
        limit = PRODUCTS[clock.part].get(name)
        verdict = ("", None) if limit is None else (f"<= {limit}", value <= limit)
        rows.append(Row(clock.part, f"{name}, one product", value, "gradients", *verdict))
    for name, make in (("Hessian", Hessian), ("Gauss-Newton", GaussNewton)):
        value, _ = clock.gradients(lambda make=make: make(objective) @ vector, 1)
        rows.append(Row(clock.part, f"{name}, the first with graph and check", value, "gradients"))
    return rows


def spectra(clock: Clock, repeats: int) -> list[Row]:
    """Time whole jobs on a Hessian that has been multiplied with before."""
    hessian = Hessian(clock.objective)
    hessian @ torch.zeros(hessian.size)
    by_hutchinson = hutchinson_trace(hessian, 40)
    cost_of_values, values = clock.gradients(lambda: extreme_eigenvalues(hessian), repeats)
    cost_of_trace, trace = clock.gradients(lambda: hessian_trace(hessian, relative_error=0.02), repeats)
    cost_of_density, density = clock.gradients(lambda: spectral_density(hessian, num_probes=4, num_steps=25), 1)
    costs = {"eigenvalues": cost_of_values, "trace": cost_of_trace, "density": cost_of_density}
    found = {
        "eigenvalues": {
            "largest": values.largest.tolist(),
            "bounds": values.largest_errors.tolist(),
            "smallest": [float(values.smallest[0]), float(values.smallest_errors[0])],
            "products": values.num_products,
        },
        "trace": {"value": trace.value, "standard_error": trace.standard_error, "products": trace.num_products},
        "density": {"trace": density.trace(), "products": density.num_products},
    }
    rows = []
    for kind, cost in costs.items():
        verdict = ("<= 37", cost <= 37.0) if (clock.part, kind) == ("mlp", "eigenvalues") else ("", None)
        rows.append(Row(clock.part, JOBS[kind], cost, "gradients", *verdict, details=found[kind]))
    sd = by_hutchinson.standard_error * 40**0.5
    needs = Needs(
        trace_products=xtrace(hessian, relative_error=0.02).num_products,
        hutchinson_products=math.ceil((sd / (0.02 * trace.value)) ** 2),
        ends=(float(values.smallest[0]), float(values.largest[0])),
    )
    for peer in (curvlinops(clock.objective, needs), pyhessian(clock.objective, needs)):
        rows += peer_rows(clock, peer, costs)
    return rows


def peer_rows(clock: Clock, peer: Peer, costs: dict[str, float]) -> list[Row]:
    rows = []
    for job in peer.jobs:
        if clock.part == "mlp":
            job.run()  # what is loaded or traced at the first call is not charged
        cost, result = clock.gradients(job.run, 1)
        cost /= job.share
        what = f"{peer.name}, {job.kind}: {job.how}"
        details = {"result": result, "share_measured": job.share}
        rows.append(Row(clock.part, what, cost, "gradients", details=details))
        times = cost / costs[job.kind]
        verdict = (">= 2", times >= 2.0) if job.comparable else ("", None)
        rows.append(Row(clock.part, "    over ours", times, "times", *verdict))
    return rows + [
        Row(clock.part, f"{peer.name}, {what}", math.nan, f"cannot: {reason[:60]}")
        for what, reason in peer.cannot.items()
    ]


def network(part: str, objective: Objective, repeats: int) -> list[Row]:
    clock = Clock(part, objective)
    only_products = Needs(trace_products=2, hutchinson_products=2, ends=(-1.0, 1.0))
    return products(clock, curvlinops(objective, only_products), repeats) + spectra(clock, min(repeats, 3))


def dense_case(hidden: int, way: str) -> dict[str, Any]:
    """One exact Hessian of a tanh network with 200 points, in a process of its own, with the memory it took."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2))
    inputs, targets = torch.randn(200, 10), torch.randn(200, 2)
    objective = Objective(model, nn.MSELoss(), inputs, targets)
    objective()
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(torch.func.functional_call(model, tensors, (inputs,)), targets)

    ways: dict[str, Callable[[], Any]] = {
        "thalweg": lambda: Hessian(objective).dense(),
        "torch.func": lambda: torch.func.hessian(loss)(parameters),
        "thalweg Gauss-Newton": lambda: GaussNewton(objective).dense(),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, _ = timed(ways[way])
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    again = [timed(ways[way])[0] for _ in range(2 if first < 5 else 0)]
    size = sum(parameter.numel() for parameter in model.parameters())
    return {
        "parameters": size,
        "seconds": min([first, *again]),
        "first_seconds": first,
        "extra_mb": memory,
    }


def dense() -> list[Row]:
    measured: dict[tuple[int, str], dict[str, float]] = {}
    for hidden, ways in ((45, ("thalweg", "torch.func", "thalweg Gauss-Newton")), (83, ("thalweg", "torch.func"))):
        for way in ways:
            command = [sys.executable, __file__, "--case", str(hidden), way]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
            measured[hidden, way] = json.loads(done.stdout)
    rows = []
    for (_, way), one in measured.items():
        what = f"{way}, dense, {one['parameters']:,} parameters"
        limit = 3.5 if way == "thalweg" and one["parameters"] > 8000 else None  # "about 3 s"
        verdict = ("", None) if limit is None else (f"<= {limit}", one["seconds"] <= limit)
        rows.append(Row("dense", what, one["seconds"], "CPU s", *verdict, details=one))
    for hidden in (45, 83):
        ours, theirs = measured[hidden, "thalweg"], measured[hidden, "torch.func"]
        times, share = theirs["seconds"] / ours["seconds"], ours["extra_mb"] / theirs["extra_mb"]
        size = f"{ours['parameters']:,} parameters"
        rows.append(Row("dense", f"torch.func over ours, {size}", times, "times", ">= 2", times >= 2.0))
        rows.append(Row("dense", f"our memory over its, {size}", share, "of it", "<= 0.25", share <= 0.25))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("dense", "mlp", "transformer")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--samples", type=int, default=64, help="samples of the transformer's batch")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.case:
        print(json.dumps(dense_case(int(arguments.case[0]), arguments.case[1])))
        return
    rows: list[Row] = []
    for part in arguments.only:
        if part == "dense":
            some = dense()
        else:
            some = network(part, mlp() if part == "mlp" else transformer(arguments.samples), arguments.repeats)
        for row in some:
            print(row.line(), flush=True)
        rows += some
    write_json(arguments.out, rows, threads=1, samples=arguments.samples)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
