"""The metrics of tagging, on torchmetrics (spans: `thalweg.tasks.tag.spans`)."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.tasks.base import AbstractMeter
from thalweg.tasks.tag.spans import SpanScore, is_bio


@final
class TagMeter(AbstractMeter):
    """Accuracy and macro F1 over words; with BIO tags also precision, recall and F1 of spans.

    Args:
        tags: names of the tags in the order of their ids.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        self.num_tags = len(tags)
        self.spans = SpanScore(tags) if is_bio(tags) else None
        self._parts: list[tuple[Tensor, Tensor]] = []

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        guess, target, mask = prediction.argmax(-1), batch.targets, batch.mask
        assert mask is not None
        if self.spans is not None:
            self.spans.to(guess.device)
            self.spans.update(guess, target, mask)
        # Padding is marked and left out at the end: to leave it out here would mean to wait for the device.
        self._parts.append((guess.to(torch.int32).flatten(), target.masked_fill(~mask, -1).to(torch.int32).flatten()))

    @override
    def compute(self) -> dict[str, float]:
        guess, target = (torch.cat(parts).long() for parts in zip(*self._parts, strict=True))
        guess, target = guess[target >= 0], target[target >= 0]
        num = max(2, self.num_tags)
        metrics = {
            "accuracy": float(multiclass_accuracy(guess, target, num, average="micro", validate_args=False)),
            "macro_f1": float(multiclass_f1_score(guess, target, num, average="macro", validate_args=False)),
        }
        return metrics if self.spans is None else metrics | self.spans.compute()
