"""What collects predictions and turns them into metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thalweg.certificates.new_texts.resampling import Samples

if TYPE_CHECKING:
    from torch import Tensor

    from thalweg.batch import Batch
    from thalweg.heads.base import AbstractHead


class AbstractMeter(ABC):
    """Collects predictions batch by batch and turns them into metrics."""

    def use(self, head: AbstractHead) -> None:
        """Say which head the predictions come from, before the first of them; a meter that needs no head ignores it."""
        del head

    @abstractmethod
    def update(self, prediction: Tensor, batch: Batch) -> None:
        """Take one batch's predictions; must not wait for the device."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the metrics over all batches so far, plain numbers by name."""

    def join(self, everyones: Callable[[Tensor], Tensor]) -> None:
        """Take in what other processes have collected; a meter without this method sees all batches on each of them.

        Args:
            everyones: from a row for each example of one's own batches, in their order, `[n, ...]`, to such rows for
                the examples of all, in the order in which one process would have them.
        """
        del everyones
        raise NotImplementedError

    def samples(self) -> Samples | None:
        """Return what was kept of each example, for intervals of the metrics; None: nothing was."""
        return None

    def details(self) -> dict[str, Any]:
        """Return more figures than the metrics as plain data, such as those of each label (see `by_class`)."""
        return {}
