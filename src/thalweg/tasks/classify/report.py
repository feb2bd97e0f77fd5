"""What the report shows about a classifier: confusion, F1 by label, the worst mistakes."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from thalweg.certificates.new_texts.resampling import f1
from thalweg.tasks.by_class import confusion_counts, counts_by_class
from thalweg.tasks.classify.calibration import confidence_bins
from thalweg.tasks.sections import confusion, f1_bars

NUM_WORST = 20
WEAKNESS = "label that is often missed, or often given wrongly"


def single_label_sections(
    labels: Sequence[str], prediction: Tensor, guess: Tensor, target: Tensor, raw: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the sections for labels that exclude one another.

    The prediction holds logits `[texts, labels]`, guess and target ids `[texts]`, `raw` the texts or none of them.
    """
    answers = guess.numpy(), target.numpy(), len(labels)
    counts, scores = confusion_counts(*answers), f1(*counts_by_class(*answers))
    return [
        confusion("texts of one true label", labels, counts.tolist()),
        f1_bars("label", WEAKNESS, labels, scores.tolist()),
        _reliability(prediction, target),
        _worst(labels, prediction, guess, target, raw),
    ]


def several_labels_sections(
    labels: Sequence[str], prediction: Tensor, guess: Tensor, target: Tensor, raw: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the sections for labels that may come together; guess and target hold 0 and 1, `[texts, labels]`."""
    given, true = guess.numpy() > 0, target.numpy() > 0
    scores = f1((given & true).sum(0), given.sum(0), true.sum(0))
    worst = _worst_of_several(labels, prediction, guess, target, raw)
    return [f1_bars("label", WEAKNESS, labels, scores.tolist()), worst]


def _reliability(prediction: Tensor, target: Tensor) -> dict[str, Any]:
    """Return how often the most probable label is right, by its probability."""
    most = prediction.double().softmax(-1).max(-1)
    return {
        "kind": "reliability",
        "title": "Is the confidence right?",
        "text": "Validation texts by the probability of the label they were given, and the fraction of them that is "
        "right, with its 95 % interval. On the dashed line a confidence of 80 % is right in 80 % of the cases; below "
        "it the network is too sure of itself, above it too cautious.",
        **confidence_bins(most.values.numpy(), (most.indices == target).numpy()),
    }


def _worst(
    labels: Sequence[str], prediction: Tensor, guess: Tensor, target: Tensor, raw: Sequence[str]
) -> dict[str, Any]:
    """Return the texts whose true label got the least probability among those with the wrong answer."""
    truth = prediction.log_softmax(-1).gather(-1, target[:, None]).squeeze(-1)[: len(raw)]
    guess = guess[: len(raw)]
    wrong = (guess != target[: len(raw)]).nonzero().flatten()
    worst = wrong[truth[wrong].argsort()][:NUM_WORST].tolist()
    probability = prediction[: len(raw)].softmax(-1).gather(-1, guess[:, None]).squeeze(-1)
    rows = [[labels[int(target[i])], labels[int(guess[i])], f"{float(probability[i]):.0%}", raw[i]] for i in worst]
    return {
        "kind": "examples",
        "title": "Worst mistakes",
        "text": "Validation texts where the network was most confident of a wrong answer; clusters of similar errors "
        "usually come from mislabeled or rare data.",
        "columns": ["true", "predicted", "confidence", "text"],
        "rows": rows,
    }


def _worst_of_several(
    labels: Sequence[str], prediction: Tensor, guess: Tensor, target: Tensor, raw: Sequence[str]
) -> dict[str, Any]:
    loss = nn.functional.binary_cross_entropy_with_logits(prediction, target, reduction="none").sum(-1)[: len(raw)]

    def names(row: Tensor) -> str:
        return ", ".join(str(labels[i]) for i in row.nonzero().flatten().tolist()) or "(none)"

    order = loss.argsort(descending=True)[:NUM_WORST].tolist()
    rows = [[names(target[i]), names(guess[i]), raw[i]] for i in order]
    return {
        "kind": "examples",
        "title": "Worst mistakes",
        "text": "Validation texts whose labels were the most surprising to the network.",
        "columns": ["true", "predicted", "text"],
        "rows": rows,
    }
