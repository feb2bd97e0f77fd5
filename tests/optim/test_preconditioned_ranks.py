"""Two processes with the same gradients, each with its share of the decompositions, step like one process alone."""

import pytest
import torch
from ranks import together
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


def of_this_process():
    counts: list[int] = []
    numbers = weights(True, counts)
    return [sum(counts), numbers.tolist()]


@pytest.mark.slow
def test_decompositions_are_spread_over_ranks(tmp_path):
    counts: list[int] = []
    alone = weights(False, counts)
    shares, ended = zip(*together(of_this_process, folder=tmp_path), strict=True)
    assert sum(shares) == sum(counts)
    assert min(shares) > 0.25 * sum(counts)
    for numbers in ended:
        assert torch.equal(torch.tensor(numbers, dtype=torch.float64), alone)


def test_one_process_spreads_nothing():
    counts: list[int] = []
    assert torch.equal(weights(True, counts), weights(False, counts))
    assert preconditioned.distributed.world_size() == 1
