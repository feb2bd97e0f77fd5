"""Two processes with half of the batches each have the matrices of one process with all of them."""

import pytest
import torch
from ranks import together
from torch import nn

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective


def batches():
    generator = torch.Generator().manual_seed(0)
    draw = [(torch.randn(n, 3, generator=generator), torch.randint(3, (n,), generator=generator)) for n in (4, 2, 5)]
    return [Batch({"input": x.double()}, y, torch.arange(len(y)) != 1) for x, y in draw]


def objective(rank=None):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh()).double()
    head = Softmax(4, 3).double()
    mine = batches() if rank is None else batches()[:1] if rank == 0 else batches()[1:]
    return Objective(model, head, mine, l2=0.1)


def matrices(made):
    dense = [make(made).dense() for make in (Hessian, GaussNewton)]
    vector = torch.linspace(-1.0, 1.0, len(dense[0]), dtype=torch.float64)
    return torch.stack([*dense, (Hessian(made) @ vector).expand_as(dense[0])])


def of_this_process():
    return matrices(objective(distributed.rank())).tolist()


@pytest.mark.slow
def test_matrices_are_sums_over_ranks(tmp_path):
    expected = matrices(objective())
    for found in together(of_this_process, folder=tmp_path):
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected)
