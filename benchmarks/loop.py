"""What the machinery around a network costs: loop, reading and encoding, memory, start-up, online feed.

    python benchmarks/loop.py                       # everything, about five minutes
    python benchmarks/loop.py --only loop imports   # some parts

Prints a table and writes JSON. Every figure that has a peer was measured next to it in the same process, in short
alternating blocks; what is compared is CPU time, because the machine may be busy with other things.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import copy
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import online
import torch
from reading import measure_memory, measure_reading, output_of
from table import Row, write_json
from torch import nn
from torch.nn import functional as F

from thalweg.batch import Batch
from thalweg.online.classifier import OnlineClassifier
from thalweg.training.recipe.recipe import Options
from thalweg.training.session import optimizer
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.prepare import Request, prepare
from thalweg.training.session.session import Session
from thalweg.training.steps.feed import Feed
from thalweg.training.steps.fit import fit
from thalweg.training.steps.stepper import stepper_for

RESULTS = Path(__file__).parent / "results" / "loop.json"


# --- The loop ---------------------------------------------------------------------------------------------------------


@final
class Collated:
    """A feed that hands out the same batches again and again."""

    def __init__(self, feed: Feed, num_batches: int) -> None:
        self.batches = [feed(step) for step in range(num_batches)]
        self.steps_per_epoch = feed.steps_per_epoch
        self.epoch_of = feed.epoch_of

    def __call__(self, step: int) -> list[Batch]:
        """Return the batches of a step."""
        return self.batches[step % len(self.batches)]


def session_for(folder: Path, steps: int, **options: Any) -> Session:
    """Return a session of `thalweg train` that neither evaluates nor saves on the way."""
    settings = {"device": "cpu", "steps": steps, "evaluate_every": 10**9, "checkpoint_every": 0.0, "seed": 1}
    return prepare(Request(Options({**settings, **options}), folder), lambda _: None)


def our_steps(session: Session) -> Generator[float, None, None]:
    """The loop of `thalweg train` as it is, with history, rejected steps and signals."""
    entries = train_loop(session)
    try:
        for entry in entries:
            if entry["event"] == "step":
                yield entry["loss"]
    finally:
        entries.close()  # history and signals are as they were


def bare_steps(session: Session, feed: Callable[[int], list[Batch]], num_steps: int) -> Iterator[float]:
    """What one writes by hand for the same network: fused AdamW, norm clipped to 1, warmup and cosine."""
    model, output = copy.deepcopy(session.model), copy.deepcopy(session.head.output)
    copied = dict(zip(session.model.parameters(), model.parameters(), strict=True))
    copied |= dict(zip(session.head.parameters(), output.parameters(), strict=True))
    groups = [
        {"params": [copied[p] for p in group["params"]], "weight_decay": group["weight_decay"]}
        for group in session.optimizer.param_groups
    ]
    parameters = [p for group in groups for p in group["params"]]
    training = session.run.recipe.training
    optimizer = torch.optim.AdamW(groups, lr=training.lr, fused=True)
    warmup = round((training.warmup or 0.0) * num_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    for step in range(num_steps):
        batch = feed(step)[0]
        logits, targets = output(model(**batch.inputs)), batch.targets
        if batch.mask is not None:
            logits, targets = logits.flatten(0, 1), targets.masked_fill(~batch.mask, -100).flatten()
        loss = F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        yield loss.item()


@final
@dataclass
class Blocks:
    """Seconds of paired blocks of steps, ours and the peer's on the same batches."""

    ours: list[tuple[float, float]] = field(default_factory=list)
    peer: list[tuple[float, float]] = field(default_factory=list)

    def ratio(self, clock: int) -> float:
        """Return the median over pairs (clock 0: CPU, 1: wall)."""
        return statistics.median(a[clock] / b[clock] for a, b in zip(self.ours, self.peer, strict=True))

    def milliseconds(self, num_steps: int) -> dict[str, float]:
        """Return the median milliseconds a step of both, by both clocks."""
        figures = {}
        for name, seconds in (("ours", self.ours), ("peer", self.peer)):
            for clock, unit in enumerate(("cpu", "wall")):
                figures[f"{name}_{unit}_ms"] = 1e3 * statistics.median(s[clock] for s in seconds) / num_steps
        return figures


def alternate(ours: Iterator[float], peer: Iterator[float], num_blocks: int, num_steps: int) -> Blocks:
    """Take blocks of steps in the order A B B A A B B A ..., the first one to warm up."""
    blocks = Blocks()
    for number in range(num_blocks + 1):
        pair = [(ours, blocks.ours), (peer, blocks.peer)]
        for steps, seconds in pair if number % 2 else reversed(pair):
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(num_steps):
                next(steps)
            if number:
                seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
    return blocks


LOOPS = {
    "transformer classifier": {"source": "docstrings", "task": "classify", "model": "transformer"},
    "LSTM tagger": {"source": "tokens", "task": "tag", "model": "lstm"},
    "bag classifier": {"source": "docstrings", "task": "classify", "model": "bag"},
}


