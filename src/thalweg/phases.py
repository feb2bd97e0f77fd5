"""Long phases of work beside the steps of a training, told to whoever shows how far they are."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Show = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is of it."""

_show: ContextVar[Show | None] = ContextVar("show", default=None)


@contextlib.contextmanager
def shown(show: Show) -> Iterator[None]:
    """Have the phases of a block told to `show`.

    Example:
        >>> with shown(lambda what, done, total: print(what, done, "of", total)):
        ...     for text in steps_of("translating", ["a", "b"], len):
        ...         pass
        translating 0 of 2
        translating 1 of 2
        translating 2 of 2
    """
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)


def steps_of(what: str, parts: Sequence[T], size: Callable[[T], int]) -> Iterator[T]:
    """Yield the parts of a phase, and tell before the first and after each how much is done.

    Where the caller leaves early, the phase is told to be over.
    """
    show, sizes = _show.get(), [size(part) for part in parts]
    if show is None:
        yield from parts
        return
    done, total = 0, sum(sizes)
    try:
        for part, more in zip(parts, sizes, strict=True):
            show(what, done, total)
            yield part
            done += more
    finally:
        show(what, total, total)
