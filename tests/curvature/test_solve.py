"""Conjugate gradients and MINRES against direct solves and SciPy."""

import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.operators import Diagonal, Matrix
from thalweg.curvature.solve import conjugate_gradients, minres
from thalweg.status import Status

pytestmark = pytest.mark.usefixtures("float64")
SIZE = 40


def with_eigenvalues(values):
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values)))
    return basis @ torch.diag(values) @ basis.T


def positive():
    return with_eigenvalues(torch.logspace(-2, 1, SIZE))


def indefinite():
    values = torch.logspace(-1, 1, SIZE)
    values[::3] *= -1
    return with_eigenvalues(values)


def model(matrix, x, b):
    return float(0.5 * x @ matrix @ x - b @ x)


@pytest.mark.parametrize(("solve", "make"), [(conjugate_gradients, positive), (minres, positive), (minres, indefinite)])
def test_it_solves_the_system(solve, make):
    matrix, right = make(), torch.randn(SIZE)
    result = solve(Matrix(matrix), right, tolerance=1e-12, max_iterations=500)
    assert result.status is Status.CONVERGED
    torch.testing.assert_close(result.solution, torch.linalg.solve(matrix, right), rtol=1e-7, atol=1e-9)
    assert result.residual == pytest.approx(float((right - matrix @ result.solution).norm()), abs=1e-9)
    assert result.model == pytest.approx(model(matrix, result.solution, right), rel=1e-9)
    assert result.negative_curvature is None


@pytest.mark.parametrize(
    ("ours", "theirs", "make"),
    [(conjugate_gradients, scipy.sparse.linalg.cg, positive), (minres, scipy.sparse.linalg.minres, indefinite)],
)
@pytest.mark.parametrize("preconditioned", [False, True])
def test_the_first_iterates_are_those_of_scipy(ours, theirs, make, preconditioned):
    matrix, right = make(), torch.randn(SIZE)
    inverse = 1.0 / matrix.diagonal().abs()
    for steps in (1, 3, 7):
        result = ours(
            Matrix(matrix),
            right,
            preconditioner=Diagonal(inverse) if preconditioned else None,
            tolerance=0.0,
            max_iterations=steps,
        )
        expected, _ = theirs(
            matrix.numpy(),
            right.numpy(),
            rtol=1e-30,
            maxiter=steps,
            M=np.diag(inverse.numpy()) if preconditioned else None,
        )
        np.testing.assert_allclose(result.solution.numpy(), expected, rtol=1e-8, atol=1e-10)
        assert (result.status, result.num_iterations) == (Status.OUT_OF_ITERATIONS, steps)


def test_a_good_preconditioner_saves_iterations():
    matrix = positive()
    scale = torch.logspace(-2, 2, SIZE)
    matrix, right = scale[:, None] * matrix * scale, torch.randn(SIZE)
    plain = conjugate_gradients(Matrix(matrix), right, tolerance=1e-8, max_iterations=2000)
    better = conjugate_gradients(
        Matrix(matrix), right, tolerance=1e-8, preconditioner=Diagonal(1.0 / matrix.diagonal()), max_iterations=2000
    )
    assert better.status is Status.CONVERGED
    assert better.num_iterations < 0.5 * plain.num_iterations


@pytest.mark.parametrize("solve", [conjugate_gradients, minres])
def test_a_warm_start_goes_on(solve):
    matrix, right = positive(), torch.randn(SIZE)
    exact = torch.linalg.solve(matrix, right)
    near = solve(Matrix(matrix), right, start=exact + 1e-6 * torch.randn(SIZE), tolerance=1e-6)
    assert near.num_iterations < 0.7 * solve(Matrix(matrix), right, tolerance=1e-6, max_iterations=500).num_iterations
    at = solve(Matrix(matrix), torch.zeros(SIZE))
    assert (at.num_iterations, at.status) == (0, Status.CONVERGED)


def test_negative_curvature_ends_it_and_is_returned():
    matrix = with_eigenvalues(torch.linspace(-0.05, 3.0, SIZE))
    right = torch.randn(SIZE)
    result = conjugate_gradients(Matrix(matrix), right)
    assert result.status is Status.NEGATIVE_CURVATURE
    assert result.num_iterations > 1
    direction = result.negative_curvature
    assert direction @ matrix @ direction < 0.0
    assert result.model == pytest.approx(model(matrix, result.solution, right))
    assert result.model < 0.0


def test_negative_curvature_at_once_leaves_the_start():
    result = conjugate_gradients(Matrix(-torch.eye(3)), torch.ones(3))
    assert result.status is Status.NEGATIVE_CURVATURE
    assert torch.equal(result.solution, torch.zeros(3))
    assert torch.equal(result.negative_curvature, torch.ones(3))


@pytest.mark.parametrize("least", [0.1, -0.5])
def test_a_trust_region_is_kept(least):
    matrix, right = with_eigenvalues(torch.linspace(least, 3.0, SIZE)), torch.randn(SIZE)
    for radius in (0.1, 1.0):
        result = conjugate_gradients(Matrix(matrix), right, radius=radius)
        assert result.status is Status.ON_BOUNDARY
        assert float(result.solution.norm()) == pytest.approx(radius)
        # At least as good as the best step along the gradient (the Cauchy point).
        curvature = float(right @ matrix @ right)
        longest = radius / float(right.norm())
        step = min(float(right @ right) / curvature, longest) if curvature > 0 else longest
        assert result.model <= model(matrix, step * right, right) + 1e-12
    if least > 0:
        wide = conjugate_gradients(Matrix(matrix), right, radius=1e6, tolerance=1e-10, max_iterations=500)
        torch.testing.assert_close(wide.solution, torch.linalg.solve(matrix, right), rtol=1e-6, atol=1e-8)


