"""Eigenvalues at both ends, and the density of all of them, from products with one matrix."""

import dataclasses
import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.curvature.operators import AbstractOperator
from thalweg.status import Status
from thalweg.vectors import Vector


@final
@dataclasses.dataclass(frozen=True)
class Spectrum:
    r"""Eigenvalues at the ends of a symmetric matrix's spectrum, each with a bound on its error.

    The matrix has an eigenvalue within `*_errors[i]` of `*[i]`: the bound is the residual
    $\lVert A y - \theta y \rVert$ of the approximate pair, plus what rounding may add. So
    `largest[0] - largest_errors[0]` is a proven lower bound of the greatest eigenvalue, and
    `smallest[0] + smallest_errors[0] < 0` proves negative curvature. That none was missed beyond the ends is very
    likely, not proven: the start would have to be almost orthogonal to it.

    Args:
        largest: the greatest eigenvalues, in descending order, float64 `[k]`.
        largest_errors: their bounds.
        largest_vectors: their eigenvectors, flat and of length one, as columns `[n, k]`.
        smallest: the least eigenvalues, in ascending order.
        smallest_errors: their bounds.
        smallest_vectors: their eigenvectors.
        status: whether the bounds reached the tolerance.
        num_products: products that were needed.
    """

    largest: Tensor
    largest_errors: Tensor
    largest_vectors: Tensor
    smallest: Tensor
    smallest_errors: Tensor
    smallest_vectors: Tensor
    status: Status
    num_products: int


def extreme_eigenvalues(
    operator: AbstractOperator,
    *,
    num_largest: int = 5,
    num_smallest: int = 1,
    tolerance: float = 2e-3,
    max_products: int = 100,
    start: Tensor | Vector | None = None,
    seed: int = 0,
) -> Spectrum:
    r"""Return eigenvalues at both ends of a symmetric matrix's spectrum, from one run of Lanczos.

    The basis is kept and reorthogonalized in full, twice at each step, so that no eigenvalue appears twice and the
    bounds hold in floating point. It ends when the bounds of all values wanted are at most `tolerance` times the
    greatest absolute eigenvalue and none of the values has moved by more in the last two steps: eigenvalues that lie
    close together come apart late. An eigenvalue is far closer than its bound, about by bound^2 / gap, when the others
    are apart from it by the gap.

    Args:
        operator: the matrix, symmetric.
        num_largest: how many at the upper end, >= 0.
        num_smallest: how many at the lower end, >= 0; together with the others at least 1.
        tolerance: on the bounds, relative to the greatest absolute value, > 0.
        max_products: products allowed.
        start: where to start, such as a sum of eigenvectors known from before; None: a random vector.
        seed: of the random vector.

    Returns:
        Eigenvalues with bounds and vectors; fewer where the matrix or the products do not give as many.

    Raises:
        ValueError: for a number out of its range.

    Example:
        >>> from thalweg.curvature.operators import Matrix
        >>> matrix = Matrix(torch.diag(torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64)))
        >>> spectrum = extreme_eigenvalues(matrix, num_largest=1)
        >>> round(float(spectrum.largest), 6), round(float(spectrum.smallest), 6)
        (3.0, -2.0)

    Source: Lanczos (1950), An Iteration Method for the Solution of the Eigenvalue Problem; the bounds: Parlett (1980),
    The Symmetric Eigenvalue Problem.

    It finds each multiple eigenvalue once.
    """
    if num_largest < 0 or num_smallest < 0 or num_largest + num_smallest < 1:
        raise ValueError(
            "extreme_eigenvalues(num_largest=..., num_smallest=...) must be at least 0, and 1 together; "
            f"got {num_largest}, {num_smallest}."
        )
    if not tolerance > 0.0 or max_products < 1:
        raise ValueError(
            "extreme_eigenvalues(tolerance=..., max_products=...) must be positive; "
            f"got {tolerance!r}, {max_products!r}."
        )
    start = random_vector(operator, seed) if start is None else start
    first = start if isinstance(start, Tensor) else vectors.flatten(start)
    history: list[Tensor] = []

    def done(run: _Tridiagonal) -> bool:
        if len(run.alphas) < min(num_largest + num_smallest, operator.size):
            return False
        values, _, errors = run.ritz()
        wanted = [*range(len(values) - num_largest, len(values)), *range(num_smallest)]
        history.append(values[wanted])
        allowed = tolerance * float(values.abs().max())
        still = len(history) > 2 and float((history[-1] - history[-3]).abs().max()) <= allowed
        return still and float(errors[wanted].max()) <= allowed

    run = tridiagonalize(operator, first, max_products, done)
    values, vectors_, errors = run.ritz()
    errors = errors + 10.0 * torch.finfo(operator.dtype).eps * values.abs().max()
    top = torch.arange(len(values)).flip(0)[:num_largest]
    bottom = torch.arange(len(values))[:num_smallest]
    status = Status.CONVERGED if run.complete or run.finished else Status.OUT_OF_ITERATIONS
    basis = run.basis[: len(values)].T
    return Spectrum(
        largest=values[top],
        largest_errors=errors[top],
        largest_vectors=basis @ vectors_[:, top].to(basis),
        smallest=values[bottom],
        smallest_errors=errors[bottom],
        smallest_vectors=basis @ vectors_[:, bottom].to(basis),
        status=status,
        num_products=len(values),
    )


