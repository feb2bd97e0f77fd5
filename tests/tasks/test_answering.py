"""Running networks for their answers only."""

import torch
from torch import nn

from thalweg.tasks.answering import answering


def test_each_module_gets_its_mode_back_and_no_gradient_is_taken():
    network = nn.Sequential(nn.Linear(2, 1), nn.Dropout()).train()
    network[1].eval()
    with answering(network) as parameter:
        assert not any(module.training for module in network.modules())
        assert not network(torch.zeros(1, 2).to(parameter)).requires_grad
    assert [module.training for module in network.modules()] == [True, True, False]
