"""Orthogonal factors and decompositions, against singular values and slow routines in double precision."""

import pytest
import torch
from torch import Tensor

from thalweg.optim import decompositions
from thalweg.optim.decompositions import basis, eigh, inverse_root
from thalweg.optim.polar import KELLER_JORDAN, POLAR_EXPRESS, Automatic, Exact, Polynomial, polar_express

SHAPES = [(1, 4, 4), (3, 4, 7), (2, 7, 4), (2, 1, 5)]


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


def symmetric(values: list[float]) -> Tensor:
    q = torch.linalg.qr(drawn(len(values), len(values)))[0]
    return (q * torch.tensor(values, dtype=torch.float64)) @ q.T


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_the_exact_factor_is_that_of_the_singular_vectors(shape, dtype, tolerance):
    stack = drawn(*shape, dtype=dtype)
    u, _, vh = torch.linalg.svd(stack.double(), full_matrices=False)
    for polar in (Exact(), Automatic()):
        torch.testing.assert_close(polar(stack).double(), u @ vh, rtol=0.0, atol=tolerance)


def test_noise_is_not_made_as_large_as_what_is_there():
    u, _, vh = torch.linalg.svd(drawn(4, 5), full_matrices=False)
    values = torch.tensor([2.0, 1.0, 2e-5, 0.0], dtype=torch.float64)
    found = torch.linalg.svdvals(Exact(floor=1e-3)(((u * values) @ vh)[None]))[0]
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 0.01, 0.0], dtype=torch.float64), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("polar", [Exact(), Polynomial(half=False), Polynomial(half=True), polar_express(8)])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_zeros_stay_zeros_and_the_scale_does_not_matter(polar, scale):
    stack = drawn(2, 3, 4, dtype=torch.float32)
    stack[0] = 0.0
    found = polar(scale * stack)
    assert torch.equal(found[0], torch.zeros(3, 4))
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found[1])
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_eight_polynomials_of_polar_express_reach_what_five_of_newton_schulz_do_not():
    stack = drawn(1, 6, 9)
    u, _, vh = torch.linalg.svd(stack, full_matrices=False)
    errors = [
        float((Polynomial(coefficients, steps, half=False)(stack) - u @ vh).abs().max())
        for coefficients, steps in ((POLAR_EXPRESS, 8), (KELLER_JORDAN, 5))
    ]
    assert errors[0] < 1e-6 < 0.05 < errors[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: Exact(0.0), r"Exact\(floor=...\) must lie between 0 and 1; got 0.0"),
     (lambda: Polynomial(steps=0), r"Polynomial\(steps=...\) must lie in \[1, 100\]; got 0")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_orthogonal_iteration_ends_at_the_eigenvectors_in_the_order_that_was():
    values = torch.tensor([8.0, 0.5, 4.0, 2.0, 1.0], dtype=torch.float64)
    stack = symmetric(values.tolist())[None]
    first = basis(stack, None)
    torch.testing.assert_close((first.mT @ stack @ first)[0], torch.diag(values.sort(descending=True)[0]))
    shuffled = first[..., [3, 0, 4, 1, 2]]
    for found in (shuffled, torch.eye(5, dtype=torch.float64)[None]):
        for _ in range(60):
            found = basis(stack, found)
        torch.testing.assert_close(found.mT @ found, torch.eye(5, dtype=torch.float64)[None])
        turned = (found.mT @ stack @ found)[0]
        assert float((turned - torch.diag(turned.diagonal())).abs().max()) < 1e-7  # a tilt of 1e-8 decides among equals
        torch.testing.assert_close(turned.diagonal().sort()[0], values.sort()[0])
    again = basis(stack, shuffled)
    torch.testing.assert_close(torch.linalg.vecdot(again, shuffled, dim=-2).abs(), torch.ones(1, 5).double())


@pytest.mark.parametrize("before", [None, torch.eye(3).expand(2, 3, 3)[:, [2, 0, 1]]], ids=["first", "again"])
def test_a_matrix_that_is_not_finite_keeps_its_basis(before):
    stack = torch.stack([torch.full((3, 3), torch.nan), torch.diag(torch.tensor([1.0, 3.0, 2.0]))])
    found = basis(stack, before)
    assert torch.equal(found[0], torch.eye(3) if before is None else before[0])
    torch.testing.assert_close(found[1].abs(), torch.eye(3)[:, [1, 2, 0]])
    assert torch.equal(inverse_root(stack, 4.0, 1e-6)[0], torch.eye(3))


def test_a_routine_that_fails_is_tried_in_double_precision(monkeypatch):
    single, stack = torch.linalg.eigh, symmetric([3.0, 2.0, 1.0]).float().expand(2, 3, 3)

    def fails(matrix: Tensor):
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("it did not converge")
        return single(matrix)

    monkeypatch.setattr(decompositions.torch.linalg, "eigh", fails)
    values, vectors = eigh(stack)
    torch.testing.assert_close(values, torch.tensor([[1.0, 2.0, 3.0]]).expand(2, 3))
    torch.testing.assert_close((vectors * values.unsqueeze(-2)) @ vectors.mT, stack)


@pytest.mark.parametrize("exponent", [2.0, 4.0])
def test_roots_are_those_of_the_eigenvalues(exponent):
    root = inverse_root(symmetric([4.0, 1.0, 0.25])[None], exponent, 1e-6)[0]
    expected = torch.linalg.inv(symmetric([4.0 + 4e-6, 1.0 + 4e-6, 0.25 + 4e-6]))
    torch.testing.assert_close(torch.linalg.matrix_power(root, int(exponent)), expected)
    zero = inverse_root(torch.zeros(1, 2, 2), exponent, 1e-6)
    assert torch.equal(zero[0], torch.eye(2))