@final
@dataclasses.dataclass(frozen=True)
class Density:
    r"""The spectral density $\frac1n \sum_i \delta(t - \lambda_i)$, as weighted points from several probes.

    Args:
        nodes: points, float64 `[probes, steps]`.
        weights: their weights, each probe's add up to 1.
        size: n, rows of the matrix.
        num_products: products that were needed.
    """

    nodes: Tensor
    weights: Tensor
    size: int
    num_products: int

    def on(self, grid: Tensor, width: float) -> Tensor:
        """Return the density on a grid, each point widened to a normal distribution of the given standard deviation."""
        distance = (grid.double()[:, None, None] - self.nodes) / width
        bell = torch.exp(-0.5 * distance**2) / (width * math.sqrt(2.0 * math.pi))
        return (bell * self.weights).sum(-1).mean(-1)

    def fraction(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """Return the fraction of eigenvalues in `[low, high)` and its standard error over probes."""
        inside = ((self.nodes >= low) & (self.nodes < high)) * self.weights
        return _mean_and_error(inside.sum(-1))

    def trace(self) -> tuple[float, float]:
        """Return an estimate of the trace and its standard error over probes (NaN for one probe)."""
        return _mean_and_error(self.size * (self.nodes * self.weights).sum(-1))


def spectral_density(operator: AbstractOperator, *, num_probes: int = 4, num_steps: int = 25, seed: int = 0) -> Density:
    r"""Return the density of all eigenvalues by stochastic Lanczos quadrature.

    For each random probe, `num_steps` of Lanczos give the quadrature rule of the probe's own spectral measure: nodes
    are the eigenvalues of the tridiagonal matrix and weights the squares of the first entries of its eigenvectors. More
    steps separate more of the spectrum, more probes lower the noise of the weights. The ends need no runs of their own.

    Args:
        operator: the matrix, symmetric.
        num_probes: random vectors, at least 1.
        num_steps: products for each, at least 1.
        seed: of the random vectors.

    Raises:
        ValueError: for a number below 1.

    Example:
        >>> from thalweg.curvature.operators import Matrix
        >>> density = spectral_density(Matrix(torch.diag(torch.tensor([3.0, 3.0, 1.0, 1.0]))), num_steps=2)
        >>> round(density.fraction(2.0, 4.0)[0], 6)
        0.5

    Source: Ubaru, Chen and Saad (2017), Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature; Ghorbani,
    Krishnan and Xiao (2019), An Investigation into Neural Net Optimization via Hessian Eigenvalue Density.
    """
    if num_probes < 1 or num_steps < 1:
        raise ValueError(
            f"spectral_density(num_probes=..., num_steps=...) must be at least 1; got {num_probes!r}, {num_steps!r}."
        )
    steps = min(num_steps, operator.size)
    nodes = torch.zeros(num_probes, steps, dtype=torch.float64)
    weights = torch.zeros_like(nodes)
    num_products = 0
    for probe in range(num_probes):
        # Entries of plus or minus one: with them the trace of a diagonal matrix has no noise at all.
        signs = torch.sign(random_vector(operator, seed * num_probes + probe))
        run = tridiagonalize(operator, signs, steps, lambda _: False)
        values, vectors_, _ = run.ritz()
        nodes[probe, : len(values)] = values
        weights[probe, : len(values)] = vectors_[0] ** 2
        num_products += len(values)
    return Density(nodes, weights, operator.size, num_products)


@final
@dataclasses.dataclass
class _Tridiagonal:
    """What Lanczos has found so far: T in float64 and the basis, one row a step, with one more row than T."""

    basis: Tensor
    alphas: list[float]
    betas: list[float]
    complete: bool = False
    finished: bool = False

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return eigenvalues of T in ascending order, its eigenvectors as columns, and the residuals of the pairs."""
        size = len(self.alphas)
        t = torch.diag(torch.tensor(self.alphas, dtype=torch.float64))
        if size > 1:
            off = torch.tensor(self.betas[: size - 1], dtype=torch.float64)
            t = t + torch.diag(off, 1) + torch.diag(off, -1)
        values, vectors_ = torch.linalg.eigh(t)
        return values, vectors_, self.betas[size - 1] * vectors_[-1].abs()


def tridiagonalize(
    operator: AbstractOperator, start: Tensor, max_steps: int, done: Callable[[_Tridiagonal], bool]
) -> _Tridiagonal:
    """Run Lanczos from a vector until `done`, the steps are used up, or the space is exhausted."""
    max_steps = min(max_steps, operator.size)
    basis = torch.zeros(min(max_steps, 32) + 1, len(start), dtype=start.dtype, device=start.device)
    basis[0] = start / start.norm()
    run = _Tridiagonal(basis, [], [])
    scale = 0.0
    for step in range(max_steps):
        if step + 1 == len(run.basis):
            run.basis = torch.cat([run.basis, torch.zeros_like(run.basis)])
        w = operator @ run.basis[step]
        alpha = float(torch.dot(w, run.basis[step]))
        known = run.basis[: step + 1]
        for _ in range(2):  # once leaves rounding of the size of what was taken away
            w = w - known.T @ (known @ w)
        beta = float(w.norm())
        run.alphas.append(alpha)
        run.betas.append(beta)
        scale = max(scale, abs(alpha) + beta)
        if not math.isfinite(alpha + beta):
            raise ValueError("A product with the matrix is NaN or infinite; its spectrum cannot be found.")
        if step + 1 == operator.size or beta <= 10.0 * torch.finfo(w.dtype).eps * scale:
            run.complete = True
            break
        run.basis[step + 1] = w / beta
        run.finished = done(run)
        if run.finished:
            break
    return run


def random_vector(operator: AbstractOperator, seed: int) -> Tensor:
    """Return normal random numbers, flat `[n]`, the same on every device and rank."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(operator.size, generator=generator)
    return noise.to(dtype=operator.dtype, device=operator.device)


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else math.nan
    return float(values.mean()), error
