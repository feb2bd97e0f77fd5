"""Feature matrices: the same products however they are given, and nothing of the caller's is changed."""

import numpy as np
import pytest
import torch
from linear_cases import as_tensor
from scipy import sparse
from torch import nn

from thalweg.certificates.linear import matrices
from thalweg.certificates.linear.matrices import Features, from_bags

DENSE = np.random.default_rng(0).normal(size=(7, 5)) * (np.random.default_rng(1).random((7, 5)) < 0.5)
LAYOUTS = {
    "array": lambda: DENSE,
    "tensor": lambda: as_tensor(DENSE),
    "csr": lambda: sparse.csr_array(DENSE),
    "csc matrix": lambda: sparse.csc_matrix(DENSE),
    "coo tensor": lambda: as_tensor(DENSE).to_sparse(),
    "csr tensor": lambda: as_tensor(DENSE).to_sparse_csr(),
    "float32": lambda: sparse.csr_array(DENSE.astype(np.float32)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("outputs", [1, 3])
def test_products_are_those_of_the_matrix(layout, dtype, outputs):
    x, features = as_tensor(DENSE).to(dtype), Features(LAYOUTS[layout]())
    close = 1e-6 if dtype == torch.float32 or layout == "float32" else 1e-14
    right, back, weights = torch.randn(5, outputs, dtype=dtype), torch.randn(7, outputs, dtype=dtype), torch.rand(7)
    for left, wanted in (
        (features.times(right), x @ right),
        (features.times(right.T.contiguous().T), x @ right),
        (features.adjoint(back), x.T @ back),
        (features.square_sums(weights.to(dtype)), x.T.square() @ weights.to(dtype)),
    ):
        torch.testing.assert_close(left, wanted, rtol=close, atol=close)
    torch.testing.assert_close(features.row_norms(), as_tensor(DENSE).norm(dim=1), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("quicker", [0, 10_000])
def test_some_columns_are_multiplied_alone(layout, quicker, monkeypatch):
    monkeypatch.setattr(matrices, "DENSE_IS_QUICKER", quicker)
    chosen, weights, close = torch.tensor([3, 0, 1]), torch.rand(7), {"rtol": 1e-5, "atol": 1e-6}
    x, columns = as_tensor(DENSE)[:, chosen].float(), Features(LAYOUTS[layout]()).columns(chosen)
    right, back = torch.randn(3), torch.randn(7)
    torch.testing.assert_close(columns.times(right), x @ right, **close)
    torch.testing.assert_close(columns.adjoint(back), x.T @ back, **close)
    torch.testing.assert_close(columns.square_sums(weights), x.T.square() @ weights, **close)
    torch.testing.assert_close(columns.gram(weights), (x.T @ torch.diag(weights) @ x).double(), **close)


def test_an_entry_that_comes_twice_is_added_up_in_a_copy():
    values, columns, starts = np.array([1.0, 2.0, -3.0, 5.0]), np.array([2, 0, 2, 1]), np.array([0, 3, 4])
    twice = sparse.csr_array((values, columns, starts), shape=(2, 3))
    features = Features(twice)
    torch.testing.assert_close(features.square_sums(torch.ones(2).double()), as_tensor([4.0, 25.0, 4.0]))
    torch.testing.assert_close(features.row_norms(), as_tensor([8.0**0.5, 5.0]))
    assert values.tolist() == [1.0, 2.0, -3.0, 5.0]
    assert columns.tolist() == [2, 0, 2, 1]


def test_bags_are_multiplied_as_an_embedding_bag_does():
    model = nn.EmbeddingBag(6, 3, mode="sum").double()
    tokens, offsets = torch.tensor([1, 1, 5, 0]), torch.tensor([0, 3, 3])
    each = torch.rand(4, dtype=torch.float64)
    bags = from_bags(tokens, offsets, each, 6)
    torch.testing.assert_close(bags.times(model.weight.detach()), model(tokens, offsets, each).detach())


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(number):
    for matrix in (np.array([[1.0, number]]), sparse.csr_array([[1.0, number]])):
        with pytest.raises(ValueError, match="finite numbers"):
            Features(matrix)
