"""Time limits: the schedule follows the clock, and the end of a run has its share."""

import pytest
import torch

from thalweg.data.builtin.catalog import SAMPLES
from thalweg.optim import schedules
from thalweg.training.session.api import train
from thalweg.training.session.optimizer import follow
from thalweg.training.session.stopping import MOST_AT_END, TimeLimit


def rates(progress):
    """The rates of ten steps of a cosine over 100 steps, of which the clock says where they are."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule, found = schedules.cosine(optimizer, total_steps=100), []
    for step in range(10):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        follow(schedule, 100, progress(step + 1))
    return [*found, optimizer.param_groups[0]["lr"]]


def test_the_schedule_is_where_the_clock_is():
    found = rates(lambda step: step / 10)
    plain = [1.0]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = schedules.cosine(optimizer, total_steps=10)
    for _ in range(10):
        optimizer.step()
        schedule.step()
        plain.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx(plain)
    assert found[-1] == pytest.approx(0.0, abs=1e-9)


def test_the_schedule_goes_by_its_steps_where_they_are_ahead():
    assert rates(lambda step: 0.0)[-1] == pytest.approx(rates(lambda step: step / 100)[-1])
    assert rates(lambda step: 0.0)[-1] > 0.97


def test_a_schedule_that_follows_a_score_is_left_alone():
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.SGD([torch.zeros(1)], lr=1.0))
    follow(schedule, 100, 0.9)
    assert schedule.last_epoch == 0


@pytest.mark.parametrize(
    ("limit", "evaluation", "expected"),
    [
        (TimeLimit(), 3.0, 0.0),
        (TimeLimit(1000.0), 3.0, 1000.0 - 6.0 - 4.0),
        (TimeLimit(1000.0, writes=True), 3.0, 1000.0 - 6.0 - 4.0 - 80.0),
        (TimeLimit(20.0), 1.0, 20.0 - 2.0 - 1.0),
        (TimeLimit(20.0), 100.0, 20.0 * (1.0 - MOST_AT_END)),
    ],
)
def test_the_end_of_a_run_has_its_share(limit, evaluation, expected):
    limit.measured(evaluation)
    assert limit.for_steps == pytest.approx(expected)
    assert limit.progress(limit.for_steps / 2) == pytest.approx(0.5 if limit.seconds else 0.0)
    assert limit.progress(1e9) == (1.0 if limit.seconds else 0.0)


def test_a_timed_run_ends_with_its_rate_at_zero_whatever_its_steps(tmp_path):
    options = {"model": "bag", "optimizer": "adamw", "width": 4, "schedule": "linear", "warmup": 0.0}
    seen = []
    run = train(
        SAMPLES["docstrings"], out=tmp_path, time=1.5, epochs=10_000, watch=seen.append, evaluate_every=1000, **options
    )
    steps = [entry for entry in seen if entry["event"] == "step"]
    assert run.result["status"] == "OUT_OF_TIME"
    assert steps[-1]["lr"] < 0.1 * steps[0]["lr"]
