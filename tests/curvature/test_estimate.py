"""Estimates of trace, diagonal and norm: right on average, with the noise they state, exact where they must be."""

import numpy as np
import pytest
import torch

from thalweg.curvature.estimate import (
    _Sketch,
    frobenius_norm,
    hutch_plus_plus,
    hutchinson_diagonal,
    hutchinson_trace,
    xdiagonal,
    xtrace,
)
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.operators import Matrix

pytestmark = pytest.mark.usefixtures("float64")
TRACES = [hutchinson_trace, hutch_plus_plus, xtrace]
DIAGONALS = [hutchinson_diagonal, xdiagonal]


def decaying(size=90):
    values = torch.cat([10.0 * 0.7 ** torch.arange(20.0), 0.05 * torch.randn(size - 20)])
    basis, _ = torch.linalg.qr(torch.randn(size, size))
    matrix = basis @ torch.diag(values) @ basis.T
    return 0.5 * (matrix + matrix.T)


@pytest.mark.parametrize("estimate", TRACES)
def test_trace_is_right_on_average_with_the_error_it_states(estimate):
    matrix = decaying()
    results = [estimate(Matrix(matrix), 30, seed=seed) for seed in range(100)]
    values, errors = np.array([r.value for r in results]), np.array([r.standard_error for r in results])
    assert abs(values.mean() - float(matrix.trace())) <= 4.0 * values.std() / 100**0.5
    assert 0.7 <= np.sqrt((errors**2).mean()) / values.std() <= 1.3
    assert all(r.num_products == 30 for r in results)


def test_hutchinsons_variance_is_the_formula():
    matrix = decaying()
    values = np.array([hutchinson_trace(Matrix(matrix), 20, seed=seed).value for seed in range(200)])
    off = matrix - torch.diag(matrix.diagonal())
    assert values.var() == pytest.approx(2.0 * float(off.square().sum()) / 20, rel=0.2)


def test_better_methods_have_less_noise():
    matrix = decaying()
    spread = {f: np.std([f(Matrix(matrix), 48, seed=seed).value for seed in range(60)]) for f in TRACES}
    assert spread[xtrace] < spread[hutch_plus_plus] < 0.2 * spread[hutchinson_trace]


@pytest.mark.parametrize("estimate", [hutch_plus_plus, xtrace])
def test_low_rank_is_exact(estimate):
    factor = torch.randn(80, 4)
    matrix = factor @ factor.T
    result = estimate(Matrix(matrix), 30)
    assert result.value == pytest.approx(float(matrix.trace()), rel=1e-9)
    assert result.standard_error < 1e-8


def test_xtrace_stops_at_the_error_asked_for():
    matrix = decaying()
    exact = float(matrix.trace())
    results = [xtrace(Matrix(matrix), relative_error=0.02, seed=seed) for seed in range(100)]
    assert all(r.standard_error <= 0.02 * abs(r.value) for r in results)
    assert np.mean([r.num_products for r in results]) < 40
    assert np.mean([abs(r.value - exact) <= 2.0 * r.standard_error for r in results]) > 0.85
    assert np.sqrt(np.mean([(r.value / exact - 1.0) ** 2 for r in results])) < 1.3 * 0.02


def spectrum(values):
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values)))
    return basis @ torch.diag(values) @ basis.T


SPECTRA = {
    "decaying": lambda: spectrum(0.9 ** torch.arange(60.0)),
    "flat": lambda: spectrum(torch.linspace(1.0, 3.0, 60)),
    "slow": lambda: spectrum((1.0 + torch.arange(60.0)) ** -0.5),
    "indefinite": lambda: decaying(60),
}


def test_errors_of_xtrace_are_as_large_as_it_says():
    scores = []
    for make in SPECTRA.values():
        torch.manual_seed(0)
        matrix = make()
        results = [xtrace(Matrix(matrix), 20, seed=seed) for seed in range(60)]
        scores += [(r.value - float(matrix.trace())) / r.standard_error for r in results]
    assert 0.85 <= np.sqrt(np.mean(np.square(scores))) <= 1.15
    assert np.mean(np.abs(scores) <= 2.0) >= 0.9


