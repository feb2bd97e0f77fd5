"""Exact sums over the real tokens of an evaluation: loss, right answers, number of tokens."""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Samples, of_sums
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax
from thalweg.tasks.base import AbstractMeter


@final
class TokenMeter(AbstractMeter):
    """Adds up the loss and the right answers over batches, in float64 and over all processes.

    The loss is the negative log-probability of the tokens as the head gives it, exact and without label smoothing, so
    that every family of heads is measured in the same unit. Without `use` predictions are taken for logits.

    Args:
        figures: mean loss of a token in nats, and fraction of tokens that were the most probable one -> the metrics.
        unit: what one row of a batch is, in the plural.
    """

    def __init__(self, figures: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]], unit: str) -> None:
        self._figures = figures
        self._unit = unit
        self._rows: list[Tensor] = []  # of each row of a batch: nats, right answers, tokens
        self._head: AbstractHead = Softmax(None, None)

    @override
    def use(self, head: AbstractHead) -> None:
        self._head = head

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        targets = batch.targets if batch.mask is None else batch.targets.masked_fill(~batch.mask, -100)
        real = targets != -100
        losses = -self._head.log_probability(prediction, targets)
        right = self._head.best_ids(prediction) == targets
        each = torch.where(real, losses.double(), 0.0), right.double(), real.double()
        self._rows.append(torch.stack([values.flatten(1).sum(1) for values in each], 1))

    @override
    def join(self, everyones: Callable[[Tensor], Tensor]) -> None:
        self._rows = [everyones(torch.cat(self._rows))]

    @override
    def compute(self) -> dict[str, float]:
        sums = torch.cat(self._rows).sum(0, keepdim=True).cpu().numpy()
        return {name: float(value[0]) for name, value in self._of_sums(sums).items()}

    @override
    def samples(self) -> Samples:
        return of_sums(torch.cat(self._rows).cpu().numpy(), self._of_sums, unit=self._unit)

    def _of_sums(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        nats, right, count = sums.T
        return self._figures(nats / count, right / count)


def perplexity(nats: np.ndarray) -> np.ndarray:
    """Return e to the mean loss; infinite where that is beyond all numbers."""
    with np.errstate(over="ignore"):
        return np.exp(nats)
