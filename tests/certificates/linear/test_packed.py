"""Rows that are kept once, in their own type: the same products as of the dense matrix, whatever block they come in."""

import numpy as np
import pytest
import torch
from linear_cases import as_tensor
from scipy import sparse

from thalweg.certificates.linear import packed
from thalweg.certificates.linear.matrices import Features

ROWS = np.random.default_rng(0).normal(size=(60, 9)) * (np.random.default_rng(1).random((60, 9)) < 0.4)


@pytest.fixture(params=[np.float32, np.float64])
def matrix(request, monkeypatch):
    monkeypatch.setattr(packed, "LEAST", 10)
    monkeypatch.setattr(packed, "BLOCK", 16)
    return sparse.csr_array(ROWS.astype(request.param))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outputs", [1, 2, packed.FEW + 1])
def test_products_are_those_of_the_matrix(matrix, dtype, outputs):
    features, x = Features(matrix), as_tensor(matrix.toarray().astype(np.float64))
    close = 1e-5 if dtype == torch.float32 else 1e-13
    right, back = torch.randn(9, outputs, dtype=dtype), torch.randn(60, outputs, dtype=dtype)
    weights = torch.rand(60, dtype=dtype)
    for found, wanted in (
        (features.times(right), x @ right.double()),
        (features.adjoint(back), x.T @ back.double()),
        (features.square_sums(weights), x.T.square() @ weights.double()),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), wanted, rtol=close, atol=close)
    torch.testing.assert_close(features.row_norms(), x.norm(dim=1))
    assert features.most_terms == int((ROWS != 0.0).sum(0).max())


def test_the_matrix_is_not_copied(matrix):
    features = Features(matrix)
    features.times(torch.ones(9, 2))
    features.adjoint(torch.ones(60, 2, dtype=torch.float64))
    kept = features.arrays()["X_values"]
    assert np.shares_memory(kept, matrix.data) == (matrix.dtype == np.float64)
    assert np.shares_memory(features._packed.matrix.data, matrix.data)  # pyright: ignore
    np.testing.assert_array_equal(kept, matrix.data)


def test_few_entries_are_copied():
    assert Features(sparse.csr_array(ROWS.astype(np.float32)))._packed is None  # pyright: ignore


def test_some_columns_are_taken_from_the_transpose(matrix):
    chosen, right = torch.tensor([3, 0, 1]), torch.rand(3)
    expected = as_tensor(matrix.toarray())[:, chosen].float() @ right
    torch.testing.assert_close(Features(matrix).columns(chosen).times(right), expected)


def test_an_entry_that_comes_twice_is_added_up(monkeypatch):
    monkeypatch.setattr(packed, "LEAST", 1)
    parts = np.array([1.0, 2.0, -3.0, 5.0], dtype=np.float32), np.array([2, 0, 2, 1]), np.array([0, 3, 4])
    features = Features(sparse.csr_array(parts, shape=(2, 3)))
    torch.testing.assert_close(features.row_norms(), as_tensor(np.array([8.0**0.5, 5.0])))
