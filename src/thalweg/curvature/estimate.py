"""Trace, diagonal and Frobenius norm from products with random vectors, each with its standard error."""

import dataclasses
import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from thalweg.curvature.operators import AbstractOperator
from thalweg.errors import require


@final
@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number known up to noise.

    Args:
        value: the estimate.
        standard_error: its standard error, from the spread of its parts; NaN if there is one part only.
        num_products: products that were needed.
    """

    value: float
    standard_error: float
    num_products: int


@final
@dataclasses.dataclass(frozen=True)
class DiagonalEstimate:
    """A diagonal known up to noise.

    Args:
        value: the estimate, flat `[n]`.
        standard_error: its standard errors, flat `[n]`.
        num_products: products that were needed.
    """

    value: Tensor
    standard_error: Tensor
    num_products: int


def hutchinson_trace(operator: AbstractOperator, num_products: int, *, seed: int = 0) -> Estimate:
    r"""Return the mean of $v^\top A v$ over random signs $v$, an unbiased estimate of the trace.

    The variance of each is $2 \sum_{i \ne j} A_{ij}^2$ (A symmetric).

    Args:
        operator: A.
        num_products: random vectors, at least 2.
        seed: of the random vectors.

    Raises:
        ValueError: for fewer than 2 products.

    Source: Hutchinson (1989), A Stochastic Estimator of the Trace of the Influence Matrix.
    """
    require(num_products >= 2, "hutchinson_trace(num_products=...) must be at least 2", num_products)
    parts = torch.cat([_forms(operator, some) for some in _signs(operator, num_products, _generator(seed))])
    return _estimate(parts, num_products)


def hutch_plus_plus(operator: AbstractOperator, num_products: int, *, seed: int = 0) -> Estimate:
    r"""Return the trace on a sketched space exactly, and Hutchinson's estimate of the rest.

    With $Q$ an orthonormal basis of $A S$ for random signs $S$ and $P = I - Q Q^\top$:
    $\operatorname{tr}(Q^\top A Q) + \operatorname{mean}(v^\top P A P v)$. The error falls as one over the number of
    products, not as its root, and faster where the spectrum decays.

    Args:
        operator: A, symmetric.
        num_products: in all, at least 6; a third goes into each part.
        seed: of the random vectors.

    Raises:
        ValueError: for fewer than 6 products.

    Source: Meyer, Musco, Musco and Woodruff (2021), Hutch++: Optimal Stochastic Trace Estimation.
    """
    require(num_products >= 6, "hutch_plus_plus(num_products=...) must be at least 6", num_products)
    size = min(num_products // 3, operator.size)
    generator = _generator(seed)
    sketch = torch.cat([operator @ some for some in _signs(operator, size, generator)], dim=1)
    basis, _ = torch.linalg.qr(sketch)
    exact = float((basis * (operator @ basis)).sum())
    rest = num_products - 2 * size
    parts = [_forms(operator, some - basis @ (basis.T @ some)) for some in _signs(operator, rest, generator)]
    return _estimate(exact + torch.cat(parts), num_products)


def xtrace(
    operator: AbstractOperator,
    num_products: int = 300,
    *,
    relative_error: float | None = None,
    batch: int = 4,
    seed: int = 0,
) -> Estimate:
    r"""Return the mean over i of Hutch++ estimates whose sketch is all random vectors but the i-th.

    Every product serves both the sketch and the estimate. With $\omega_i$ on a sphere, $Q_i$ a basis of
    $\{A \omega_j, j \ne i\}$ and $P_i = I - Q_i Q_i^\top$, the parts are
    $\operatorname{tr}(Q_i^\top A Q_i) + c_i\, \omega_i^\top P_i A P_i\, \omega_i$, where $c_i$ makes up for the length
    of $P_i \omega_i$. Vectors are added until the standard error is as small as asked for.

    The parts $t_i$ share their sketch, so the square of the standard error is their variance over m plus their
    covariance, the mean over i and j of $(t_i - t_i^{-j})(t_j - t_j^{-i})$ with $t_i^{-j}$ made without the j-th vector
    too; a part is right on average whatever the other vectors are, so that is unbiased. It is widened by
    $(m-1)/(m-3)$, because few parts say little of their own spread. Measured over 100 seeds, errors were 0.9 to 1.1
    times as large (root mean square) on flat and slowly decaying spectra and a network's Hessian, and up to 1.6 times
    where the spectrum drops by a constant factor. Where as many eigenvalues stand out as there are vectors, which
    nothing in the parts tells, single errors are many times as large (8 of 50 among 192 of 0.5, eight vectors: in 8 of
    100 seeds more than 3 times); 4 vectors more are enough there.

    Args:
        operator: A, symmetric.
        num_products: the most products to use, at least 4; half of them go into each part.
        relative_error: standard error, relative to the estimate, at which to end; None: use all products.
        batch: vectors added at a time after the first eight, at least 1.
        seed: of the random vectors.

    Raises:
        ValueError: for numbers below these, or a relative error that is not positive.

    Source: Epperly, Tropp and Webber (2024), XTrace: Making the Most of Every Sample in Stochastic Trace Estimation.
    """
    require(num_products >= 4, "xtrace(num_products=...) must be at least 4", num_products)
    if batch < 1 or (relative_error is not None and not relative_error > 0.0):
        raise ValueError(
            "xtrace(batch=..., relative_error=...) must be at least 1 and positive; "
            f"got batch={batch!r}, relative_error={relative_error!r}."
        )
    limit = min(num_products // 2, operator.size)
    sketch = _Sketch(operator, seed, sphere=True)
    # The spread of very few parts says little about itself, hence eight at first.
    sketch.extend(limit if relative_error is None else min(8, limit))
    while True:
        result = sketch.trace()
        small = relative_error is not None and result.standard_error <= relative_error * abs(result.value)
        if small or sketch.num_vectors >= limit:
            return result
        sketch.extend(min(batch, limit - sketch.num_vectors))


def hutchinson_diagonal(operator: AbstractOperator, num_products: int, *, seed: int = 0) -> DiagonalEstimate:
    r"""Return the mean of $v \circ A v$ over random signs $v$, an unbiased estimate of the diagonal.

    The variance of entry i is $\sum_{j \ne i} A_{ij}^2$ over the number of products.

    Args:
        operator: A.
        num_products: random vectors, at least 2.
        seed: of the random vectors.

    Raises:
        ValueError: for fewer than 2 products.

    Source: Bekas, Kokiopoulou and Saad (2007), An Estimator for the Diagonal of a Matrix.
    """
    require(num_products >= 2, "hutchinson_diagonal(num_products=...) must be at least 2", num_products)
    total = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
    squares = torch.zeros_like(total)
    for some in _signs(operator, num_products, _generator(seed)):
        parts = some * (operator @ some)
        total += parts.sum(1)
        squares += parts.square().sum(1)
    mean = total / num_products
    variance = (squares / num_products - mean.square()).clamp(min=0.0) / (num_products - 1)
    return DiagonalEstimate(mean, variance.sqrt(), num_products)


def xdiagonal(operator: AbstractOperator, num_products: int, *, seed: int = 0) -> DiagonalEstimate:
    r"""Return the diagonal on a sketched space exactly and an estimate of the rest, leaving one vector out at a time.

    Args:
        operator: A, symmetric.
        num_products: in all, at least 4; half of them go into each part.
        seed: of the random vectors.

    Raises:
        ValueError: for fewer than 4 products.

    Source: Epperly, Tropp and Webber (2024), XTrace: Making the Most of Every Sample in Stochastic Trace Estimation.
    """
    require(num_products >= 4, "xdiagonal(num_products=...) must be at least 4", num_products)
    sketch = _Sketch(operator, seed, sphere=False)
    sketch.extend(min(num_products // 2, operator.size))
    return sketch.diagonal()


def frobenius_norm(operator: AbstractOperator, num_products: int, *, seed: int = 0) -> Estimate:
    r"""Return $\lVert A \rVert_F = \bigl(\sum_{ij} A_{ij}^2\bigr)^{1/2}$ from the mean of $\lVert A v \rVert^2$.

    Args:
        operator: A.
        num_products: random vectors of signs v, at least 2.
        seed: of the random vectors.

    Raises:
        ValueError: for fewer than 2 products.
    """
    require(num_products >= 2, "frobenius_norm(num_products=...) must be at least 2", num_products)
    signs = _signs(operator, num_products, _generator(seed))
    squares = [(operator @ some).double().square().sum(0).cpu() for some in signs]
    square = _estimate(torch.cat(squares), num_products)
    value = math.sqrt(max(square.value, 0.0))
    return Estimate(value, square.standard_error / max(2.0 * value, 1e-300), num_products)


@final
class _Sketch:
    r"""Random vectors $\Omega$, their products, an orthonormal basis Q of those, and A Q; it can be extended.

    Without the i-th product the basis projects with $Q (I - s_i s_i^\top) Q^\top$, $s_i$ the normalized i-th column of
    $R^{-\top}$, where $A \Omega = Q R$.
    """

    def __init__(self, operator: AbstractOperator, seed: int, *, sphere: bool) -> None:
        self._operator = operator
        self._generator = _generator(seed)
        self._sphere = sphere
        empty = torch.zeros(operator.size, 0, dtype=operator.dtype, device=operator.device)
        self._omega, self._basis, self._image = empty, empty, empty
        self._r = torch.zeros(0, 0, dtype=torch.float64)

    @property
    def num_vectors(self) -> int:
        """Columns so far."""
        return self._omega.shape[1]

    def extend(self, number: int) -> None:
        """Add random vectors: two products each."""
        size, dtype, device = self._operator.size, self._operator.dtype, self._operator.device
        fresh = torch.randn(size, number, generator=self._generator, dtype=torch.float64)
        fresh = fresh * (math.sqrt(size) / fresh.norm(dim=0)) if self._sphere else torch.sign(fresh)
        fresh = fresh.to(dtype=dtype, device=device)
        products = self._operator @ fresh
        old, rest = torch.zeros(self.num_vectors, number, dtype=dtype, device=device), products
        for _ in range(2):
            part = self._basis.T @ rest
            old, rest = old + part, rest - self._basis @ part
        basis, corner = torch.linalg.qr(rest)
        known = self.num_vectors
        r = torch.zeros(known + number, known + number, dtype=torch.float64)
        r[:known, :known], r[:known, known:], r[known:, known:] = self._r, old, corner
        self._r = r
        self._omega = torch.cat([self._omega, fresh], dim=1)
        self._basis = torch.cat([self._basis, basis], dim=1)
        self._image = torch.cat([self._image, self._operator @ basis], dim=1)

    def trace(self) -> Estimate:
        """Return the trace, from one estimate for each vector left out."""
        s = self._left_out()
        h = (self._basis.T @ self._image).double().cpu()
        h = 0.5 * (h + h.T)
        w = (self._basis.T @ self._omega).double().cpu()
        image = (self._image.T @ self._omega).double().cpu()
        u = w - s * (s * w).sum(0)
        hs = (s * (h @ s)).sum(0)
        # omega^T A omega, with A omega = Q R.
        forms = (w * self._r).sum(0) - 2.0 * (u * image).sum(0) + (u * (h @ u)).sum(0)
        lengths = self._operator.size - u.square().sum(0)
        parts = h.trace() - hs + self._scale(lengths, self.num_vectors - 1) * forms
        number = self.num_vectors
        spread = float(parts.std()) / number**0.5 if number > 1 else math.nan
        if number < 4:
            return Estimate(float(parts.mean()), spread, 2 * number)
        # The same without vector j too, whose direction beside s_i is q_ij; entries [j, i].
        cosine = s.T @ s
        rest = (1.0 - cosine.square()).clamp(min=1e-12)
        along = (s.T @ u) / rest.sqrt()
        of_u = (s.T @ h @ u - cosine * (s * (h @ u)).sum(0)) / rest.sqrt()
        of_image = (s.T @ image - cosine * (s * image).sum(0)) / rest.sqrt()
        of_q = (hs.unsqueeze(1) - 2.0 * cosine * (s.T @ h @ s) + cosine.square() * hs) / rest
        fewer = forms + 2.0 * along * (of_image - of_u) + along.square() * of_q
        without = h.trace() - hs - of_q + self._scale(lengths + along.square(), number - 2) * fewer
        change = (parts - without).fill_diagonal_(0.0)
        shared = float((change * change.T).sum()) / (number * (number - 1))
        # A few parts say little of their own spread; widened like this one over it is right on average.
        error = math.sqrt((spread**2 + max(shared, 0.0)) * (number - 1) / (number - 3))
        return Estimate(float(parts.mean()), error, 2 * number)

    def _scale(self, lengths: Tensor, size: int) -> Tensor:
        """Return what makes up for the length of a random vector outside of a sketch of this size."""
        dimension = self._operator.size
        scale = (dimension - size) / lengths.clamp(min=1e-12 * dimension)
        return torch.where(lengths > 1e-9 * dimension, scale, 0.0)

    def diagonal(self) -> DiagonalEstimate:
        """Return the diagonal with standard errors."""
        s = self._left_out().to(self._basis)
        # s_i^T R e_i is one over the length that s_i had before it was normalized.
        ends = (s.double().cpu() * self._r).sum(0).to(self._basis)
        turned = self._basis @ s
        parts = turned * (self._omega * ends - self._image @ s)
        value = (self._basis * self._image).sum(1) + parts.mean(1)
        error = parts.std(1) / self.num_vectors**0.5
        return DiagonalEstimate(value, error, 2 * self.num_vectors)

    def _left_out(self) -> Tensor:
        r = self._r
        # A sketch beyond the matrix's rank leaves zeros on the diagonal; any small number does there.
        floor = 1e-14 * float(r.diagonal().abs().max()) + 1e-300
        diagonal = r.diagonal()
        r = r + torch.diag(torch.where(diagonal.abs() < floor, floor, 0.0))
        inverse = torch.linalg.solve_triangular(r, torch.eye(len(r), dtype=r.dtype), upper=True).T
        return inverse / inverse.norm(dim=0)


def _generator(seed: int) -> torch.Generator:
    # On the CPU whatever the device, so that every rank and machine draws the same vectors.
    return torch.Generator().manual_seed(seed)


def _signs(operator: AbstractOperator, number: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield random signs, `number` columns in all, only as many at a time as are multiplied together."""
    chunk = max(1, operator.columns_at_once)
    for first in range(0, number, chunk):
        columns = min(chunk, number - first)
        signs = torch.randint(0, 2, (columns, operator.size), generator=generator, dtype=torch.int8)
        yield (2 * signs - 1).T.to(dtype=operator.dtype, device=operator.device)


def _forms(operator: AbstractOperator, columns: Tensor) -> Tensor:
    """Return `v^T A v` for each column, float64."""
    return (columns * (operator @ columns)).double().sum(0).cpu()


def _estimate(parts: Tensor, num_products: int) -> Estimate:
    error = float(parts.std()) / len(parts) ** 0.5 if len(parts) > 1 else math.nan
    return Estimate(float(parts.mean()), error, num_products)
