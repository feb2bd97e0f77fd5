"""What a run's training data say example by example: contradictions, doubtful labels, floors by length of context."""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import torch
from torch import nn

from thalweg.certificates.attempts import COUNTING, Clock
from thalweg.certificates.by_example.contexts import context_floors
from thalweg.certificates.by_example.contradictions import Contradiction, contradictions
from thalweg.certificates.by_example.suspects import suspect_labels
from thalweg.certificates.linear.matrices import from_bags
from thalweg.data.arrays.equal import Prefixes, WholeExamples
from thalweg.errors import InputError, is_out_of_memory
from thalweg.heads.base import AbstractHead, ConvexLoss, LinearForm
from thalweg.tasks.answering import answering
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.tasks.reading.taught import TARGETS
from thalweg.training.folder.again import texts_at
from thalweg.training.folder.run import Run
from thalweg.training.steps.feed import in_order

BATCH_SIZE: Final = 256
BATCH_TOKENS: Final = 8192  # whose predictions are held at once
SHARE, OWN_SHARE = 0.4, 0.15  # of the time, that each part may take, and the model's own loss by length of context
MAX_GAP: Final = 0.01  # of the linear model's loss
LISTED: Final = 20  # groups of contradictory examples, and doubtful labels
ROWS_OF_A_LABEL: Final = 8  # in a group
TEXTS_OF_A_GROUP: Final = 3
MAX_NUMBERS: Final = 50_000_000  # entries of the features, or of a table with a column a label
TAUGHT: Final = "Training is on the answers of another run (--distill), not on labels."
CONTEXTS: Final = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@final
@dataclasses.dataclass
class ByExample:
    """Plain data by part, ready for JSON; None for a part that does not apply to the task, or is left out."""

    contradictions: dict[str, Any] | None = None
    suspects: dict[str, Any] | None = None
    contexts: dict[str, Any] | None = None
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)  # part (or "own" loss) -> why, in a sentence

    def to_json(self) -> dict[str, Any]:
        """Return the parts by name."""
        return dataclasses.asdict(self)


