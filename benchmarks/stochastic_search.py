"""Step sizes found on mini-batches beside tuned learning rates: AdamW's direction, three tasks, one horizon.

    OMP_NUM_THREADS=1 python benchmarks/stochastic_search.py                  # about ten minutes of CPU time
    OMP_NUM_THREADS=1 python benchmarks/stochastic_search.py --only network   # some tasks: language texts network
    OMP_NUM_THREADS=1 python benchmarks/stochastic_search.py --quick          # see that it works

Tasks: a transformer over the characters of `manual` (held-out text), a transformer that classifies `docstrings`
(validation texts), a residual tanh network on a smooth function of four numbers (new points). The tuned rate is the
best of seven of torch's fused AdamW, evenly spaced by their logarithm over two decades, with 5 % warm-up and cosine.
The searches have no rate: AdamW's own step at its default rate 1e-3 is the direction, the schedule is linear to zero.
Each takes the same batches from the same start; the searches also 1.1 times the steps, which is the goal. What a search
costs is told by its evaluations of the loss without a gradient, for each step.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import torch
from table import Row, write_json
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.heads.base import AbstractHead
from thalweg.heads.squared import Squared
from thalweg.objective import Objective
from thalweg.optim.clipping import ClipNorm
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Update
from thalweg.optim.schedule_free import ScheduleFree
from thalweg.optim.schedules import constant_with_warmup, cosine, linear
from thalweg.optim.stochastic import StochasticArmijo
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.prepare import Request, prepare
from thalweg.training.steps.feed import in_order
from thalweg.training.steps.fit import fit
from thalweg.training.steps.stepper import stepper_for

RESULTS = Path(__file__).parent / "results" / "stochastic_search.json"
RATES = tuple(10.0 ** (-3.0 + place / 3.0) for place in range(7))
WARMUP, GOAL = 0.05, 1.1
SEARCHES = {
    "search, c = 0.3": StochasticArmijo(slope=0.3),
    "search, c = 0.3, rarely": StochasticArmijo(slope=0.3, every=10),
    "search, c = 0.6": StochasticArmijo(slope=0.6),
    "search, c = 0.8": StochasticArmijo(slope=0.8),
}


@final
class Task:
    """A network at its start, the batches of its steps, and what it is judged on."""

    def __init__(
        self, model: nn.Module, head: AbstractHead, feed: Callable[[int], list[Batch]], valid: list[Batch], steps: int
    ) -> None:
        self.model, self.head, self.feed, self.valid, self.steps = model, head, feed, valid, steps
        self._batches: dict[int, list[Batch]] = {}

    def batches(self, step: int) -> list[Batch]:
        """Return the batches of a step, made once."""
        if step not in self._batches:
            self._batches[step] = self.feed(step)
        return self._batches[step]

    def train(
        self,
        make: Callable[[list[Tensor], int], tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]],
        steps: int,
    ) -> dict[str, float]:
        """Return the validation loss after so many steps, evaluations of the loss alone and CPU seconds a step."""
        model, head = copy.deepcopy((self.model, self.head))
        parameters: list[Tensor] = list(dict.fromkeys([*model.parameters(), *head.parameters()]))  # tied ones once
        optimizer, schedule = make(parameters, steps)
        stepper = stepper_for(optimizer, clip=ClipNorm(1.0))
        begin = time.process_time()
        for _ in fit(model, head, stepper, self.batches, steps=steps, schedule=schedule):
            pass
        seconds = (time.process_time() - begin) / steps
        values = optimizer.counts["values"] / steps if isinstance(optimizer, Descent) else 0.0
        model.eval()
        head.eval()
        objective = Objective(model, head, self.valid)
        if isinstance(optimizer, ScheduleFree):
            with optimizer.averaged():
                loss = float(objective.value())
        else:
            loss = float(objective.value())
        return {"loss": loss, "values_per_step": values, "cpu_seconds_per_step": seconds}


def from_recipe(steps: int, **options: object) -> Task:
    """Return a built-in set under the model that the options name."""
    given = {"device": "cpu", "steps": steps, "model": "transformer", "layers": 2, "heads": 4, "width": 64, **options}
    with tempfile.TemporaryDirectory() as folder:
        session = prepare(Request(Options(given), Path(folder)), lambda _: None)
    valid = [batch for _, batch in in_order(session.prepared.valid, session.task.batch, 128, "cpu", torch.float32)]
    return Task(session.model, session.head, session.feed, valid[:8], steps)


@final
class Residual(nn.Module):
    """Three residual layers of 64 tanh units."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 64), nn.Linear(64, 1)
        self.layers = nn.ModuleList([nn.Linear(64, 64) for _ in range(3)])

    def forward(self, inputs: Tensor) -> Tensor:
        """Return predictions `[batch, 1]` for inputs `[batch, 4]`."""
        hidden = self.first(inputs)
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden))
        return self.last(hidden)


