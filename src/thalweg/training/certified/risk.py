"""How often a classifier like a run's is wrong on new data, from a training on half of the rows and the other half."""

import contextlib
import dataclasses
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.certificates.certificate.interval import Interval
from thalweg.certificates.factored.bags import factored_problem, factors_of
from thalweg.certificates.factored.optimizer import FactoredNewton
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.polish import polish
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.certificates.new_texts.risk import LEAST, STEPS, PacBayes, gaussian_bound
from thalweg.certificates.new_texts.shares import share_bound
from thalweg.certificates.ridge.newton import solve
from thalweg.certificates.ridge.problem import linear_problem, weights_of
from thalweg.data.columns.facts import as_text
from thalweg.data.containers.opening import open_any, reading_of
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.models.bag import LinearBag
from thalweg.objective import Objective
from thalweg.status import Status
from thalweg.tasks.classify.task import Classify
from thalweg.training.folder import build
from thalweg.training.folder.opening import open_as
from thalweg.training.folder.run import Run
from thalweg.training.recipe.recipe import Options
from thalweg.training.recipe.trusted import require_trust
from thalweg.training.session.loop import train
from thalweg.training.session.plan import Request
from thalweg.training.session.prepare import prepare
from thalweg.training.steps.feed import in_order

CHANCE: Final = 0.05
NUM_NOISES: Final = 8
TOLERANCE: Final = 1e-3  # relative gap at which the second training ends
MAX_STEPS: Final = 60


@final
@dataclasses.dataclass(frozen=True)
class Drawn:
    """What PAC-Bayes says of weights that are drawn with normal noise for every text.

    Args:
        part: which weights: "output layer", or "embeddings and output layer".
        everything: around the weights that were trained on all rows.
        between: around a mean on the way to them from the first model's weights: the best bound.
    """

    part: str
    everything: PacBayes
    between: PacBayes


@final
@dataclasses.dataclass(frozen=True)
class Risk:
    """What can be said of the error of classifiers like a run's on new data; all of it at once, but for `chance`.

    Args:
        trained: rows that the first model was trained on: a random half of the different texts, with their copies.
        tested: the different texts of the other half, by which it is judged.
        wrong: of them, what it got wrong.
        bound: its error on new data is at most this.
        drawn: the PAC-Bayes bounds: of the first model with its output layer trained again on all rows, and where
            the model is a bag under an L2 penalty of all its weights trained again.
        baseline: error of always giving the most frequent answer, on the rows tested.
        chance: that any of this is false, at most.
    """

    trained: int
    tested: int
    wrong: int
    bound: float
    drawn: tuple[Drawn, ...]
    baseline: float
    chance: float = CHANCE

    @property
    def sentences(self) -> list[str]:
        """The bounds in words."""
        first = (
            f"New data (false with a chance of at most {self.chance:g}): a model trained as this one, on a random half "
            f"of the texts, is wrong on at most {_at_most(self.bound)}, since it is on {self.wrong:,} of the other "
            f"{self.tested:,}. Always giving the most frequent answer is wrong on "
            f"{100.0 * self.baseline:.2f} % of these."
        )
        return [
            first,
            *(
                f"With its {one.part} trained again on all rows, and normal noise on these weights that is drawn anew "
                f"for each text, it is wrong on at most {_at_most(one.everything.bound)} (PAC-Bayes)"
                + (
                    f"; moved only {one.between.step:g} of the way there, on at most {_at_most(one.between.bound)}."
                    if one.between.step < 1.0
                    else "."
                )
                for one in self.drawn
            ),
            "This assumes texts drawn independently of one another, as the new ones will be; each different text of "
            "the other half counts once, and new texts that repeat one of the file are not covered.",
        ]


def risk_on_new_texts(
    run: Run | str | Path,
    *,
    seed: int = 0,
    trust: bool = False,
    say: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
) -> Risk:
    """Bound how often a classifier that is trained like a run is wrong on new texts.

    The texts of the run's file are split at random. A model is trained on one half exactly as the recipe says, with
    vocabulary, features and a validation part of that half's own, and its mistakes on the other half bound its error
    (Clopper-Pearson). Then weights are trained on all rows, with the first model's features: all weights of an
    embedding bag under an L2 penalty, else the output layer. PAC-Bayes bounds the error of weights drawn around them,
    with the first model as the middle of the prior (see `thalweg.certificates.gaussian_bound`). The three statements
    hold together.

    Args:
        run: of a classifier with one label for each text and a softmax; or its folder.
        seed: of the split.
        trust: import an optimizer that the run's recipe names by its import path, to train by it again.
        say: takes sentences about what is being done.

    Raises:
        InputError: for another task or head, or fewer than 8 texts in a half.

    It takes about as long as the training. It assumes that the texts were drawn independently, as the new ones will be;
    copies of one text are in one half, and count once. It assumes, too, that the recipe was not chosen by their labels;
    the error of the run itself, which has seen all of the training rows, is what its validation examples tell.
    """
    run = run if isinstance(run, Run) else Run(run)
    if not isinstance(run.task, Classify) or run.task.multilabel or not isinstance(run.head, Softmax):
        raise InputError("--risk needs a classifier with one label for each text, and a softmax.")
    if run.recipe.training.distill:
        raise InputError(
            "--risk trains again on half of the labels, and this run has learned from another run's answers."
        )
    require_trust(run.recipe.training.optimizer, None, run.folder, trust=trust)
    with tempfile.TemporaryDirectory(prefix="thalweg-") as folder:
        files = _halves(run, Path(folder), seed)
        say("Training on half of the texts.")
        recipe = run.recipe.with_(source=str(files.first), valid="", name="half")
        (Path(folder) / "half.toml").write_text(recipe.to_toml(), encoding="utf-8")
        half = _trained(Path(folder))
        say("Training on all rows, and comparing.")
        return _risk_of(half, files)


