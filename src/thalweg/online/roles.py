"""Which column of a stream is the label, and which rows of a file a model has seen."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, final

from thalweg.data.columns.role_names import name_score
from thalweg.data.text.words import is_running_text
from thalweg.errors import InputError, counted
from thalweg.online.values import LONGEST_NAME, is_number, target_number

Row = Mapping[str, object]
UNDECIDED_ROWS: Final = 20  # that are held until the label's column is chosen, if none has one of its usual names
_USUAL: Final = 0.85  # score of a name that is taken at once: label, class, target ..., not author, type or status
_MAX_SHOWN: Final = 6
_MAX_COLUMNS: Final = 1000


@final
class LabelRole:
    """Chooses the column of the label from the first rows of a stream that show it.

    A column with one of the usual names is taken at once. Otherwise rows are held, up to `UNDECIDED_ROWS`; then the
    name that fits best decides, and where none does, the last column that is no running text and repeats its values.
    Where there is none, no label is known until a column with a usual name comes. `say` takes what was chosen, and
    `is_first` is whether no rows have been learned before.
    """

    def __init__(self, role: str, column: str | None, say: Callable[[str], None], *, is_first: bool = True) -> None:
        self.column = column
        self._role, self._say = role, say
        self._awaited = column  # one that was named, as long as no row has it
        self._num_without = 0  # rows without it
        self._waits = column is None and is_first
        self._held: list[Any] = []
        self._columns: dict[str, None] = {}

    def ready(self, row: Any) -> Sequence[Any]:
        """Take one more row, and return those that can be learned now."""
        if self.column is not None and self._awaited is None:
            return (row,)
        if isinstance(row, Mapping):
            if len(self._columns) < _MAX_COLUMNS:
                names = (name for name in islice(row, _MAX_COLUMNS) if len(str(name)) <= LONGEST_NAME)
                self._columns |= dict.fromkeys(names)
            if self._awaited is None and (usual := self._usual(row)) is not None:
                self._choose(usual, "")
                return [*self.rest(), row]
        if self._awaited is not None:
            self._look_for(self._awaited, row)
            return (row,)
        if not self._waits:
            return (row,)
        self._held.append(row)
        return self.rest() if len(self._held) >= UNDECIDED_ROWS else ()

    def rest(self) -> Sequence[Any]:
        """Return the rows that were held; the label's column is chosen by them, if it has to be."""
        held, self._held = self._held, []
        if held and self.column is None:
            self._decide([row for row in held if isinstance(row, Mapping)])
        return held

    def _usual(self, row: Row) -> str | None:
        best = max(row, key=lambda name: name_score(name, self._role), default=None)
        least = _USUAL if self._waits else 1e-9
        return best if best is not None and name_score(best, self._role) >= least else None

    def _decide(self, rows: Sequence[Row]) -> None:
        self._waits = False
        best = max(self._columns, key=lambda name: name_score(name, self._role), default=None)
        if best is not None and name_score(best, self._role) > 0:
            self._choose(best, "")
            return
        fitting = [name for name in self._columns if self._may_be_label(name, rows)] if len(self._columns) > 1 else []
        if fitting:
            self._choose(fitting[-1], f"No column is called {self._role}, so the last one that may be it is learned. ")
        elif len(rows) >= UNDECIDED_ROWS:
            self._say(
                f"The first {counted(len(rows), 'row')} have no column that may be the {self._role} "
                f"({_listed(self._columns)}), so rows are only predicted until one comes; --label-column names it."
            )

    def _may_be_label(self, name: str, rows: Sequence[Row]) -> bool:
        values = [row[name] for row in rows if row.get(name) not in (None, "")]
        if 2 * len(values) < len(rows) or not all(isinstance(value, str | int | float) for value in values):
            return False
        if self._role == "number":
            return all(is_number(value) for value in values)
        if any(isinstance(value, str) and is_running_text(value) for value in values):
            return False
        return len(rows) < 4 or 2 * len(set(map(str, values))) <= len(values)

    def _choose(self, column: str, why: str) -> None:
        self.column, self._waits = column, False
        self._say(f"{why}Label column {column!r} (of {_listed(self._columns)}); --label-column chooses another.")

    def _look_for(self, column: str, row: Any) -> None:
        """Say once that a label column that was named does not come."""
        self._num_without += 1
        if isinstance(row, Mapping) and column in row:
            self._awaited = None
        elif self._num_without == UNDECIDED_ROWS:
            self._awaited = None
            self._say(
                f"None of the first {UNDECIDED_ROWS} rows has the label column {column!r} (they have "
                f"{_listed(self._columns)}), so they are only predicted; --label-column names another."
            )


