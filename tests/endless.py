"""A stream that never ends."""

import io
from typing import final

from typing_extensions import override


@final
class Endless(io.RawIOBase):
    """Gives first bytes, and then others again and again."""

    def __init__(self, first: bytes, then: bytes) -> None:
        self._first, self._then = first, then

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        given = self._first or self._then * (1 + len(buffer) // len(self._then))
        given, self._first = given[: len(buffer)], b""
        buffer[: len(given)] = given
        return len(given)


def endless(first: bytes, then: bytes) -> io.BufferedReader:
    """Return it as standard input is."""
    return io.BufferedReader(Endless(first, then))
