"""A network is no larger than the weights that are put into it, whatever its recipe says."""

import pytest
import torch
from torch import nn

from thalweg.errors import InputError
from thalweg.models.room import Room

WEIGHTS = {"weight": torch.zeros(4, 4), "bias": torch.zeros(4)}

TOO_LARGE = {
    "wide": lambda: nn.Linear(10**9, 10**9),
    "beyond any tensor": lambda: nn.Linear(2**62, 2**62),
    "deep": lambda: [nn.Linear(1, 1) for _ in range(1000)],
    "a long table": lambda: torch.arange(10**12),
}


def test_a_network_of_its_size_is_built():
    with Room(WEIGHTS):
        assert nn.Linear(4, 4).weight.shape == (4, 4)


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_larger_one_is_refused_before_it_takes_memory(case):
    with Room(WEIGHTS), pytest.raises(InputError, match="larger than its weights"):
        TOO_LARGE[case]()
    nn.Linear(100, 100)  # what is built afterwards is no longer counted
