"""Exact sums over the real tokens of an evaluation: loss, right answers, number of tokens."""

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection, SumMetric

from thalweg.batch import Batch


@final
class TokenSums:
    """Adds up the loss and the right answers over batches, in float64 and over all processes.

    The loss is that of the tokens themselves, without label smoothing. It is taken from logits.

    Example:
        >>> sums = TokenSums()
        >>> sums.update(torch.zeros(1, 2, 4), Batch({}, torch.tensor([[0, 3]]), torch.tensor([[True, False]])))
        >>> round(sums.perplexity(), 4), sums.accuracy()
        (4.0, 1.0)
    """

    def __init__(self) -> None:
        # Not MeanMetric: it forgets its weights when it does not look for NaN, and looking waits for the device.
        sums = {name: SumMetric(nan_strategy="disable") for name in ("nats", "right", "count")}
        self._sums = MetricCollection(dict(sums), compute_groups=False).set_dtype(torch.float64)

    def update(self, prediction: Tensor, batch: Batch) -> None:
        """Take one batch: logits `[batch, time, vocabulary]` and its targets `[batch, time]`."""
        targets = batch.targets if batch.mask is None else batch.targets.masked_fill(~batch.mask, -100)
        losses = F.cross_entropy(prediction.float().flatten(0, -2), targets.flatten(), reduction="none")
        self._sums.to(prediction.device)
        self._sums["nats"].update(losses.double())
        self._sums["right"].update((prediction.argmax(-1) == targets).double())
        self._sums["count"].update((targets != -100).double())

    def nats(self) -> float:
        """Return the mean loss of a token in nats."""
        return float(self._sums["nats"].compute() / self._sums["count"].compute())

    def accuracy(self) -> float:
        """Return the share of tokens that were the most probable one."""
        return float(self._sums["right"].compute() / self._sums["count"].compute())

    def perplexity(self) -> float:
        """Return e to the mean loss; infinite where that is beyond all numbers."""
        nats = self.nats()
        return math.exp(nats) if nats < 700.0 else math.inf
