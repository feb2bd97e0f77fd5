"""Sums of weights of features: values, derivatives of any order and mode, the transposed lists."""

import numpy as np
import pytest
import torch
from scipy import sparse

from thalweg.models.sparse_linear import SparseLinear, transposed

FEATURES = torch.tensor([0, 4, 1, 1, 3], dtype=torch.int32)
OFFSETS = torch.tensor([0, 2, 2, 3], dtype=torch.int32)  # four words: [0, 4], [], [1], [1, 3]
MASK = torch.tensor([[True, True, True], [True, False, False]])
DENSE = torch.tensor([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 0, 1, 0]], dtype=torch.float64)


def make() -> tuple[SparseLinear, dict[str, torch.Tensor]]:
    model = SparseLinear(5, 2).double()
    torch.nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(0))
    words, starts = transposed(FEATURES, OFFSETS, 5)
    return model, {"features": FEATURES, "offsets": OFFSETS, "words": words, "starts": starts, "mask": MASK}


def test_scores_are_the_product_with_the_matrix_of_features():
    model, inputs = make()
    found = model(**inputs)
    torch.testing.assert_close(found[MASK], DENSE @ model.weight)
    assert bool((found[~MASK] == 0.0).all())
    (slope,) = torch.autograd.grad(found.square().sum(), model.weight)
    torch.testing.assert_close(slope, 2.0 * DENSE.T @ DENSE @ model.weight)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own, at its first forward mode
def test_derivatives_of_second_order_forward_mode_and_many_at_once():
    model, inputs = make()

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, {"weight": weight}, (), inputs).square().sum()

    weight = model.weight.detach()
    expected = torch.kron(2.0 * DENSE.T @ DENSE, torch.eye(2, dtype=torch.float64))
    for hessian in (torch.func.hessian, lambda f: torch.func.jacrev(torch.func.jacrev(f))):
        torch.testing.assert_close(hessian(loss)(weight).reshape(10, 10), expected)


def test_transposed_lists_are_those_of_scipy():
    words, starts = transposed(FEATURES, OFFSETS, 5)
    matrix = sparse.csr_array((np.ones(5), FEATURES.numpy(), np.append(OFFSETS.numpy(), 5)), shape=(4, 5)).tocsc()
    assert words.tolist() == matrix.indices.tolist()
    assert starts.tolist() == matrix.indptr[:-1].tolist()
    assert words.dtype == starts.dtype == torch.int32


@pytest.mark.parametrize("sizes", [(0, 2), (2, 0)])
def test_sizes_are_checked(sizes):
    with pytest.raises(ValueError, match="must be at least 1"):
        SparseLinear(*sizes)
