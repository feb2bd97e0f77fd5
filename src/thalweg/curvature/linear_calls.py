"""What goes into linear layers and comes out: what their parameters' gradients, example by example, are made of."""

import contextlib
from collections.abc import Collection, Iterator
from typing import NamedTuple, final

from torch import Tensor, nn

from thalweg.objective import Objective


@final
class LinearCall(NamedTuple):
    """One call of a linear layer: its input without a graph, and its output with one."""

    layer: nn.Linear
    input: Tensor
    output: Tensor


@contextlib.contextmanager
def linear_calls(objective: Objective, wanted: Collection[int]) -> Iterator[list[LinearCall]]:
    """Note the calls of every linear layer of model and head, for a while.

    Args:
        objective: the function.
        wanted: ids of parameters; layers that have none of them are left out.
    """
    calls: list[LinearCall] = []

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        if output.requires_grad:
            calls.append(LinearCall(module, args[0].detach(), output))

    modules = {m for part in (objective.model, objective.head) for m in part.modules() if type(m) is nn.Linear}
    hooks = [
        m.register_forward_hook(note)
        for m in modules
        if id(m.weight) in wanted or (m.bias is not None and id(m.bias) in wanted)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
