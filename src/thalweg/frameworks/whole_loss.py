"""A loss that is computed inside a model or a loop, as an objective: one number for each micro-batch."""

from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn
from typing_extensions import override

from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead


@final
class WholeLoss(nn.Module):
    """A model whose output is its loss, `[1]`, as `compute` gets it from model and inputs."""

    def __init__(self, model: nn.Module, compute: Callable[[nn.Module, dict[str, Any]], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._compute = _Shared(compute)

    @override
    def forward(self, **inputs: Any) -> Tensor:
        """Return the loss of a micro-batch."""
        return self._compute.function(self.model, inputs).reshape(1)


@final
class Share(AbstractHead):
    """The head of a loss that is one number already; the target is what its micro-batch counts."""

    @override
    def forward(self, hidden: Tensor) -> Tensor:
        """Return the number."""
        return hidden

    @override
    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the number, and the share as its count."""
        del mask, weights
        return prediction.sum(), targets.sum().to(prediction.dtype)

    @override
    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Refuse: the curvature in output space is zero, and so would be every step made of it."""
        raise InputError(_NO_GAUSS_NEWTON)

    @override
    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Refuse, as `curvature_product` does."""
        raise InputError(_NO_GAUSS_NEWTON)

    @override
    def decode(self, prediction: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Refuse: a loss answers nothing."""
        raise InputError("A loss that is computed inside the loop gives no answers; ask the model for its logits.")


@final
class _Shared:
    """A function that copies of a module have in common: it may belong to a whole training loop."""

    def __init__(self, function: Callable[[nn.Module, dict[str, Any]], Tensor]) -> None:
        self.function = function

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


_NO_GAUSS_NEWTON = (
    "The loss is not known to be one of the model's logits and labels, so that it has no Gauss-Newton matrix: say "
    "which loss it is by head=..., such as thalweg.Softmax(None, None); or use LBFGS, BFGS or NewtonCG(Hessian)."
)