def by_example(run: Run, task: AbstractTask, prepared: Prepared, clock: Clock) -> ByExample:
    """Return what a run's training data say example by example, in a part of the time that is left.

    A part that cannot be computed is left out with a sentence, also where that is a mistake of thalweg's.
    """
    found = ByExample()
    view = task.view(prepared.train)
    seconds, own_seconds = (max(share * clock.left, clock.grace) for share in (SHARE, OWN_SHARE))
    lengths = prepared.train.lengths
    counting = COUNTING * (len(prepared.train) if lengths is None else float(lengths.sum()))

    def attempt(part: str, make: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
        try:
            clock.require(counting, "It")
            return make()
        except InputError as error:
            found.left_out[part] = str(error)
        except Exception as error:
            if is_out_of_memory(error):
                found.left_out[part] = "There is not enough memory for it."
            else:
                said = f"{type(error).__name__}: {error}".splitlines()[0]
                found.left_out[part] = f"It failed ({said}). That is a mistake of thalweg's; please report it."
                warnings.warn(f"The part {part!r} of a certificate failed: {said}", RuntimeWarning, stacklevel=2)
        return None

    if isinstance(view, Prefixes) and view.first_is_symbol:
        own = attempt("own", lambda: loss_by_place(task, run.model, run.head, prepared, own_seconds))
        found.contexts = attempt("contexts", lambda: _contexts(view, own))
    if TARGETS in prepared.train.columns:
        found.left_out["contradictions"] = TAUGHT
        return found
    if isinstance(view, WholeExamples) and prepared.lines is not None:
        found.contradictions = attempt("contradictions", lambda: _contradictions(run, task, prepared, view))
    if prepared.lines is not None:
        found.suspects = attempt("suspects", lambda: _suspects(task, prepared, seconds))
    _add_texts(run, task, [found.contradictions, found.suspects])
    return found


def _targets(task: AbstractTask, prepared: Prepared) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all targets in the order of the examples, the example of each, and its place in it."""
    targets, rows, places = [], [], []
    for start in range(0, len(prepared.train), BATCH_SIZE):
        indices = np.arange(start, min(start + BATCH_SIZE, len(prepared.train)))
        batch = task.batch(prepared.train, indices)
        if batch.mask is None or batch.mask.shape != batch.targets.shape:
            targets.append(batch.targets.numpy())
            rows.append(indices)
            places.append(np.zeros_like(indices))
        else:
            row, place = np.nonzero(batch.mask.numpy())
            targets.append(batch.targets.numpy()[row, place])
            rows.append(indices[row])
            places.append(place)
    return np.concatenate(targets), np.concatenate(rows), np.concatenate(places)


def _form(run: Run, task: AbstractTask, prepared: Prepared) -> LinearForm:
    """Return the head's linear form on the first example, for what all examples share; an InputError: it has none."""
    model, head = run.model, run.head
    with answering(model, head) as parameter:
        batch = task.batch(prepared.train, np.arange(1)).to(parameter.device, parameter.dtype)
        form = head.linear_form(model(**batch.inputs), batch.targets, batch.mask, batch.weights)
    if form is None:
        raise InputError(f"{type(head).__name__} is not a convex loss (softmax, logistic, squared) of a linear layer.")
    return form


def _contradictions(run: Run, task: AbstractTask, prepared: Prepared, view: WholeExamples) -> dict[str, Any]:
    """Return the groups of examples that look the same to the model and have different targets."""
    form = _form(run, task, prepared)
    targets, rows, places = _targets(task, prepared)
    numbers = form.loss is ConvexLoss.SQUARED
    found = contradictions(
        view.of(np.arange(len(prepared.train))),
        targets,
        num_classes=None if targets.ndim > 1 else getattr(form.layer, "out_features", None),
        smoothing=form.smoothing if targets.ndim == 1 and not numbers else 0.0,
        factor=form.factor if numbers else None,
        limit=LISTED,
    )
    assert prepared.lines is not None
    lines = prepared.lines[rows]
    parts = view.lengths is not None  # a target is a word of a row, not a row
    offsets = _offsets(prepared.lines, view.lengths) if view.lengths is not None else lines

    def group(one: Contradiction) -> dict[str, Any]:
        values, which, counts = np.unique(targets[one.rows], axis=0, return_inverse=True, return_counts=True)
        which = which.reshape(-1)
        labels = [
            {
                "label": task.answer_name(values[label]),
                "num_rows": int(counts[label]),
                "lines": lines[one.rows[which == label]][:ROWS_OF_A_LABEL].tolist(),
            }
            for label in np.argsort(-counts, kind="stable").tolist()
        ]
        word = int(places[one.rows[0]] + offsets[rows[one.rows[0]]]) if parts else None
        share = one.cost / found.cost if found.cost > 0.0 else 0.0
        whole = {"num_rows": len(one.rows), "cost": one.cost, "share": share, "errors": one.errors}
        return {**whole, "labels": labels, "line": int(lines[one.rows[0]]), "word": word}

    return {
        "num_groups": found.num_groups,
        "num_rows": found.num_rows,
        "num_targets": len(targets),
        "what": "words" if parts else "rows",
        "cost": found.cost,
        "errors": found.errors,
        "unit": "squared error" if numbers else "nats",
        "smoothing": form.smoothing,
        "sees": view.describes,
        "worst": [group(one) for one in found.worst],
    }


def _offsets(lines: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return for each piece of a row how many words of the row come before it."""
    before = np.cumsum(lengths) - lengths
    first = np.flatnonzero(np.diff(lines, prepend=-1))
    return before - np.repeat(before[first], np.diff(first, append=len(lines)))


def _suspects(task: AbstractTask, prepared: Prepared, seconds: float) -> dict[str, Any] | None:
    """Return the labels that the best penalized linear model of the texts' words doubts most."""
    words = task.words_of(prepared.train)
    if words is None:
        return None
    labels = _targets(task, prepared)[0]
    num_classes = int(labels.max(initial=0)) + 1
    numbers = max(num_classes * max(len(labels), words[2]), int(words[0].offsets[-1]))
    if numbers > MAX_NUMBERS:
        raise InputError(
            f"The linear model would need {numbers:,} numbers at once, more than the limit of {MAX_NUMBERS:,}."
        )
    tokens, weights, num_features = words
    starts, end = tokens.offsets[:-1], int(tokens.offsets[-1])
    ids, each = (torch.from_numpy(np.asarray(part.values[:end])) for part in (tokens, weights))
    features = from_bags(ids, torch.from_numpy(np.asarray(starts)), each, num_features)
    found = suspect_labels(features, labels.astype(np.int64), num_classes, seconds=seconds)
    if found.relative_gap > MAX_GAP:
        raise InputError(f"{seconds:.1f} s do not suffice for the linear model; allow more time (--seconds).")
    doubted = found.order[(found.likelier != found.labels)[found.order]]
    assert prepared.lines is not None
    return {
        "num_doubted": len(doubted),
        "num_rows": len(labels),
        "worst": [
            {
                "lines": [int(prepared.lines[row])],
                "label": task.answer_name(labels[row]),
                "likelier": task.answer_name(found.likelier[row]),
                "probability": float(found.own[row]),
                "carried": float(found.carried[row]),
            }
            for row in doubted[:LISTED].tolist()
        ],
    }


def _contexts(view: Prefixes, own: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the floor of each length of the context, and the model's loss on the same tokens where it is known."""
    starts = np.concatenate([[0], np.cumsum(view.lengths)[:-1]])
    symbols = np.insert(view.symbols, starts, view.first)
    rows = []
    for one in context_floors(symbols, view.lengths + 1, CONTEXTS):
        row = dataclasses.asdict(one) | {"own": None, "exact_own": None}
        if own is not None:
            sums, counts, first = own["sums"], own["counts"], one.context - 1
            row["own"] = float(sums[first:].sum() / counts[first:].sum())
            row["exact_own"] = float(sums[first] / counts[first])
        rows.append(row)
        if one.floor == 0.0:
            break
    if not rows:
        return None
    loss = None if own is None else float(own["sums"].sum() / own["counts"].sum())
    return {"num_targets": len(view.symbols), "loss": loss, "rows": rows}


def loss_by_place(
    task: AbstractTask, model: nn.Module, head: AbstractHead, prepared: Prepared, seconds: float = math.inf
) -> dict[str, Any]:
    """Return the "sums" of the cross-entropies of all training tokens by place in a chunk, and their "counts".

    An InputError says that it would take longer than the time there is.
    """
    begin, num_done = time.perf_counter(), 0
    longest = int(prepared.train.ragged("tokens").lengths.max())
    sums, counts = np.zeros(longest), np.zeros(longest, dtype=np.int64)
    size = max(1, BATCH_TOKENS // longest)
    with answering(model, head) as parameter:
        for indices, batch in in_order(prepared.train, task.batch, size, parameter.device, parameter.dtype):
            losses = -head.log_probability_from_hidden(model(**batch.inputs), batch.targets).double()
            mask = batch.mask if batch.mask is not None else torch.ones_like(batch.targets, dtype=torch.bool)
            width = mask.shape[1]
            sums[:width] += torch.where(mask, losses, 0.0).sum(0).cpu().numpy()
            counts[:width] += mask.sum(0).cpu().numpy()
            num_done += len(indices)
            elapsed = time.perf_counter() - begin
            needed = elapsed * len(prepared.train) / num_done
            if elapsed > 0.1 * seconds and needed > seconds:  # the first batch is slower than the others
                raise InputError(
                    f"It would take about {needed:,.2g} s, and there are {seconds:,.2g} s for it; allow more time "
                    "(--seconds)."
                )
    used = counts > 0
    return {"sums": sums[used], "counts": counts[used]}


def _add_texts(run: Run, task: AbstractTask, parts: list[dict[str, Any] | None]) -> None:
    """Read the texts of all listed rows from the source, in one pass that ends with the last of them."""
    entries = [entry for part in parts if part for entry in part["worst"]]
    wanted = {line for entry in entries for line in _lines_of(entry)}
    if not wanted:
        return
    texts = texts_at(run, task, wanted)
    for entry in entries:
        found = dict.fromkeys(_at(texts.get(line, []), entry.get("word")) for line in _lines_of(entry))
        entry["texts"] = [text for text in found if text][:TEXTS_OF_A_GROUP]


def _lines_of(entry: dict[str, Any]) -> list[int]:
    """Return the lines of an entry whose texts are shown: the first of each label, or of a word the first at all."""
    if "lines" in entry:
        return entry["lines"]
    firsts = [one["lines"][0] for one in entry["labels"]]
    return firsts if entry["word"] is None else [entry["line"]]


def _at(texts: list[str], word: int | None) -> str:
    """Return a row in words: its texts, or the word that is tagged and the sentence around it."""
    if word is None:
        return " / ".join(texts)
    words = texts[0].split() if len(texts) == 1 else texts  # a row of words may be a text with spaces
    return f"{words[word]} in: {' '.join(words)}" if word < len(words) else " ".join(words)
