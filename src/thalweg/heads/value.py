"""A loss that is one number already, computed in a function, a model or somebody's training loop."""

from typing import final

from torch import Tensor
from typing_extensions import override

from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead


@final
class Value(AbstractHead):
    """The head of a number: there is nothing to compare, and no Gauss-Newton matrix. Its target is what it counts.

    Args:
        no_gauss_newton: says why there is none, and what to do.
        averages: whether numbers of several micro-batches are averaged, each by its count, or added.
    """

    def __init__(self, no_gauss_newton: str, *, averages: bool) -> None:
        super().__init__()
        self.averages = averages
        self._no_gauss_newton = no_gauss_newton

    @override
    def forward(self, hidden: Tensor) -> Tensor:
        """Return the number as a prediction `[1, 1]`."""
        return hidden.reshape(1, 1)

    @override
    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the number, and what it counts."""
        del mask, weights
        return prediction.sum(), targets.sum().to(prediction.dtype)

    @override
    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Refuse: the curvature in output space is zero, and so would be every step made of it."""
        raise InputError(self._no_gauss_newton)

    @override
    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Refuse, as `curvature_product` does."""
        raise InputError(self._no_gauss_newton)

    @override
    def decode(self, prediction: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Refuse: a loss answers nothing."""
        raise InputError("A loss that is one number gives no answers; ask for what it is computed from.")
