"""What another optimizer trains is not untrained."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis.loops.watch import Watch


@pytest.mark.parametrize("has_second", [True, False])
def test_a_second_optimizer(has_second):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    first = torch.optim.Adam(model[0].parameters(), lr=0.01)
    second = torch.optim.SGD(model[2].parameters(), lr=0.1 if has_second else 0.0)
    watch = Watch(model, first)
    for step in range(30):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        y = (x[:, 0] > 0).long()
        loss = F.cross_entropy(model(x), y)
        watch.loss(loss, y)
        model.zero_grad()
        loss.backward()
        first.step()
        if has_second:
            second.step()
    found = [finding.name for finding in watch.findings()]
    assert ("untrained-parameters" in found) is not has_second
