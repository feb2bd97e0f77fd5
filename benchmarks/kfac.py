"""K-FAC and Sophia beside SOAP, AdamW and L-BFGS: steps and CPU seconds to the same loss.

    OMP_NUM_THREADS=1 python benchmarks/kfac.py                   # a quarter of an hour of CPU time
    OMP_NUM_THREADS=1 python benchmarks/kfac.py --only full       # some parts: full batches language classify
    OMP_NUM_THREADS=1 python benchmarks/kfac.py --quick           # see that it works; the figures mean nothing

Every optimizer of mini-batches gets three peak learning rates, warm-up and a cosine schedule, the same batches and the
same start; its best rate by the last validation loss counts, and the seconds that the other rates took are shown. The
goal is AdamW's best last validation loss. On full batches the goals are training losses. Validation is not timed.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from table import Row, write_json
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.data.builtin.code import docstrings, manual
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.models import pool
from thalweg.models.transformer import Decoder, Encoder
from thalweg.objective import Objective
from thalweg.optim.damping import Damping
from thalweg.optim.descent import Descent
from thalweg.optim.kfac import KFAC
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.roles import parameter_groups
from thalweg.optim.schedules import cosine
from thalweg.optim.soap import SOAP
from thalweg.optim.sophia import Sophia

RESULTS = Path(__file__).parent / "results" / "kfac.json"
EVERY = 10  # steps between looks at the validation loss

Optimizers = dict[str, tuple[Callable[[Objective, float], torch.optim.Optimizer], tuple[float, ...]]]


def adamw(objective: Objective, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(objective.parameters, lr=lr, fused=True)


def soap(objective: Objective, lr: float) -> torch.optim.Optimizer:
    return SOAP(parameter_groups(objective.model, objective.head), lr=lr)


def composed(direction: KFAC | Sophia) -> Callable[[Objective, float], torch.optim.Optimizer]:
    return lambda objective, lr: Descent(objective.parameters, direction, Fixed(lr))


OPTIMIZERS: Optimizers = {
    "AdamW": (adamw, (3e-3, 1e-2, 3e-2)),
    "SOAP": (soap, (3e-3, 1e-2, 3e-2)),
    "KFAC": (composed(KFAC()), (0.5, 1.0, 2.0)),
    "KFAC, every step": (composed(KFAC(every=1, refresh=10)), (0.5, 1.0, 2.0)),
    "Sophia": (composed(Sophia()), (1e-3, 3e-3, 1e-2)),
}


# --- Tasks ------------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Task:
    """A network on data: `batch(k)` are the examples of step k."""

    model: Callable[[], nn.Module]
    head: Callable[[], AbstractHead]
    batch: Callable[[int], Batch]
    valid: Batch
    steps: int

    def objective(self) -> Objective:
        """Return the function to minimize, from the same start each time."""
        torch.manual_seed(0)
        return Objective(self.model(), self.head(), self.batch(0))


@final
class ResidualMLP(nn.Module):
    """Three layers with a skip around each."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return hidden states `[batch, width]`."""
        hidden = self.first(inputs)
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden))
        return hidden


