"""What it costs to look at a training: the live recorder, piece by piece and over whole trainings; the full diagnosis.

    OMP_NUM_THREADS=1 python benchmarks/probes.py                      # everything
    OMP_NUM_THREADS=1 python benchmarks/probes.py --only pieces        # some parts: pieces runs watch diagnosis

Prints a table and writes JSON. `pieces` takes steps of each kind in turn on the same batches, and says what share of a
training of 400 steps the recorder takes at its default interval; `runs` trains with and without it, in short blocks in
turn on the same batches, and compares the CPU time of all blocks. CPU time throughout: the machine may be busy.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from loop import Collated, session_for
from table import Row, write_json
from torch import nn

from thalweg.diagnosis.diagnose import diagnose
from thalweg.diagnosis.loops.watch import Watch
from thalweg.training.integrity.history import finite
from thalweg.training.session.api import train
from thalweg.training.session.session import Session
from thalweg.training.steps.fit import FitOptions, Place, StepRecord, fit
from thalweg.training.steps.recorder import Interval

RESULTS = Path(__file__).parent / "results" / "probes.json"
STEPS = 400
MODELS = ("mlp", "lstm", "transformer")
TARGET = 0.02
LIMIT = 30  # CPU seconds of a diagnosis


def session_of(model: str, folder: str) -> Session:
    """Return a training of a text classifier of width 64 on batches of 32, that are collated beforehand."""
    options = {"source": "docstrings", "task": "classify", "model": model, "width": 64, "batch_size": 32}
    session = session_for(Path(folder), STEPS, **options)
    session.feed = Collated(session.feed, 40)  # type: ignore[assignment]
    return session


def steps_of(session: Session, batches: Any, total: int, options: FitOptions) -> Iterator[StepRecord]:
    """Return the steps of a session, with the options given."""
    parts = (session.model, session.head, session.stepper, batches)
    return fit(*parts, steps=total, place=Place(), schedule=session.schedule, options=options)


def timed(steps: Iterator[StepRecord]) -> float:
    """Take a step and write its entry; return the CPU seconds."""
    before = time.process_time()
    json.dumps(finite(next(steps).resolve()))
    return time.process_time() - before


PIECES = ("plain", "kept gradient", "layers", "sites")


def measure_pieces(quick: bool) -> Iterator[Row]:
    """Time a plain step, one before a watched one, one whose layers are measured, and one whose sites are."""
    rounds, interval = 3 if quick else 40, Interval.of(STEPS)
    counts = {
        "kept gradient": sum(map(interval.watches, range(1, STEPS + 1))),
        "layers": sum(map(interval.watches, range(STEPS))),
        "sites": sum(map(interval.sees_sites, range(STEPS))),
    }
    for model in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            session = session_of(model, folder)
            feed: Any = session.feed
            options = FitOptions(watch=lambda step: step % 5 == 3, sites=lambda step: step % 5 == 4)
            steps = steps_of(session, lambda step, feed=feed: feed(step // 5), 5 * rounds + 5, options)
            taken = []
            for number in range(rounds + 1):
                timed(steps)  # the first on a batch
                seconds = [timed(steps) for _ in PIECES]
                if number:
                    taken.append(seconds)
        plain = statistics.median(seconds[0] for seconds in taken)
        extra = {
            name: statistics.median(seconds[place] - seconds[0] for seconds in taken)
            for place, name in enumerate(PIECES)
            if place
        }
        for name, more in extra.items():
            yield Row("pieces", f"{model}, {name}", more / plain, "of a step more", "", None, {"ms": 1e3 * more})
        share = sum(counts[name] * extra[name] for name in counts) / (STEPS * plain)
        details = {"step_ms": 1e3 * plain, "counts": counts}
        yield Row("pieces", f"{model}, all of it", share, "of 400 steps", f"<= {TARGET}", share <= TARGET, details)


def measure_runs(quick: bool) -> Iterator[Row]:
    """Train with and without the recorder, in blocks in turn on the same batches."""
    interval = Interval.of(STEPS)
    watched = FitOptions(watch=interval.watches, sites=interval.sees_sites)
    for model in MODELS:
        ratios = []
        for repeat in range(1 if quick else 5):
            with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
                total, block = (40 if quick else STEPS), 10
                pair = [
                    (steps_of(session, session.feed, total, options), [])
                    for session, options in ((session_of(model, one), watched), (session_of(model, two), FitOptions()))
                ]
                for number in range(total // block):
                    for steps, seconds in pair if (number + repeat) % 2 else reversed(pair):
                        seconds.append(sum(timed(steps) for _ in range(block)))
                ratios.append(sum(pair[0][1]) / sum(pair[1][1]))
        ratio = statistics.median(ratios) - 1.0
        details = {"repeats": [value - 1.0 for value in ratios]}
        yield Row("runs", f"{model}, watched", ratio, "of 400 steps more", f"<= {TARGET}", ratio <= TARGET, details)


def loop_of(folder: str, model: str, watched: bool) -> Iterator[None]:
    """Train in a loop of one's own, with or without a watch; yield after each step."""
    session = session_of(model, folder)
    feed: Any = session.feed
    body, output = session.model, session.head.output

    class Whole(nn.Module):
        """Body and output layer as one model."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.output = body, output

        def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
            return self.output(self.body(**inputs))

    whole = Whole()
    optimizer = torch.optim.AdamW(whole.parameters(), lr=1e-3, fused=True)
    watch = Watch(whole, optimizer, steps=STEPS) if watched else None
    for step in range(STEPS + 1):
        batch = feed(step)[0]
        loss = nn.functional.cross_entropy(whole(**batch.inputs), batch.targets)
        if watch is not None:
            watch.loss(loss, batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


def measure_watch(quick: bool) -> Iterator[Row]:
    """Train in a loop of one's own with and without `Watch`, in blocks in turn on the same batches."""
    for model in MODELS:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            pair = [(loop_of(folder, model, watched), []) for folder, watched in ((one, True), (two, False))]
            for steps, _ in pair:
                next(steps)
            for number in range((40 if quick else STEPS) // 10):
                for steps, seconds in pair if number % 2 else reversed(pair):
                    before = time.process_time()
                    for _ in range(10):
                        next(steps)
                    seconds.append(time.process_time() - before)
        ratio = sum(pair[0][1]) / sum(pair[1][1]) - 1.0
        yield Row("watch", f"{model}, Watch", ratio, "of 400 steps more", f"<= {TARGET}", ratio <= TARGET, {})


def measure_diagnosis(quick: bool) -> Iterator[Row]:
    """Diagnose runs on the built-in texts: the default one, and networks trained for as many steps as above."""
    for model in ("default", *MODELS):
        options = {} if model == "default" else {"model": model, "width": 64, "steps": 20 if quick else STEPS}
        with tempfile.TemporaryDirectory() as folder:
            run = train("docstrings", out=folder, fast=quick and model == "default", **options)
            wall, before = time.perf_counter(), time.process_time()
            found = diagnose(run)
            seconds, wall = time.process_time() - before, time.perf_counter() - wall
        details = {"wall_seconds": wall, "skipped": found.skipped}
        yield Row("diagnosis", f"{model}, all probes", seconds, "CPU s", f"< {LIMIT}", seconds < LIMIT, details)


PARTS = {"pieces": measure_pieces, "runs": measure_runs, "watch": measure_watch, "diagnosis": measure_diagnosis}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="some parts")
    parser.add_argument("--quick", action="store_true", help="see that it works; the figures mean nothing")
    parser.add_argument("--out", type=Path, help="where the figures are written (--quick writes none by itself)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for part in arguments.only:
        for row in PARTS[part](arguments.quick):
            rows.append(row)
            print(row.line(), flush=True)
    if arguments.out or not arguments.quick:
        write_json(arguments.out or RESULTS, rows, threads=1)


if __name__ == "__main__":
    main()