def _trained(folder: Path) -> Run:
    """Train by the recipe in a folder, and return the run, without a report."""
    options = Options({}, source=str(folder / "half.toml"))
    with prepare(Request(options, folder, trust=True), lambda sentence: None) as session:  # noqa: ARG005
        *_, last = train(session)
    if last["status"] == Status.INTERRUPTED.name:
        raise KeyboardInterrupt
    if session.holds_out and session.score.best is None:
        raise InputError("Training on half of the rows gave no finite score, so there is nothing to judge.")
    return Run(session.run.folder)


def with_risk(interval: Interval, run: Run, say: Callable[[str], None], *, trust: bool = False) -> Interval:
    """Return an interval whose notes say what `risk_on_new_texts` finds."""
    return dataclasses.replace(
        interval, notes=(*interval.notes, *risk_on_new_texts(run, trust=trust, say=say).sentences)
    )


@final
@dataclasses.dataclass(frozen=True)
class _Halves:
    """The rows of a run's file, cut in two."""

    first: Path
    second: Path  # without the rows whose label the first half lacks
    both: Path
    num_first: int
    unseen: int  # texts of the second half whose label the first lacks


def _halves(run: Run, folder: Path, seed: int) -> _Halves:
    assert isinstance(run.task, Classify)
    columns = run.data["columns"]
    names = [columns["text"], columns["label"]]
    source = open_as(run.recipe.data.source, run.task.name, columns, **reading_of(vars(run.recipe.data)))
    rows = [
        dict(zip(names, values, strict=True))
        for chunk in source.chunks()
        for values in zip(*(chunk.column(name) for name in names), strict=True)
    ]
    texts = [row[names[0]] for row in rows]
    texts = run.task.reader.normalizer.many([text if type(text) is str else as_text(text) for text in texts])
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    if len(places) < 2 * LEAST:
        raise InputError(f"--risk needs at least {2 * LEAST} rows with different texts; got {len(places)}.")
    source_of_chance = np.random.default_rng(seed)
    order = [list(places.values())[i] for i in source_of_chance.permutation(len(places)).tolist()]
    cut = len(order) // 2
    # Copies of one text are no independent examples: all are in one half, and where they would be counted one is.
    first = [rows[place] for same in order[:cut] for place in same]
    second = [rows[same[source_of_chance.integers(len(same)) if len(same) > 1 else 0]] for same in order[cut:]]
    known = {str(row[names[1]]) for row in first}
    seen = [row for row in second if str(row[names[1]]) in known]
    files = [folder / f"{name}.jsonl" for name in ("first", "second", "both")]
    for file, part in zip(files, (first, seen, first + seen), strict=True):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        file.write_text("".join(lines), encoding="utf-8", errors="surrogatepass")
    return _Halves(files[0], files[1], files[2], len(first), len(second) - len(seen))


def _risk_of(half: Run, files: _Halves) -> Risk:
    """Return the bounds, from the run on the first half."""
    model, head = half.model.double().eval(), half.head.double().eval()
    parts = {name: _batch(half, getattr(files, name)) for name in ("first", "second", "both")}
    joined = Objective(model, head, parts["both"], l2=half.recipe.training.l2)
    with torch.no_grad():
        prior = {name: head(model(**parts[name].inputs)).numpy() for name in ("first", "second")}
    again = _refitted(half, joined, parts)
    labels = parts["second"].targets.numpy()
    size = len(labels) + files.unseen
    wrong = int((prior["second"].argmax(1) != labels).sum()) + files.unseen
    most = int(np.bincount(labels).max())

    def drawn(part: str, refitted: Refitted) -> Drawn:
        lengths = {name: np.sqrt(values**2 + 1.0) for name, values in refitted.lengths.items()}  # a 1 for the bias
        # Noise up to the spread of the predictions and less: a scale that the first half alone decides.
        spread = float(np.median(np.ptp(prior["first"], axis=1) / lengths["first"]))
        noises = [2.0 * spread * 2.0**-power for power in range(NUM_NOISES)]
        given = (prior["second"], refitted.predictions, labels, lengths["second"], refitted.distance, noises)
        chance = 0.5 * CHANCE / len(again)
        everything, between = (
            gaussian_bound(*given, unseen=files.unseen, chance=chance, steps=steps) for steps in ((1.0,), STEPS)
        )
        return Drawn(part, everything, between)

    limit = share_bound(wrong, size, 0.5 * CHANCE)
    found = tuple(drawn(part, refitted) for part, refitted in again.items())
    return Risk(files.num_first, size, wrong, limit, found, 1.0 - most / size)


