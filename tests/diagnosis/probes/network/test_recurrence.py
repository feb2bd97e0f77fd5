"""Gates against PyTorch's cells step by step; how far a state remembers against finite differences."""

import math

import pytest
import torch
from probe_cases import subject_of
from torch import nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.network.recurrence import gates, memory
from thalweg.diagnosis.subject import Subject
from thalweg.heads import as_head


class First(nn.Module):
    """The outputs of a recurrent layer alone."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, input):  # noqa: A002
        return self.layer(input)[0]


def subject_with(layer, x):
    model = First(layer)
    return Subject(model=model, head=as_head(nn.MSELoss()), train=[Batch({"input": x}, torch.zeros_like(model(x)))])


def gates_by_cell(layer, x):
    """What goes into the gates of a layer, step by step."""
    cell_type = nn.LSTMCell if isinstance(layer, nn.LSTM) else nn.GRUCell
    cell = cell_type(layer.input_size, layer.hidden_size)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(cell, name).data = getattr(layer, f"{name}_l0").data
    state = h = torch.zeros(len(x), layer.hidden_size)
    state = (h, h) if cell_type is nn.LSTMCell else h
    found = []
    for t in range(x.shape[1]):
        h = state[0] if isinstance(state, tuple) else state
        by_input, by_state = x[:, t] @ cell.weight_ih.T + cell.bias_ih, h @ cell.weight_hh.T + cell.bias_hh
        if cell_type is nn.LSTMCell:
            found.append((by_input + by_state).chunk(4, 1))
        else:
            a, b = by_input.chunk(3, 1), by_state.chunk(3, 1)
            reset = torch.sigmoid(a[0] + b[0])
            found.append((a[0] + b[0], a[1] + b[1], a[2] + reset * b[2]))
        state = cell(x[:, t], state)
    return [torch.stack(parts, 1).detach() for parts in zip(*found, strict=True)]


@pytest.mark.parametrize(
    ("kind", "names"), [(nn.LSTM, ("input", "forget", "cell", "output")), (nn.GRU, ("reset", "update", "new"))]
)
def test_gates_are_those_of_the_cell(kind, names):
    layer = kind(3, 5, batch_first=True)
    for parameter in layer.parameters():
        parameter.data *= 6.0
    x = torch.randn(4, 7, 3)
    found = gates(subject_with(layer, x), Batch({"input": x}, torch.zeros(4, 7, 5)))[0]
    for name, expected in zip(names, gates_by_cell(layer, x), strict=True):
        candidate = name in ("cell", "new")
        shut = torch.tanh(expected).abs() > 0.97 if candidate else expected.abs() > 4.0
        bounded = torch.tanh(expected) if candidate else torch.sigmoid(expected)
        assert found["gate_saturated"][name] == pytest.approx(float(shut.float().mean()))
        assert found["gate_mean"][name] == pytest.approx(float(bounded.mean()), abs=1e-5)
    assert 0.0 < found["gate_saturated"][names[0]] < 1.0


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_layers_and_directions_are_taken_apart(kind):
    # Each layer of a stacked, bidirectional one, and where time comes first: the last layer's states are the output.
    layer = kind(3, 4, num_layers=2, bidirectional=True)
    x = torch.randn(6, 2, 3)
    output = layer(x)[0].transpose(0, 1).detach()
    found = gates(subject_with(layer, x), Batch({"input": x}, torch.zeros(6, 2, 8)))
    assert [entry["name"] for entry in found] == [f"layer #{i}" for i in range(4)]
    assert found[2]["state_std"] == pytest.approx(float(output[..., :4].std()), rel=1e-5)
    assert found[3]["state_std"] == pytest.approx(float(output[..., 4:].std()), rel=1e-5)


def test_padding_does_not_count():
    subject = subject_of("lstm")
    batch = subject.train[0]
    wide = Batch(
        {
            "tokens": torch.cat([batch.inputs["tokens"], torch.zeros(8, 5, dtype=torch.int64)], 1),
            "mask": torch.cat([batch.inputs["mask"], torch.zeros(8, 5, dtype=torch.bool)], 1),
        },
        batch.targets,
    )
    subject.model.eval()
    for one, other in zip(gates(subject, batch), gates(subject, wide), strict=True):
        assert one["gate_mean"] == pytest.approx(other["gate_mean"], abs=1e-6)


def test_memory_is_the_derivative_by_earlier_inputs():
    layer = nn.LSTM(2, 1, batch_first=True).double().requires_grad_(False)
    x = torch.randn(1, 6, 2, dtype=torch.float64)
    found = memory(subject_with(layer, x))["layers"][0]
    for distance in range(6):
        slopes = []
        for column in range(2):
            shift = torch.zeros_like(x)
            shift[0, 5 - distance, column] = 1e-6
            slopes.append(float((layer(x + shift)[0][0, -1, 0] - layer(x - shift)[0][0, -1, 0]) / 2e-6))
        assert found["norms"][distance] == pytest.approx(math.hypot(*slopes), rel=1e-5)
    assert found["ratio"] == pytest.approx(found["norms"][-1] / found["norms"][0])


@pytest.mark.parametrize(("factor", "slope"), [(0.5, math.log(0.5)), (1.1, math.log(1.1))])
def test_memory_of_a_linear_recurrence_is_exponential(factor, slope):
    layer = nn.RNN(1, 1, nonlinearity="relu", batch_first=True)
    for name, value in {"weight_ih_l0": 1.0, "weight_hh_l0": factor, "bias_ih_l0": 0.0, "bias_hh_l0": 0.0}.items():
        getattr(layer, name).data.fill_(value)
    found = memory(subject_with(layer, torch.rand(3, 8, 1) + 0.1))["layers"][0]
    assert found["slope"] == pytest.approx(slope, rel=1e-4)
    assert found["ratio"] == pytest.approx(factor**7, rel=1e-4)


def test_other_networks_have_no_memory():
    assert memory(subject_of("mlp")) == {}
