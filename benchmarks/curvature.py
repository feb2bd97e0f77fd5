"""What curvature costs, in gradients of the same model on the same data; and exact Hessians next to torch.func.

    OMP_NUM_THREADS=1 python benchmarks/curvature.py            # a few minutes
    OMP_NUM_THREADS=1 python benchmarks/curvature.py --samples 256 --repeats 9

Times are CPU seconds of one thread. Products are timed in turn with gradients and given as the median of the ratios, so
that a busy machine disturbs both alike. curvlinops and PyHessian get their rows where they can be imported.
"""

import argparse
import importlib.util
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scipy.sparse.linalg
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.curvature.estimate import hutchinson_trace, xtrace
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian, Scheme
from thalweg.curvature.lanczos import extreme_eigenvalues, spectral_density
from thalweg.heads.softmax import Softmax
from thalweg.models.presets import Options, Shape, pooled_transformer
from thalweg.objective import Objective

Row = dict[str, Any]


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
    options = Options(width=128, hidden=512, layers=2, heads=4, dropout=0.0)
    model = pooled_transformer(Shape(vocabulary_size=5000, max_length=64), options)
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


def in_gradients(objective: Objective, function: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median ratio to a gradient timed right before, and the median seconds of a gradient."""
    function(), objective()
    ratios, gradients = [], []
    for _ in range(repeats):
        gradient, _ = timed(objective)
        gradients.append(gradient)
        ratios.append(timed(function)[0] / gradient)
    return statistics.median(ratios), statistics.median(gradients)


def products(objective: Objective, repeats: int) -> list[Row]:
    vector = [torch.randn_like(parameter) for parameter in objective.parameters]
    ways: dict[str, Callable[[], Any]] = {}
    kinds = {
        "Hessian": Hessian(objective),
        "Hessian, graph rebuilt": Hessian(objective, scheme=Scheme.REBUILT_GRAPH, check=False),
        "Hessian, forward over reverse": Hessian(objective, scheme=Scheme.FORWARD_OVER_REVERSE, check=False),
        "Gauss-Newton": GaussNewton(objective),
    }
    for name, operator in kinds.items():
        ways[name] = lambda operator=operator: operator.product(vector)
    ways |= curvlinops_products(objective)
    rows = []
    for name, way in ways.items():
        ratio, gradient = in_gradients(objective, way, repeats)
        rows.append({"what": name, "gradients": ratio, "gradient_seconds": gradient})
    check, _ = timed(lambda: Hessian(objective) @ vector)
    rows.append({"what": "first product, with build and check", "gradients": check / rows[0]["gradient_seconds"]})
    return rows


def curvlinops_products(objective: Objective) -> dict[str, Callable[[], Any]]:
    if importlib.util.find_spec("curvlinops") is None or not isinstance(objective.model, nn.Sequential):
        return {}
    import curvlinops

    (batch,) = objective.batches
    data = [(batch.inputs["inputs"], batch.targets)]
    parameters = dict(objective.model.named_parameters())
    loss = nn.CrossEntropyLoss()
    hessian = curvlinops.HessianLinearOperator(objective.model, loss, parameters, data, check_deterministic=False)
    gauss_newton = curvlinops.GGNLinearOperator(objective.model, loss, parameters, data, check_deterministic=False)
    vector = torch.randn(hessian.shape[1])
    return {"curvlinops Hessian": lambda: hessian @ vector, "curvlinops Gauss-Newton": lambda: gauss_newton @ vector}


def spectra(objective: Objective) -> list[Row]:
    """Whole jobs on the Hessian, the check and the graph included once in a first product that is not timed."""
    hessian = Hessian(objective)
    hessian @ [torch.randn_like(parameter) for parameter in objective.parameters]
    gradient = statistics.median(timed(objective)[0] for _ in range(5))
    rows = []

    def job(name: str, function: Callable[[], Any], tell: Callable[[Any], Row]) -> None:
        before = objective.num_products
        seconds, result = timed(function)
        row = {"what": name, "gradients": seconds / gradient, "products": objective.num_products - before}
        rows.append(row | tell(result))

    def eigenvalues(result: Any) -> Row:
        return {
            "largest": result.largest.tolist(),
            "bounds": result.largest_errors.tolist(),
            "smallest": [float(result.smallest[0]), float(result.smallest_errors[0])],
        }

    job("top 5 and both ends, Lanczos", lambda: extreme_eigenvalues(hessian), eigenvalues)
    job(
        "top 5, scipy eigsh on our products, tol 1e-3",
        lambda: scipy.sparse.linalg.eigsh(hessian.to_scipy(), k=5, which="LA", tol=1e-3, return_eigenvectors=False),
        lambda values: {"largest": sorted(values.tolist(), reverse=True)},
    )
    job(
        "trace to 2 %, XTrace",
        lambda: xtrace(hessian, relative_error=0.02),
        lambda e: {"value": e.value, "standard_error": e.standard_error},
    )
    job(
        "trace, Hutchinson, 40 products",
        lambda: hutchinson_trace(hessian, 40),
        lambda e: {"value": e.value, "standard_error": e.standard_error},
    )
    job(
        "spectral density, 100 products",
        lambda: spectral_density(hessian, num_probes=4, num_steps=25),
        lambda d: {"trace": d.trace(), "share_below_zero": d.share(high=0.0)},
    )
    return rows


def dense_case(hidden: int, way: str) -> Row:
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
        "what": way,
        "parameters": size,
        "seconds": min([first, *again]),
        "first_seconds": first,
        "extra_mb": memory,
    }


def dense() -> list[Row]:
    rows = []
    for hidden, ways in ((45, ("thalweg", "torch.func", "thalweg Gauss-Newton")), (83, ("thalweg", "torch.func"))):
        for way in ways:
            command = [sys.executable, __file__, "--dense", str(hidden), way]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
                rows.append(json.loads(done.stdout))
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                rows.append({"what": way, "hidden": hidden, "failed": type(error).__name__})
    return rows


def show(title: str, rows: list[Row]) -> None:
    print(f"\n{title}")
    for row in rows:
        rest = {key: value for key, value in row.items() if key != "what"}
        print(f"  {row['what']:<48}" + "  ".join(f"{key} {rounded(value)}" for key, value in rest.items()))


def rounded(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(rounded(part) for part in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64, help="samples of the transformer's batch")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "curvature.json")
    parser.add_argument("--dense", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.dense:
        print(json.dumps(dense_case(int(arguments.dense[0]), arguments.dense[1])))
        return
    results: Row = {"torch": torch.__version__, "machine": platform.processor() or platform.machine(), "threads": 1}
    results["dense"] = dense()
    show("Exact Hessians, CPU seconds and extra memory", results["dense"])
    for name, objective in (("mlp", mlp()), ("transformer", transformer(arguments.samples))):
        size = sum(parameter.numel() for parameter in objective.parameters)
        results[name] = {"parameters": size, "products": products(objective, arguments.repeats)}
        show(f"{name}, {size:,} parameters: one product, in gradients", results[name]["products"])
        results[name]["spectra"] = spectra(objective)
        show(f"{name}: whole jobs, in gradients", results[name]["spectra"])
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.json}")


if __name__ == "__main__":
    main()
