"""The same jobs by curvlinops and PyHessian, on the same model and data, where they can be imported."""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg import vectors
from thalweg.objective import Objective

AT_ONCE = 4  # random vectors that curvlinops multiplies together here: with all of a trace's it needs 20 GB and more


@final
@dataclass
class Job:
    """One way to do one job.

    Args:
        kind: which job.
        how: by which method.
        run: does it, or a part of it.
        share: how much of the job `run` does.
        comparable: whether it gives what ours gives, with an error where ours states one.
    """

    kind: str
    how: str
    run: Callable[[], Any]
    share: float = 1.0
    comparable: bool = True


@final
@dataclass
class Peer:
    """What one library can do here, and what it cannot, with the reason."""

    name: str
    products: dict[str, Callable[[], Any]] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    cannot: dict[str, str] = field(default_factory=dict)


@final
class Plain(nn.Module):
    """Model and head as one module of one input, which is what the peers take.

    Args:
        objective: with one batch of one input, and a softmax head.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.model, self.head = objective.model, objective.head
        (self.name,) = objective.batches[0].inputs
        self.positional = isinstance(objective.model, nn.Sequential)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.model(x) if self.positional else self.model(**{self.name: x}))


@final
@dataclass
class Needs:
    """What ours needed or found, for jobs that do as much.

    Args:
        trace_products: of XTrace, for a standard error of 2 %.
        hutchinson_products: of Hutchinson's estimator, for a standard error of 2 %.
        ends: of the spectrum.
    """

    trace_products: int
    hutchinson_products: int
    ends: tuple[float, float]


def curvlinops(objective: Objective, needs: Needs) -> Peer:
    """Return the jobs of curvlinops. Its estimates of a trace come without an error.

    That of Hutchinson's can be found by estimating again and again, so it is charged for the products that 2 % need.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, at import
            import curvlinops as peer
            from curvlinops.papyan2020traces.spectrum import lanczos_approximate_spectrum
    except ImportError as error:
        return Peer("curvlinops", cannot={"everything": str(error)})
    (batch,) = objective.batches
    data = [(next(iter(batch.inputs.values())), batch.targets)]

    def operator(kind: Any) -> Any:
        model = copy.deepcopy(Plain(objective))  # a parameter with two names is not put back after a product
        arguments = (model, nn.CrossEntropyLoss(), vectors.trainable(model.parameters()), data)
        return _plainly(lambda: kind(*arguments, check_deterministic=False))()

    hessian, gauss_newton = operator(peer.HessianLinearOperator), operator(peer.GGNLinearOperator)
    vector = torch.randn(hessian.shape[1])

    def largest() -> list[float]:
        values = scipy.sparse.linalg.eigsh(hessian.to_scipy(), k=5, which="LA", tol=1e-3, return_eigenvectors=False)
        return sorted(values.tolist(), reverse=True)

    def density(num_repeats: int, ends: tuple[float, float] | None) -> int:
        settings = {"num_points": 100, "num_repeats": num_repeats, "boundaries": ends}
        return len(lanczos_approximate_spectrum(hessian, 25, **settings)[0])

    even = 2 * math.ceil(needs.trace_products / 2)
    share = AT_ONCE / needs.hutchinson_products
    jobs = [
        Job("eigenvalues", "eigsh, no lower end", largest),
        Job("trace", "Hutchinson", lambda: float(peer.hutchinson_trace(hessian, AT_ONCE)), share),
        Job("trace", f"XTrace, {even} products, no error", lambda: float(peer.xtrace(hessian, even)), comparable=False),
        Job("density", "the ends given", lambda: density(1, needs.ends), 0.25),
    ]
    if hessian.shape[1] < 500_000:  # it looks for the ends first, which takes much longer than the density itself
        jobs.append(Job("density", "as it is called", lambda: density(4, None)))
    for job in jobs:
        job.run = _plainly(job.run)
    products = {"Hessian": lambda: hessian @ vector, "Gauss-Newton": lambda: gauss_newton @ vector}
    return Peer("curvlinops", {name: _plainly(run) for name, run in products.items()}, jobs)


def pyhessian(objective: Objective, needs: Needs) -> Peer:
    """Return the jobs of PyHessian.

    Its trace ends when two means agree by chance, so it is charged for the products that 2 % need.
    """
    try:
        from pyhessian import hessian as make
    except ImportError as error:
        return Peer("PyHessian", cannot={"everything": str(error)})
    (batch,) = objective.batches
    data = (next(iter(batch.inputs.values())), batch.targets)

    def operator() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # backward(create_graph=True)
            return make(copy.deepcopy(Plain(objective)), nn.CrossEntropyLoss(), data=data, cuda=False)

    kept = _plainly(operator)()
    products = min(needs.hutchinson_products, 20)
    share = products / needs.hutchinson_products
    jobs = [
        Job("eigenvalues", "power iteration, no bounds", lambda: [float(v) for v in kept.eigenvalues(top_n=5)[0]]),
        Job("trace", "Hutchinson", lambda: float(np.mean(kept.trace(maxIter=products, tol=0.0))), share),
        Job("density", "Lanczos", lambda: len(kept.density(iter=25, n_v=1)[0]), 0.25),
    ]
    peer = Peer("PyHessian", jobs=jobs)
    for job in peer.jobs:
        job.run = _plainly(job.run)
    try:
        _plainly(lambda: kept.density(iter=2, n_v=1))()
    except RuntimeError as error:
        peer.cannot["density"] = str(error).split("\n")[0]
        peer.jobs.pop()
    return peer


def _plainly(function: Callable[[], Any]) -> Callable[[], Any]:
    """Run in attention's plain form; neither library works with the fused one."""

    def run() -> Any:
        with sdpa_kernel(SDPBackend.MATH):
            return function()

    return run
