"""Running networks for their answers only."""

import pytest
import torch
from torch import nn

from thalweg.tasks.answering import answering


def test_each_module_gets_its_mode_back_and_no_gradient_is_taken():
    network = nn.Sequential(nn.Linear(2, 1), nn.Dropout()).train()
    network[1].eval()
    with pytest.raises(ZeroDivisionError, match="division"), answering(network) as parameter:
        assert not network.training
        assert not network(torch.zeros(1, 2).to(parameter)).requires_grad
        _ = 1 / 0
    assert [module.training for module in network.modules()] == [True, True, False]
