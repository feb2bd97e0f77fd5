"""Rows below a table that are no data, as people and spreadsheets add them: totals, sources and notes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, final

from thalweg.data.columns.notation import canonical, number_of
from thalweg.data.columns.times.month_names import plain_letters
from thalweg.data.files.base import BadRows
from thalweg.errors import InputError


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


LEFT_OUT: Final = "totals, sources and notes below the table are left out"
MAX_ROWS: Final = 10  # below a table
_MOST: Final = 0.9  # of the rows of a table are alike in what those below are not
_MAX_LABELS: Final = 20
_CLOSE: Final = 1e-3  # of a total or a mean, which may be rounded
_TOTALS: Final = _words(
    "total totals sum subtotal count average avg mean median min max minimum maximum summe gesamt gesamtsumme "
    "zwischensumme anzahl durchschnitt mittelwert schnitt somme moyenne nombre totale totali somma media suma "
    "promedio soma totaal som gemiddelde razem srednia celkem summa snitt toplam итого всего сумма 合计 总计 小计 平均 "
    "合計 합계"
) | {"grand total", "total general", "total geral", "general total", "totale generale", "i alt", "std dev"}
_NOTES: Final = _words(
    "source sources note notes quelle quellen anmerkung anmerkungen hinweis stand fonte fuente fuentes nota notas bron "
    "remarque remarques kaynak источник примечание 来源 注"
)
_SIGNS: Final = ("*", "©", "†", "¹", "(c)")

Rows = tuple[Sequence[int], tuple[list[Any], ...]]  # lines, and the values by column


@final
@dataclass(frozen=True)
class _Column:
    """What the rows of a table have in one column."""

    is_filled: bool
    has_figures: bool
    labels: frozenset[str]  # words that come again and again; none where they do not
    numbers: tuple[float, ...]

    @classmethod
    def of(cls, cells: Sequence[str]) -> "_Column":
        filled = [cell.strip() for cell in cells if cell.strip()]
        figures = sum(any(map(str.isdigit, cell)) and not cell[0].isalpha() for cell in filled)
        numbers = tuple(number for cell in filled if (number := _number(cell)) is not None)
        distinct = frozenset(filled)
        is_label = 2 * len(distinct) <= len(filled) and len(distinct) <= _MAX_LABELS and not numbers
        return cls(
            is_filled=len(filled) >= _MOST * len(cells) and bool(cells),
            has_figures=bool(filled) and figures >= _MOST * len(filled),
            labels=distinct if is_label else frozenset(),
            numbers=numbers if len(numbers) >= _MOST * len(filled) else (),
        )

    def speaks_against(self, cell: str) -> bool:
        """Whether a cell beside the word "total" is none of the values of this column."""
        if not cell:
            return self.is_filled
        number = _number(cell)
        if number is None or self.labels:
            return bool(self.labels) and cell not in self.labels
        if not self.numbers:
            return False
        total, mean = sum(self.numbers), fmean(self.numbers)
        is_computed = any(abs(number - one) <= _CLOSE * max(abs(one), 1e-9) for one in (total, mean))
        return is_computed or not min(self.numbers) <= number <= max(self.numbers)

    def is_sum(self, cell: str) -> bool:
        """Whether a cell is the sum of the others, it being one of them."""
        number = _number(cell)
        return number is not None and abs(sum(self.numbers) - 2 * number) <= _CLOSE * abs(number) and number != 0


@final
class Footer:
    """Tells rows below a table from its own, by the first rows of it."""

    def __init__(self, sample: Iterable[Sequence[str]], width: int) -> None:
        rows = [row[:width] for row in sample if len(row) >= width and not _is_total(row) and not _is_note(row)]
        self._columns = [_Column.of(cells) for cells in zip(*rows, strict=False)]

    def num_below(self, rows: Sequence[Sequence[str]]) -> int:
        """How many of the last rows stand below the table: each begins so, and one is surely no row of it."""
        if rows and self._columns and self._is_sum(rows[-1]):
            return 1
        count = 0
        while count < min(MAX_ROWS, len(rows)) and (_is_total(rows[-1 - count]) or _is_note(rows[-1 - count])):
            count += 1
        return count if self._columns and any(map(self._is_below, rows[len(rows) - count :])) else 0

    def _is_sum(self, row: Sequence[str]) -> bool:
        """Whether a row has nothing but the sums of the figures above it, where all others have values beside them."""
        pairs = list(zip(self._columns, (cell.strip() for cell in row), strict=False))
        sums = [column.is_sum(cell) for column, cell in pairs if cell]
        return bool(sums) and all(sums) and any(column.is_filled and not cell for column, cell in pairs)

    def _is_below(self, row: Sequence[str]) -> bool:
        place = next(place for place, cell in enumerate(row) if cell.strip())
        others = [(column, row[i].strip()) for i, column in enumerate(self._columns[: len(row)]) if i != place]
        if _is_note(row):
            return self._columns[place].has_figures or any(column.is_filled for column, _ in others)
        return self._columns[place].has_figures or any(column.speaks_against(cell) for column, cell in others)

    def without(self, batches: Iterator[Rows], bad: BadRows) -> Iterator[Rows]:
        """The batches without the rows below the table; each waits until it can't have any."""
        held: list[Rows] = []
        try:
            for batch in batches:
                held.append(batch)
                while sum(len(lines) for lines, _ in held[1:]) >= MAX_ROWS:
                    yield held.pop(0)
        except InputError:
            yield from held
            raise
        ends = [[[_text(value) for value in one] for one in columns] for _, columns in held]
        last = [row for columns in ends for row in zip(*columns, strict=True)]
        count = self.num_below(last)
        kept = len(last) - count
        lines = [line for lines, _ in held for line in lines]
        for line in lines[kept:]:
            bad.leave_out(line, LEFT_OUT)
        for lines, columns in held:
            if kept > 0:
                yield lines[:kept], tuple(column[:kept] for column in columns)
            kept -= len(lines)


