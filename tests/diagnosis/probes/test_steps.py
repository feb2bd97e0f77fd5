"""The longest step on a quadratic in closed form; numbers that a step cannot change."""

import dataclasses

import pytest
import torch
from probe_cases import seeded, sequential, subject_of
from torch import nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.steps import _direction, precision, rate
from thalweg.diagnosis.subject import Facts, Subject
from thalweg.heads import as_head
from thalweg.models import MLP
from thalweg.optim.muon import NorMuon, PolarMuon
from thalweg.optim.roles import parameter_groups


def quadratic(kind: str, lr: float) -> Subject:
    """The loss (w - 1)^2 from w = 5: gradient 8, curvature 2."""

    def built():
        model = nn.Linear(1, 1, bias=False)
        model.weight.data.fill_(5.0)
        return model, as_head(nn.MSELoss())

    model, head = built()
    batch = Batch({"input": torch.ones(4, 1)}, torch.ones(4, 1))
    return Subject(model=model, head=head, train=[batch, batch], facts=Facts(optimizer=kind, lr=lr), initial=built)


@pytest.mark.parametrize(
    ("kind", "lr", "critical", "best"),
    [
        ("sgd", 0.001, 512.0, 512.0),  # a step s lowers it below s = 1, and most at s = 1/2
        ("sgd", 8.0, 0.0625, 0.0625),
        ("adam", 0.01, 512.0, 512.0),  # below 8, most at 4
        ("adam", 64.0, 0.0625, 0.0625),
        ("sgd", 1e-7, 2.0**14, 2.0**14),
    ],
)
def test_longest_step_of_a_quadratic(kind, lr, critical, best):
    found = rate(quadratic(kind, lr))
    assert found["critical_factor_start"] == found["critical_factor_now"] == critical
    assert found["best_factor_start"] == best
    assert found["loss_now"] == pytest.approx(16.0)
    assert len(found["losses_now"]) <= 13


def test_step_that_never_lowers_the_loss():
    subject = quadratic("sgd", 1e6)
    found = rate(subject)
    assert found["critical_factor_start"] == found["best_factor_start"] == 0.0
    assert subject.model.weight.item() == 5.0


def test_other_optimizers_and_unknown_rates_are_left_out():
    assert rate(quadratic("lbfgs", 1.0)) == {}
    subject = quadratic("sgd", 1.0)
    assert rate(dataclasses.replace(subject, facts=Facts(optimizer="sgd"))) == {}
    found = rate(dataclasses.replace(subject, initial=None))
    assert "critical_factor_start" not in found
    assert "critical_factor_now" in found


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [
        ("adamw", lambda groups: torch.optim.AdamW([p for group in groups for p in group["params"]], 1.0, eps=1e-8)),
        ("polar-muon", lambda groups: PolarMuon(groups, 1.0)),
        ("normuon", lambda groups: NorMuon(groups, 1.0)),
    ],
)
def test_directions_are_those_of_the_first_step(kind, optimizer):
    model = MLP([6, 8, 5], activation=nn.Tanh)
    head = as_head(nn.MSELoss())
    x = torch.randn(20, 6)
    subject = Subject(model=model, head=head, train=[Batch({"x": x}, x[:, :5] ** 2)])
    objective = subject.objective()
    direction = _direction(kind, objective)
    before = [parameter.detach().clone() for parameter in objective.parameters]
    groups = parameter_groups(model, head, weight_decay=0.0)
    for group in groups:
        group["weight_decay"] = 0.0
    stepper = optimizer(groups)
    for group in stepper.param_groups:
        group["weight_decay"] = 0.0
    objective()
    stepper.step()
    for parameter, start, step in zip(objective.parameters, before, direction, strict=True):
        torch.testing.assert_close(start - parameter.detach(), step, atol=2e-3, rtol=2e-2)


def test_weights_that_a_step_cannot_change_are_counted():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 1e-3]])
    batch = Batch({"input": torch.ones(2, 2)}, torch.zeros(2, 1))
    subject = Subject(model=model, head=as_head(nn.MSELoss()), train=[batch], facts=Facts(optimizer="adam", lr=1e-8))
    found = precision(subject)
    # Half the distance from 1 to the next number below it is 3e-8 in float32; from 0.001 it is 6e-11.
    assert found["too_small"] == 0.5
    assert found["types"] == ["float32"]
    assert precision(dataclasses.replace(subject, facts=Facts(optimizer="adam", lr=1e-3)))["too_small"] == 0.0


def test_gradients_below_half_precision_are_counted():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.ones(1, 2)
    batch = Batch({"input": torch.tensor([[1.0, 1e-6]])}, torch.zeros(1, 1))
    subject = Subject(model=model, head=as_head(nn.MSELoss()), train=[batch])
    assert precision(subject)["float16_underflow"] == 0.5
    assert "too_small" not in precision(subject)


def test_types_are_told():
    model, head = seeded(sequential)
    subject = subject_of("sequential")
    batches = [batch.to("cpu", torch.bfloat16) for batch in subject.train]
    found = precision(
        Subject(model=model.bfloat16(), head=head, train=batches, facts=Facts(optimizer="adamw", lr=1e-4))
    )
    assert found["types"] == ["bfloat16"]
    assert found["too_small"] > 0.5