def measure_loop(quick: bool) -> Iterator[Row]:
    """Compare `thalweg train`'s loop with a bare one: on collated batches, and with both collating."""
    total = 1000  # steps planned; the figures by layer are taken on a share of them
    for name, options in LOOPS.items():
        num_blocks, num_steps = (6, 3) if quick else (40, 4 if options["model"] == "transformer" else 20)
        for collating in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                session = session_for(Path(folder), total, **options)
                own_feed: Any = session.feed
                peer_feed: Any = Feed(
                    session.prepared.train, session.task.batch, batch_size=session.run.recipe.training.batch_size or 0,
                    seed=1,
                )  # fmt: skip
                if not collating:
                    own_feed = peer_feed = Collated(session.feed, 50)
                session.feed = own_feed
                difference = check_same_losses(session, peer_feed)
                ours = our_steps(session)
                blocks = alternate(ours, bare_steps(session, peer_feed, total), num_blocks, num_steps)
                ours.close()
            counts = name != "bag classifier"
            ratio = blocks.ratio(0)
            yield Row(
                "loop",
                f"{name}, {'both collate' if collating else 'collated batches'}",
                ratio,
                "x a bare loop (CPU time)",
                "<= 1.05" if counts else "",
                ratio <= 1.05 if counts else None,
                {"wall_ratio": blocks.ratio(1), "loss_difference": difference, **blocks.milliseconds(num_steps)},
            )


def check_same_losses(session: Session, feed: Callable[[int], list[Batch]], num_steps: int = 8) -> float:
    """Return how far the losses of the two loops are apart without dropout, on copies: they do the same work."""
    quiet = copy.copy(session)
    quiet.model, quiet.head = copy.deepcopy(session.model), copy.deepcopy(session.head)
    for module in quiet.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif "dropout" in vars(module) and isinstance(module.dropout, float):
            module.dropout = 0.0
    quiet.optimizer = optimizer.build_optimizer(session.run.recipe, quiet.model, quiet.head)
    clip = optimizer.build_clipping(session.run.recipe, quiet.head)
    quiet.stepper = stepper_for(quiet.optimizer, clip=clip.gradient)
    quiet.schedule = optimizer.build_schedule(session.run.recipe, quiet.optimizer, session.total_steps)
    bare = bare_steps(quiet, feed, session.total_steps)
    first = next(bare)  # copies the weights before ours changes them
    ours = fit(quiet.model, quiet.head, quiet.stepper, quiet.feed, steps=num_steps, schedule=quiet.schedule)
    peers = [first, *(next(bare) for _ in range(num_steps - 1))]
    return max(abs(float(record.loss) - loss) for record, loss in zip(ours, peers, strict=True))


# --- Start-up ---------------------------------------------------------------------------------------------------------


def measure_imports(quick: bool) -> Iterator[Row]:
    """Seconds until the package is there, and until the help is printed; each time in a new process."""
    repeats = 2 if quick else 9
    after_torch = "import time, torch; t = time.perf_counter(); import thalweg; {} print(time.perf_counter() - t)"
    for what, more, target in (
        ("import thalweg after torch", "", "<= 0.3"),
        ("the same with every public name", "[getattr(thalweg, name) for name in thalweg.__all__];", ""),
    ):
        seconds = statistics.median(float(output_of("-c", after_torch.format(more))) for _ in range(repeats))
        yield Row("imports", what, seconds, "s", target, seconds <= 0.3 if target else None)
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        output_of("-m", "thalweg", "--help")
        took.append(time.perf_counter() - started)
    told = "sys.stderr.write(str('torch' in sys.modules))"
    check = f"import sys, atexit; from thalweg.cli.main import run; atexit.register(lambda: {told}); run(['--help'])"
    printed = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True).stderr
    assert printed == "False", f"thalweg --help imports torch: {printed}"
    seconds = statistics.median(took)
    yield Row("imports", "thalweg --help, without torch", seconds, "s", "<= 0.5", seconds <= 0.5)


# --- The online feed --------------------------------------------------------------------------------------------------


def measure_online(quick: bool) -> Iterator[Row]:
    """Short texts a second, predicted one by one and then learned from; see `online.py` for the scores."""
    rows = online.synthetic(500 if quick else 5000)
    online.thalweg(rows[:500], OnlineClassifier())  # warm up
    rates = []
    for _ in range(1 if quick else 5):
        cpu = time.process_time()
        result = online.thalweg(rows, OnlineClassifier())
        rates.append((len(rows) / (time.process_time() - cpu), result["rows_per_second"]))
    rate = statistics.median(rate for rate, _ in rates)
    words = statistics.mean(len(str(row["text"]).split()) for row in rows)
    details = {"per_wall_second": statistics.median(rate for _, rate in rates), "words_a_text": words}
    yield Row("online", "texts, one at a time", rate / 1000, "thousand a CPU second", ">= 5", rate >= 5000, details)


PARTS = {
    "loop": measure_loop,
    "reading": measure_reading,
    "memory": measure_memory,
    "imports": measure_imports,
    "online": measure_online,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="some parts")
    parser.add_argument("--quick", action="store_true", help="see that it works; the figures mean nothing")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--out", type=Path, help="where the figures are written (--quick writes none by itself)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for part in arguments.only:
        for row in PARTS[part](arguments.quick):
            rows.append(row)
            print(row.line(), flush=True)
    if arguments.out or not arguments.quick:
        write_json(arguments.out or RESULTS, rows, threads=arguments.threads)


if __name__ == "__main__":
    main()
