"""A loss that is computed inside a model or a loop, as an objective: one number for each micro-batch."""

from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn
from typing_extensions import override


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
class _Shared:
    """A function that copies of a module have in common: it may belong to a whole training loop."""

    def __init__(self, function: Callable[[nn.Module, dict[str, Any]], Tensor]) -> None:
        self.function = function

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


NO_GAUSS_NEWTON = (
    "The loss is not known to be one of the model's logits and labels, so that it has no Gauss-Newton matrix: say "
    "which loss it is by head=..., such as thalweg.Softmax(None, None); or use LBFGS, BFGS or NewtonCG(Hessian)."
)
