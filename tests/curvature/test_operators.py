"""The algebra of operators against that of dense matrices."""

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.operators import Diagonal, Identity, Matrix
from thalweg.errors import InputError

pytestmark = pytest.mark.usefixtures("float64")
SHAPES = [(2, 3), (4,), ()]
SIZE = 11


def like():
    return [torch.zeros(shape) for shape in SHAPES]


def matrices():
    return torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)


ALGEBRA = {
    "sum": (lambda a, b: a + b, lambda a, b: a + b),
    "difference": (lambda a, b: a - b, lambda a, b: a - b),
    "multiple": (lambda a, b: 2.5 * a, lambda a, b: 2.5 * a),
    "multiple from the right": (lambda a, b: a * 2.5, lambda a, b: 2.5 * a),
    "negative": (lambda a, b: -a, lambda a, b: -a),
    "product": (lambda a, b: a @ b, lambda a, b: a @ b),
    "damped": (lambda a, b: a.damped(0.3), lambda a, b: a + 0.3 * torch.eye(SIZE)),
    "adjoint": (lambda a, b: a.adjoint, lambda a, b: a.T),
    "adjoint of a product": (lambda a, b: (a @ b).adjoint, lambda a, b: b.T @ a.T),
    "all together": (
        lambda a, b: (2.0 * (a @ b) - b.adjoint).damped(0.1).adjoint,
        lambda a, b: (2.0 * (a @ b) - b.T + 0.1 * torch.eye(SIZE)).T,
    ),
    "sum of sums": (lambda a, b: 2.0 * (a + 3.0 * (b - a)), lambda a, b: 2.0 * (a + 3.0 * (b - a))),
    "diagonal": (
        lambda a, b: Diagonal(torch.arange(11.0), like()) @ a,
        lambda a, b: torch.diag(torch.arange(11.0)) @ a,
    ),
}


@pytest.mark.parametrize("case", ALGEBRA)
def test_algebra(case):
    a, b = matrices()
    operators, dense = ALGEBRA[case]
    got, expected = operators(Matrix(a, like()), Matrix(b, like())), dense(a, b)
    vector, columns = torch.randn(SIZE), torch.randn(SIZE, 4)
    torch.testing.assert_close(got @ vector, expected @ vector)
    torch.testing.assert_close(got @ columns, expected @ columns)
    torch.testing.assert_close(got.dense(), expected)
    listed = [part.view(shape) for part, shape in zip(vector.split([6, 4, 1]), SHAPES, strict=True)]
    assert [tuple(part.shape) for part in got @ listed] == SHAPES
    torch.testing.assert_close(torch.cat([part.reshape(-1) for part in got @ listed]), expected @ vector)


@pytest.mark.parametrize("positions", [[0], [1, 2], [2, 0]])
def test_restricted_is_the_block(positions):
    a, _ = matrices()
    starts = [0, 6, 10, 11]
    rows = torch.cat([torch.arange(starts[i], starts[i + 1]) for i in positions])
    expected = a[rows][:, rows]
    restricted = Matrix(a, like()).restricted(positions)
    torch.testing.assert_close(restricted.dense(), expected)
    torch.testing.assert_close(restricted.adjoint.dense(), expected.T)
    torch.testing.assert_close(
        (Matrix(a, like()) + Identity(like())).restricted(positions).dense(), expected + torch.eye(len(rows))
    )


def test_scipy_multiplies_both_ways():
    a, _ = matrices()
    operator = Matrix(a).to_scipy()
    vector, columns = np.random.default_rng(0).normal(size=SIZE), np.random.default_rng(1).normal(size=(SIZE, 2))
    np.testing.assert_allclose(operator @ vector, a.numpy() @ vector)
    np.testing.assert_allclose(operator @ columns, a.numpy() @ columns)
    np.testing.assert_allclose(operator.rmatvec(vector), a.numpy().T @ vector)
    np.testing.assert_allclose(operator.rmatmat(columns), a.numpy().T @ columns)


def test_scipy_finds_the_eigenvalues_of_a_hessian(build):
    hessian = Hessian(build("tanh"))
    expected = torch.linalg.eigvalsh(hessian.dense())
    values = scipy.sparse.linalg.eigsh(hessian.to_scipy(), k=3, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(values), expected[-3:].numpy(), rtol=1e-8)


def test_curvature_matrices_add_up(build):
    objective = build("layer norm, softmax")
    residual = Hessian(objective) - GaussNewton(objective)
    expected = Hessian(objective).dense() - GaussNewton(objective).dense()
    torch.testing.assert_close(residual.dense(), expected)
    torch.testing.assert_close(residual @ torch.eye(residual.size), expected)
    biases = [i for i, tensor in enumerate(objective.parameters) if tensor.dim() == 1]
    rows = torch.cat([torch.full((t.numel(),), t.dim() == 1) for t in objective.parameters]).nonzero().squeeze(1)
    torch.testing.assert_close(residual.restricted(biases).dense(), expected[rows][:, rows])


def test_a_dense_matrix_that_is_too_large_is_refused_with_its_size_and_a_way_out():
    operator = Identity([torch.empty(10_000_000)])
    with pytest.raises(
        InputError, match=r"Identity\.dense\(\) needs .* 10,000,000, which takes 800 TB.*Newton-CG, L-BFGS, Lanczos"
    ):
        operator.dense()


REFUSED = {
    "length": (lambda m: m @ torch.ones(3), r"multiplies \[11\] or \[11, k\] numbers of type torch.float64; got \[3\]"),
    "type": (lambda m: m @ torch.ones(11, dtype=torch.float32), "got .* of type torch.float32"),
    "dimensions": (lambda m: m @ torch.ones(11, 1, 1), r"got \[11, 1, 1\]"),
    "list": (
        lambda m: m @ [torch.ones(11)],
        r"list of tensors of the shapes \[\[2, 3\], \[4\], \[\]\]; got \[\[11\]\]",
    ),
    "sum": (lambda m: m + Identity([torch.ones(3)]), "Only operators on the same tensors can be added"),
    "product": (lambda m: m @ Identity([torch.ones(3)]), "can be multiplied with each other"),
    "positions": (lambda m: m.restricted([0, 0]), r"different numbers from 0 to 2; got \[0, 0\]"),
    "no positions": (lambda m: m.restricted([]), r"got \[\]"),
    "not square": (lambda m: Matrix(torch.ones(2, 3)), r"must be square; got \[2, 3\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call(Matrix(matrices()[0], like()))
