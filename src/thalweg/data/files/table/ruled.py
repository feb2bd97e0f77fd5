"""Tables drawn for people: bars between the columns and a line below their names, as databases and Markdown have it."""

import re
from typing import Final

_DASHES: Final = r"[ ]*(?::?[-=]{2,}:?|:-:?|-:)[ ]*"
_LINE: Final = re.compile(rf"[+|]?{_DASHES}(?:[+|]{_DASHES})*[+|]?")
_COUNT: Final = re.compile(r"\(?\d+ rows?( in set.*)?\)?|Empty set.*", re.IGNORECASE)
_BAR: Final = re.compile(r"(?<!\\)\|")
_MIN_FITTING: Final = 0.9  # of the lines are rows of the table
MAX_ABOVE: Final = 10  # lines above the names
NUM_LINES: Final = 1000  # that are looked at


def ruled_fields(line: str, *, has_sides: bool) -> list[str]:
    r"""The cells of a line; none for the lines between the rows, and for the count of rows below them.

    `has_sides` says whether bars stand before the first cell and behind the last one, too.

    Example:
        >>> ruled_fields("| a film | good |", has_sides=True), ruled_fields("  | good", has_sides=False)
        (['a film', 'good'], ['', 'good'])
        >>> ruled_fields("|---|:-:|", has_sides=True), ruled_fields("(2 rows)", has_sides=False)
        ([], [])
    """
    line = line.rstrip()
    if not line or _is_line(line) or _COUNT.fullmatch(line):
        return []
    cells = [cell.strip().replace("\\|", "|") for cell in _BAR.split(line)]
    if has_sides and not cells[0]:
        cells = cells[1 : len(cells) - (not cells[-1])]
    return cells


def has_sides(sample: str) -> bool | None:
    """Whether bars stand at the sides of the table that the first lines of a file are; None where they are none.

    At most a few other lines stand around it.
    """
    if "--" not in sample and "==" not in sample:
        return None
    lines = [line for line in sample.split("\n", NUM_LINES)[:NUM_LINES] if line.strip()]
    above = next((i for i, line in enumerate(lines) if i and _is_line(line) and not _is_line(lines[i - 1])), 0)
    if not 0 < above <= MAX_ABOVE or "|" not in lines[above - 1]:
        return None
    sides = lines[above - 1].lstrip().startswith("|")
    width = len(ruled_fields(lines[above - 1], has_sides=sides))
    if len(re.split(r"[+|]", lines[above].strip(" +|"))) != width:
        return None
    rows = [fields for line in lines[above + 1 :] if (fields := ruled_fields(line, has_sides=sides))]
    fitting = sum(len(fields) == width for fields in rows)
    return sides if fitting and fitting >= _MIN_FITTING * (len(rows) + max(above - 2, 0)) else None


def _is_line(line: str) -> bool:
    return ("+" in line or "|" in line) and _LINE.fullmatch(line.strip(" ")) is not None
