"""What the report shows about a tagger: confusion, F1 by tag and by type of span, the worst sentences."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_f1_score

from thalweg.batch import Batch
from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering
from thalweg.tasks.tag.spans import SpanScore, is_bio

BATCH_SIZE = 128
NUM_WORST = 20
DIVIDER = "\t"  # between the words of a sentence that is kept as it is


def best_tags(model: nn.Module, head: AbstractHead, inputs: dict[str, Tensor]) -> Tensor:
    """Return the most probable tag of each word, int64 `[batch, time]` on the CPU."""
    with answering(model, head) as parameter:
        hidden = model(**{name: tensor.to(parameter.device) for name, tensor in inputs.items()})
        return head.decode(head(hidden), 1)[0].squeeze(-1).cpu()


def sections(
    tags: Sequence[str], model: nn.Module, head: AbstractHead, batches: Iterable[Batch], raw: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the sections for a tagger's validation data.

    Args:
        tags: names of the tags.
        model: from words to hidden states.
        head: from hidden states to tags.
        batches: all validation sentences, in order.
        raw: the words of the first of them, joined by `DIVIDER`; "" where they were not kept.
    """
    spans = SpanScore(tags) if is_bio(tags) else None
    guesses: list[Tensor] = []
    targets: list[Tensor] = []
    worst: list[tuple[int, int, list[int], list[int]]] = []  # errors, place, predicted, true
    place = 0
    for batch in batches:
        assert batch.mask is not None
        guess, target, mask = best_tags(model, head, batch.inputs), batch.targets, batch.mask
        if spans is not None:
            spans.update(guess, target, mask)
        guesses.append(guess[mask])
        targets.append(target[mask])
        errors = ((guess != target) & mask).sum(1).tolist()
        for row, num_errors in enumerate(errors):
            if num_errors and place + row < len(raw) and raw[place + row]:
                length = int(mask[row].sum())
                worst.append((num_errors, place + row, guess[row, :length].tolist(), target[row, :length].tolist()))
        worst = sorted(worst, key=lambda entry: (-entry[0], entry[1]))[:NUM_WORST]
        place += len(errors)
    guess, target = torch.cat(guesses), torch.cat(targets)
    found: list[dict[str, Any]] = [] if spans is None else [_span_table(spans), _span_bars(spans)]
    return [*found, _confusion(tags, guess, target), _bars(tags, guess, target), _worst(tags, worst, raw)]


def _span_table(spans: SpanScore) -> dict[str, Any]:
    return {
        "kind": "table",
        "title": "Spans by type",
        "text": "Precision is the fraction of the predicted spans that are right, recall the fraction of the true ones "
        "that are found; a span is right when its start, end and type are.",
        "columns": ["type", "precision", "recall", "F1", "true", "predicted"],
        "rows": [[kind, *(round(x, 4) for x in scores), *counts] for kind, *scores, counts in _rows(spans)],
    }


def _rows(spans: SpanScore) -> list[tuple[str, float, float, float, list[int]]]:
    return [(row[0], row[1], row[2], row[3], row[4:]) for row in spans.table()]


def _span_bars(spans: SpanScore) -> dict[str, Any]:
    rows = sorted(spans.table(), key=lambda row: -row[3])
    return {
        "kind": "bars",
        "title": "F1 by type of span",
        "text": "1 is perfect; a short bar is a type that is often missed, cut wrongly or taken for another.",
        "names": [row[0] for row in rows],
        "values": [row[3] for row in rows],
        "x_label": "F1",
    }


def _confusion(tags: Sequence[str], guess: Tensor, target: Tensor) -> dict[str, Any]:
    counts = multiclass_confusion_matrix(guess, target, max(2, len(tags)), validate_args=False)
    return {
        "kind": "confusion",
        "title": "What is taken for what",
        "text": "Each row holds the validation words with one true tag; the columns say what was predicted.",
        "labels": list(tags),
        "counts": counts.tolist(),
    }


def _bars(tags: Sequence[str], guess: Tensor, target: Tensor) -> dict[str, Any]:
    num = max(2, len(tags))
    scores = multiclass_f1_score(guess, target, num, average="none", validate_args=False)
    seen = torch.bincount(target, minlength=num).tolist()
    order = [i for i in scores.argsort(descending=True).tolist() if seen[i]]
    return {
        "kind": "bars",
        "title": "F1 by tag",
        "text": "1 is perfect; a short bar is a tag that is often missed, or often given wrongly.",
        "names": [tags[i] for i in order],
        "values": [float(scores[i]) for i in order],
        "x_label": "F1",
    }


def _worst(
    tags: Sequence[str], worst: Sequence[tuple[int, int, list[int], list[int]]], raw: Sequence[str]
) -> dict[str, Any]:
    rows = []
    for num_errors, place, guess, target in worst:
        words = raw[place].split(DIVIDER)
        wrong = [
            f"{word}: {tags[predicted]}, should be {tags[true]}"
            for word, predicted, true in zip(words, guess, target, strict=True)
            if predicted != true
        ]
        rows.append([str(num_errors), " ".join(words), "; ".join(wrong)])
    return {
        "kind": "examples",
        "title": "Sentences with the most errors",
        "text": "Clusters of similar errors usually come from mislabeled or rare data.",
        "columns": ["errors", "sentence", "what was wrong"],
        "rows": rows,
    }
