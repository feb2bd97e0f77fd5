"""Asking on a terminal: a sign before each line that is typed, and texts that appear as they are written."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from thalweg.cli.output import is_terminal, print_sign
from thalweg.data.files.arriving import arriving_lines
from thalweg.data.files.base import BadRow, Row

SIGN: Final = "> "
HINT: Final = "Type an input and Enter; an empty line or Ctrl-D ends."


def asked_lines(stdin: Any, say: Callable[[str], None]) -> Iterator[Row | BadRow | None]:
    """Yield the lines of standard input as they arrive; None says that nothing more is there yet.

    On a terminal a sign asks for each line, after the answer to the one before, and an empty line is the end.
    """
    rows = arriving_lines(stdin)
    if not stdin.isatty():
        yield from rows
        return
    say(HINT)
    print_sign(SIGN)
    for row in rows:
        if isinstance(row, Row) and not row.values[0]:
            return
        yield row
        if row is None:
            print_sign(SIGN)
    print_sign("\n")


def is_seen(stdin: Any, num_arguments: int) -> bool:
    """Whether somebody waits at a terminal for the answer to one input."""
    return is_terminal() and (num_arguments == 1 or (num_arguments == 0 and stdin.isatty()))
