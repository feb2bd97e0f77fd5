"""What the report shows about a tagger: confusion, F1 by tag and by type of span, the worst sentences."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import f1
from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering
from thalweg.tasks.by_class import confusion_counts, counts_by_class
from thalweg.tasks.sections import confusion, f1_bars
from thalweg.tasks.tag.inputs import mask_of_words, words_mask
from thalweg.tasks.tag.spans import SpanScore, is_bio

BATCH_SIZE = 128
NUM_WORST = 20
WEAKNESS = "tag that is often missed, or often given wrongly"
DIVIDER = "\t"  # between the words of a sentence that is kept as it is


def best_tags(model: nn.Module, head: AbstractHead, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the tag of each word, int64 `[batch, time]`, and its probability, on the CPU."""
    with answering(model, head) as parameter:
        hidden = model(**{name: tensor.to(parameter.device) for name, tensor in inputs.items()})
        prediction, mask = head(hidden), mask_of_words(inputs).to(parameter.device)
        best = head.best_ids(prediction, mask)
        found = head.probabilities(prediction, mask).gather(-1, best.unsqueeze(-1)).squeeze(-1)
        return best.cpu(), found.cpu()


def sections(
    tags: Sequence[str], model: nn.Module, head: AbstractHead, batches: Iterable[Batch], raw: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the sections for a tagger's validation data, whose sentences `batches` holds in order.

    `raw` holds the words of the first sentences, joined by `DIVIDER`; "" where they were not kept.
    """
    spans = SpanScore(tags) if is_bio(tags) else None
    guesses: list[Tensor] = []
    targets: list[Tensor] = []
    worst: list[tuple[int, int, list[int], list[int]]] = []  # errors, place, predicted, true
    place = 0
    for batch in batches:
        assert batch.mask is not None
        guess, target, mask = best_tags(model, head, batch.inputs)[0], batch.targets, batch.mask
        if spans is not None:
            spans.update(guess, target, mask)
        guesses.append(guess[mask])
        targets.append(target[mask])
        errors = ((guess != target) & mask).sum(1).tolist()
        for row, num_errors in enumerate(errors):
            if num_errors and place + row < len(raw) and raw[place + row]:
                length = int(words_mask(batch)[row].sum())
                worst.append((num_errors, place + row, guess[row, :length].tolist(), target[row, :length].tolist()))
        worst = sorted(worst, key=lambda entry: (-entry[0], entry[1]))[:NUM_WORST]
        place += len(errors)
    answers = torch.cat(guesses).numpy(), torch.cat(targets).numpy(), max(2, len(tags))
    counts, (right, given, true) = confusion_counts(*answers), counts_by_class(*answers)
    scores, seen = f1(right, given, true).tolist(), np.flatnonzero(true).tolist()
    return [
        *([] if spans is None else _span_sections(spans.table())),
        confusion("words with one true tag", tags, counts.tolist()),
        f1_bars("tag", WEAKNESS, [tags[i] for i in seen], [scores[i] for i in seen]),
        _worst(tags, worst, raw),
    ]


def _span_sections(rows: list[list[Any]]) -> list[dict[str, Any]]:
    table = {
        "kind": "table",
        "title": "Spans by type",
        "text": "Precision is the fraction of the predicted spans that are right, recall the fraction of the true ones "
        "that are found; a span is right when its start, end and type are.",
        "columns": ["type", "precision", "recall", "F1", "true", "predicted"],
        "rows": [[kind, *(round(score, 4) for score in figures[:3]), *figures[3:]] for kind, *figures in rows],
    }
    weakness = "type that is often missed, has wrong boundaries or is confused with another"
    return [table, f1_bars("type of span", weakness, [row[0] for row in rows], [row[3] for row in rows])]


def _worst(
    tags: Sequence[str], worst: Sequence[tuple[int, int, list[int], list[int]]], raw: Sequence[str]
) -> dict[str, Any]:
    rows = []
    for num_errors, place, guess, target in worst:
        words = raw[place].split(DIVIDER)
        wrong = [
            f"{word}: {tags[predicted]}, should be {tags[true]}"
            for word, predicted, true in zip(words, guess, target, strict=True)
            if predicted != true and true >= 0
        ]
        rows.append([str(num_errors), " ".join(words), "; ".join(wrong)])
    return {
        "kind": "examples",
        "title": "Sentences with the most errors",
        "text": "Clusters of similar errors usually come from mislabeled or rare data.",
        "columns": ["errors", "sentence", "what was wrong"],
        "rows": rows,
    }