def _batch(half: Run, path: Path) -> Any:
    """Return all rows of a file as one batch, as the first model reads them."""
    examples, _ = half.task.examples(open_any(path), half.data["columns"])
    return next(iter(in_order(examples, half.task.batch, len(examples), "cpu", torch.float64)))[1]


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Refitted:
    """Weights that were trained on all rows."""

    lengths: dict[str, np.ndarray]  # of the features that they are multiplied with, by part
    predictions: np.ndarray  # for the second half
    distance: float  # squared, from the first model's weights


def _refitted(half: Run, joined: Objective, parts: dict[str, Any]) -> dict[str, Refitted]:
    """Return what was trained on all rows, each with its name."""
    if isinstance(joined.model, LinearBag):
        return {"linear model": _refitted_linear(joined, parts)}
    (layer,) = (module for module in joined.head.modules() if isinstance(module, nn.Linear))
    again = {"output layer": _refitted_head(joined.model, layer, parts, joined.l2)}
    with contextlib.suppress(InputError):
        factored_problem(joined)
        again["embeddings and output layer"] = _refitted_bag(half, joined, parts)
    return again


def _refitted_linear(joined: Objective, parts: dict[str, Any]) -> Refitted:
    """Train a linear model on all rows, with the first model's vocabulary."""
    problem, (weight, bias) = linear_problem(joined), weights_of(joined)
    point, _, _ = solve(problem, tolerance=TOLERANCE, point=problem.at(weight, bias))
    features = {name: linear_problem(joined.on(batch)).features for name, batch in parts.items()}
    trained = (features["second"].times(point.weight) + point.bias).numpy()
    lengths = {name: np.asarray(found.row_norms()) for name, found in features.items()}
    return Refitted(lengths, trained, _distance(point.weight - weight.detach(), point.bias - bias.detach()))


def _refitted_head(model: nn.Module, layer: nn.Linear, parts: dict[str, Any], l2: float) -> Refitted:
    """Train the output layer on all rows, the features being the first model's."""
    with torch.no_grad():
        hidden = {name: model(**batch.inputs) for name, batch in parts.items()}
    loss = SoftmaxLoss.of_labels(parts["both"].targets, layer.out_features)
    strength = max(l2, 1.0 / len(parts["both"].targets))
    problem = Head(Features(hidden["both"]), loss, L2(strength), intercept=True)
    point = polish(problem, tolerance=TOLERANCE).point
    lengths = {name: states.norm(dim=1).numpy() for name, states in hidden.items()}
    trained = (hidden["second"] @ point.weight + point.bias).numpy()
    first_bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return Refitted(lengths, trained, _distance(point.weight - layer.weight.T, point.bias - first_bias))


def _refitted_bag(half: Run, joined: Objective, parts: dict[str, Any]) -> Refitted:
    """Train embeddings and output layer on all rows, with the first model's vocabulary."""
    model, head = build.build_networks(half.recipe, half.task)
    fresh = Objective(model.double().eval(), head.double().eval(), joined.batches, l2=joined.l2)
    optimizer = FactoredNewton(fresh.parameters)
    for _ in range(MAX_STEPS):
        optimizer.step(fresh)
        if optimizer.relative_gap is not None and optimizer.relative_gap <= TOLERANCE:
            break
    (e0, w0, b0), (e1, w1, b1) = factors_of(joined), factors_of(fresh)
    lengths: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for name, batch in parts.items():
            own = Objective(joined.model, joined.head, batch, l2=joined.l2)
            lengths[name] = np.asarray(factored_problem(own).features.row_norms())
        bias = torch.zeros(1) if b0 is None or b1 is None else b1 - b0
        trained = head(model(**parts["second"].inputs)).numpy()
        return Refitted(lengths, trained, _distance(e1 @ w1.T - e0 @ w0.T, bias))


def _distance(weight: Tensor, bias: Tensor) -> float:
    """Return the squared length of a change of weights, less what moves all classes alike and so changes no answer."""
    parts = [part.detach().double() for part in (weight, bias)]
    return float(sum((part - part.mean(-1, keepdim=True)).square().sum() for part in parts))


def _at_most(share: float) -> str:
    """Return a share as a percentage, rounded up to two decimals."""
    return f"{math.ceil(1e4 * share) / 100:.2f} %"
