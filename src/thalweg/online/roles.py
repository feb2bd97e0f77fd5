"""Which column of a stream is the label, and which rows of a file a model has seen."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, final

from thalweg.data.columns.role_names import name_score
from thalweg.data.text.words import is_running_text
from thalweg.errors import InputError, counted
from thalweg.online.values import is_number

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
    Where there is none, no label is known until a column with a usual name comes. `say` takes what was chosen.
    """

    def __init__(self, role: str, column: str | None, say: Callable[[str], None]) -> None:
        self.column = column
        self._role, self._say = role, say
        self._awaited = column  # one that was named, as long as no row has it
        self._num_without = 0  # rows without it
        self._waits = column is None
        self._held: list[Any] = []
        self._columns: dict[str, None] = {}

    def ready(self, row: Any) -> Sequence[Any]:
        """Take one more row, and return those that can be learned now."""
        if self.column is not None and self._awaited is None:
            return (row,)
        if isinstance(row, Mapping):
            if len(self._columns) < _MAX_COLUMNS:
                self._columns |= dict.fromkeys(row)
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


@final
class RowsSeen:
    """Which rows of a file a model has learned from: the first so many, and a checksum of what they say."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_rows = 0
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
