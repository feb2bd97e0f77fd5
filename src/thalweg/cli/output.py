"""The standard streams: answers and JSON go to standard output, all else to standard error; nothing else writes there.

What is for people shows the characters that steer a terminal as symbols (`thalweg.report.text.visible`), wherever it
goes. JSON escapes them. Answers and CSV keep their bytes in a pipe or a file, and are for people on a terminal.
"""

import contextlib
import csv
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TextIO, final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from typing_extensions import override

from thalweg.report.text import STEERING, one_line, visible

INPUT: Final = "standard input"  # names of files in what the system says of them
OUTPUT: Final = "standard output"
MIN_COLUMNS: Final = 20  # a narrower table is read by nobody
MAX_SENTENCE: Final = 2000  # characters: what a sentence cites may be as long as a file

Say = Callable[[str], None]


@final
class Terminal(Console):
    """A console on which text from files, names and errors cannot move the cursor, change colors or the title.

    Args:
        stderr: whether it is standard error.
        width: of tables, where it is no terminal.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)
        if width is not None and not self.is_terminal:
            self.width = width
        elif self.width < MIN_COLUMNS:
            self.width = MIN_COLUMNS

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:  # a link would be an escape sequence that holds what somebody else has written
                style = None if segment.style is None else segment.style + Style(link="")
                yield Segment(visible(segment.text.expandtabs()), style)

    @override
    def on_broken_pipe(self) -> None:
        raise  # what rich is handling; how a command ends is told in one place

    def say(self, sentence: str | Text, style: str = "") -> None:
        """Print a sentence, whose line ends where the terminal's do."""
        if isinstance(sentence, str):
            sentence = cell(sentence, MAX_SENTENCE, style)
        self.print(sentence, soft_wrap=True)


def speaker(console: Terminal, quiet: bool = False) -> Say:
    """Return what says a sentence on a console, or nothing."""
    return (lambda sentence: None) if quiet else console.say  # noqa: ARG005


def cell(text: object, width: int = 200, style: str = "") -> Text:
    """Return a cell of a table: nothing in it is interpreted, and it has one line of at most so many characters."""
    return Text(one_line(text, width), style)


def print_json(value: Any) -> None:
    """Print one JSON object as a line on standard output."""
    _print(f"{_as_json(value)}\n")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines for people on standard output."""
    _print("".join(f"{visible(line)}\n" for line in lines))


def print_answers(lines: Iterable[str]) -> None:
    """Print lines on standard output that may be for a program."""
    _print("".join(f"{line}\n" for line in lines))


def print_pieces(pieces: Iterable[str]) -> None:
    """Print a text for people on standard output, piece by piece as it comes, and end its line."""
    for piece in pieces:
        _print(visible(piece))
    _print("\n")


def print_sign(text: str) -> None:
    """Print on standard error what asks somebody at a terminal to type."""
    sys.stderr.write(text)
    sys.stderr.flush()


def is_terminal() -> bool:
    """Whether somebody sees standard output at once."""
    return sys.stdout.isatty()


def prints_to_errors() -> contextlib.AbstractContextManager[object]:
    """Return a context in which what others print on standard output goes to standard error."""
    return contextlib.redirect_stdout(sys.stderr)


def flush() -> None:
    """Write what is buffered for standard output."""
    sys.stdout.flush()


def _print(text: str) -> None:
    sys.stdout.write(text)
    flush()


@final
class CsvTable:
    """A table that is printed as CSV on standard output, row after row; its header comes first.

    Lists and objects are written as JSON, null as an empty cell, numbers with all their digits.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._writer.writerow(self._columns)

    def print_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Print rows; what is in none of the columns is left out."""
        self._writer.writerows([_cell(row.get(name)) for name in self._columns] for row in rows)
        flush()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return _as_json(value) if isinstance(value, list | tuple | dict) else value


def _as_json(value: Any) -> str:
    """Return JSON on one line in which what steers a terminal, and what its encoding lacks, is escaped."""
    is_ascii = not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=is_ascii, allow_nan=False)
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@contextlib.contextmanager
def standard_streams() -> Iterator[Terminal]:
    """Stand in for both streams, so that nothing steers a terminal, whoever prints it; give what complaints go to.

    What standard error does not take is dropped: no work ends because it cannot be told. What standard output does not
    take raises an OSError with its name.
    """
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            if getattr(sys, name) is None:
                _stand_in(number)
        if sys.stdin is None:
            stack.enter_context(_replaced("stdin", io.TextIOWrapper(io.BufferedReader(_ClosedInput()))))
        out: Any = sys.stdout or _ClosedOutput()
        errors = sys.stderr or stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stack.enter_context(_replaced("stdout", _Stream(out, is_needed=True)))
        stack.enter_context(_replaced("stderr", _Stream(errors, is_needed=False)))
        yield Terminal(stderr=True)


@contextlib.contextmanager
def _replaced(name: str, stream: Any) -> Iterator[None]:
    before = getattr(sys, name)
    setattr(sys, name, stream)
    try:
        yield
    finally:
        setattr(sys, name, before)


def _stand_in(number: int) -> None:
    """Take the number of a stream that is closed, so that no file gets it and takes what is for the stream."""
    try:
        os.fstat(number)
    except OSError:
        if (got := os.open(os.devnull, os.O_RDWR)) != number:
            os.close(got)


@final
class _ClosedInput(io.RawIOBase):
    """Standard input that was closed before this program began."""

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        raise OSError(errno.EBADF, "closed", INPUT)


@final
class _ClosedOutput(io.TextIOBase):
    """Standard output that was closed before this program began."""

    @override
    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "closed", OUTPUT)


@final
class _Stream:
    """A standard stream as every print in this process sees it; rich, whose text is shown already, sees `Sink`."""

    def __init__(self, stream: TextIO, *, is_needed: bool) -> None:
        self.rich_proxied_file = _Sink(stream, is_needed=is_needed)
        self._is_for_people = not is_needed or stream.isatty()

    def write(self, text: str) -> int:
        """Write a text; a return of the carriage before it, as bars of progress have, stays one."""
        if self._is_for_people:
            text = f"\r{visible(text[1:])}" if text.startswith("\r") and text[1:2] != "\n" else visible(text)
        return self.rich_proxied_file.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@final
class _Sink:
    """A stream whose encoding takes every text, and whose errors are either dropped or told by name."""

    def __init__(self, stream: TextIO, *, is_needed: bool) -> None:
        self._stream, self._is_needed = stream, is_needed
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text."""
        with self._told():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._told():
            self._stream.flush()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._lead_nowhere()
            if self._is_needed:
                raise OSError(error.errno, error.strerror, OUTPUT) from None

    def _lead_nowhere(self) -> None:
        """Drop what is still buffered, which Python would write once more when it ends."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
