"""One run of `translate.py`: a family and a seed, from encoded data to scores."""

import collections
import contextlib
import dataclasses
import math
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from translate_data import Batches, Data

from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective
from thalweg.optim import construct
from thalweg.tasks.translate.report import texts_of
from thalweg.tasks.translate.scores import QUICK, has_runs_of_four, score
from thalweg.training.folder import build
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options as Given
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.steps.evaluate import calibrate, evaluate

FREQUENCIES = ((1, 2), (3, 9), (10, 99), (100, 999), (1000, 10**9))


@final
@dataclasses.dataclass(frozen=True)
class Options:
    """Everything that a run depends on besides family and seed."""

    steps: int = 2000
    tokens: int = 16384
    width: int = 256
    hidden: int = 512
    layers: int = 3
    target_width: int = 0
    lr: float = 0.0
    dropout: float = 0.1
    num_evaluations: int = 4
    num_dev: int = 1000
    num_test: int = 1000
    beam: int = 5
    device: str = "cpu"
    bfloat16: bool = False
    graphs: bool = True


def recipe_for(family: str, seed: int, options: Options) -> Recipe:
    """Return the product's own recipe for a family such as `vmf:random` or `analytic:trained`."""
    head, _, targets = family.partition(":")
    chosen: dict[str, Any] = {
        "task": "translate", "source": "", "head": head, "seed": seed, "width": options.width, "precision": "float32",
        "hidden": options.hidden, "layers": options.layers, "dropout": options.dropout, "steps": options.steps,
    }  # fmt: skip
    if targets:
        chosen["targets"] = targets
    if options.target_width and head != "softmax" and targets != "trained":
        chosen["target_width"] = options.target_width
    if options.lr:
        chosen["lr"] = options.lr
    return complete(Given(chosen))


