"""How the fields of a delimited file are written: the delimiter, the quotation marks, and what escapes them."""

import contextlib
import csv
import io
import re
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, final

from thalweg.data.files.table.ruled import has_sides, ruled_fields

DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
MAX_TITLES: Final = 10  # lines above the header
NUM_ROWS: Final = 1000  # that are looked at
_NUM_SNIFFED: Final = 100
_MIN_FITTING: Final = 0.9  # of the rows have the usual number of fields, where lines stand above the header
_MIN_PLAUSIBLE: Final = 0.5
_MIN_WRAPPED: Final = 0.95  # of a column's values begin and end with a single quotation mark
_MIN_WRAPPED_ROWS: Final = 3
_SEPARATOR_LINE: Final = re.compile(r'\s*"?sep=(\\t|.)"?\s*', re.IGNORECASE)
_NO_DECIMAL: Final = re.compile(r"(?<!\d),|,(?!\d)")
# Between tabs, quotation marks around whole values alone; the last one may be cut off.
_QUOTED_TABS: Final = re.compile(r'(?:(?:[^"\t\n]*+|"(?:[^"]|"")*+")[\t\n])*+(?:[^"\t\n]*|"(?:[^"]|"")*+"?)')
_QUOTED: Final = re.compile(r'(?:^|\t)"((?:[^"]|"")*+)"(?=\t|$)', re.MULTILINE)
_ESCAPED: Final = re.compile(r'\\(["\\])')


@final
class _Fields:
    """How long a field may be is one setting of the csv module for the whole process: borrowed, and given back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_readers = self._before = 0

    @contextlib.contextmanager
    def up_to(self, length: int) -> Generator[None]:
        """Let csv read fields of `length` characters inside of the block; the last of several threads gives back."""
        with self._lock:
            limit = csv.field_size_limit(max(csv.field_size_limit(), length))
            if not self._num_readers:
                self._before = limit
            self._num_readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_readers -= 1
                if not self._num_readers:
                    csv.field_size_limit(self._before)


FIELDS: Final = _Fields()


@final
@dataclass(frozen=True)
class Dialect:
    """How a line is taken apart into fields."""

    delimiter: str
    has_quotes: bool = True  # whether quotation marks enclose a field (CSV) or are characters like any other (TSV)
    quote: str = '"'
    skips_spaces: bool = False  # after a delimiter
    has_backslashes: bool = False  # a backslash, and not a second mark, keeps a quotation mark in a field
    has_sides: bool | None = None  # whether bars stand at the sides of a drawn table; None: it is not drawn

    def fields(self, lines: Iterable[str]) -> list[list[str]]:
        """The fields of lines without their ends, none of one without any; only where there are no quotation marks."""
        if self.has_sides is not None:
            return [ruled_fields(line, has_sides=self.has_sides) for line in lines]
        delimiter = self.delimiter
        return [line.split(delimiter) if line else [] for line in lines]

    def reader(self, texts: Iterable[str]) -> Any:
        """A `csv.reader` of lines with their line ends; only where there are quotation marks."""
        if self.has_backslashes:
            texts = map(_doubled, texts)
        return csv.reader(
            texts, delimiter=self.delimiter, quotechar=self.quote, skipinitialspace=self.skips_spaces, strict=False
        )

    def rows(self, sample: str, num_rows: int = NUM_ROWS) -> list[tuple[int, list[str]]]:
        """The first rows that are not empty, each with the line on which it starts."""
        try:
            with FIELDS.up_to(len(sample)):
                return list(islice(self._numbered(sample), num_rows))
        except csv.Error:  # told with its line when the rows are read
            return list(islice(replace(self, has_quotes=False)._numbered(sample), num_rows))

    def _numbered(self, sample: str) -> Iterator[tuple[int, list[str]]]:
        if not self.has_quotes:
            for line, row in enumerate(self.fields(sample.split("\n")), start=1):
                if row:
                    yield line, row
            return
        reader = self.reader(io.StringIO(sample))
        while True:
            line = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if row:
                yield line, row


def _doubled(text: str) -> str:
    r"""A line in which each `\"` is `""`, as the csv module wants it, and `\\` one backslash."""
    return _ESCAPED.sub(lambda match: '""' if match[1] == '"' else "\\", text) if "\\" in text else text


def separator_line(sample: str) -> str | None:
    """The delimiter that a first line such as `sep=;` names, as Excel writes it; None without such a line."""
    match = _SEPARATOR_LINE.fullmatch(sample.split("\n", 1)[0])
    return match[1].replace("\\t", "\t") if match else None


def choose_dialect(sample: str, *, is_tsv: bool) -> tuple[Dialect, list[str]]:
    """Choose how the fields are written, by the first (whole) lines; with `is_tsv`, between tabs."""
    if _has_quoted_tabs(sample):
        return Dialect("\t"), ["Quotation marks enclose values, in which two of them are one."]
    if is_tsv:
        return Dialect("\t", has_quotes=False), []
    if (sides := has_sides(sample)) is not None:
        return Dialect("|", has_quotes=False, has_sides=sides), ["The lines drawn around the columns are left out."]
    delimiter = separator_line(sample)
    if delimiter is None:
        delimiter = _sniff(sample)
        notes = (
            []
            if delimiter == "," or delimiter not in sample
            else [f"The columns are separated by a {DELIMITERS[delimiter]}."]
        )
    else:
        sample = sample.split("\n", 1)[1] if "\n" in sample else ""
        notes = [f"The first line names the delimiter, {delimiter!r}, and is left out."]
    first_line = sample.lstrip("\n").split("\n", 1)[0]
    if delimiter == "\t" and '"' not in first_line:
        return Dialect("\t", has_quotes=False), [
            *notes,
            "Quotation marks are read as part of the text, as usual with tabs.",
        ]
    found = Dialect(delimiter)
    if re.search(re.escape(delimiter) + ' +"', sample):
        spaced = replace(found, skips_spaces=True)
        if _share(spaced.rows(sample)) >= _share(found.rows(sample)):
            found = spaced
            notes.append("Spaces before a quotation mark are left out.")
    if _has_backslashes(sample, delimiter) and _share(replace(found, has_backslashes=True).rows(sample)) >= _share(
        found.rows(sample)
    ):
        notes.append('A backslash before a quotation mark (\\") makes it part of the text.')
        return replace(found, has_backslashes=True), notes
    single = replace(found, quote="'")
    if _is_wrapped(sample, found, single):
        notes.append("Single quotation marks (') enclose the values.")
        return single, notes
    return found, notes


def _has_quoted_tabs(sample: str) -> bool:
    """Whether each quotation mark between tabs is one of those that a program sets around values where it must."""
    if '"' not in sample or "\t" not in sample or _QUOTED_TABS.fullmatch(sample) is None:
        return False
    first_line = sample.split("\n", 1)[0]
    is_needed = any(re.search(r'""|\t|\n', found[1]) for found in _QUOTED.finditer(sample))
    return is_needed or all(cell[:1] == '"' for cell in first_line.split("\t"))


def _has_backslashes(sample: str, delimiter: str) -> bool:
    r"""Whether `\"` stands inside fields; at the end of a field it may be the end of a path such as "C:\"."""
    return re.search(rf'\\"(?!\s*({re.escape(delimiter)}|\n|$))', sample) is not None


