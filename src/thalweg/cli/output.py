"""What goes to standard output: answers and JSON; everything else goes to standard error."""

import json
import sys
from typing import Any


def print_json(value: Any) -> None:
    """Print one JSON object as a line on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_lines(lines: list[str]) -> None:
    """Print lines on standard output."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
