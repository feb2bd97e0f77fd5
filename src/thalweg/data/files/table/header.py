"""The names of a table's columns: which row holds them, which lines above it are no data, or that there is none."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from statistics import median
from typing import Final, final

from thalweg.data.columns.role_names import ALL_NAMES, normalized
from thalweg.data.files.table.dialect import MAX_TITLES

_TEXT_ENDS: Final = (".", "!", "?")
_MISSING: Final = frozenset(("", ".", "..", ":", "na", "n/a", "nan", "null", "none", "?", "-"))
_INVISIBLE: Final = str.maketrans({"\ufeff": "", "\u200b": "", "\u00a0": " ", "\u202f": " "})
_MIN_FITTING: Final = 0.9  # of the rows below have the usual number of fields, where lines above the header have not
_MIN_NUMBERS: Final = 0.95  # of a column's values are numbers, where its name is the only one that is none
_MIN_ROWS: Final = 10  # fewer rows do not show labels that come again
_LABELS: Final = 1 / 3  # so many different values at most are labels
_LONG_WORDS: Final = 6  # a name has no more
_LONG: Final = 60  # characters
MAX_EXPLAINING: Final = 2  # rows below the names
_YEARS: Final = range(1800, 2101)
_DASHES: Final = re.compile(r"\s*[-=]{2,}\s*")  # below the names of columns
REPEATED: Final = "."  # between a name that comes again and its number


@final
@dataclass(frozen=True)
class Header:
    """Where the data begin, and what the columns are called."""

    columns: tuple[str, ...]
    row: list[str] | None  # the header as it stands in the file; None where there is none
    line: int  # of the first row of data; 0 where there is none
    width: int  # fields in a row; one more than columns where the last is always empty
    notes: list[str]


def read_header(rows: list[tuple[int, list[str]]], *, is_tsv: bool, header: bool | None) -> Header:
    """Decide what the first rows of a file are, each given with its line: titles, the names of the columns, or data.

    `header` says whether there is a row of names; None lets the rows decide.
    """
    start, is_named = _first_row(rows)
    notes = [f"{_lines_above(rows[:start])}, above the columns' names, left out."] if start else []
    cells = [row for _, row in rows[start:]]
    width = Counter(map(len, cells)).most_common(1)[0][0]
    first = _without_hash(cells)
    if header is None and not is_named:
        is_named, why = has_names(cells if first is None else [first, *cells[1:]], is_tsv=is_tsv)
        notes += [why] if why else []
    elif header is False:
        notes.append(f"The columns are named {listed(made_up(width))}, since there is no header.")
    is_named = is_named if header is None else header
    num_named = is_named + (_num_explaining(cells[1:]) if is_named else 0)
    if num_named == 1 and len(cells) > 2 and all(map(_DASHES.fullmatch, cells[1])):
        num_named = 2
    if num_named > 1:
        notes.append(f"{_lines_above(rows[start + 1 : start + num_named])}, below the columns' names, left out.")
    data = cells[num_named:]
    line = next((line for line, _ in rows[start + num_named :]), 0)
    drops_last = width > 1 and bool(data) and all(len(row) < width or not row[width - 1] for row in data)
    if not is_named:
        drops_last = drops_last and len(data) > 1
        columns = made_up(width - drops_last)
        return Header(columns, None, line, width, notes)
    names = [cell.translate(_INVISIBLE).strip() for cell in first or cells[0]]
    usual = _usual(data)
    width = usual if data and _share(data, usual) >= _MIN_FITTING else len(names)
    if len(names) == width - 1 and data and not all(row[-1] == "" for row in data if len(row) == width):
        names = ["", *names]  # as R writes row names
        notes.append("The header has one name less than the rows have values, so the first column is called column1.")
    elif len(names) == width - 1 or (len(names) == width and not names[-1] and drops_last):
        names = names[: width - 1]
    elif len(names) == width + 1 and not names[-1]:
        names = names[:-1]
    elif len(names) != width:
        width = len(names)
    columns, more = _distinct(names)
    return Header(columns, cells[0], line, width, notes + more)


def _num_explaining(rows: list[list[str]]) -> int:
    """How many rows below the names explain them, as survey tools write it: they have no figures above figures."""
    count = 0
    while count < MAX_EXPLAINING and len(rows) - count > _MIN_ROWS:
        row, later = rows[count], rows[count + MAX_EXPLAINING :]
        width = min(len(row), _usual(later))
        columns = [[cell for one in later if len(one) > i and (cell := one[i].strip())] for i in range(width)]
        figures = {
            i: row[i].strip()
            for i, cells in enumerate(columns)
            if len(cells) >= _MIN_NUMBERS * len(later) and all(cell[:1].isdigit() for cell in cells)
        }
        has_words = any(cell and not any(map(str.isdigit, cell)) for cell in figures.values())
        has_no_id = len(figures) > 1 and 0 in figures and not any(figures.values())
        if any(cell[:1].isdigit() for cell in figures.values()) or not (has_words or has_no_id) or not any(row):
            break
        if any(cell.lower() in _MISSING and cell for cell in figures.values()):
            break  # a row of data with missing numbers
        count += 1
    return count


def made_up(width: int) -> tuple[str, ...]:
    """The names of columns that have none."""
    return tuple(f"column{i + 1}" for i in range(width))


def listed(columns: Sequence[str]) -> str:
    """The names of columns that are called by number, shortened where there are many."""
    return ", ".join(columns) if len(columns) < 4 else f"{columns[0]}, {columns[1]} ... {columns[-1]}"


def _distinct(names: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """A name for each column: its number where it has none, and one behind the name where it has come before."""
    columns = [cell or f"column{i + 1}" for i, cell in enumerate(names)]
    notes = [f"Column {i + 1} has no name and is called column{i + 1}." for i, cell in enumerate(names) if not cell]
    counts = Counter(columns)
    taken = set(columns)
    for name in [name for name, number in counts.items() if number > 1]:
        places = [i for i, column in enumerate(columns) if column == name][1:]
        numbers = (number for number in count(2) if f"{name}{REPEATED}{number}" not in taken)
        for place in places:
            columns[place] = f"{name}{REPEATED}{next(numbers)}"
        added = [columns[place] for place in places]
        taken |= {*added}
        is_one = len(added) == 1
        notes.append(
            f"{counts[name]} columns are called {name!r}; the {'second is' if is_one else 'others are'} called "
            f"{listed(added)}."
        )
    return tuple(columns), notes


def _first_row(rows: list[tuple[int, list[str]]]) -> tuple[int, bool]:
    """The place of the first row that is no title or comment, and whether it is already known to hold names."""
    hashes = next((i for i, (_, row) in enumerate(rows) if not row[0].startswith("#")), len(rows))
    if 0 < hashes <= MAX_TITLES and hashes < len(rows):
        below = [row for _, row in rows[hashes - 1 :]]
        if _without_hash(below) is not None:
            return hashes - 1, False
        if holds_names(below[1:]):
            return hashes, False
    width = _usual([row for _, row in rows])
    place = next((i for i, (_, row) in enumerate(rows) if len(row) == width), 0)
    below = [row for _, row in rows[place:]]
    if width < 2 or place > MAX_TITLES or len(below) < 2 or _share(below, width) < _MIN_FITTING:
        return 0, False
    if place and not holds_names(below):
        before = [cell.strip() for cell in rows[place - 1][1]]
        named = before[:-1] if len(before) == width + 1 and not before[-1] else before
        is_other = len(before) == len(named) + 1 == width + 1 or len(before) == width - 1 > 1
        if is_other and len(set(named)) == len(named) and all(named):
            return place - 1, True  # one field less: row names, or delimiters at the ends of the rows; or one more
    while place < min(MAX_TITLES, len(rows) - 2):
        cells, following = rows[place][1], [row for _, row in rows[place + 1 :]]
        is_title = len(cells) > 1 and cells[0].strip() != "" and not any(cell.strip() for cell in cells[1:])
        if not is_title or not holds_names(following):
            break
        place += 1
    return place, False


def _without_hash(rows: list[list[str]]) -> list[str] | None:
    """The first row without the "#" before it, where that makes it a row of known names; else None."""
    first = rows[0]
    if not first[0].startswith("#"):
        return None
    cells = [first[0].lstrip("# "), *first[1:]]
    return cells if all(map(is_known, cells)) else None


def _lines_above(rows: list[tuple[int, list[str]]]) -> str:
    line, cells = rows[0]
    text = " ".join(cell for cell in cells if cell.strip())
    shown = repr(text if len(text) <= 40 else text[:37] + "...")
    return f"Line {line} ({shown})" if len(rows) == 1 else f"Lines {line} to {rows[-1][0]} ({shown} ...)"


def _usual(rows: list[list[str]]) -> int:
    """The usual number of fields, and not that of the first row; the larger of two that are equally frequent."""
    counts = Counter(map(len, rows))
    return max(counts, key=lambda width: (counts[width], width), default=0)


def _share(rows: list[list[str]], width: int) -> float:
    return sum(len(row) == width for row in rows) / max(len(rows), 1)


def is_known(cell: str) -> bool:
    """Whether a cell is one of the usual names of columns."""
    return normalized(cell.translate(_INVISIBLE)) in ALL_NAMES and not cell.strip().endswith(_TEXT_ENDS)


def holds_names(rows: list[list[str]]) -> bool:
    """Whether the first row surely holds names: each is a usual one, or those of columns of numbers are no numbers."""
    if not rows or not rows[0]:
        return False
    cells = [cell.strip() for cell in rows[0]]
    if len(set(cells)) < len(cells):
        return False
    return all(map(is_known, cells)) or (_above_numbers(rows) and not data_sign(rows))


def has_names(rows: list[list[str]], *, is_tsv: bool) -> tuple[bool, str]:
    """Whether the first row holds the names of the columns, and a sentence on it where that was a choice.

    What does not show it is read as data in TSV, which often has no header, and as names in CSV, which mostly has one.
    """
    cells = [cell.translate(_INVISIBLE).strip() for cell in rows[0]]
    columns = listed(made_up(_usual(rows)))
    if holds_names(rows):
        return True, ""
    sign = data_sign(rows)
    if sign and not _above_numbers(rows):
        return False, f"The first row looks like data ({sign}), so the columns are named {columns}."
    is_above = any(holds(rows) for holds in (_above_numbers, _above_labels, _above_texts))
    if any(map(is_known, cells)) or _are_years(cells) or is_above or len(rows) < 2:
        return True, ""
    shown = " and ".join(repr(cell if len(cell) <= 30 else cell[:27] + "...") for cell in cells[:2])
    if is_tsv:
        return False, (
            f"The first row ({shown}) has no usual name of a column, so it is read as data and the columns are named "
            f"{columns}; --header yes reads it as names."
        )
    return True, f"The first row ({shown}) is read as the names of the columns; --header no reads it as data."


def data_sign(rows: list[list[str]]) -> str:
    """Why the first row is not a header, as half a sentence such as "'1' is a number"; empty when it may be one."""
    first, later = rows[0], rows[1:]
    cells = [cell.strip() for cell in first]
    known = list(map(is_known, cells))
    if len(set(cells)) == len(cells) and all(known):
        return ""
    for i, cell in enumerate(cells):
        is_long = len(cell) > _LONG or len(cell.split()) > _LONG_WORDS
        if is_long and any(known):  # a long question of a survey, above short answers
            is_long = median([len(row[i].split()) for row in later if len(row) > i] or [_LONG_WORDS]) >= _LONG_WORDS
        if is_long or (cell.endswith(_TEXT_ENDS) and not any(known)):
            shown = cell if len(cell) <= 40 else cell[:37] + "..."
            return f"{shown!r} is a text"
    again = [row for row in later if row != first]  # a header may come again as a whole
    for i, cell in enumerate(cells):
        if cell and any(len(row) > i and row[i].strip() == cell for row in again):
            return f"{cell!r} appears again in a later row"
    if not any(known) and not _are_years(cells):
        for cell in cells:
            if _is_number(cell):
                return f"{cell!r} is a number"
    shaped = [i for i, cell in enumerate(cells) if "0" in _shape(cell)]
    for i in shaped:
        same = sum(len(row) > i and _shape(row[i]) == _shape(cells[i]) for row in later)
        if later and same >= _MIN_NUMBERS * len(later):
            return f"{cells[i]!r} is written like the values below"
    return ""


def _shape(cell: str) -> str:
    """A cell with each run of letters as "a" and each run of digits as "0"."""
    shape = ""
    for character in cell.strip():
        mark = "0" if character.isdigit() else "a" if character.isalpha() else character
        if not shape.endswith(mark) or mark not in "0a":
            shape += mark
    return shape


def _are_years(cells: list[str]) -> bool:
    """Whether the numbers among the cells are years in a row, as the header of a wide table has them."""
    years = [int(cell) for cell in cells if cell.isdecimal()]
    is_run = len(years) > 1 and all(b - a == years[1] - years[0] for a, b in pairwise(years))
    return is_run and years[0] != years[-1] and all(year in _YEARS for year in years)


def _above_numbers(rows: list[list[str]]) -> bool:
    """Whether a column has numbers or dates below a first cell with letters."""
    return any(
        any(character.isalpha() for character in cell)
        and cell.strip().lower() not in _MISSING
        and len(values) > 0
        and sum(map(_is_figure, values)) >= _MIN_NUMBERS * len(values)
        for cell, values in _columns(rows)
    )


def _above_labels(rows: list[list[str]]) -> bool:
    """Whether a column has values that come again and again, and its first cell is none of them."""
    return any(
        len(values) >= _MIN_ROWS and cell.strip() not in values and len(set(values)) <= _LABELS * len(values)
        for cell, values in _columns(rows)
    )


def _above_texts(rows: list[list[str]]) -> bool:
    """Whether each column has texts of several words below a first cell of one word."""
    columns = _columns(rows)
    return len(rows) > 2 and all(
        len(cell.split()) == 1 and values and sum(len(value.split()) > 1 for value in values) >= 0.9 * len(values)
        for cell, values in columns
    )


def _columns(rows: list[list[str]]) -> list[tuple[str, list[str]]]:
    """For each column its first cell, and the values below that are not empty; a header that comes again left out."""
    width = len(rows[0])
    later = [row for row in rows[1:] if len(row) >= width and row != rows[0]]
    return [
        (cell, [row[i].strip() for row in later if row[i].strip().lower() not in _MISSING])
        for i, cell in enumerate(rows[0])
        if cell.strip()
    ]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return field.strip().lower() not in _MISSING


def _is_figure(value: str) -> bool:
    """Whether a value is a number, a date or a time, however it is written."""
    return _is_number(value) or (any(map(str.isdigit, value)) and not any(character.isalpha() for character in value))