def _is_wrapped(sample: str, plain: Dialect, single: Dialect) -> bool:
    """Whether single quotation marks enclose fields: those of a column, or what has delimiters in it otherwise."""
    if "'" not in sample:
        return False
    rows = [row for _, row in plain.rows(sample)]
    width = _usual(rows)
    columns = zip(*[row for row in rows[1:] if len(row) == width], strict=True)
    wrapped = any(_all_wrapped([value.strip() for value in column]) for column in columns)
    return (wrapped and _share(single.rows(sample)) >= _share(plain.rows(sample))) or (
        _share(single.rows(sample)) >= _MIN_WRAPPED > _share(plain.rows(sample))
        and re.search(rf"(^|{re.escape(plain.delimiter)})'", sample, re.MULTILINE) is not None
    )


def _all_wrapped(values: list[str]) -> bool:
    filled = [value for value in values if value]
    found = [value for value in filled if len(value) > 1 and value[0] == value[-1] == "'"]
    return len(found) >= max(_MIN_WRAPPED_ROWS, _MIN_WRAPPED * len(filled))


def fitting_rows(text: str, delimiter: str) -> tuple[float, list[list[str]]]:
    """The fraction of lines that have the usual number of fields (0 if that is one), and the first lines' fields."""
    rows = Dialect(delimiter).rows(text)
    return _share(rows), [row for _, row in rows]


def _usual(rows: list[list[str]]) -> int:
    counts = Counter(map(len, rows))
    return max(counts, key=lambda width: (counts[width], width), default=0)


def _share(rows: list[tuple[int, list[str]]]) -> float:
    fields = [row for _, row in rows]
    width = _usual(fields)
    return sum(len(row) == width for row in fields) / len(fields) if width > 1 else 0.0


def _share_of(delimiter: str, sample: str) -> float:
    """The fraction of the first lines with the usual number of fields, if that is not one."""
    return _share(Dialect(delimiter).rows(sample, _NUM_SNIFFED)) if delimiter in sample else 0.0


def _is_one_column(sample: str) -> bool:
    """Whether below a name there is one number with a decimal comma on each line, and no other delimiter."""
    first, *lines = [line for line in sample.split("\n") if line]
    is_name = any(map(str.isalpha, first)) and "," not in first
    return is_name and not any(mark in sample for mark in ";\t|") and all(line.count(",") <= 1 for line in lines)


def _sniff(sample: str) -> str:
    """The delimiter with which the most rows have as many fields as the first; the more fields, the better.

    Where lines of another kind stand above the header, so that no delimiter fits the first row, the one that fits most
    of the others.
    """
    best, best_score = ",", (0.0, 0)
    titled, titled_score = "", (0.0, 0)
    # Commas that stand between digits alone are those of decimals, where another delimiter is there.
    has_decimals = "," in sample and _NO_DECIMAL.search(sample) is None
    if has_decimals and _is_one_column(sample):
        return ";"
    for delimiter in [mark for mark in DELIMITERS if mark in sample]:
        if delimiter == "," and has_decimals and any(_share_of(mark, sample) >= _MIN_FITTING for mark in ";\t|"):
            continue
        rows = [row for _, row in Dialect(delimiter).rows(sample, _NUM_SNIFFED)]
        width, usual = len(rows[0]) if rows else 0, _usual(rows)
        # Texts contain commas too, so a few rows more or less don't decide; the number of fields does.
        score = (round(sum(len(row) == width for row in rows) / max(len(rows), 1), 1), width)
        if width > 1 and score > best_score:
            best, best_score = delimiter, score
        below = rows[next((i for i, row in enumerate(rows) if len(row) == usual), 0) :]
        share = sum(len(row) == usual for row in below) / max(len(below), 1)
        if usual > 1 and len(rows) - len(below) <= MAX_TITLES and share >= _MIN_FITTING and len(below) > 1:
            titled_score, titled = max((titled_score, titled), ((round(share, 1), usual), delimiter))
    return titled if titled and best_score[0] < _MIN_PLAUSIBLE else best
