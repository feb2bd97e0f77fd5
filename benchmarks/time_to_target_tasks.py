"""The problems of `time_to_target.py`: small enough that one run takes some seconds, each with its data and its model.

A problem is made by the product itself: options -> plan -> networks, batches, optimizer, schedule. Only the residual
network on a smooth function is put together here, because no file holds it.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from public_sets import DATA, clinc150, lines_of, open_text, write_csv
from torch import nn

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.heads.base import AbstractHead
from thalweg.heads.squared import Squared
from thalweg.models.mlp import MLP
from thalweg.models.skips import Residual
from thalweg.training.folder import build
from thalweg.training.recipe.recipe import Options, Recipe
from thalweg.training.session.plan import Plan, Request, make_plan
from thalweg.training.steps.evaluate import evaluate
from thalweg.training.steps.feed import Feed

# Validation examples: an evaluation must not take longer than the steps before it.
MOST_VALID = {"language": 80, "tag": 300, "classify": 900, "translate": 200, "forecast": 1000}
MOST_PAIRS = 40_000  # of a file of sentences
Write = Callable[[Path], dict[str, Path]]


@final
@dataclasses.dataclass(frozen=True)
class Problem:
    """A network to train and how good it is.

    Args:
        name: of the problem.
        given: the options that the problem is made from, with a task.
        recipe: everything but how the weights are moved.
        networks: seed -> model and head.
        feed: a recipe with seed and batch size -> the batches of each step.
        loss: model and head -> validation loss.
    """

    name: str
    given: Options
    recipe: Recipe
    networks: Callable[[int], tuple[nn.Module, AbstractHead]]
    feed: Callable[[Recipe], Any]
    loss: Callable[[nn.Module, AbstractHead], float]


@final
@dataclasses.dataclass(frozen=True)
class Spec:
    """A problem that is not made yet: how its files are written, and the options of `thalweg train`."""

    options: Mapping[str, Any]
    write: Write | None = None
    sealed: bool = False


def _shakespeare(folder: Path) -> dict[str, Path]:
    files = {}
    for part, name in (("source", "train.txt.xz"), ("valid", "test.txt")):
        files[part] = folder / f"{part}.txt"
        files[part].write_text(open_text(DATA / "tinyshakespeare" / name), encoding="utf-8")
    return files


def _ewt(folder: Path) -> dict[str, Path]:
    files = {}
    for part, name in (("source", "train"), ("valid", "dev")):
        files[part] = folder / f"{part}.conllu"
        files[part].write_text(open_text(DATA / "ud_english_ewt" / f"en_ewt-ud-{name}.conllu.xz"), encoding="utf-8")
    return files


def _sst2(folder: Path) -> dict[str, Path]:
    parts = {"source": "train.tsv.xz", "valid": "dev.tsv"}
    return {
        part: write_csv(folder / f"{part}.csv", (row[:2] for row in lines_of(DATA / "sst2" / name)))
        for part, name in parts.items()
    }


def _clinc150(folder: Path) -> dict[str, Path]:
    parts = clinc150()
    return {
        part: write_csv(folder / f"{part}.csv", parts[name]) for part, name in (("source", "train"), ("valid", "dev"))
    }


def _tatoeba(folder: Path) -> dict[str, Path]:
    files = {}
    for part, name in (("source", "eng-deu.train.tsv.xz"), ("valid", "eng-deu.dev.tsv.xz")):
        files[part] = folder / f"{part}.tsv"
        lines = open_text(DATA / "tatoeba_pairs" / name).splitlines()[:MOST_PAIRS]
        files[part].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return files


# Less than a pass over the text, or little more: nothing to drop out against.
_TEXT = {"task": "language", "max_length": 64, "batch_size": 8, "dropout": 0.0, "steps": 160}
_TRANSFORMER = {"model": "transformer", "width": 64, "hidden": 128, "layers": 2, "heads": 2}
_LSTM = {"model": "lstm", "width": 96, "hidden": 96, "layers": 1}
_BPE = {"tokenizer": "bpe", "vocabulary_size": 1000}
_CHARACTERS = {"tokenizer": "char"}
_CLASSIFY = {"task": "classify", **_TRANSFORMER, "batch_size": 32}
_TRANSLATE = {"task": "translate", **_TRANSFORMER, "layers": 1, "batch_size": 32, "dropout": 0.0}

SPECS: dict[str, Spec] = {
    "manual-transformer": Spec({**_TEXT, **_BPE, **_TRANSFORMER, "source": "manual"}),
    "manual-lstm": Spec({**_TEXT, **_BPE, **_LSTM, "source": "manual"}),
    "characters-transformer": Spec({**_TEXT, **_CHARACTERS, **_TRANSFORMER}, _shakespeare),
    "characters-lstm": Spec({**_TEXT, **_CHARACTERS, **_LSTM}, _shakespeare),
    "shakespeare-transformer": Spec({**_TEXT, **_BPE, **_TRANSFORMER}, _shakespeare),
    "shakespeare-lstm": Spec({**_TEXT, **_BPE, **_LSTM}, _shakespeare),
    "ewt-lstm": Spec(
        {
            "task": "tag",
            "model": "lstm",
            "head": "softmax",
            "width": 64,
            "hidden": 64,
            "vocabulary_size": 5000,
            "steps": 160,
        },
        _ewt,
    ),
    "sst2-transformer": Spec({**_CLASSIFY, "vocabulary_size": 5000, "steps": 160}, _sst2),
    "numbers-transformer": Spec({**_TRANSLATE, "source": "numbers", "steps": 160}),
    "sunspots-mlp": Spec({"task": "forecast", "source": "sunspots", "model": "mlp", "epochs": 100.0}),
    "smooth-mlp": Spec({"task": "forecast", "source": "sunspots", "model": "mlp", "epochs": 12.0}),
    "clinc150-transformer": Spec({**_CLASSIFY, "steps": 250}, _clinc150, sealed=True),
    "tatoeba-transformer": Spec({**_TRANSLATE, "vocabulary_size": 1000, "steps": 160}, _tatoeba, sealed=True),
}


def make(name: str) -> Problem:
    """Return a problem by its name in the table, its data read."""
    spec = SPECS[name]
    with tempfile.TemporaryDirectory() as folder:
        files = spec.write(Path(folder)) if spec.write else {}
        options = Options({**spec.options, **{part: str(path) for part, path in files.items()}})
        plan = make_plan(Request(options.with_(optimizer="adamw"), out=Path(folder) / "runs"), [].append)
    if name == "smooth-mlp":
        return _smooth(name, options, plan.recipe)
    return _from_plan(name, options, plan)


def _from_plan(name: str, given: Options, plan: Plan) -> Problem:
    task, recipe = plan.task, plan.recipe
    valid, most = plan.prepared.valid, MOST_VALID[recipe.run.task]
    count = len(valid)
    if count > most:
        valid = valid.take(np.arange(most) * count // most)

    def networks(seed: int) -> tuple[nn.Module, AbstractHead]:
        return build.build_networks(recipe.with_(seed=seed), task)

    def feed(moved: Recipe) -> Feed:
        training = moved.training
        return Feed(
            plan.prepared.train,
            task.training_batch,
            batch_size=training.batch_size,
            accumulate=training.accumulate,
            seed=moved.run.seed,
        )

    def loss(model: nn.Module, head: AbstractHead) -> float:
        return evaluate(task, model, head, valid).loss

    return Problem(name, given, recipe, networks, feed, loss)


def _smooth(name: str, given: Options, recipe: Recipe) -> Problem:
    """A residual network of four layers on f(x) = sin(3 x1) cos(2 x2) + x3 exp(-x4^2) / 2 + |x| / 2, x in [-2, 2]^4."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, (6000, 4))
    y = np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1]) + x[:, 2] * np.exp(-(x[:, 3] ** 2)) / 2
    y += np.linalg.norm(x, axis=1) / 2
    rows = Examples({"x": x.astype(np.float32), "y": y[:, None].astype(np.float32)})
    train, valid = rows.take(np.arange(5000)), rows.take(np.arange(5000, 6000))

    def collate(examples: Examples, indices: np.ndarray) -> Batch:
        columns = [np.asarray(examples.columns[key])[indices] for key in ("x", "y")]
        return Batch({"x": torch.from_numpy(columns[0])}, torch.from_numpy(columns[1]))

    def networks(seed: int) -> tuple[nn.Module, AbstractHead]:
        torch.manual_seed(seed)
        body = MLP([4, 96, 96, 96, 96], activation=nn.SiLU, skip=Residual, output_activation=nn.SiLU)
        return body, Squared(96, 1)

    def feed(moved: Recipe) -> Feed:
        return Feed(train, collate, batch_size=moved.training.batch_size, seed=moved.run.seed)

    def loss(model: nn.Module, head: AbstractHead) -> float:
        model.eval()
        batch = collate(valid, np.arange(len(valid)))
        with torch.no_grad():
            return float((head(model(**batch.inputs)) - batch.targets).square().mean())

    return Problem(name, given, recipe, networks, feed, loss)
