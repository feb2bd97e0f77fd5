"""Eigenvalues and densities against dense decompositions."""

import pytest
import torch

from thalweg.curvature.hessian import Hessian
from thalweg.curvature.lanczos import extreme_eigenvalues, spectral_density
from thalweg.curvature.operators import Matrix
from thalweg.status import Status

pytestmark = pytest.mark.usefixtures("float64")


def spiked(size=150):
    """A few large eigenvalues, some negative ones, and a bulk at zero, as networks have them."""
    values = torch.cat([torch.tensor([10.0, 7.0, 6.5, 3.0, 2.0, -1.5, -0.8]), 0.02 * torch.randn(size - 7)])
    basis, _ = torch.linalg.qr(torch.randn(size, size))
    return basis @ torch.diag(values) @ basis.T, values.sort().values


def test_both_ends_come_from_one_run_within_their_bounds():
    matrix, values = spiked()
    spectrum = extreme_eigenvalues(Matrix(matrix), num_largest=5, num_smallest=2)
    assert spectrum.status is Status.CONVERGED
    assert spectrum.num_products < 25
    for got, bound, expected in (
        (spectrum.largest, spectrum.largest_errors, values.flip(0)[:5]),
        (spectrum.smallest, spectrum.smallest_errors, values[:2]),
    ):
        assert (bound <= 2e-3 * 10.0 + 1e-12).all()
        assert ((got - expected).abs() <= bound).all()
    # Far closer than the bound, which is what Ritz values are.
    torch.testing.assert_close(spectrum.largest, values.flip(0)[:5], rtol=1e-3, atol=0)


@pytest.mark.parametrize("seed", range(8))
def test_eigenvalues_close_together_are_not_missed(seed):
    """Nine within a few percent, a tenth of the distance to the bulk: they come apart late, and all must be there."""
    torch.manual_seed(seed)
    values = torch.cat([torch.tensor([8.91, 8.56, 8.43, 7.41, 7.34, 7.17, 6.9, 6.7, 6.5]), 0.02 * torch.randn(300)])
    basis, _ = torch.linalg.qr(torch.randn(309, 309))
    spectrum = extreme_eigenvalues(Matrix(basis @ torch.diag(values) @ basis.T), seed=seed)
    torch.testing.assert_close(spectrum.largest, values[:5], rtol=1e-3, atol=0)
    assert spectrum.num_products <= 20


def test_bounds_are_the_residuals_of_the_vectors():
    matrix, _ = spiked()
    spectrum = extreme_eigenvalues(Matrix(matrix), num_largest=3, num_smallest=3, tolerance=1e-1)
    for values, errors, columns in (
        (spectrum.largest, spectrum.largest_errors, spectrum.largest_vectors),
        (spectrum.smallest, spectrum.smallest_errors, spectrum.smallest_vectors),
    ):
        torch.testing.assert_close(columns.norm(dim=0), torch.ones(3))
        residuals = (matrix @ columns - columns * values).norm(dim=0)
        torch.testing.assert_close(residuals, errors, rtol=1e-6, atol=1e-12)


def test_a_small_tolerance_gives_all_digits():
    matrix, values = spiked()
    spectrum = extreme_eigenvalues(Matrix(matrix), tolerance=1e-10, max_products=150)
    torch.testing.assert_close(spectrum.largest, values.flip(0)[:5], rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_in_float32(seed):
    torch.manual_seed(seed)
    matrix, values = spiked()
    spectrum = extreme_eigenvalues(Matrix(matrix.float()), num_smallest=2, tolerance=1e-6, seed=seed)
    assert spectrum.largest.dtype == torch.float64
    assert ((spectrum.largest - values.flip(0)[:5]).abs() <= spectrum.largest_errors).all()
    assert ((spectrum.smallest - values[:2]).abs() <= spectrum.smallest_errors).all()


def test_negative_curvature_is_proven_from_few_products():
    matrix, _ = spiked()
    spectrum = extreme_eigenvalues(Matrix(matrix), num_largest=1, max_products=10)
    assert spectrum.smallest[0] + spectrum.smallest_errors[0] < 0.0


def test_products_that_do_not_suffice_are_reported():
    matrix, _ = spiked()
    spectrum = extreme_eigenvalues(Matrix(matrix), max_products=4)
    assert (spectrum.status, spectrum.num_products, len(spectrum.largest)) == (Status.OUT_OF_ITERATIONS, 4, 4)


def test_a_start_from_known_eigenvectors_saves_products():
    matrix, _ = spiked()
    spectrum = extreme_eigenvalues(Matrix(matrix), num_smallest=0, tolerance=1e-6)
    moved = Matrix(matrix + 1e-4 * torch.diag(torch.randn(len(matrix))))
    cold = extreme_eigenvalues(moved, num_smallest=0)
    warm = extreme_eigenvalues(moved, num_smallest=0, start=spectrum.largest_vectors.sum(1))
    assert warm.num_products < cold.num_products
    torch.testing.assert_close(warm.largest, cold.largest, rtol=1e-2, atol=0)


def test_multiple_eigenvalues_appear_once():
    spectrum = extreme_eigenvalues(Matrix(torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))), num_largest=3)
    torch.testing.assert_close(spectrum.largest, torch.tensor([2.0, 1.0]))
    assert spectrum.status is Status.CONVERGED


