"""Two processes with the same gradients, each with its share of the decompositions, step like one process alone."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from thalweg.optim import preconditioned
from thalweg.optim.muon import NorMuon
from thalweg.optim.shampoo import Shampoo
from thalweg.optim.soap import SOAP

MAKERS = {
    "soap": lambda params, **given: SOAP(params, frequency=3, **given),
    "shampoo": lambda params, **given: Shampoo(params, frequency=2, **given),
    "normuon": NorMuon,
}


def weights(spread: bool, counts: list[int]) -> torch.Tensor:
    """The weights after seven steps of each; a float64 matrix and a float32 one have messages of their own."""
    ended = []
    for make in MAKERS.values():
        generator = torch.Generator().manual_seed(0)
        shapes, types = [(6, 4), (4, 6), (5, 5), (4,), (6, 4), (3, 7)], [torch.float64] * 5 + [torch.float32]
        w = [nn.Parameter(torch.randn(s, generator=generator).to(t)) for s, t in zip(shapes, types, strict=True)]
        optimizer = make([{"params": w[:4]}, {"params": w[4:], "pieces": 3}], lr=0.05, spread=spread)
        found = optimizer._apart

        def counted(function, arguments, found=found):
            return found(lambda *given: (counts.append(len(given[0])), function(*given))[1], arguments)

        optimizer._apart = counted
        for _ in range(7):
            for p in w:
                p.grad = p.detach() + torch.randn(p.shape, generator=generator).to(p.dtype)
            optimizer.step()
        ended += [p.detach().double().flatten() for p in w]
    return torch.cat(ended)


def work(rank, meeting, result):
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    counts: list[int] = []
    numbers = weights(True, counts)
    (result / f"{rank}.txt").write_text(" ".join(map(repr, [float(sum(counts)), *numbers.tolist()])))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_decompositions_are_spread_over_ranks(tmp_path):
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
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    counts: list[int] = []
    alone = weights(False, counts)
    found = [[float(number) for number in (tmp_path / f"{rank}.txt").read_text().split()] for rank in range(2)]
    assert found[0][0] + found[1][0] == sum(counts)
    assert min(found[0][0], found[1][0]) > 0.25 * sum(counts)
    for _, *numbers in found:
        assert torch.equal(torch.tensor(numbers, dtype=torch.float64), alone)


def test_one_process_spreads_nothing():
    counts: list[int] = []
    assert torch.equal(weights(True, counts), weights(False, counts))
    assert preconditioned.distributed.world_size() == 1