@final
class Trainer:
    """Model, head, optimizer and the steps; on a GPU the steps are graphs, one for each shape of batch."""

    def __init__(self, data: Data, family: str, seed: int, options: Options) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.recipe = recipe_for(family, seed, options)
        counts = data.task.token_counts(data.parts["train"])
        self.model, self.head = build.build_networks(self.recipe, data.task, counts=counts)
        self.model.to(self.device)
        self.head.to(self.device)
        self.on_gpu = self.device.type == "cuda"
        if self.on_gpu and hasattr(self.head, "chunk"):
            self.head.chunk = 10**9  # type: ignore[assignment]  # a GPU has the memory, and it is faster
        self.autocast = torch.bfloat16 if options.bfloat16 else None
        self.batches = Batches(data.parts["train"], options.tokens, seed, self.device)
        self.lr: Any = torch.zeros((), device=self.device) if self.on_gpu else 0.0
        self.optimizer = construct.make_optimizer(
            torch.optim.AdamW, self.model, self.head, lr=1e-3, weight_decay=self.recipe.training.weight_decay,
            options={"capturable": True} if self.on_gpu else {},
        )  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.step = 0
        self.loss = torch.zeros((), device=self.device)
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.seen: set[int] = set()
        self.pool: Any = None
        self.objective: Objective | None = None
        # Recorded steps and others run on one stream of their own.
        self.stream: Any = torch.cuda.stream(torch.cuda.Stream()) if self.on_gpu else contextlib.nullcontext()
        torch.manual_seed(seed)

    def take(self) -> None:
        """Take one step."""
        with self.stream:
            self._take()

    def _take(self) -> None:
        rate = self._rate()
        if self.on_gpu:
            self.lr.fill_(rate)
        for group in [] if self.on_gpu else self.optimizer.param_groups:
            group["lr"] = rate
        number, rows = self.batches.next()
        if self.on_gpu and self.options.graphs and number in self.seen:
            if number not in self.graphs:
                self.graphs[number] = self._capture(number, rows)
            graph, place = self.graphs[number]
            place.copy_(rows)
            graph.replay()
        else:
            self.seen.add(number)
            self._compute(number, rows)
        self.step += 1

    def _compute(self, number: int, rows: Tensor) -> None:
        batch = self.batches.batch(number, rows)
        if self.objective is None:
            self.objective = Objective(self.model, self.head, batch, autocast=self.autocast)
        for parameter in self.parameters:
            parameter.grad = None
        total, count = self.objective.sum_and_count(batch)
        loss = total / count
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.optimizer.step()
        self.head.after_step()
        self.loss.copy_(loss.detach())

    def _capture(self, number: int, rows: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        place = rows.clone()
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=self.pool, stream=torch.cuda.current_stream()):
            self._compute(number, place)
        self.pool = graph.pool()
        return graph, place

    def _rate(self) -> float:
        """A warmup over a tenth of the steps, then a cosine to zero."""
        highest, total = self.recipe.training.lr or 0.0, self.options.steps
        warmup = max(1, total // 10)
        if self.step < warmup:
            return highest * (self.step + 1) / warmup
        return highest * 0.5 * (1 + math.cos(math.pi * (self.step - warmup) / max(1, total - warmup)))

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.on_gpu:
            torch.cuda.synchronize()


def run(folder: Path, family: str, seed: int, options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """Train and score; plain figures."""
    data = Data.load(folder)
    trainer = Trainer(data, family, seed, options)
    say(f"{family} seed {seed}: {trainer.batches.steps_per_epoch} steps an epoch")
    memory = peak_memory(options.device)
    every = max(1, options.steps // options.num_evaluations)
    history, seconds, best, best_score, megabytes = [], 0.0, None, -1.0, 0.0
    while trainer.step < options.steps:
        trainer.model.train()
        trainer.head.train()
        trainer.wait()  # what was decoded before has its own stream
        started = clock(options.device)
        for _ in range(min(every, options.steps - trainer.step)):
            trainer.take()
        trainer.wait()
        seconds += clock(options.device) - started
        if not history:
            megabytes = (peak_memory(options.device) - memory) / 2**20  # before anything is decoded
        dev = translated(data, trainer, "dev", options.num_dev // 2, beam=1)["score"]
        loss = float(trainer.loss)
        history.append({"step": trainer.step, "seconds": seconds, "loss": loss, "dev": dev})
        say(f"{family} seed {seed} step {trainer.step}: loss {loss:.3f}, dev score {dev:.2f}, {seconds:.1f} s")
        if dev > best_score:
            best_score = dev
            best = [tensor.clone() for tensor in state(trainer)]
        if not math.isfinite(loss):
            break
    assert best is not None
    for tensor, kept in zip(state(trainer), best, strict=True):
        tensor.copy_(kept)
    return {
        "family": family, "seed": seed, "history": history, "seconds": seconds, "steps": trainer.step,
        "best_step": max(history, key=lambda entry: entry["dev"])["step"],
        "seconds_to_best": max(history, key=lambda entry: entry["dev"])["seconds"],
        "vocabulary_size": data.task.tokenizer.vocabulary_size, "tokens": options.tokens,
        "lr": trainer.recipe.training.lr, "megabytes": megabytes,
        **measured(data, trainer, options),
    }  # fmt: skip


def measured(data: Data, trainer: Trainer, options: Options) -> dict[str, Any]:
    """Return exact perplexity, and greedy and beam scores on the test pairs."""
    number, rows = trainer.batches.next()
    calibrate(trainer.model, trainer.head, trainer.batches.batch(number, rows), autocast=trainer.autocast)
    some = subset(data, "test", options.num_test)
    evaluation = evaluate(
        data.task, trainer.model, trainer.head, some, batch_size=128, device=trainer.device, autocast=trainer.autocast
    )
    found: dict[str, Any] = {
        "perplexity": evaluation.metrics["perplexity"],
        "loss": evaluation.loss,
        "token_accuracy": evaluation.metrics["token_accuracy"],
        **trainer.head.figures(),
    }
    for name, beam in (("greedy", 1), ("beam", options.beam)):
        started = clock(options.device)
        result = translated(data, trainer, "test", options.num_test, beam=beam)
        found |= {f"{name}_{key}": value for key, value in result.items()}
        found[f"{name}_seconds"] = clock(options.device) - started
    return found


def subset(data: Data, part: str, limit: int) -> Any:
    """Return at most `limit` examples of a part, evenly spread."""
    examples = data.parts[part]
    chosen = np.arange(min(limit, len(examples))) * len(examples) // min(limit, len(examples))
    columns = {name: examples.ragged(name).take(chosen) for name in examples.columns}
    return dataclasses.replace(examples, columns=columns)


def translated(data: Data, trainer: Trainer, part: str, limit: int, *, beam: int) -> dict[str, Any]:
    """Return BLEU (where there is one), chrF, exact match and F1 of words by frequency of translations."""
    some = subset(data, part, limit)
    rows = np.arange(len(some))
    together = 4096 if trainer.on_gpu else 256
    found = data.task.translations(trainer.model, trainer.head, some, rows, beam=beam, together=together)
    wanted = texts_of(some, "target", rows)
    result: dict[str, Any] = {**score(found, [wanted], metrics=QUICK).values}
    result["score"] = result["bleu" if has_runs_of_four([wanted]) else "chrf"]  # BLEU says nothing of single words
    if part == "test":
        result["f1"] = f1_by_frequency(found, wanted, word_counts(data))
    return result


def word_counts(data: Data) -> collections.Counter[str]:
    """Return how often each word is in the training targets."""
    counts: collections.Counter[str] = collections.Counter()
    column = data.parts["train"].ragged("target")
    for ids in column:
        counts.update(data.task.tokenizer.decode(ids[ids > 3]).split())
    return counts


def f1_by_frequency(found: list[str], wanted: list[str], counts: collections.Counter[str]) -> dict[str, float]:
    """Return F1 of words, by how often training had them; a word counts as often as it is in both texts."""
    result = {}
    for low, high in FREQUENCIES:
        both = ours = theirs = 0
        for text, reference in zip(found, wanted, strict=True):
            one, other = (
                collections.Counter(word for word in each.split() if low <= counts[word] <= high)
                for each in (text, reference)
            )
            both, ours, theirs = both + (one & other).total(), ours + one.total(), theirs + other.total()
        result[f"{low}-{high}" if high < 10**9 else f"{low}+"] = 2 * both / max(1, ours + theirs)
    return result


def timing(folder: Path, family: str, options: Options, steps: int, repeats: int = 5) -> dict[str, Any]:
    """Return the seconds of a step and the memory of training, without anything else going on."""
    data = Data.load(folder)
    trainer = Trainer(data, family, 0, options)
    memory = peak_memory(options.device)
    for _ in range(min(24, 3 * steps)):  # every shape of batch is captured
        trainer.take()
    trainer.wait()
    each = []
    for _ in range(repeats):
        trainer.batches.restart(5)  # every family and repeat gets the same batches
        trainer.wait()
        started = clock(options.device)
        for _ in range(steps):
            trainer.take()
        trainer.wait()
        each.append((clock(options.device) - started) / steps)
    megabytes = (peak_memory(options.device) - memory) / 2**20
    return {"family": family, "milliseconds": 1e3 * statistics.median(each), "megabytes": megabytes}


def state(trainer: Trainer) -> list[Tensor]:
    """Return all tensors of model and head."""
    parts: tuple[nn.Module, AbstractHead] = (trainer.model, trainer.head)
    return [tensor for part in parts for tensor in part.state_dict().values()]


def clock(device: str) -> float:
    """Return seconds: of the CPU where it computes, else of the wall."""
    return time.process_time() if device == "cpu" else time.perf_counter()


def peak_memory(device: str) -> float:
    """Return the largest memory so far in bytes: of the device, or of the process."""
    if device.startswith("cuda"):
        return float(torch.cuda.max_memory_allocated())
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
