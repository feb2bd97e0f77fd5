"""All probes on every kind of network: plain values come out, and nothing is left behind."""

import dataclasses
import json

import pytest
import torch
from probe_cases import NETWORKS, subject_of
from torch import nn

from thalweg.diagnosis.of_objective import subject_of_objective
from thalweg.diagnosis.probes.catalog import PROBES, measured
from thalweg.diagnosis.probes.untouched import named_tensors, plain
from thalweg.errors import InputError
from thalweg.objective import Objective


def state_of(subject):
    """Everything that a probe must leave alone."""
    tensors = list(named_tensors(subject.model, subject.head))
    modules = [*subject.model.modules(), *subject.head.modules()]
    return {
        "values": {name: tensor.detach().clone() for name, tensor in tensors},
        "gradients": {
            name: (tensor.grad, None if tensor.grad is None else tensor.grad.clone()) for name, tensor in tensors
        },
        "asks": {name: tensor.requires_grad for name, tensor in tensors},
        "modes": [module.training for module in modules],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules],
        "random": torch.get_rng_state(),
    }


def assert_same(before, after):
    for name, value in before["values"].items():
        torch.testing.assert_close(after["values"][name], value, rtol=0.0, atol=0.0, equal_nan=True)
    for name, (gradient, value) in before["gradients"].items():
        assert after["gradients"][name][0] is gradient, name
        assert gradient is None or torch.equal(gradient, value), name
    assert torch.equal(before["random"], after["random"])
    for key in ("asks", "modes", "hooks"):
        assert before[key] == after[key], key


@pytest.mark.parametrize("kind", NETWORKS)
def test_probes_leave_no_trace(kind):
    subject = subject_of(kind)
    networks = [*subject.model.modules()]
    networks[-1].eval()  # modes differ between modules, gradients are there or not, and some weights are frozen
    parameters = [*subject.model.parameters(), *subject.head.parameters()]
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    before = state_of(subject)
    for name in PROBES:
        found = measured(subject, name)
        assert json.loads(json.dumps(found, allow_nan=False)) == found, name
        assert_same(before, state_of(subject))


@pytest.mark.parametrize("kind", ["mlp", "sequential"])
def test_probes_say_the_same_again(kind):
    subject = subject_of(kind)
    for name in PROBES:
        first = measured(subject, name)
        torch.rand(3)
        assert measured(subject, name) == first


def test_objective_of_one_tensor_is_measured():
    # Its model takes the tensor itself, not a keyword.
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    x = torch.randn(32, 4)
    subject = subject_of_objective(Objective(model, nn.MSELoss(), x, x[:, :1]))
    found = {name: measured(subject, name) for name in PROBES}
    assert found["inputs"]["shuffled_difference"] > 0.0
    assert found["gradients"]["num_batches"] == 16
    assert found["spectrum"]["sharpness"] > 0.0
    assert found["padding"]["batch_leak"] < 1e-5


@pytest.mark.parametrize("name", sorted(PROBES))
def test_data_set_of_one_example_is_measured_or_refused(name):
    subject = subject_of("mlp", num_batches=1)
    one = NETWORKS["mlp"][1](1)
    try:
        measured(dataclasses.replace(subject, train=[one], valid=[]), name)
    except InputError as error:
        assert str(error).endswith(".")  # noqa: PT017


@pytest.mark.parametrize("name", sorted(PROBES))
def test_weights_that_are_not_finite_are_told_or_refused(name):
    subject = subject_of("mlp")
    subject.head.output.weight.data[0, 0] = float("nan")
    before = state_of(subject)
    if name in ("inputs", "labels", "order"):
        assert "loss" not in measured(subject, name)
    elif name == "gradients":
        assert measured(subject, name)["non_finite"]["parameters"] == ["head.output.weight"]
    else:
        with pytest.raises(InputError, match=r"weights of 'head.output.weight' are not finite"):
            measured(subject, name)
    assert_same(before, state_of(subject))


@pytest.mark.parametrize("name", sorted(PROBES))
def test_subject_without_batches_is_refused(name):
    subject = dataclasses.replace(subject_of("sequential"), train=[])
    with pytest.raises(InputError, match="At least one training batch"):
        measured(subject, name)


def test_costs_are_told_before():
    subject = subject_of("mlp")
    assert all(0.0 <= probe.cost(subject) <= 30.0 for probe in PROBES.values())


def test_plain_values_have_no_nan():
    assert plain({"a": torch.tensor([1.0, float("inf")]), "b": (float("nan"), "x", True)}) == {
        "a": [1.0, None],
        "b": [None, "x", True],
    }