@final
class Below:
    """Rows that do not fit a table, until it is known whether any of it comes behind them."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, str]] = []
        self._is_after_gap = False

    def gap(self) -> None:
        """An empty row comes."""
        self._is_after_gap = True

    def takes(self, line: int, row: Sequence[str], reason: str) -> bool:
        """Take a row that may stand below the table; whether it may."""
        may_be = (
            bool(self._waiting) or _is_note(row, is_whole=False) or (self._is_after_gap and sum(map(bool, row)) == 1)
        )
        if may_be:
            self._waiting.append((line, reason))
        return may_be

    def goes_on(self, add: Callable[[int, str], None]) -> None:
        """A row of the table comes, so that those before it were bad ones."""
        for line, reason in self._waiting:
            add(line, reason)
        self._waiting, self._is_after_gap = [], False

    def end(self, bad: BadRows) -> None:
        """The table has ended."""
        if len(self._waiting) > MAX_ROWS:
            self.goes_on(bad.add)
        for line, _ in self._waiting:
            bad.leave_out(line, LEFT_OUT)


def _is_total(row: Sequence[str]) -> bool:
    """Whether a row begins with a word such as "Total", and has nothing but numbers behind it."""
    filled = [cell.strip() for cell in row if cell.strip()]
    if not filled or plain_letters(filled[0]).strip(" :.") not in _TOTALS:
        return False
    return all(_number(cell) is not None for cell in filled[1:])


def _is_note(row: Sequence[str], *, is_whole: bool = True) -> bool:
    """Whether a row says where a table is from, or what its marks mean; one with all its cells has nothing else."""
    filled = [cell.strip() for cell in row if cell.strip()]
    if not filled or not row[0].strip() or (is_whole and len(filled) > 1):
        return False
    word, colon, _ = plain_letters(filled[0]).partition(":")
    return (bool(colon) and word.strip() in _NOTES) or (len(filled) == 1 and filled[0].lower().startswith(_SIGNS))


def _number(cell: str) -> float | None:
    """The number that a cell holds, whatever marks stand between its thousands; enough to compare totals."""
    text = canonical(cell).strip("%$€£ ").replace(" ", "").replace("'", "")
    number = number_of(text)
    if number is None and text.count(",") >= 1:
        groups = text.split(",")
        is_thousands = all(len(group.partition(".")[0]) == 3 for group in groups[1:])
        number = number_of("".join(groups) if is_thousands else text.replace(".", "").replace(",", "."))
    return number


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)
