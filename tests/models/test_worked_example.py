"""A 2-3-1 network with sparse wiring and an input skip, one example at a time, as figured out by hand."""

import pytest
import torch
from torch import nn

from thalweg.heads.squared import Squared
from thalweg.models.mlp import MLP
from thalweg.objective import Objective

# For weights w1 .. w9: which matrix ("hidden", "output" or "shortcut") and which entry.
PLACES = [
    ("hidden", 0, 0),
    ("shortcut", 0, 0),
    ("hidden", 1, 0),
    ("hidden", 1, 1),
    ("shortcut", 0, 1),
    ("hidden", 2, 1),
    ("output", 0, 2),
    ("output", 0, 1),
    ("output", 0, 0),
]
START = [0.1, 0.2, 0.2, -0.1, 0.2, 0.1, -0.3, 0.2, -0.1]
STEPS = [
    ([0.0, 1.0], 0.0875, [0.1000, 0.2000, 0.2000, -0.0909, 0.3825, 0.0863, -0.2042, 0.2867, -0.0088]),
    ([1.0, 0.0], 0.2509, [0.0997, 0.3498, 0.2106, -0.0909, 0.3825, 0.0863, -0.1293, 0.3691, 0.0699]),
]


def test_worked_example():
    mask = torch.tensor([[1, 0], [1, 1], [0, 1]])
    model = MLP([2, 3, 1], activation=nn.Sigmoid, bias=False, input_skip=True, masks=[mask, None, None]).double()
    hidden, output = model.layers
    stored = {"hidden": hidden.stored, "output": output.weight, "shortcut": model.shortcut.weight}
    with torch.no_grad():
        for (name, row, column), value in zip(PLACES, START, strict=True):
            stored[name][row, column] = value
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    target = torch.ones(1, 1, dtype=torch.float64)
    for inputs, expected_output, expected_weights in STEPS:
        x = torch.tensor([inputs], dtype=torch.float64)
        assert model(x).item() == pytest.approx(expected_output, abs=2e-4)
        loss = optimizer.step(Objective(model, Squared(), x, target))
        assert loss.item() == pytest.approx(0.5 * (1 - expected_output) ** 2, abs=2e-4)
        in_use = {"hidden": hidden.weight, "output": output.weight, "shortcut": model.shortcut.weight}
        assert [in_use[name][row, column].item() for name, row, column in PLACES] == pytest.approx(
            expected_weights, abs=2e-4
        )
        assert hidden.weight[0, 1].item() == 0.0
        assert hidden.weight[2, 0].item() == 0.0
