"""Several optimizers over different parameters as one."""

import collections
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.optim.saving import after_loading, before_loading, before_saving, saved


@final
class Combined(Optimizer):
    """Steps several optimizers together: one `step`, one `state_dict`, one list of groups for schedules.

    Each keeps its own parameters, rate and options. The groups are the very dictionaries that the parts read, so that
    what a schedule writes into them is what the parts use.

    Args:
        optimizers: at least one; no parameter in two of them.

    Raises:
        ValueError: there is no optimizer, or a parameter is in two of them.

    Example:
        >>> a, b = torch.ones(1), torch.ones(1)
        >>> a.grad, b.grad = torch.ones(1), torch.ones(1)
        >>> both = Combined([torch.optim.SGD([a], lr=0.1), torch.optim.SGD([b], lr=0.5)])
        >>> both.step()
        >>> a, b
        (tensor([0.9000]), tensor([0.5000]))

    Not for optimizers that must evaluate the loss several times themselves, such as L-BFGS: the closure is called
    once, before all of them.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        if not optimizers:
            raise ValueError("Combined(optimizers=...) must hold at least one optimizer; got none.")
        self.optimizers = tuple(optimizers)
        self._complete = False
        # PyTorch's constructor puts an empty state, which would make the parts forget theirs.
        memories = [optimizer.state for optimizer in optimizers]
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        for optimizer, memory in zip(optimizers, memories, strict=True):
            optimizer.state = memory
        self._complete = True

    @property
    def state(self) -> MutableMapping[Any, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the parts remember, by parameter; an empty mapping put here makes all of them forget."""
        return collections.ChainMap(*(optimizer.state for optimizer in self.optimizers))

    @state.setter
    def state(self, state: MutableMapping[Any, Any]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        for optimizer in self.optimizers:
            own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            kept = {parameter: memory for parameter, memory in state.items() if id(parameter) in own}
            optimizer.state = collections.defaultdict(dict, kept)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuse: no part would step a group that is added here.

        Raises:
            ValueError: always, once this object is built.
        """
        if self._complete:
            raise ValueError("Combined.add_param_group(...): add the group to one of the parts before combining them.")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor | float] | None = None) -> Any:
        """Evaluate the closure once, where there is one, and step every part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return state and groups in PyTorch's own layout, parameters numbered through all parts."""
        before_saving(self)
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        first = 0
        for optimizer in self.optimizers:
            part = optimizer.state_dict()
            state |= {first + index: memory for index, memory in part["state"].items()}
            for group in part["param_groups"]:
                groups.append({**group, "params": [first + index for index in group["params"]]})
            first += sum(len(group["params"]) for group in part["param_groups"])
        return saved(self, {"state": state, "param_groups": groups})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore every part from what `state_dict` returned.

        Raises:
            ValueError: the groups are not those of this optimizer.
        """
        state_dict = before_loading(self, state_dict)
        groups = list(state_dict["param_groups"])
        if [len(group["params"]) for group in groups] != [len(group["params"]) for group in self.param_groups]:
            raise ValueError("Combined.load_state_dict: the saved groups hold other numbers of parameters.")
        first = 0
        for optimizer in self.optimizers:
            own, groups = groups[: len(optimizer.param_groups)], groups[len(optimizer.param_groups) :]
            last = first + sum(len(group["params"]) for group in own)
            own = [{**group, "params": [index - first for index in group["params"]]} for group in own]
            state = {index - first: memory for index, memory in state_dict["state"].items() if first <= index < last}
            optimizer.load_state_dict({"state": state, "param_groups": own})
            first = last
        # Loading makes new dictionaries; schedules must go on writing into the ones in use.
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        after_loading(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy keep: the parts, which hold the state."""
        kept = {"optimizers": self.optimizers, "_complete": self._complete}
        return kept | {"defaults": self.defaults, "param_groups": self.param_groups}
