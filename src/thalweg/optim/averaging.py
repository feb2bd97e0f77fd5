"""An optimizer around another one that keeps an average of the weights, which is what is evaluated and saved."""

import abc
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.optim.base import ReportsStatus, name_of
from thalweg.optim.saving import after_loading, before_loading, before_saving, saved

PREFIX = "averaging_"  # of what is kept beside the inner optimizer's own state
HELD = "held"  # the weights that training goes on from, while the parameters hold the average


class AbstractAveraging(Optimizer):
    """Steps another optimizer and keeps an average of the weights, which `averaged` puts into the parameters.

    While training, the parameters hold the weights that gradients are taken at. Everything that looks at the result
    (evaluation, saving the model) happens inside the block, after which the parameters are what they were before it, to
    the last bit. A step inside the block is refused, so the two cannot be mixed up. The groups are the inner
    optimizer's own dictionaries, so schedules, `add_param_group` and per-group options reach it; `state_dict` has both
    states in PyTorch's layout, also when it is taken inside the block.

    A class of this kind writes `_advance` and `_average`.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if isinstance(optimizer, ReportsStatus | torch.optim.LBFGS | AbstractAveraging):
            raise ValueError(
                f"{type(self).__name__}(optimizer) needs an optimizer that makes one step from one gradient, such as "
                f"AdamW, SGD, SOAP or Muon; got {name_of(optimizer)}, which "
                + (
                    "averages already."
                    if isinstance(optimizer, AbstractAveraging)
                    else "evaluates the loss itself and remembers where it was evaluated."
                )
            )
        for group in optimizer.param_groups:
            if len({id(parameter) for parameter in group["params"]}) < len(group["params"]):
                raise ValueError(
                    f"{type(self).__name__}(optimizer): a group holds a parameter twice, as tied weights are listed by "
                    "two modules; give each once."
                )
        self.optimizer = optimizer
        self._complete = False
        super().__init__(optimizer.param_groups, {})
        self._complete = True
        self.defaults = optimizer.defaults
        self.param_groups = optimizer.param_groups
        self._is_averaged = False

    @abc.abstractmethod
    def _advance(self) -> None:
        """Take a step from the gradients that are there, and take it into the average."""

    @abc.abstractmethod
    def _average(self, parameter: Tensor, memory: dict[str, Any]) -> Tensor:
        """Return the average of a parameter, which holds the weights that gradients are taken at."""

    @property
    def is_averaged(self) -> bool:
        """Whether the parameters hold the average at present."""
        return self._is_averaged

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Return a block in which the parameters hold the average: evaluate and save the model inside.

        Afterwards they are, to the last bit, what they were before, whatever was written into them in between. Blocks
        may be nested.
        """
        outer = self._is_averaged
        self.eval()
        try:
            yield
        finally:
            if not outer:
                self.train()

    @torch.no_grad()
    def eval(self) -> None:
        """Put the average into the parameters until `train()`: for Hugging Face's Trainer, which calls both."""
        if self._is_averaged:
            return
        for parameter, memory in self._remembered():
            memory[HELD] = parameter.detach().clone()
            parameter.copy_(self._average(parameter, memory))
        self._is_averaged = True

    @torch.no_grad()
    def train(self) -> None:
        """Put the weights back that training goes on from; nothing happens where they are there."""
        if not self._is_averaged:
            return
        for parameter, memory in self._remembered():
            parameter.copy_(memory.pop(HELD))
        self._is_averaged = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor | float] | None = None) -> Any:
        """Evaluate the closure, where there is one, and take a step.

        Raises:
            ValueError: the parameters hold the average.
        """
        if self._is_averaged:
            raise ValueError(
                f"{type(self).__name__}.step(): the parameters hold the average, and training goes on from other "
                "weights; step after the `with optimizer.averaged():` block, or call optimizer.train() first."
            )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._advance()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer."""
        if not self._complete:
            super().add_param_group(param_group)
            return
        self.optimizer.add_param_group(param_group)
        self.param_groups = self.optimizer.param_groups

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the inner optimizer and of the average in PyTorch's layout."""
        before_saving(self)
        inner = self.optimizer.state_dict()
        state = {place: dict(memory) for place, memory in inner["state"].items()}
        for place, parameter in enumerate(self._every()):
            own = self.state.get(parameter, {})
            if own:
                state.setdefault(place, {}).update({PREFIX + key: value for key, value in own.items()})
        return saved(self, {**inner, "state": state})

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, with parameters that are what they were then."""
        state_dict = before_loading(self, state_dict)
        inner: dict[Any, Any] = {}
        own: dict[Any, dict[str, Any]] = {}
        for place, memory in state_dict["state"].items():
            own[place] = {key.removeprefix(PREFIX): value for key, value in memory.items() if key.startswith(PREFIX)}
            rest = {key: value for key, value in memory.items() if not key.startswith(PREFIX)}
            if rest:
                inner[place] = rest
        self.state.clear()
        for place, parameter in enumerate(self._every()):
            for key, value in own.get(place, {}).items():
                dtype = parameter.dtype if key == HELD else wide(parameter.dtype)
                self.state[parameter][key] = value.to(parameter.device, dtype, copy=True)
        self._is_averaged = any(HELD in memory for memory in self.state.values())
        with self._inside():
            self.optimizer.load_state_dict({**state_dict, "state": inner})
        self.param_groups = self.optimizer.param_groups
        after_loading(self)

    def __getstate__(self) -> dict[str, Any]:
        own = {key: value for key, value in vars(self).items() if not key.startswith(("_optimizer_", "_zero_grad_"))}
        return {**super().__getstate__(), **own}

    def _inside(self) -> contextlib.AbstractContextManager[None]:
        """Return a block in which the parameters are as the inner optimizer knows them."""
        return contextlib.nullcontext()

    def _every(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _remembered(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        for parameter in self._every():
            if parameter in self.state:
                yield parameter, self.state[parameter]


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type that an average is kept in: at least single precision."""
    return torch.promote_types(dtype, torch.float32)