def column_of_numbers(rows: Sequence[object], column: str | None = None) -> str | None:
    """Return the column whose labels in first rows are numbers, some with decimals, so no classes; None where none is.

    Args:
        rows: values by column.
        column: that of the label; None: one with a usual name.

    Example:
        >>> column_of_numbers([{"text": "fine", "rating": 4}, {"text": "so so", "rating": 4.5}])
        'rating'
        >>> column_of_numbers([{"text": "fine", "rating": 4}])
    """
    row = rows[0] if rows else None
    if not isinstance(row, Mapping) or not row:
        return None
    for role, least in (("label", _USUAL), ("number", 1e-9), ("label", 1e-9)) if column is None else ():
        best = max(row, key=lambda name, role=role: name_score(name, role))
        if name_score(best, role) >= least:
            column = best
            break
    if column is None:
        return None
    given = [row.get(column) for row in rows if isinstance(row, Mapping)]
    try:
        numbers = [target_number(label) for label in given if label is not None and label != ""]
    except InputError:
        return None
    return column if any(number % 1.0 for number in numbers) else None


def columns_in(
    name: str, columns: Sequence[str], kinds: Mapping[str, str], named: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return what a model that has learned from a stream calls the columns of a file, and what it misses, in sentences.

    The text of a model that reads one may be called otherwise: `text_column` among the options in `named`, or the only
    column of the file, is it.

    Args:
        name: of the file, for messages.
        columns: the file's.
        kinds: those that the model reads -> "text", "number" or "category".
        named: options that name columns.

    Raises:
        InputError: if the file has none of them, or an option names what the model doesn't read.
    """
    texts = [column for column, kind in kinds.items() if kind == "text"]
    called = list(columns)
    other = next((option for option in named if option != "text_column" or len(texts) != 1), None)
    if other is not None:
        raise InputError(
            f"--{other.replace('_', '-')}: this model reads columns by their names in the stream, {describe(kinds)}; "
            "call them so in the file."
        )
    notes, chosen = [], named.get("text_column")
    if chosen is None and len(texts) == len(kinds) == len(columns) == 1 and columns[0] != texts[0]:
        chosen = columns[0]
        notes.append(f"The only column, {chosen!r}, is read as {texts[0]!r}.")
    if chosen is not None:
        if chosen not in columns:
            raise InputError(f"{name}: there is no column {chosen!r}; the columns are {_listed(columns)}.")
        called = [texts[0] if column == chosen else "" if column == texts[0] else column for column in columns]
    missing = [column for column in kinds if column not in called]
    if kinds and len(missing) == len(kinds):
        option = " Name the column of the text with --text-column." if len(texts) == 1 else ""
        raise InputError(
            f"{name} has none of the columns that this model reads, {describe(kinds)}; it has {_listed(columns)}."
            f"{option}"
        )
    if missing:
        notes.append(f"{name} lacks {_listed(missing)}, which this model reads; they are taken as missing.")
    return called, notes


@final
class RowsSeen:
    """Which rows of a file a model has learned from: the first so many, and a checksum of what they say."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_rows = 0
        self.broken_off = False  # whether there are more rows, which are left for another time
        self._sum = hashlib.blake2b(digest_size=16)

    def add(self, row: Row) -> None:
        """Count one more row."""
        self.num_rows += 1
        self._sum.update(repr(list(row.items())).encode("utf-8", "surrogatepass"))

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved with the model."""
        return {"rows": self.num_rows, "sum": self._sum.hexdigest()}


def rows_behind(rows: Iterable[Row], name: str, saved: Mapping[str, Any] | None) -> tuple[Iterator[Row], RowsSeen]:
    """Return the rows of a file behind those that a model has seen before (`saved`), and what counts them.

    An InputError tells of a file whose rows before that place are not the ones that were learned.
    """
    seen, rows = RowsSeen(name), iter(rows)
    if saved is not None:
        for row in islice(rows, saved["rows"]):
            seen.add(row)
        if seen.to_dict() != saved:
            raise InputError(
                f"{name} has changed in the first {counted(saved['rows'], 'row')}, which have been learned already, so "
                "the place to go on is not known; give the new rows as a file of their own, or start over with "
                "--overwrite."
            )
    return rows, seen


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(repr(name)[:60] for name in names[:_MAX_SHOWN])
    return f"{shown} and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else shown or "no columns"


def describe(kinds: Mapping[str, str]) -> str:
    """Return the kinds of columns in words.

    Example:
        >>> describe({"message": "text", "age": "number"})
        "'message' (text), 'age' (number)"
    """
    shown = [f"{name!r} ({kind})" for name, kind in list(kinds.items())[:_MAX_SHOWN]]
    return ", ".join(shown) + (f" and {len(kinds) - _MAX_SHOWN} more" if len(kinds) > _MAX_SHOWN else "")
