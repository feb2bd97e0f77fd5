"""How long training on all data at once is going to take, by training on two small parts of them."""

import math
import time
from typing import Any, Final

import numpy as np

from thalweg.objective import Objective
from thalweg.status import Status
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder import build
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.session import optimizer
from thalweg.training.steps.device import choose_device, choose_precision

LARGEST: Final = 2**15  # examples of the larger part
RATIO: Final = 4  # of the two parts' sizes
MAX_STEPS: Final = 40


def seconds_to_solve(recipe: Recipe, task: AbstractTask, prepared: Prepared) -> float:
    r"""Return how long a solver will take on all training examples, measured on this machine.

    Two parts of $n_1 < n_2$ examples, evenly from all of them and with a penalty of the same strength, are trained on
    until the gap is closed, in $s_1, s_2$ steps of $t_1, t_2$ seconds. For $n$ examples the steps grow as the
    logarithm of $n$ does, and the time of one is $a + b n$, both through the two points.
    """
    rows = len(prepared.train)
    size = min(LARGEST, rows // RATIO)
    (small, few, first), (large, more, second) = (_solve(recipe, task, prepared, n) for n in (size // RATIO, size))
    steps = more + max(0, more - few) * math.log(rows / large) / math.log(large / small)
    slope = max(0.0, second - first) / (large - small)
    return steps * (max(first - slope * small, 0.0) + slope * rows)


def _solve(recipe: Recipe, task: AbstractTask, prepared: Prepared, size: int) -> tuple[int, int, float]:
    """Return the size of a part of the examples, the steps that it took, and the seconds of each."""
    rows, device = len(prepared.train), choose_device(recipe.run.device)
    places = np.arange(size) * rows // size
    batch = task.batch(prepared.train, places).to(device, choose_precision(recipe.run.precision, device)[0])
    model, head = build.build_networks(recipe, task, fresh=False)
    model.to(device)
    head.to(device)
    solver: Any = optimizer.build_optimizer(recipe, model, head)
    objective = Objective(model, head, [batch], l2=recipe.training.l2 * rows / size)
    begin = np.array([time.perf_counter(), time.process_time()])
    steps = 0
    while steps < MAX_STEPS:
        solver.step(objective)
        steps += 1
        if solver.relative_gap <= recipe.training.certify or solver.status in (Status.NO_STEP, Status.STATIONARY):
            break
    # The smaller one: other programs make the one longer, several threads the other.
    took = float((np.array([time.perf_counter(), time.process_time()]) - begin).min())
    return size, steps, took / steps
