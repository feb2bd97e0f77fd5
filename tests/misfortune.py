"""One of two processes that train together; the second one is asked to end, is killed, or hangs, inside of a step."""

import os
import signal
import sys

from thalweg.cli.main import run
from thalweg.objective import Objective
from thalweg.training.session.api import train
from thalweg.training.steps.launch import joined

FATAL_STEP = 5
OPTIONS = {"model": "mlp", "width": 4, "optimizer": "adamw", "steps": 8, "evaluate_every": 8, "checkpoint_every": 0.0}


def disturb(number):
    """Let the second process send itself a signal in the middle of a step."""
    evaluate, calls = Objective.__call__, []

    def call(self):
        calls.append(1)
        if len(calls) == FATAL_STEP and os.environ["RANK"] == "1":
            os.kill(os.getpid(), number)
        return evaluate(self)

    Objective.__call__ = call


def train_all():
    """Train the same undisturbed, asked to end, and killed; started again, the last one goes on."""
    with joined():
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            train("reviews.csv", name="whole", **OPTIONS)
            disturb(signal.SIGTERM)
            assert train("reviews.csv", name="asked", **OPTIONS).status.name == "INTERRUPTED"
            train("reviews.csv", name="asked", **OPTIONS)
            disturb(signal.SIGKILL)
        train("reviews.csv", name="killed", **OPTIONS)


if __name__ == "__main__":
    os.fsync = os.fstat  # as in conftest.py
    if sys.argv[1:]:
        disturb(signal.SIGSTOP)
        run(sys.argv[1:])
    train_all()
