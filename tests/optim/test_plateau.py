"""Schedules that follow a score, against PyTorch's and Hugging Face's own."""

import json
import random

import pytest
import torch
from torch.optim import lr_scheduler

from thalweg.optim.plateau import GreedyLR, greedy, reduce_lr_on_plateau, reduce_on_plateau, takes_score

RATES = (0.3, 0.07)


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": rate} for rate in RATES], lr=1.0)


def rates(sgd: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in sgd.param_groups]


def test_reduce_on_plateau_is_pytorchs_and_its_state_is_json():
    def build() -> tuple[torch.optim.Optimizer, lr_scheduler.ReduceLROnPlateau]:
        sgd = optimizer()
        return sgd, reduce_on_plateau(sgd, factor=0.5, patience=1, min_lr=0.02)

    scores = [-0.5, -0.6, -0.6, -0.6, -0.6, -0.7, -0.7, -0.7, -0.7]
    expected = [0.3, 0.3, 0.3, 0.15, 0.15, 0.15, 0.15, 0.075, 0.075]
    sgd, schedule = build()
    for done, (score, rate) in enumerate(zip(scores, expected, strict=True)):
        saved = json.loads(json.dumps([sgd.state_dict(), schedule.state_dict()]))
        sgd, schedule = build()
        sgd.load_state_dict(saved[0])
        schedule.load_state_dict(saved[1])
        schedule.step(score)
        assert sgd.param_groups[0]["lr"] == pytest.approx(rate), f"evaluation {done}"
    assert sgd.param_groups[1]["lr"] == pytest.approx(0.02)


def scores(seed: int, length: int = 400) -> list[float]:
    """Falling, standing, rising by turns."""
    choice, value, found = random.Random(seed), 2.0, []
    for _ in range(length // 20):
        slope = choice.choice([-0.03, -0.01, 0.0, 0.02])
        for _ in range(20):
            value = max(0.1, value + slope + choice.gauss(0.0, 0.002))
            found.append(value)
    return found


GREEDY: list[tuple[dict, dict]] = [
    ({}, {}),
    ({"patience": 2, "factor": 0.7}, {"patience": 2, "factor": 0.7}),
    (
        {"patience": 1, "cooldown": 3, "warmup": 2, "min_lr": 0.05, "reset_start": 4, "factor": 0.5},
        {"patience": 1, "cooldown": 3, "hold": 2, "min_lr": 0.05, "reset_start": 4, "factor": 0.5},
    ),
    *(({**s, "mode": "max"}, {**s, "mode": "max"}) for s in [{"patience": 3, "max_lr": 0.5, "threshold_mode": "rel"}]),
    *((s, s) for s in [{"patience": 2, "smooth": True, "window_size": 5, "threshold": 0.01, "eps": 0.001}]),
]


@pytest.mark.parametrize("case", GREEDY, ids=str)
def test_greedy_is_hugging_faces(case):
    get_scheduler = pytest.importorskip("transformers.optimization").get_scheduler
    theirs, ours = case
    seen = set()
    for seed in range(3):
        one, other = optimizer(), optimizer()
        expected = get_scheduler("greedy", one, scheduler_specific_kwargs=theirs)
        schedule = greedy(other, **ours)
        for evaluation, score in enumerate(scores(seed)):
            saved = json.loads(json.dumps([other.state_dict(), schedule.state_dict()], allow_nan=False))
            if evaluation % 7 == 0:  # resumed
                other = optimizer()
                schedule = greedy(other, **ours)
                other.load_state_dict(saved[0])
                schedule.load_state_dict(saved[1])
            expected.step(score)
            schedule.step(score)
            assert rates(other) == pytest.approx(rates(one), rel=1e-12), f"seed {seed}, evaluation {evaluation}"
            seen.add(rates(other)[0])
    assert len(seen) > 4
    assert schedule.get_last_lr() == rates(other)


def test_reduce_lr_on_plateau_is_hugging_faces():
    get_scheduler = pytest.importorskip("transformers.optimization").get_scheduler
    for settings in ({}, {"patience": 1, "factor": 0.5, "cooldown": 2, "mode": "max", "threshold_mode": "abs"}):
        one, other = optimizer(), optimizer()
        expected = get_scheduler("reduce_lr_on_plateau", one, scheduler_specific_kwargs=settings)
        schedule = reduce_lr_on_plateau(other, **settings)
        for score in scores(1):
            expected.step(score)
            schedule.step(score)
            assert rates(other) == rates(one)
        assert rates(other)[0] < RATES[0]


def test_what_takes_a_score():
    assert takes_score(greedy(optimizer()))
    assert takes_score(reduce_on_plateau(optimizer()))
    assert not takes_score(lr_scheduler.LambdaLR(optimizer(), lambda step: 1.0))


def test_greedy_takes_a_nan_for_no_progress():
    sgd = optimizer()
    schedule = greedy(sgd, patience=0)
    for score in (float("nan"), 1.0, float("nan")):
        schedule.step(score)
    assert isinstance(schedule, GreedyLR)
    assert schedule.best == 1.0
    assert rates(sgd)[0] == pytest.approx(0.3 * 0.95)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: reduce_on_plateau(o, factor=1.0), r"reduce_on_plateau\(factor=...\) .*got 1.0"),
        (lambda o: reduce_on_plateau(o, patience=-1), r"reduce_on_plateau\(patience=...\) .*got -1"),
        (
            lambda o: reduce_lr_on_plateau(o, mode="up"),
            r"reduce_lr_on_plateau\(mode=...\) must be min or max; got 'up'",
        ),
        (lambda o: reduce_lr_on_plateau(o, threshold_mode="no"), r"threshold_mode=...\) must be rel or abs; got 'no'"),
        (lambda o: reduce_lr_on_plateau(o, cooldown=-1), r"cooldown=...\) must not be negative; got -1"),
        (lambda o: greedy(o, factor=1.5), r"greedy\(factor=...\) must lie in \(0, 1\); got 1.5"),
        (lambda o: greedy(o, hold=-1), r"greedy\(hold=...\) must not be negative; got -1"),
        (
            lambda o: greedy(o, min_lr=0.1),
            r"greedy\(min_lr=...\) must be positive and at most the first rate, 0.07; got 0.1",
        ),
        (lambda o: greedy(o, max_lr=0.1), r"greedy\(max_lr=...\) must be at least the first rate, 0.3; got 0.1"),
        (lambda o: greedy(o, window_size=0), r"greedy\(window_size=...\) must be at least 1; got 0"),
        (lambda o: greedy(o, reset_start=0), r"greedy\(reset_start=...\) must be at least 1; got 0"),
    ],
)
def test_settings_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(optimizer())
