"""What a progress line says of the time that is left: as the steps tell, as was measured before, or nothing."""

import math

import pytest

from thalweg.cli import progress
from thalweg.cli.output import Terminal

STEP = {"event": "step", "step": 20, "seconds": 10.0, "loss": 0.5, "lr": 1.0}


@pytest.mark.parametrize(("seconds", "said"), [(math.inf, ", 40 s left"), (25.0, ", 15 s left"), (5.0, ""), (None, "")])
def test_time_left(seconds, said, monkeypatch, capsys):
    monkeypatch.setattr(progress.time, "monotonic", iter([0.0, 60.0]).__next__)
    progress._Lines(Terminal(stderr=True), 100, seconds).show(STEP)
    line = capsys.readouterr().err
    assert line.startswith("step 20 of 100: loss 0.5, lr 1")
    assert line.rstrip("\n").endswith(said or "lr 1")
