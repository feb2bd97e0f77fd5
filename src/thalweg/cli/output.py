"""What goes to standard output: answers and JSON; everything else goes to standard error."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typing_extensions import override

_CONTROLS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all but the line feed


@final
class Terminal(Console):
    """A console on which text from files, names and errors cannot move the cursor, change colors or the title.

    Control characters in text are shown as the replacement character; those that rich itself sends stay.
    """

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(_CONTROLS.sub("\ufffd", segment.text.expandtabs()), segment.style)


def print_json(value: Any) -> None:
    """Print one JSON object as a line on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_lines(lines: list[str]) -> None:
    """Print lines on standard output."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


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
        sys.stdout.flush()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value
