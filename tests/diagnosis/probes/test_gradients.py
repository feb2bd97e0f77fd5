"""The noise scale against its definition on a large sample; layers, frozen and unreached parameters by hand."""

import dataclasses

import pytest
import torch
from probe_cases import NETWORKS, subject_of
from torch import nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.gradients import gradients
from thalweg.diagnosis.subject import Facts, Subject
from thalweg.heads import as_head


def regression(number: int, num_batches: int, **facts) -> tuple[Subject, torch.Tensor]:
    """A linear regression and the gradient of each example by hand."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(number, 40, generator=generator)
    y = x @ torch.linspace(-1.0, 1.0, 40).unsqueeze(1) + torch.randn(number, 1, generator=generator)
    model = nn.Linear(40, 1, bias=False)
    nn.init.constant_(model.weight, 0.2)
    each = 2.0 * (model(x) - y).detach() * x
    parts = zip(x.chunk(num_batches), y.chunk(num_batches), strict=True)
    batches = [Batch({"input": a}, b) for a, b in parts]
    return Subject(model=model, head=as_head(nn.MSELoss()), train=batches, facts=Facts(**facts)), each


def test_noise_scale_is_that_of_its_definition():
    subject, each = regression(1600, 16, batch_size=100)
    mean = each.mean(0)
    trace = float((each - mean).square().sum(1).mean())
    found = gradients(subject)
    assert found["norm"] == pytest.approx(float(mean.norm()), rel=1e-5)
    assert abs(found["noise_trace"] - trace) < 3.0 * found["noise_trace_error"]
    assert abs(found["noise_scale"] - trace / float(mean.square().sum())) < 3.0 * found["error"]
    assert found["noise_scale_low"] < found["noise_scale"] < found["noise_scale_high"]
    assert found["snr"] == pytest.approx(100.0 / found["noise_scale"])


def test_two_sizes_give_the_same_pieces():
    # The formula of the paper, from the mean squared norms at the two batch sizes.
    subject, each = regression(800, 8)
    small, large = 100.0, 800.0
    parts = torch.stack([part.mean(0) for part in each.chunk(8)])
    of_small, of_large = float(parts.square().sum(1).mean()), float(parts.mean(0).square().sum())
    found = gradients(dataclasses.replace(subject, train=[*subject.train, *subject.train]))
    assert found["num_batches"] == 16
    parts = torch.cat([parts, parts])
    of_small, of_large, large = float(parts.square().sum(1).mean()), float(parts.mean(0).square().sum()), 1600.0
    assert found["gradient_square"] == pytest.approx((large * of_large - small * of_small) / (large - small), rel=1e-4)
    assert found["noise_trace"] == pytest.approx((of_small - of_large) / (1.0 / small - 1.0 / large), rel=1e-4)


def test_estimates_are_unbiased():
    traces, squares = [], []
    subject, each = regression(6400, 200)
    for first in range(0, 200, 8):
        found = gradients(dataclasses.replace(subject, train=subject.train[first : first + 8]))
        traces.append(found["noise_trace"])
        squares.append(found["gradient_square"])
    trace = float((each - each.mean(0)).square().sum(1).mean())
    for values, expected in ((traces, trace), (squares, float(each.mean(0).square().sum()))):
        values = torch.tensor(values)
        assert abs(float(values.mean()) - expected) < 3.0 * float(values.std()) / len(values) ** 0.5


def test_one_batch_is_divided():
    subject, _ = regression(64, 1)
    assert gradients(subject)["num_batches"] == 16


def test_layers_hold_the_whole_gradient_with_its_penalty():
    subject = subject_of("mlp", dropout=0.0)
    for module in subject.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found = gradients(subject)
    objective = subject.objective()
    expected = dict(
        zip([name for name, _ in objective.named_parameters()], objective.value_and_gradient()[1], strict=True)
    )
    assert found["layers"]["head.output"]["norm"] == pytest.approx(
        float(torch.cat([expected["head.output.weight"].flatten(), expected["head.output.bias"]]).norm()), rel=1e-4
    )
    assert sum(layer["norm"] ** 2 for layer in found["layers"].values()) == pytest.approx(found["norm"] ** 2, rel=1e-5)


def test_unreached_and_frozen_parameters_are_named():
    subject = subject_of("mlp")
    subject.model.spare = nn.Linear(2, 2)
    subject.head.output.bias.requires_grad_(False)
    found = gradients(subject)
    assert found["unreached"] == found["without_gradient"] == ["spare.weight", "spare.bias"]
    assert found["frozen"] == ["head.output.bias"]
    assert found["frozen_share"] == pytest.approx(3 / found["num_parameters"])


def test_reached_parameters_without_gradient_are_named():
    subject = subject_of("mlp")
    subject.model.body.layers[0].weight.data.zero_()
    subject.model.body.layers[0].bias.data.fill_(-1.0)  # every unit of the ReLU is dead
    found = gradients(subject)
    assert found["unreached"] == []
    assert {"body.layers.0.weight", "body.layers.0.bias", "embedding.weight"} <= set(found["without_gradient"])


def test_gradients_that_are_not_finite_are_named():
    subject = subject_of("sequential")
    batch = NETWORKS["sequential"][1](8)
    bad = Batch({"input": batch.inputs["input"].index_fill(0, torch.tensor([0]), float("inf"))}, batch.targets)
    found = gradients(dataclasses.replace(subject, train=[bad]))
    assert "0.weight" in found["non_finite"]["gradients"]
    assert "noise_scale" not in found


def test_frozen_networks_have_nothing_to_measure():
    subject = subject_of("sequential")
    for parameter in subject.model.parameters():
        parameter.requires_grad_(False)
    assert gradients(subject)["frozen_share"] == 1.0