def smooth(x: Tensor) -> Tensor:
    """Return `sin 3a cos 2b + exp(-c^2) d`."""
    a, b, c, d = x.split(1, 1)
    return torch.sin(3.0 * a) * torch.cos(2.0 * b) + torch.exp(-c.square()) * d


def network(steps: int) -> Task:
    """Return the regression of the smooth function from 4,096 points, 64 a step."""
    generator = torch.Generator().manual_seed(0)
    points, new = (2.0 * torch.rand(count, 4, generator=generator) - 1.0 for count in (4096, 1024))
    torch.manual_seed(0)

    def feed(step: int) -> list[Batch]:
        rows = torch.randint(4096, (64,), generator=torch.Generator().manual_seed(step))
        return [Batch({"inputs": points[rows]}, smooth(points[rows]))]

    return Task(Residual(), Squared(), feed, [Batch({"inputs": new}, smooth(new))], steps)


TASKS: dict[str, Callable[[bool], Task]] = {
    "network": lambda quick: network(20 if quick else 1500),
    "texts": lambda quick: from_recipe(
        4 if quick else 300, source="docstrings", hidden=128, max_length=32, batch_size=32, vocabulary_size=5000
    ),
    "language": lambda quick: from_recipe(
        4 if quick else 300, source="manual", tokenizer="char", hidden=256, max_length=64, batch_size=8, dropout=0.0
    ),
}


def tuned(rate: float) -> Callable[[list[Tensor], int], tuple]:
    """Return what makes AdamW at a rate."""

    def make(parameters: list[Tensor], steps: int) -> tuple:
        optimizer = torch.optim.AdamW(parameters, lr=rate, fused=True)
        return optimizer, cosine(optimizer, total_steps=steps, warmup=WARMUP)

    return make


def schedule_free(rate: float) -> Callable[[list[Tensor], int], tuple]:
    """Return what makes schedule-free AdamW at a rate."""

    def make(parameters: list[Tensor], steps: int) -> tuple:
        optimizer = ScheduleFree(torch.optim.AdamW(parameters, lr=rate, betas=(0.0, 0.999), fused=True))
        return optimizer, constant_with_warmup(optimizer, total_steps=steps, warmup=WARMUP)

    return make


def searched(size: StochasticArmijo) -> Callable[[list[Tensor], int], tuple]:
    """Return what makes AdamW's direction with a search."""

    def make(parameters: list[Tensor], steps: int) -> tuple:
        direction = Update(torch.optim.AdamW, lr=1e-3, fused=True)
        optimizer = Descent(parameters, direction, size, clip=ClipNorm(1.0))
        return optimizer, linear(optimizer, total_steps=steps)

    return make


def measure(name: str, task: Task, rates: Sequence[float]) -> list[Row]:
    """Return the rows of a task, printed as they come."""
    rows: list[Row] = []

    def add(row: Row) -> None:
        print(row.line(), flush=True)
        rows.append(row)

    best = float("inf")
    for method, maker in (("AdamW", tuned), ("schedule-free", schedule_free)):
        for rate in rates if method == "AdamW" else rates[1:-1]:
            found = task.train(maker(rate), task.steps)
            add(Row(name, f"{method}, rate {rate:.3g}", found["loss"], "validation loss", details=found))
            if method == "AdamW":
                best = min(best, found["loss"])
    for label, size in SEARCHES.items():
        for share in (1.0, GOAL):
            found = task.train(searched(size), round(share * task.steps))
            met = found["loss"] <= best if share > 1.0 else None
            goal = f"{best:.3g}" if share > 1.0 else ""
            what = f"{label}: {share:g} of the steps, {found['values_per_step']:.2f} values"
            add(Row(name, what, found["loss"], "validation loss", goal, met, found))
    return rows


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rates = RATES[3:6] if arguments.quick else RATES
    rows = [row for name in arguments.only for row in measure(name, TASKS[name](arguments.quick), rates)]
    if not arguments.quick:
        write_json(RESULTS, rows)


if __name__ == "__main__":
    main()
