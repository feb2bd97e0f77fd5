"""How large a network may become that weights are put into: no larger than these, whatever its recipe says."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from thalweg.errors import InputError

FACTOR: Final = 8  # tensors are made for a network, and thrown away, that are no part of it
ROOM: Final = 2**22  # numbers, such as masks and tables of positions, that are no weights
TENSORS: Final = 100  # of a network, such as those that are tied

_SIZED: Final = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
_COUNTED: Final = (torch.arange, torch.eye, torch.linspace)


@final
class Room(TorchFunctionMode):
    """Refuses tensors for which weights have no numbers, before memory is taken, while a network is built in a `with`.

    Args:
        weights: those that the network will get.

    Raises:
        InputError: inside of the block.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._numbers = FACTOR * sum(tensor.numel() for tensor in weights.values()) + ROOM
        self._thread = threading.get_ident()
        self._tensors = FACTOR * len(weights) + TENSORS

    def __enter__(self) -> "Room":
        self._hook = register_module_parameter_registration_hook(self._registered)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hook.remove()
        super().__exit__(kind, error, traceback)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func in _SIZED:
            self._take(args[0] if args and isinstance(args[0], list | tuple) else args or kwargs.get("size", ()))
        elif func in _COUNTED:
            self._take([argument for argument in args if isinstance(argument, int)])
        return func(*args, **kwargs)

    def _take(self, sizes: Any) -> None:
        self._numbers -= math.prod(abs(size) for size in sizes if isinstance(size, int))
        if self._numbers < 0:
            raise self._too_large()

    def _registered(self, *_: object) -> None:
        self._tensors -= threading.get_ident() == self._thread  # others may build networks of their own meanwhile
        if self._tensors < 0:
            raise self._too_large()

    def _too_large(self) -> InputError:
        return InputError(
            "The network of the recipe is larger than its weights, so they are from another model; check that recipe "
            "and weights belong together."
        )
