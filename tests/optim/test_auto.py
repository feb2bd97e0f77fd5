"""Decisions from facts; and in a loop of one's own, `automatic.py`."""

import dataclasses

import pytest
import torch
from torch import nn

from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective
from thalweg.optim.auto import Facts, choose, facts_of
from thalweg.optim.automatic import make_automatic
from thalweg.optim.clipping import ClipRunning
from thalweg.optim.muon import NorMuon

SMALL = Facts(
    num_parameters=193, num_rows=268, long_axis=16, short_axis=10, batch_rows=32, num_batches=9, is_plain=True,
    takes_all_data=True, may_enlarge_batch=False,
)  # fmt: skip
LARGE = Facts(
    num_parameters=10**6, num_rows=10**5, long_axis=256, short_axis=64, batch_rows=1024, num_batches=1000,
    is_plain=False, takes_all_data=False, may_enlarge_batch=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "optimizer"),
    [
        (SMALL, "levenberg-marquardt"),
        (dataclasses.replace(SMALL, takes_all_data=False), "normuon"),
        (dataclasses.replace(SMALL, is_plain=False), "normuon"),
        (dataclasses.replace(SMALL, num_parameters=1001), "normuon"),
        (dataclasses.replace(SMALL, num_rows=110_000), "normuon"),
        (dataclasses.replace(SMALL, is_plain=False, long_axis=0, short_axis=0), "adamw"),
        (LARGE, "normuon"),
        (dataclasses.replace(LARGE, takes_all_data=True), "normuon"),
    ],
)
def test_each_fact_counts(facts, optimizer):
    choice = choose(facts)
    assert choice.settings["optimizer"] == optimizer
    assert choice.searches_rate == (optimizer != "levenberg-marquardt")


@pytest.mark.parametrize(("long_axis", "rate"), [(64, 0.02), (256, 0.01), (1024, 0.005), (8, 0.028), (32, 0.028)])
def test_the_rate_falls_with_the_root_of_the_width(long_axis, rate):
    assert choose(dataclasses.replace(LARGE, long_axis=long_axis)).settings["lr"] == rate


@pytest.mark.parametrize(("steps", "momentum"), [(50, 0.8), (1000, 0.9), (10**5, 0.95), (None, 0.9)])
def test_longer_runs_average_over_more_steps(steps, momentum):
    assert choose(dataclasses.replace(LARGE, total_steps=steps)).settings["optimizer_options"]["momentum"] == momentum


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, 1),
        ({"batch_rows": 100}, 2),
        ({"batch_rows": 64}, 4),  # three times the shorter axis is 192
        ({"batch_rows": 1}, 8),
        ({"batch_rows": 1, "num_batches": 100}, 4),  # 16 batches a pass are left
        ({"batch_rows": 1, "may_enlarge_batch": False}, 1),
    ],
)
def test_a_batch_grows_until_the_gradient_costs_as_much_as_the_step(changes, factor):
    assert choose(dataclasses.replace(LARGE, **changes)).batch_factor == factor


def test_facts_of_gates_tables_and_heads():
    model = nn.ModuleDict({"table": nn.Embedding(50, 8), "cell": nn.LSTM(8, 12)})
    facts = facts_of(model, Softmax(12, 5), num_rows=7, batch_rows=3)
    assert (facts.long_axis, facts.short_axis) == (12, 10)  # of gates 12 x 8 and 12 x 12; neither table nor head
    assert not facts.is_plain
    assert facts.num_parameters == 50 * 8 + 4 * 12 * (8 + 12 + 2) + 12 * 5 + 5
    assert facts_of(nn.Embedding(5, 4), Softmax(4, 2), num_rows=1, batch_rows=1).long_axis == 0


def a_loop(scale: float, lr: float | None = None, *, tries: bool = True) -> tuple[float, float, float]:
    """First and last loss, and the rate, of a network on inputs of a scale."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 6, generator=generator)
    y = (x[:, 0] * x[:, 1]).tanh().unsqueeze(1)
    torch.manual_seed(0)
    model, loss = (
        nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1)),
        nn.MSELoss(),
    )

    def objective(step: int) -> Objective:
        rows = torch.arange(32) + 32 * (step % 8)
        return Objective(model, loss, scale * x[rows], y[rows])

    chosen = make_automatic(model, loss, total_steps=200, lr=lr, objective=objective if tries else None)
    assert isinstance(chosen.optimizer, NorMuon)
    assert isinstance(chosen.clip, ClipRunning)
    losses = []
    for step in range(200):
        losses.append(float(objective(step)()))
        chosen.clip(model.parameters())
        chosen.optimizer.step()
        chosen.schedule.step()
    assert chosen.optimizer.param_groups[0]["lr"] == 0.0
    return losses[0], losses[-1], chosen.lr


def test_a_loop_of_ones_own_needs_no_rate():
    first, last, lr = a_loop(1.0)
    assert last < 0.1 * first
    assert lr == pytest.approx(choose(dataclasses.replace(LARGE, long_axis=24)).settings["lr"], rel=1e-9)


def test_a_rate_that_was_given_is_taken():
    assert a_loop(1.0, lr=1e-4)[2] == 1e-4
    assert a_loop(1.0, tries=False)[2] == a_loop(1.0)[2]


def test_models_without_matrices_get_adamw():
    chosen = make_automatic(nn.Embedding(9, 4), nn.Linear(4, 2), total_steps=10)
    assert type(chosen.optimizer).__name__ == "AdamW"
    assert "no weight matrices" in chosen.why
