"""The metrics of classification, on torchmetrics."""

from typing import final

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MultilabelExactMatch, MultilabelF1Score
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.tasks.base import AbstractMeter


@final
class SingleLabelMeter(AbstractMeter):
    """Accuracy and macro F1 over labels that exclude one another."""

    def __init__(self, num_labels: int) -> None:
        self._metrics = MetricCollection({
            "accuracy": MulticlassAccuracy(num_labels, average="micro", validate_args=False),
            "macro_f1": MulticlassF1Score(num_labels, average="macro", validate_args=False),
        })  # fmt: skip

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        self._metrics.to(prediction.device)
        self._metrics.update(prediction.argmax(-1), batch.targets)

    @override
    def compute(self) -> dict[str, float]:
        return {name: float(value) for name, value in self._metrics.compute().items()}


@final
class MultiLabelMeter(AbstractMeter):
    """Exact match, macro F1 and micro F1 over labels that may come together."""

    def __init__(self, num_labels: int) -> None:
        self._metrics = MetricCollection({
            "accuracy": MultilabelExactMatch(num_labels, validate_args=False),
            "macro_f1": MultilabelF1Score(num_labels, average="macro", validate_args=False),
            "micro_f1": MultilabelF1Score(num_labels, average="micro", validate_args=False),
        })  # fmt: skip

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        self._metrics.to(prediction.device)
        self._metrics.update((prediction > 0).to(torch.int64), batch.targets.to(torch.int64))

    @override
    def compute(self) -> dict[str, float]:
        return {name: float(value) for name, value in self._metrics.compute().items()}
