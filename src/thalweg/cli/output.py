"""What goes to standard output: answers and JSON; everything else goes to standard error."""

import json
import re
import sys
from collections.abc import Iterable
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
