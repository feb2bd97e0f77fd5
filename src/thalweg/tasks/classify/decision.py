"""The decision: which label, or labels, a prediction stands for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import numpy as np

from thalweg.errors import InputError
from thalweg.storage.forms import many, number, perhaps, record, truth, whole
from thalweg.tasks.classify import thresholds

if TYPE_CHECKING:
    from torch import Tensor

Scores = TypeVar("Scores", "Tensor", np.ndarray)
DECISION: Final = record(multilabel=truth(), rarer=whole(0, 1), limits=perhaps(many(number())), auto=truth())


@final
@dataclasses.dataclass(frozen=True)
class Decision:
    """How predictions become labels.

    Labels that may come together are each given above a threshold of their own. Of labels that exclude one another the
    most probable one is given; of two, the rarer one may have a threshold.

    Args:
        multilabel: whether a text may have several labels.
        rarer: of two labels that exclude one another, the id of the one whose probability a threshold is for.
        limits: log-odds above which a label is given: one for each label, or one for the rarer of two; None: not chosen
            (several labels), or none (the most probable label is given).
        auto: whether validation data choose the limits.
    """

    multilabel: bool
    rarer: int = 1
    limits: tuple[float, ...] | None = None
    auto: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the limits are still to be chosen."""
        return self.auto and self.limits is None

    def given(self, prediction: Scores) -> Scores:
        """Return the labels: ids `[texts]`, or bool `[texts, labels]`; open limits are taken to be 0 (0.5).

        Of scores in a tensor they are a tensor, of an array an array.
        """
        if self.multilabel:
            limits = (0.0,) if self.limits is None else self.limits
            if isinstance(prediction, np.ndarray):
                return prediction > np.array(limits, dtype=prediction.dtype)
            return prediction > prediction.new_tensor(limits)
        if self.limits is None:
            return prediction.argmax(-1)  # type: ignore[return-value]
        is_rarer = self._odds(prediction) > self.limits[0]
        return is_rarer * self.rarer + ~is_rarer * (1 - self.rarer)

    def crossed(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the labels by limits that the other half of the texts chose (see `thresholds.crossed`)."""
        if not self.auto:
            return self.given(prediction)
        import torch

        found = torch.from_numpy(thresholds.crossed(*self._table(prediction, target))).to(prediction.device)
        return found if self.multilabel else torch.where(found[:, 0], self.rarer, 1 - self.rarer)

    def chosen(self, prediction: Tensor, target: Tensor) -> Decision:
        """Return the decision with the limits that these texts choose; itself where there is nothing to choose."""
        if not self.auto:
            return self
        limits = tuple(thresholds.choose(*self._table(prediction, target)).tolist())
        return dataclasses.replace(self, limits=limits)

    def at(self, probability: float, labels: Sequence[str]) -> Decision:
        """Return the decision with one threshold for all labels, or for the rarer of two.

        An InputError tells of a probability outside (0, 1), or of more than two labels that exclude one another.
        """
        if not 0.0 < probability < 1.0:
            raise InputError(f"--threshold must lie between 0 and 1; got {probability!r}.")
        if not self.multilabel and len(labels) != 2:
            raise InputError(
                f"--threshold is for two labels, or for several labels a text; these {len(labels):,} labels exclude "
                "one another, so that the most probable one is given. Leave it out."
            )
        limit = thresholds.log_odds(probability)
        count = len(labels) if self.multilabel else 1
        return dataclasses.replace(self, limits=(limit,) * count, auto=False)

    def sentence(self, labels: Sequence[str]) -> str:
        """Return a sentence about limits that were chosen on validation data; nothing where none were."""
        if not self.auto or self.limits is None:
            return ""
        shown = thresholds.probabilities(np.array(self.limits))
        if not self.multilabel:
            return (
                f"The label {labels[self.rarer]!r} is given from a probability of {shown[0]:.2g} on, chosen for its F1 "
                "on the validation data; the figures are those of two halves, each with the threshold of the other."
            )
        return (
            f"Each label is given from a probability of its own on ({shown.min():.2g} to {shown.max():.2g}), chosen "
            "for its F1 on the validation data; the figures are those of two halves, each with the other's thresholds."
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a run's folder says."""
        limits = None if self.limits is None else list(self.limits)
        return {"multilabel": self.multilabel, "rarer": self.rarer, "limits": limits, "auto": self.auto}

    @classmethod
    def of_json(cls, saved: dict[str, Any], num_labels: int) -> Decision:
        """Return what `to_json` gave, of the form `DECISION`; a ValueError says that it is not for so many labels."""
        limits = None if saved["limits"] is None else tuple(saved["limits"])
        decision = cls(saved["multilabel"], saved["rarer"], limits, saved["auto"])
        if limits is not None and len(limits) != (num_labels if decision.multilabel else 1):
            raise ValueError(f"expected {num_labels} limits, got {len(limits)}")
        if not decision.multilabel and num_labels != 2 and (limits or decision.auto):
            raise ValueError(f"{num_labels} labels of which a text has one have no limit")
        return decision

    def _odds(self, prediction: Scores) -> Scores:
        """The log-odds of the rarer of two labels."""
        return prediction[..., self.rarer] - prediction[..., 1 - self.rarer]

    def _table(self, prediction: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds and targets as `[texts, labels]`; of two labels that exclude one another those of the rarer one."""
        if self.multilabel:
            return prediction.double().cpu().numpy(), target.cpu().numpy() > 0
        return self._odds(prediction).double().cpu().numpy()[:, None], (target.cpu().numpy() == self.rarer)[:, None]


def decision_of(option: str, labels: Sequence[str], counts: np.ndarray, *, multilabel: bool) -> Decision:
    """Return the decision that `--threshold` asks for: a probability, "auto", or "" for the usual one.

    Usual are thresholds that validation data choose where a text may have several labels, since at 0.5 rare labels are
    hardly ever given; and the most probable label where they exclude one another, since that is what accuracy, and
    everybody's expectation, is about.

    Args:
        option: what was asked for; an InputError tells where it does not fit the labels.
        labels: their names.
        counts: how many training texts each has; of two, the rarer one (or the second) gets the threshold.
        multilabel: whether a text may have several.
    """
    rarer = 0 if len(labels) == 2 and counts[0] < counts[1] else 1
    decision = Decision(multilabel, rarer, auto=multilabel)
    if not option:
        return decision
    if option != thresholds.AUTO:
        return decision.at(float(option), labels)
    decision.at(0.5, labels)  # refuses labels that have no threshold
    return dataclasses.replace(decision, auto=True)