def test_it_ends_when_the_model_improves_too_little():
    matrix, right = with_eigenvalues(torch.logspace(-6, 0, 300)), torch.randn(300)
    result = conjugate_gradients(Matrix(matrix), right, progress=5e-4, tolerance=0.0, max_iterations=2000)
    longer = conjugate_gradients(Matrix(matrix), right, progress=5e-6, tolerance=0.0, max_iterations=2000)
    assert result.status is longer.status is Status.LITTLE_PROGRESS
    assert 10 < result.num_iterations < longer.num_iterations
    assert longer.model < result.model < 0.0


def test_minres_reports_negative_curvature():
    matrix, right = with_eigenvalues(torch.linspace(-0.05, 3.0, SIZE)), torch.randn(SIZE)
    result = minres(Matrix(matrix), right, stop_at_negative_curvature=True)
    assert result.status is Status.NEGATIVE_CURVATURE
    direction = result.negative_curvature
    assert direction @ matrix @ direction <= 0.0
    # It is the residual of the solution returned.
    torch.testing.assert_close(direction, right - matrix @ result.solution)
    assert (
        minres(Matrix(positive()), right, stop_at_negative_curvature=True, max_iterations=500).status
        is Status.CONVERGED
    )


def test_minres_leaves_what_a_singular_matrix_cannot_reach():
    values = torch.cat([torch.linspace(1.0, 2.0, SIZE - 1), torch.zeros(1)])
    basis, _ = torch.linalg.qr(torch.randn(SIZE, SIZE))
    matrix, right = basis @ torch.diag(values) @ basis.T, torch.randn(SIZE)
    result = minres(Matrix(matrix), right, tolerance=1e-12, max_iterations=200)
    assert result.status is Status.LITTLE_PROGRESS
    assert result.residual == pytest.approx(abs(float(right @ basis[:, -1])), rel=1e-6)


@pytest.mark.parametrize("solve", [conjugate_gradients, minres])
def test_not_a_number_ends_it_with_a_usable_solution(solve):
    result = solve(Matrix(torch.full((3, 3), math.nan)), torch.ones(3))
    assert result.status is Status.BROKE_DOWN
    assert torch.equal(result.solution, torch.zeros(3))
    assert not result.status.good


def test_lists_come_back_as_lists(build):
    objective = build("layer norm, softmax")
    matrix = GaussNewton(objective).damped(0.1)
    _, gradient = objective.value_and_gradient()
    for solve in (conjugate_gradients, minres):
        result = solve(matrix, gradient, tolerance=1e-10, max_iterations=500)
        assert [part.shape for part in result.solution] == [parameter.shape for parameter in objective.parameters]
        expected = torch.linalg.solve(matrix.dense(), torch.cat([part.reshape(-1) for part in gradient]))
        torch.testing.assert_close(torch.cat([p.reshape(-1) for p in result.solution]), expected, rtol=1e-6, atol=1e-9)


REFUSED = {
    "tolerance": (lambda: conjugate_gradients(Matrix(torch.eye(2)), torch.ones(2), tolerance=-1.0), "tolerance=-1.0"),
    "radius": (lambda: conjugate_gradients(Matrix(torch.eye(2)), torch.ones(2), radius=0.0), "radius=0.0"),
    "start": (
        lambda: conjugate_gradients(Matrix(torch.eye(2)), torch.ones(2), start=torch.ones(2), radius=1.0),
        "start must lie inside the radius",
    ),
    "minres": (lambda: minres(Matrix(torch.eye(2)), torch.ones(2), tolerance=math.nan), "tolerance=.*got nan"),
    "preconditioner": (
        lambda: minres(
            Matrix(torch.eye(2)), torch.ones(2), stop_at_negative_curvature=True, preconditioner=Matrix(torch.eye(2))
        ),
        "without a preconditioner only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_out_of_range_are_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("radius", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("shift", [0.5, -1.0], ids=["positive", "indefinite"])
def test_the_ball_has_the_norm_of_the_preconditioner(radius, shift):
    """The solve is that without a preconditioner in other coordinates, where its ball is round."""
    generator = torch.Generator().manual_seed(4)
    root = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    matrix = root @ root.T / 8.0 + shift * torch.eye(8, dtype=torch.float64)
    right = torch.randn(8, generator=generator, dtype=torch.float64)
    units = torch.logspace(-2, 2, 8, dtype=torch.float64)
    plain = conjugate_gradients(Matrix(matrix), right, tolerance=1e-10, radius=radius)
    other = Matrix(units.outer(units) * matrix)
    solve = conjugate_gradients(
        other, units * right, preconditioner=Diagonal(units**-2.0), tolerance=1e-10, radius=radius
    )
    torch.testing.assert_close(units * solve.solution, plain.solution, rtol=1e-6, atol=1e-8)
    assert solve.status is plain.status
    assert solve.length == pytest.approx(float(plain.solution.norm()))
    assert solve.length <= radius * (1.0 + 1e-12)


def test_a_start_within_a_ball_of_the_preconditioner_is_refused():
    b = torch.ones(2)
    with pytest.raises(ValueError, match=r"start=..., radius=..., preconditioner=...\): leave out one of the three"):
        conjugate_gradients(Matrix(torch.eye(2)), b, start=0.1 * b, radius=1.0, preconditioner=Diagonal(b))
