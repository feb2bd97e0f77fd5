"""Exact sums over the real tokens of an evaluation: loss, right answers, number of tokens."""

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor
from torchmetrics import MetricCollection, SumMetric
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax
from thalweg.tasks.base import AbstractMeter


@final
class TokenMeter(AbstractMeter):
    """Adds up the loss and the right answers over batches, in float64 and over all processes.

    The loss is the negative log-probability of the tokens as the head gives it, exact and without label smoothing, so
    that every family of heads is measured in the same unit. Without `use` predictions are taken for logits. `figures`
    makes metrics of the sums.
    """

    def __init__(self, figures: Callable[["TokenMeter"], dict[str, float]]) -> None:
        self._figures = figures
        # Not MeanMetric: it forgets its weights when it does not look for NaN, and looking waits for the device.
        sums = {name: SumMetric(nan_strategy="disable") for name in ("nats", "right", "count")}
        self._sums = MetricCollection(dict(sums), compute_groups=False).set_dtype(torch.float64)
        self._head: AbstractHead = Softmax(None, None)

    @override
    def use(self, head: AbstractHead) -> None:
        self._head = head

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        targets = batch.targets if batch.mask is None else batch.targets.masked_fill(~batch.mask, -100)
        real = targets != -100
        losses = -self._head.log_probability(prediction, targets)
        self._sums.to(prediction.device)
        self._sums["nats"].update(torch.where(real, losses.double(), 0.0))
        self._sums["right"].update((self._head.best_ids(prediction) == targets).double())
        self._sums["count"].update(real.double())

    @override
    def compute(self) -> dict[str, float]:
        return self._figures(self)

    def nats(self) -> float:
        """Return the mean loss of a token in nats."""
        return float(self._sums["nats"].compute() / self._sums["count"].compute())

    def accuracy(self) -> float:
        """Return the fraction of tokens that were the most probable one."""
        return float(self._sums["right"].compute() / self._sums["count"].compute())

    def perplexity(self) -> float:
        """Return e to the mean loss; infinite where that is beyond all numbers."""
        nats = self.nats()
        return math.exp(nats) if nats < 700.0 else math.inf
