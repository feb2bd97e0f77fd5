"""Dead units, saturation, trends and repeated rows by hand."""

import math

import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.network.activations import activations, by_depth, weight_figures
from thalweg.diagnosis.subject import Subject
from thalweg.diagnosis.trends import _depth
from thalweg.heads import as_head


def subject_of(model, x):
    return Subject(model=model, head=as_head(nn.MSELoss()), train=[Batch({"input": x}, torch.zeros(len(x), 1))])


def sites_of(model, x):
    return {site["name"]: site for site in activations(subject_of(model, x))["sites"]}


def test_dead_units_are_counted():
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 1))
    model[0].weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0], [0.0, 0.0]])
    x = torch.tensor([[1.0, 1.0], [2.0, 3.0]])
    assert sites_of(model, x)["1"]["dead"] == 0.75
    assert sites_of(model, torch.tensor([[1.0, 1.0], [-2.0, 3.0]]))["1"]["dead"] == 0.5


def test_saturation_is_counted():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1))
    model[0].weight.data.fill_(1.0)
    # tanh(2.1) = 0.9705, tanh(2.0) = 0.9640
    found = sites_of(model, torch.tensor([[2.1], [2.0], [-5.0], [0.1]]))
    assert found["1"]["saturated"] == 0.5


def test_flow_is_the_gradient_at_each_output():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    model[0].weight.data.fill_(3.0)
    model[1].weight.data.fill_(2.0)
    found = sites_of(model, torch.ones(1, 1))  # the loss 36, its derivative 12 by the output
    assert found["1"]["flow"] == pytest.approx(12.0)
    assert found["0"]["flow"] == pytest.approx(24.0)


def test_gradients_that_vanish_with_depth_are_measured():
    layers = [layer for _ in range(6) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
    found = activations(subject_of(nn.Sequential(*layers, nn.Linear(8, 1)), torch.randn(16, 8)))
    assert found["flow_trend"] > 0.5  # a sigmoid's slope is at most a quarter
    assert found["flow_slope"] > 0.25
    assert found["flow_range"] < -3.0


def test_depth_is_measured_as_in_a_history():
    values = [1.0, math.e, math.e**2, 1.0, math.e**4]
    sites = [{"name": str(i), "kind": "linear", "flow": value} for i, value in enumerate(values)]
    found = by_depth([*sites[:2], {"name": "x", "kind": "norm", "flow": 0.0}, *sites[2:]])
    expected = _depth(sites)
    assert found["flow_range"] == pytest.approx(expected["flow_range"]) == pytest.approx(-4.0)
    assert found["flow_slope"] == pytest.approx(expected["flow_slope"])
    assert by_depth(sites)["flow_trend"] == pytest.approx(1.0)
    assert by_depth(sites[:1]) == {}


def test_repeated_rows_are_counted():
    weight = torch.randn(6, 5)
    assert weight_figures(weight)["symmetric"] == 0.0
    weight[4] = weight[1]
    weight[2] = weight[1] * (1.0 + 1e-7)
    weight[3] = 0.0
    found = weight_figures(weight)
    assert found["symmetric"] == pytest.approx(0.5)
    assert found["zero"] == pytest.approx(1 / 6)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_weights_are_symmetric(value):
    found = weight_figures(torch.full((4, 9), value))
    assert found["symmetric"] == 1.0
    assert found["scale"] == pytest.approx(3.0 * value)
