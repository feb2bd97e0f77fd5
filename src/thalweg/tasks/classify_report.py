"""What the report shows about a classifier: confusion, F1 by label, the worst mistakes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multilabel_f1_score,
)

from thalweg.data.batches import Examples
from thalweg.heads.base import AbstractHead

if TYPE_CHECKING:
    from thalweg.tasks.classify import Classify

BATCH_SIZE = 256
NUM_WORST = 20


def sections(task: "Classify", model: nn.Module, head: AbstractHead, valid: Examples) -> list[dict[str, Any]]:
    """Return the sections for a classifier's validation data."""
    predictions, targets = [], []
    for prediction, target in _predictions(task, model, head, valid):
        predictions.append(prediction.float().cpu())
        targets.append(target.cpu())
    prediction, target = torch.cat(predictions), torch.cat(targets)
    if task.multilabel:
        scores = multilabel_f1_score(prediction.sigmoid(), target.long(), len(task.labels), average="none")
        return [_bars(task, scores), _worst_of_several(task, valid, prediction, target)]
    counts = multiclass_confusion_matrix(prediction.argmax(-1), target, len(task.labels))
    scores = multiclass_f1_score(prediction.argmax(-1), target, len(task.labels), average="none")
    confusion = {
        "kind": "confusion",
        "title": "What is taken for what",
        "text": "Each row holds the validation texts of one true label; the columns say what was predicted.",
        "labels": list(task.labels),
        "counts": counts.tolist(),
    }
    return [confusion, _bars(task, scores), _worst(task, valid, head, prediction, target)]


def _predictions(
    task: "Classify", model: nn.Module, head: AbstractHead, examples: Examples
) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(model.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(examples), BATCH_SIZE):
            batch = task.batch(examples, np.arange(start, min(start + BATCH_SIZE, len(examples)))).to(device)
            yield head(model(**batch.inputs)), batch.targets


def _bars(task: "Classify", scores: Tensor) -> dict[str, Any]:
    order = scores.argsort(descending=True).tolist()
    return {
        "kind": "bars",
        "title": "F1 by label",
        "text": "1 is perfect; a short bar is a label that is often missed, or often given wrongly.",
        "names": [task.labels[i] for i in order],
        "values": [float(scores[i]) for i in order],
        "x_label": "F1",
    }


def _worst(task: "Classify", valid: Examples, head: AbstractHead, prediction: Tensor, target: Tensor) -> dict[str, Any]:
    """Return the texts whose true label got the least probability among those with the wrong answer."""
    raw = valid.raw or []
    truth = prediction.log_softmax(-1).gather(-1, target[:, None]).squeeze(-1)[: len(raw)]
    guess = prediction.argmax(-1)[: len(raw)]
    wrong = (guess != target[: len(raw)]).nonzero().flatten()
    worst = wrong[truth[wrong].argsort()][:NUM_WORST].tolist()
    probability = head.decode(prediction, 1)[1].exp().squeeze(-1)
    rows = [
        [task.labels[int(target[i])], task.labels[int(guess[i])], f"{float(probability[i]):.0%}", raw[i]] for i in worst
    ]
    return {
        "kind": "examples",
        "title": "Worst mistakes",
        "text": "Validation texts where the network was surest of a wrong answer; many of one kind point at the data.",
        "columns": ["true", "predicted", "sure", "text"],
        "rows": rows,
    }


def _worst_of_several(task: "Classify", valid: Examples, prediction: Tensor, target: Tensor) -> dict[str, Any]:
    raw = valid.raw or []
    loss = nn.functional.binary_cross_entropy_with_logits(prediction, target, reduction="none").sum(-1)[: len(raw)]

    def names(row: Tensor) -> str:
        return ", ".join(task.labels[i] for i in row.nonzero().flatten().tolist()) or "(none)"

    rows = [[names(target[i]), names(prediction[i] > 0), raw[i]] for i in loss.argsort(descending=True)[:NUM_WORST]]
    return {
        "kind": "examples",
        "title": "Worst mistakes",
        "text": "Validation texts whose labels were the most surprising to the network.",
        "columns": ["true", "predicted", "text"],
        "rows": rows,
    }
