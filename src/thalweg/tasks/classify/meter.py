"""How well labels are given: metrics of one label a text, or of several, and what their intervals are drawn from."""

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Samples, f1, of_sums, ratio, sums_by
from thalweg.report.calibration import calibration_error
from thalweg.tasks.base import AbstractMeter
from thalweg.tasks.by_class import averages, by_class, confusion_rows, counts_by_class, macro_f1
from thalweg.tasks.classify.calibration import confidence_bins
from thalweg.tasks.classify.decision import Decision


@final
class LabelMeter(AbstractMeter):
    """Accuracy, macro F1 and calibration of labels that exclude one another; exact match and F1 where they may not.

    A decision that is still to be chosen is crossed: each half of the texts is measured with the other half's choice.
    """

    def __init__(self, num_labels: int, decision: Decision, names: Sequence[str] = ()) -> None:
        self._names = names or [str(label) for label in range(num_labels)]
        self.multilabel = decision.multilabel
        self.num_labels = num_labels
        self._decision = decision
        self._predictions: list[Tensor] = []  # kept where the decision needs all of them
        self._guesses: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._confidence: list[Tensor] = []
        self._right: list[Tensor] = []

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        self._targets.append(batch.targets.to(torch.bool if self.multilabel else torch.int32))
        if not self.multilabel:
            confidence, best = prediction.softmax(-1).max(-1)
            self._confidence.append(confidence)
            self._right.append(best == batch.targets)
        if self._decision.is_open:
            self._predictions.append(prediction)
        else:
            self._guesses.append(self._kept(self._decision.given(prediction)))

    @override
    def join(self, everyones: Callable[[Tensor], Tensor]) -> None:
        for parts in (self._predictions, self._guesses, self._targets, self._confidence, self._right):
            if parts:
                parts[:] = [everyones(torch.cat(parts))]

    def _kept(self, guess: Tensor) -> Tensor:
        return guess.to(torch.bool if self.multilabel else torch.int32)

    def _joined(self) -> tuple[Tensor, Tensor]:
        """Return what all texts are given, and their targets."""
        targets = torch.cat(self._targets)
        if self._predictions:
            self._guesses = [self._kept(self._decision.crossed(torch.cat(self._predictions), targets))]
            self._predictions = []
        return torch.cat(self._guesses), targets

    @override
    def compute(self) -> dict[str, float]:
        guess, target = (part.cpu().numpy() for part in self._joined())
        counts = self._counts(guess, target)
        if self.multilabel:
            micro = f1(*(part.sum() for part in counts))
            found = {"accuracy": (guess == target).all(1).mean(), "macro_f1": f1(*counts).mean(), "micro_f1": micro}
            return {name: float(value) for name, value in found.items()}
        confidence, right = (torch.cat(parts).cpu() for parts in (self._confidence, self._right))
        bins = confidence_bins(confidence.double().numpy(), right.numpy())
        return {
            "accuracy": float((guess == target).mean()),
            "macro_f1": macro_f1(*counts),
            # Draws from few examples have a higher error than these, so that the bootstrap has no interval for it.
            "ece": calibration_error(bins["confidence"], bins["accuracy"], bins["counts"]) or 0.0,
        }

    @override
    def details(self) -> dict[str, Any]:
        """Return precision, recall and F1 of each label, their averages, and what was taken for what."""
        guess, target = (part.cpu().numpy() for part in self._joined())
        rows = by_class("label", self._names, *self._counts(guess, target))
        confused = {} if self.multilabel else {"confusion": confusion_rows(self._names, guess, target)}
        return {"labels": rows, "averages": averages(rows), **confused}

    def _counts(self, guess: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how often each label was given rightly, was given, and is true."""
        if self.multilabel:
            return (guess & target).sum(0), guess.sum(0), target.sum(0)
        return counts_by_class(guess, target, self.num_labels)

    @override
    def samples(self) -> Samples:
        guess, target = (part.cpu().numpy() for part in self._joined())
        return label_sets(guess, target) if self.multilabel else label_pairs(guess, target, self.num_labels)


def label_pairs(guess: np.ndarray, target: np.ndarray, num_labels: int) -> Samples:
    """Return the samples of one label an example, `[examples]` each; a unit is a pair of true and given label."""
    pairs, counts = np.unique(target.astype(np.int64) * num_labels + guess, return_counts=True)
    true, given = np.divmod(pairs, num_labels)
    right = true == given

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        hits = sums_by(weights * right, true, num_labels)
        both = sums_by(weights, true, num_labels) + sums_by(weights, given, num_labels)
        present = both > 0.0  # as in `macro_f1`, what neither is nor is given does not count
        macro = (2.0 * np.nan_to_num(ratio(hits, both))).sum(1) / present.sum(1)
        return {"accuracy": weights[:, right].sum(1) / weights.sum(1), "macro_f1": macro}

    most = int(np.bincount(target).max())
    shares = {"accuracy": (int(counts[right].sum()), len(target))}
    present, missing = len(np.union1d(true, given)), num_labels - len(np.unique(true))
    unseen = {"macro_f1": (present, num_labels, missing)} if missing else {}
    return Samples(counts, figures, shares, {"accuracy": most / len(target)}, right=right, unseen=unseen)


def label_sets(guess: np.ndarray, target: np.ndarray) -> Samples:
    """Return the samples of any number of labels an example, bool `[examples, labels]` each."""
    exact = (guess == target).all(1)
    sets, places = np.unique(np.packbits(target, axis=1), axis=0, return_inverse=True)
    most = int(np.bincount(places.ravel(), minlength=len(sets)).max())

    def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
        right, given, true = np.split(sums, 3, axis=1)
        micro = f1(right.sum(1), given.sum(1), true.sum(1))
        return {"macro_f1": f1(right, given, true).mean(1), "micro_f1": micro}

    missing = int((~target.any(0)).sum())

    return of_sums(
        np.concatenate([guess & target, guess, target], axis=1),
        figures,
        shares={"accuracy": (int(exact.sum()), len(exact))},
        baselines={"accuracy": most / len(exact)},
        unseen={"macro_f1": (target.shape[1], target.shape[1], missing)} if missing else {},
    )
