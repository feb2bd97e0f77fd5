"""Two processes with half of the batches each have the matrices of one process with all of them."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

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


def work(rank, meeting, result):
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    (result / f"{rank}.txt").write_text(" ".join(map(repr, matrices(objective(rank)).flatten().tolist())))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_matrices_are_sums_over_ranks(tmp_path):
    code = (
        "import importlib.util, pathlib, sys; spec = importlib.util.spec_from_file_location('ranks', sys.argv[1]);"
        "ranks = importlib.util.module_from_spec(spec); spec.loader.exec_module(ranks);"
        "ranks.work(int(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4]))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, __file__, str(rank), str(tmp_path / "meeting"), str(tmp_path)],
            env=dict(os.environ),
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    expected = matrices(objective())
    for rank in range(2):
        numbers = [float(number) for number in (tmp_path / f"{rank}.txt").read_text().split()]
        torch.testing.assert_close(torch.tensor(numbers, dtype=torch.float64).view_as(expected), expected)