def test_the_zero_matrix_and_one_by_one():
    zero = extreme_eigenvalues(Matrix(torch.zeros(5, 5)))
    assert (zero.status, zero.num_products, zero.largest.tolist()) == (Status.CONVERGED, 1, [0.0])
    single = extreme_eigenvalues(Matrix(torch.tensor([[-3.0]])))
    assert (single.largest.tolist(), single.smallest.tolist()) == ([-3.0], [-3.0])


def test_the_spectrum_of_a_hessian(build):
    hessian = Hessian(build("layer norm, softmax"))
    expected = torch.linalg.eigvalsh(hessian.dense())
    spectrum = extreme_eigenvalues(hessian, num_largest=3, num_smallest=2, tolerance=1e-6)
    torch.testing.assert_close(spectrum.largest, expected.flip(0)[:3], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(spectrum.smallest, expected[:2], rtol=1e-8, atol=1e-10)


def test_density_has_the_right_mass_trace_and_ends():
    matrix, values = spiked(400)
    density = spectral_density(Matrix(matrix), num_probes=30, num_steps=20)
    torch.testing.assert_close(density.weights.sum(1), torch.ones(30))
    assert density.num_products == 600
    trace, error = density.trace()
    assert abs(trace - float(matrix.trace())) <= 3.0 * error
    for low, high in ((1.0, 20.0), (-5.0, -0.5), (-0.5, 1.0)):
        share, error = density.fraction(low, high)
        exact = float(((values >= low) & (values < high)).double().mean())
        assert abs(share - exact) <= 3.0 * error + 1e-12
    assert float(density.nodes.max()) == pytest.approx(10.0, rel=1e-6)
    assert float(density.nodes.min()) == pytest.approx(-1.5, rel=1e-3)


def test_density_with_all_steps_is_exact_where_probes_have_no_noise():
    density = spectral_density(Matrix(torch.diag(torch.tensor([1.0, 2.0, 4.0]))), num_probes=2, num_steps=10)
    torch.testing.assert_close(density.nodes, torch.tensor([[1.0, 2.0, 4.0]]).expand(2, 3))
    torch.testing.assert_close(density.weights, torch.full((2, 3), 1.0 / 3.0))
    assert density.trace() == (pytest.approx(7.0), pytest.approx(0.0, abs=1e-12))


def test_density_on_a_grid_integrates_to_one():
    matrix, _ = spiked()
    grid = torch.linspace(-5.0, 15.0, 4001)
    curve = spectral_density(Matrix(matrix)).on(grid, 0.05)
    assert float(torch.trapezoid(curve, grid)) == pytest.approx(1.0, abs=1e-6)


REFUSED = {
    "none wanted": (lambda m: extreme_eigenvalues(m, num_largest=0, num_smallest=0), "got 0, 0"),
    "tolerance": (lambda m: extreme_eigenvalues(m, tolerance=0.0), "must be positive; got 0.0"),
    "probes": (lambda m: spectral_density(m, num_probes=0), "at least 1; got 0"),
    "not finite": (lambda m: extreme_eigenvalues(Matrix(torch.full((3, 3), torch.inf))), "NaN or infinite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call(Matrix(torch.eye(3)))
