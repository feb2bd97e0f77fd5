"""Calls of tokenizers from elsewhere, whose files may be of any make: what they raise is told in a sentence."""

from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def guarded(call: Callable[[], _T], what: str) -> _T:
    """Return what a call of the library gives; what it raises, panics of its own among them, is a ValueError."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        raise ValueError(f"the tokenizer cannot {what}: {str(error)[:200]}") from None


def whole(text: str) -> str:
    r"""Return a text in which half a surrogate pair is a question mark.

    Example:
        >>> whole("a\ud800")
        'a?'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