def smooth(num: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(num, 4, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0
    a, b, c, d = x.T
    y = torch.sin(3.0 * a) * b + torch.cos(2.0 * c + d) + 0.5 * torch.tanh(4.0 * a * d)
    return x, y.unsqueeze(1)


def rows_of(step: int, num: int, size: int) -> Tensor:
    return torch.randint(num, (size,), generator=torch.Generator().manual_seed(step))


def regression(quick: bool) -> Task:
    (x, y), (others, values) = smooth(2000, 1), smooth(1000, 2)

    def batch(step: int) -> Batch:
        rows = rows_of(step, len(x), 100)
        return Batch({"inputs": x[rows]}, y[rows])

    steps = 40 if quick else 400
    return Task(lambda: ResidualMLP(4, 64), lambda: Squared(64, 1), batch, Batch({"inputs": others}, values), steps)


def language(quick: bool, length: int = 64) -> Task:
    text = "\n".join(text for (text,) in manual()).encode()
    found, ids = torch.unique(torch.tensor(list(text)), return_inverse=True)
    ids, size = ids + 1, len(found) + 1
    train, valid = ids[:-20_000], ids[-20_000:]

    def windows(data: Tensor, places: list[int]) -> Batch:
        rows = torch.stack([data[place : place + length + 1] for place in places])
        return Batch({"tokens": rows[:, :-1]}, rows[:, 1:])

    def batch(step: int) -> Batch:
        return windows(train, rows_of(step, len(train) - length - 1, 16).tolist())

    steps = 20 if quick else 300
    return Task(
        lambda: Decoder(size, 64, hidden=256, layers=2, heads=4, max_length=length),
        lambda: Softmax(64, size),
        batch,
        windows(valid, list(range(0, len(valid) - length - 1, 100))),
        steps,
    )


def classify(quick: bool, length: int = 32) -> Task:
    examples = docstrings()
    counts: dict[str, int] = {}
    for text, _ in examples[: len(examples) * 9 // 10]:
        for word in text.lower().split()[:length]:
            counts[word] = counts.get(word, 0) + 1
    kept = sorted(counts, key=lambda word: (-counts[word], word))[:4000]
    ids = {word: i + 2 for i, word in enumerate(kept)}
    labels = {label: i for i, label in enumerate(sorted({label for _, label in examples}))}
    tokens = torch.zeros(len(examples), length, dtype=torch.int64)
    for row, (text, _) in enumerate(examples):
        found = [ids.get(word, 1) for word in text.lower().split()[:length]] or [1]
        tokens[row, : len(found)] = torch.tensor(found)
    targets = torch.tensor([labels[label] for _, label in examples])
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
    held, rest = order[:700], order[700:]

    def some(rows: Tensor) -> Batch:
        return Batch({"tokens": tokens[rows], "mask": tokens[rows] > 0}, targets[rows])

    def batch(step: int) -> Batch:
        return some(rest[rows_of(step, len(rest), 64)])

    return Task(
        lambda: Encoder(4002, 64, hidden=128, layers=1, heads=4, max_length=length, pooling=pool.mean),
        lambda: Softmax(64, len(labels)),
        batch,
        some(held),
        20 if quick else 200,
    )


# --- Runs -------------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Curve:
    """A run: after how many steps and CPU seconds which loss."""

    name: str
    lr: float
    points: list[tuple[int, float, float]]

    @property
    def last(self) -> float:
        """The loss at the end; infinite where it is no number."""
        loss = self.points[-1][2]
        return loss if math.isfinite(loss) else math.inf

    @property
    def best(self) -> float:
        """The lowest loss."""
        return min(loss for _, _, loss in self.points)

    def first(self, goal: float) -> tuple[int, float] | None:
        """Return when the loss was first at the goal: steps and seconds."""
        return next(((steps, seconds) for steps, seconds, loss in self.points if loss <= goal), None)


def train(task: Task, name: str, make: Callable[[Objective, float], torch.optim.Optimizer], lr: float) -> Curve:
    objective = task.objective()
    valid = objective.on(task.valid)
    optimizer = make(objective, lr)
    schedule = cosine(optimizer, total_steps=task.steps, warmup=0.05)
    seconds, points = 0.0, []
    for step in range(task.steps):
        start = time.process_time()
        optimizer.step(objective.on(task.batch(step)))
        schedule.step()
        seconds += time.process_time() - start
        if (step + 1) % EVERY == 0:
            points.append((step + 1, seconds, float(valid.value())))
    return Curve(name, lr, points)


def on_batches(part: str, task: Task) -> Iterator[Row]:
    curves: dict[str, list[Curve]] = {}
    for name, (make, rates) in OPTIMIZERS.items():
        curves[name] = [train(task, name, make, lr) for lr in rates]
    best = {name: min(runs, key=lambda run: run.last) for name, runs in curves.items()}
    goal = best["AdamW"].last
    steps = {}
    for name, curve in best.items():
        found = curve.first(goal)
        steps[name] = math.inf if found is None else found[0]
        details = {
            "goal": goal,
            "seconds to the goal": None if found is None else found[1],
            "seconds of all steps": curve.points[-1][1],
            "seconds of all rates": sum(run.points[-1][1] for run in curves[name]),
            "last loss": curve.last,
            "last losses by rate": {run.lr: run.last for run in curves[name]},
            "curve": curve.points,
        }
        is_ours = name == "KFAC"
        met = steps[name] < steps["SOAP"] if is_ours else None
        yield Row(part, f"{name}, lr {curve.lr:g}", steps[name], f"steps, ends at {curve.last:.4g}",
                  "< SOAP" if is_ours else "", met, details)  # fmt: skip


def on_all(quick: bool) -> Iterator[Row]:
    x, y = smooth(1000, 1)
    for name, direction, step_size in (
        ("KFAC(Damping()), Armijo", KFAC(Damping()), Armijo()),
        ("L-BFGS, strong Wolfe", None, None),
        ("Newton-CG, Armijo", NewtonCG(), Armijo()),
    ):
        torch.manual_seed(0)
        objective = Objective(ResidualMLP(4, 64), Squared(64, 1), x, y)
        optimizer = Descent(objective.parameters, direction, step_size)
        points, start = [], time.process_time()
        limit = 1.0 if quick else 20.0
        while (seconds := time.process_time() - start) < limit and optimizer.status.continues:
            points.append((len(points), seconds, float(optimizer.step(objective) or 0.0)))
        curve = Curve(name, 1.0, points)
        for goal in (1e-3, 1e-4, 1e-5):
            found = curve.first(goal)
            steps, taken = (math.inf, math.inf) if found is None else found
            details = {"seconds": taken, "best loss": curve.best, "steps": len(points), "seconds in all": limit}
            yield Row("full", f"{name}, loss {goal:g}", steps, f"steps, {taken:.1f} CPU s", "", None, details)


PARTS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "full": on_all,
    "batches": lambda quick: on_batches("batches", regression(quick)),
    "language": lambda quick: on_batches("language", language(quick)),
    "classify": lambda quick: on_batches("classify", classify(quick)),
}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for part in options.only:
        for row in PARTS[part](options.quick):
            rows.append(row)
            print(row.line(), flush=True)
            write_json(options.out, rows)


if __name__ == "__main__":
    main()
