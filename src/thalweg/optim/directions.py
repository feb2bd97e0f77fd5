"""Directions without curvature: the gradient, and the step of any PyTorch optimizer."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from thalweg import vectors
from thalweg.optim.base import AbstractDirection, Groups, Point, Requires, SearchDirection, State


@final
@dataclasses.dataclass(frozen=True)
class Gradient(AbstractDirection):
    """Steepest descent: against the gradient, `d = -g`.

    Example:
        >>> from thalweg.optim.descent import Descent
        >>> from thalweg.optim.line_search import Fixed
        >>> w = torch.tensor([2.0], requires_grad=True)
        >>> optimizer = Descent([w], Gradient(), Fixed(0.25))
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (w ** 2).sum()
        ...     loss.backward()
        ...     return loss
        >>> optimizer.step(closure).item(), w.item()
        (4.0, 1.0)

    Not where the curvature differs much between directions: the number of steps grows with their ratio.
    """

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        return SearchDirection(-point.clipped, well_scaled=False)


@final
class Update(AbstractDirection):
    """The step of any PyTorch optimizer as a direction, so that line searches and clipping compose with it.

    The inner optimizer works on `Descent`'s own parameter groups, so per-group options, schedules and
    `add_param_group` act on it. Step 1 along the direction ends exactly where the inner optimizer would have gone; with
    `Fixed(1)` both are the same to the last bit.

    Args:
        constructor: an optimizer's class, or a function called like one: `(groups, **options)`.
        **options: its further arguments, such as `lr` and `weight_decay`.

    Raises:
        ValueError: for an optimizer that evaluates the loss itself, as `torch.optim.LBFGS` does.

    Example:
        >>> from thalweg.optim.descent import Descent
        >>> from thalweg.optim.line_search import Fixed
        >>> w = torch.ones(1, requires_grad=True)
        >>> optimizer = Descent([w], Update(torch.optim.AdamW, lr=0.1, weight_decay=0.0), Fixed(1))
        >>> w.grad = torch.tensor([3.0])
        >>> optimizer.step()
        >>> w.detach(), optimizer.param_groups[0]["lr"]
        (tensor([0.9000]), 0.1)

    Parameters without `requires_grad` stay where they are, whatever gradient is left on them. With a line search a copy
    of the parameters is kept; without one the inner optimizer steps in place.
    """

    requires: ClassVar[Requires] = Requires.GRADIENT
    has_model: ClassVar[bool] = False
    uses_rate: ClassVar[bool] = True
    moves_itself: ClassVar[bool] = True

    def __init__(self, constructor: Callable[..., Optimizer], **options: Any) -> None:
        self.constructor = constructor
        self.options = options
        # An optimizer over nothing much tells the options that its groups have.
        example = constructor([nn.Parameter(torch.zeros(1, 1))], **options)
        if isinstance(example, torch.optim.LBFGS):
            raise ValueError(
                "Update(constructor, ...) needs an optimizer that makes one step from one gradient, and "
                "torch.optim.LBFGS evaluates the loss itself; use thalweg.optim.lbfgs.LBFGS."
            )
        self._defaults = {key: value for key, value in example.param_groups[0].items() if key != "params"}

    @override
    def defaults(self) -> dict[str, Any]:
        return copy.deepcopy(self._defaults)

    @override
    def start(self, groups: Groups) -> State:
        return {"optimizer": self.constructor([{**group} for group in groups], **self.options)}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        before = vectors.clone(point.parameters)
        self.move(point.groups, state)
        endpoint = vectors.clone(point.parameters)
        vectors.copy_(point.parameters, before)
        return SearchDirection(vectors.flatten(torch._foreach_sub(endpoint, before)), endpoint=endpoint)

    @override
    def move(self, groups: Groups, state: State) -> None:
        optimizer: Optimizer = state["optimizer"]
        optimizer.param_groups = groups
        # What was frozen with a gradient on it would move with most optimizers.
        left = [p for group in groups for p in group["params"] if p.grad is not None and not p.requires_grad]
        gradients = [parameter.grad for parameter in left]
        for parameter in left:
            parameter.grad = None
        # `Descent.step` runs in PyTorch's frame of profiler and hooks already; a second one costs a tenth of a step.
        step = type(optimizer).step
        has_hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
        (step if has_hooks else getattr(step, "__wrapped__", step))(optimizer)
        for parameter, gradient in zip(left, gradients, strict=True):
            parameter.grad = gradient

    @override
    def resize(self, state: State, groups: Groups) -> State:
        return state

    @override
    def pack(self, state: State) -> State:
        return {"optimizer": state["optimizer"].state_dict()["state"]}

    @override
    def unpack(self, packed: State, groups: Groups) -> State:
        state = self.start(groups)
        own = state["optimizer"].state_dict()
        state["optimizer"].load_state_dict({**own, "state": packed["optimizer"]})
        return state
