"""What a progress line says of the time that is left: as the steps tell, as was measured before, or nothing."""

import math

import pytest

from thalweg.cli import progress
from thalweg.cli.output import Terminal

STEP = {"event": "step", "step": 20, "seconds": 10.0, "loss": 0.5, "lr": 1.0}


@pytest.mark.parametrize(("seconds", "said"), [(math.inf, ", 40 s left"), (25.0, ", 15 s left"), (5.0, ""), (None, "")])
def test_time_left(seconds, said, monkeypatch, capsys):
    monkeypatch.setattr(progress.time, "monotonic", iter([0.0, 60.0]).__next__)
    progress._Lines(Terminal(stderr=True), 100, seconds, 0.0).show(STEP)
    line = capsys.readouterr().err
    assert line.startswith("step 20 of 100: loss 0.5, lr 1")
    assert line.rstrip("\n").endswith(said or "lr 1")


def test_with_a_time_limit_the_clock_says_what_is_left(monkeypatch, capsys):
    monkeypatch.setattr(progress.time, "monotonic", iter([0.0, 60.0]).__next__)
    progress._Lines(Terminal(stderr=True), 100, math.inf, 30.0).show(STEP)
    assert capsys.readouterr().err.startswith("step 20: loss 0.5, lr 1, 20 s left")


def test_long_phases_are_told_now_and_then(monkeypatch, capsys):
    moments = iter([0.0, 1.0, 2.0, 7.0, 8.0, 70.0])
    monkeypatch.setattr(progress.time, "monotonic", moments.__next__)
    lines = progress._Lines(Terminal(stderr=True), 100, math.inf, 0.0)
    for done in (0, 10, 20, 30, 1000):
        lines.phase("translating", done, 1000)
    assert capsys.readouterr().err.splitlines() == ["translating: 20 of 1,000", "translating: 1,000 of 1,000"]


def test_a_bar_shows_a_phase_until_it_is_over():
    live = progress._Live(Terminal(stderr=True), 100, 0, math.inf, 0.0)
    live.phase("translating", 3, 10)
    assert [task.description for task in live.progress.tasks] == ["training", "translating"]
    live.phase("translating", 10, 10)
    assert [task.description for task in live.progress.tasks] == ["training"]
    live.show({"event": "finished"})
    assert not live.progress.tasks[0].visible
