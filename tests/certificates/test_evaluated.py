"""The loss of all data, or an estimate of it where a pass over the data would take longer than there is time."""

import time

import pytest
import torch
from torch import nn

from thalweg import Objective
from thalweg.batch import Batch
from thalweg.certificates import evaluated as module
from thalweg.certificates.attempts import Clock, TooLongError, Watch
from thalweg.certificates.certificate.ladder import sentence
from thalweg.certificates.checker import check
from thalweg.certificates.evaluated import evaluated
from thalweg.certificates.levels import certify_objective


class Slow(nn.Module):
    """A linear layer that takes a while for each batch, and knows how often it was asked."""

    calls = 0  # of all copies

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.layer, self.seconds = nn.Linear(3, 2), seconds

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        end = time.process_time() + self.seconds
        while time.process_time() < end:
            pass
        Slow.calls += 1
        return self.layer(inputs)


@pytest.fixture
def objective():
    torch.manual_seed(0)
    batches = [Batch({"inputs": torch.randn(4, 3)}, torch.randint(2, (4,))) for _ in range(40)]
    return Objective(Slow(0.0), nn.CrossEntropyLoss(), batches, l2=0.1)


def test_the_loss_of_all_data_where_there_is_time(objective):
    found = evaluated(objective, Clock(60.0))
    assert found.loss == pytest.approx(float(objective.copied(torch.float64).value()), rel=1e-12)
    assert (found.too_long, found.sample) == ("", "")
    assert found.targets is not None
    assert len(found.targets.targets) == 160


def test_a_pass_that_takes_too_long_ends_in_an_estimate(objective, tmp_path):
    exact = float(objective.copied(torch.float64).value())
    objective.model.seconds = 0.05
    before = Slow.calls
    interval = certify_objective(objective, seconds=0.6)
    assert Slow.calls - before <= 0.6 / 0.05, "all 40 batches take 2 s"
    assert not interval.levels
    assert interval.sample.endswith(" of 160 examples")
    assert interval.loss == pytest.approx(exact, rel=0.5)
    assert interval.loss != exact
    assert set(interval.left_out) == {"floor", "head", "local"}
    assert interval.left_out["head"].startswith("Evaluating the loss on the rest of the training data")
    assert "of the 0.6 s are left; allow more time (--seconds" in interval.left_out["head"]
    assert "of about" in sentence(interval)
    assert "no bound is claimed" in sentence(interval)
    assert interval.to_json()["loss_estimated_from"] == interval.sample
    interval.save(tmp_path / "certificate.json")
    report = check.check(tmp_path / "certificate.json")
    assert not report.refused
    assert not report.bound_verified
    assert report.verdict.endswith("0 of 0 levels verified; the interval's bound: none is claimed")


def test_all_batches_make_the_estimate_exact(objective):
    loss, number = module._mean(objective, range(40))
    assert (loss, number) == (pytest.approx(float(objective.value()), rel=1e-6), 160)


def test_a_watch_foretells_from_the_batches_after_the_first(monkeypatch):
    batches = [Batch({"inputs": torch.zeros(size, 1)}, torch.zeros(size)) for size in (1, 1, 2, 4)]
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    watch = Watch(Clock(20.0), batches, "It")
    now[0] = 5.0
    watch()  # the first batch: nothing is foretold
    now[0] = 7.0
    watch()  # 6 more of size 1 in 12 s, and 13 s are left
    now[0] = 13.0
    with pytest.raises(TooLongError, match=r"It would take about 11 s, and 7 s of the 20 s are left"):
        watch()  # 4 more of size 1, where 3 took 8 s


def test_what_is_kept_for_the_end_is_not_left():
    clock = Clock(100.0, reserve=60.0)
    assert 39.0 < clock.left <= 40.0
    with pytest.raises(TooLongError, match=r"It would take about 50 s, and 40 s of the 100 s are left"):
        clock.require(50.0, "It")
    clock.reserve = 0.0
    clock.require(50.0, "It")
    assert Clock(4.0).grace == pytest.approx(0.2)
    assert Clock(1000.0).grace == 1.0
