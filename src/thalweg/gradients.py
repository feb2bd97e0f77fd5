"""The gradient of a loss that is spread over processes: added up in messages that go while the backward pass goes on.

Which messages there are, and in which order, follows from the parameters alone, so that all processes send the same
whichever parameters their own batches use.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

import torch
from torch import Tensor

from thalweg import distributed
from thalweg.errors import InputError

MESSAGE: Final = 2**22  # bytes from which on a message of its own is worth it


@final
class Reduction:
    """Sums over processes of some numbers and of a gradient.

    A message begins as soon as all that belongs to it is there, and the messages before it have begun. Numbers and the
    gradients of the last parameters, which come first, are sent first.

    Args:
        parameters: of which the gradient is wanted.
        numbers: `[n]`, such as what the gradient is to be divided by.
        early: whether messages begin during the backward pass; if not, after it.
        size: bytes of a message; a larger tensor is sent by itself.

    Attributes:
        is_repeated: whether a gradient came in several parts, as where a module that is used twice is checkpointed: it
            must not be sent early.
    """

    def __init__(
        self, parameters: Sequence[Tensor], numbers: Tensor, *, early: bool = True, size: int = MESSAGE
    ) -> None:
        self.is_repeated = False
        self._numbers = numbers.detach()
        self._messages = _messages([self._numbers, *reversed(parameters)], size)
        self._place = {id(tensor): place for place, message in enumerate(self._messages) for tensor in message}
        self._parameters, self._early = parameters, early
        self._missing = [{*map(id, message)} - {id(self._numbers)} for message in self._messages]
        self._begun: list[tuple[Tensor, Callable[[], None]]] = []

    @contextlib.contextmanager
    def during(self) -> Iterator[None]:
        """See what comes in a block, which is the last backward pass."""
        handles = [one.register_post_accumulate_grad_hook(self._came) for one in self._parameters]
        try:
            self._begin()
            yield
        finally:
            for handle in handles:
                handle.remove()

    def finish(self) -> tuple[Tensor, list[Tensor]]:
        """Put the sums into the parameters' gradients; return those of the numbers, and the gradients in few tensors.

        A parameter without a gradient counts as one with zeros.
        """
        self._early, self._missing = True, [set[int]() for _ in self._messages]
        self._begin()
        numbers = self._numbers
        for (flat, wait), message in zip(self._begun, self._messages, strict=True):
            wait()
            for tensor, part in zip(message, flat.split([one.numel() for one in message]), strict=True):
                if tensor is self._numbers:
                    numbers = part.clone()
                else:
                    tensor.grad = part.view_as(tensor)
        return numbers, [flat for flat, _ in self._begun]

    def _came(self, parameter: Tensor) -> None:
        place = self._place[id(parameter)]
        if id(parameter) not in self._missing[place]:
            self.is_repeated = True
            if place < len(self._begun):
                raise InputError(
                    "A gradient came in two parts, and the first one had been sent to the other processes; checkpoint "
                    "modules that are used twice with use_reentrant=False."
                )
        self._missing[place].discard(id(parameter))
        self._begin()

    def _begin(self) -> None:
        """Begin the next messages, as far as what belongs to them is there."""
        while self._early and len(self._begun) < len(self._messages) and not self._missing[len(self._begun)]:
            parts = []
            for tensor in self._messages[len(self._begun)]:
                found = tensor if tensor is self._numbers else tensor.grad
                tensor.grad = None  # what is sent has its memory, or a copy
                parts.append(torch.zeros_like(tensor) if found is None else found)
            flat = parts[0].reshape(-1) if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts])
            self._begun.append((flat, distributed.begin_sum(flat)))


def _messages(tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """Return the tensors in their order, those of a message together: of one type and device, and not too large."""
    messages: list[list[Tensor]] = []
    total, kind = 0, None
    for tensor in tensors:
        num, own = tensor.numel() * tensor.element_size(), (tensor.dtype, tensor.device)
        if not messages or own != kind or total + num > size:
            messages.append([])
            total, kind = 0, own
        messages[-1].append(tensor)
        total += num
    return messages