def test_the_error_of_xtrace_is_that_of_parts_with_a_shared_sketch():
    """Their variance and covariance, from estimates made anew without one vector and without two."""
    matrix, number = spectrum(0.9 ** torch.arange(40.0)), 7
    sketch = _Sketch(Matrix(matrix), 0, sphere=True)
    sketch.extend(number)
    omega = sketch._omega

    def part(i, without=None):
        rest = omega[:, [k for k in range(number) if k not in (i, without)]]
        basis, _ = torch.linalg.qr(matrix @ rest)
        outside = omega[:, i] - basis @ (basis.T @ omega[:, i])
        scale = (40 - rest.shape[1]) / outside.square().sum()
        return float((basis.T @ matrix @ basis).trace() + scale * outside @ matrix @ outside)

    parts = [part(i) for i in range(number)]
    pairs = [(i, j) for i in range(number) for j in range(number) if i != j]
    covariance = np.mean([(parts[i] - part(i, j)) * (parts[j] - part(j, i)) for i, j in pairs])
    variance = np.var(parts, ddof=1) / number + max(covariance, 0.0)
    result = sketch.trace()
    assert result.value == pytest.approx(np.mean(parts), rel=1e-10)
    assert result.standard_error == pytest.approx((variance * 6 / 4) ** 0.5, rel=1e-8)


def test_xtrace_added_to_is_xtrace_at_once():
    matrix = Matrix(decaying())
    pieces = xtrace(matrix, 36, relative_error=1e-12, batch=5)
    whole = xtrace(matrix, 36, relative_error=1e-12, batch=18)
    assert pieces.num_products == whole.num_products == 36
    # The random vectors come in another order, so only the noise is the same.
    assert pieces.value == pytest.approx(whole.value, abs=6.0 * (pieces.standard_error + whole.standard_error))


@pytest.mark.parametrize("estimate", [xtrace, hutch_plus_plus])
def test_more_products_than_rows_give_the_trace(estimate):
    matrix = decaying(25)
    assert estimate(Matrix(matrix), 100).value == pytest.approx(float(matrix.trace()), rel=1e-9)


@pytest.mark.parametrize("estimate", DIAGONALS)
def test_diagonal_is_right_on_average_with_the_error_it_states(estimate):
    matrix = decaying()
    results = [estimate(Matrix(matrix), 30, seed=seed) for seed in range(100)]
    values = torch.stack([r.value for r in results])
    spread = values.std(0)
    # 90 entries: the largest of so many standard normal numbers stays below 4.5.
    assert ((values.mean(0) - matrix.diagonal()).abs() <= 4.5 * spread / 100**0.5).all()
    stated = torch.stack([r.standard_error for r in results]).square().mean(0).sqrt()
    assert 0.7 <= float((stated / spread).mean()) <= 1.3
    assert all(r.num_products == 30 for r in results)


def test_xdiagonal_has_less_noise():
    matrix = decaying()
    errors = [
        torch.stack([f(Matrix(matrix), 40, seed=seed).value - matrix.diagonal() for seed in range(50)]).norm()
        for f in DIAGONALS
    ]
    assert errors[1] < 0.3 * errors[0]


def test_frobenius_norm():
    matrix = decaying()
    results = [frobenius_norm(Matrix(matrix), 40, seed=seed) for seed in range(100)]
    values = np.array([r.value for r in results])
    assert values.mean() == pytest.approx(float(matrix.norm()), rel=0.02)
    assert np.mean([r.standard_error for r in results]) == pytest.approx(values.std(), rel=0.3)


def test_estimates_of_a_hessian(build):
    hessian = Hessian(build("layer norm, softmax"))
    dense = hessian.dense()
    assert xtrace(hessian, 2 * hessian.size).value == pytest.approx(float(dense.trace()), rel=1e-8)
    result = hutchinson_trace(hessian, 400)
    assert abs(result.value - float(dense.trace())) <= 4.0 * result.standard_error
    diagonal = xdiagonal(hessian, 2 * hessian.size)
    torch.testing.assert_close(diagonal.value, dense.diagonal(), rtol=1e-6, atol=1e-8)


REFUSED = {
    "hutchinson": (lambda m: hutchinson_trace(m, 1), r"hutchinson_trace\(num_products=...\) must be at least 2; got 1"),
    "hutch++": (lambda m: hutch_plus_plus(m, 5), "at least 6; got 5"),
    "xtrace": (lambda m: xtrace(m, 3), "at least 4; got 3"),
    "relative error": (lambda m: xtrace(m, relative_error=0.0), "relative_error=0.0"),
    "diagonal": (lambda m: hutchinson_diagonal(m, 1), "at least 2; got 1"),
    "xdiagonal": (lambda m: xdiagonal(m, 2), "at least 4; got 2"),
    "norm": (lambda m: frobenius_norm(m, 0), "at least 2; got 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_too_few_products_are_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call(Matrix(torch.eye(3)))
