import pytest
import torch
from torch import nn

from thalweg.models.exchange import exchanged


class Tied(nn.Module):
    """One weight under two names, in two modules; and a buffer that counts the calls."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.second(self.first(x))


def test_a_tied_weight_is_replaced_wherever_it_is_used_and_put_back_everywhere():
    module, x, other = Tied(), torch.randn(3, 2), torch.randn(2, 2)
    own = module.first.weight
    result = exchanged(module, [(own, other)], lambda: module(x))
    torch.testing.assert_close(result, x @ other.T @ other.T)
    assert module.first.weight is own
    assert module.second.weight is own


def test_what_happens_to_the_copy_of_a_buffer_leaves_the_module_alone():
    module, copy = Tied(), torch.zeros(())
    exchanged(module, [(module.calls, copy)], lambda: module(torch.zeros(1, 2)))
    assert (float(copy), float(module.calls)) == (1.0, 0.0)


def test_everything_is_put_back_after_an_error():
    module = Tied()
    own = module.first.weight
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        exchanged(module, [(own, torch.zeros(2, 2))], lambda: module(torch.zeros(1, 5)))
    assert module.first.weight is own


def test_without_pairs_it_only_evaluates():
    assert exchanged(Tied(), [], lambda: 7) == 7
