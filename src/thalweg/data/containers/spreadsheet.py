"""XLSX: the values of one sheet, read row by row with openpyxl, which the extra `files` brings."""

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from thalweg.data.containers.plain import are_dates, as_date, plain
from thalweg.data.containers.rows import Columns, RowSource
from thalweg.data.files.archive import require_plausible, zip_entries
from thalweg.data.files.base import AbstractSource, BadRows
from thalweg.data.files.table.footer import Footer
from thalweg.data.files.table.header import read_header
from thalweg.errors import InputError

XLSX: Final = "xlsx"
OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # begins the files of old office programs, and encrypted new ones
MAX_STRINGS: Final = 500_000_000  # bytes of all texts of a workbook, which are held in memory
MAX_EMPTY: Final = 10_000_000  # cells of a sheet, if fewer than one of a hundred has a value
MAX_ROWS: Final = 1_048_576  # that a sheet can have
_ENDINGS: Final = (".xlsx", ".xlsm", ".xltx", ".xltm")
_HEAD: Final = 1000  # rows that are looked at when a sheet is opened
_ABOVE: Final = 20  # rows that may stand above the header
_ERRORS: Final = frozenset(("#N/A", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!"))

Rows = Iterator[tuple[int, list[Any]]]  # the number of a row in its sheet, and its cells


def office_kind(names: list[str]) -> str:
    """Return what an archive with these files is: xlsx, or another document in words; empty for a mere archive."""
    if "xl/workbook.xml" in names:
        return XLSX
    if "xl/workbook.bin" in names:
        return "a binary Excel workbook (.xlsb); save it as .xlsx or CSV"
    if "word/document.xml" in names:
        return "a Word document; save its text as a .txt file"
    if "ppt/presentation.xml" in names:
        return "a presentation; save its text as a .txt file"
    if "content.xml" in names and "META-INF/manifest.xml" in names:
        return "an OpenDocument file such as .ods; save the sheet as .xlsx or CSV"
    return "an e-book; save its text as a .txt file" if "META-INF/container.xml" in names else ""


def open_sheet(
    name: str,
    opened: Callable[[], Any],
    sheet: str | None,
    *,
    header: bool | None = None,
    skip_bad_rows: bool = False,
) -> AbstractSource:
    """Open a sheet of a workbook; a row's line is its number in the sheet.

    Args:
        name: of the workbook, for messages.
        opened: gives the path, or the file in memory, anew.
        sheet: its name; None takes the first one with data.
        header: whether its first row holds the names of the columns; None detects it.
        skip_bad_rows: as in `open_source`.

    Raises:
        InputError: without openpyxl, or for a workbook that is damaged, or has no such sheet or no data.
    """
    _require_sane(name, opened)
    book = _book(name, opened)
    try:
        sheets = [one.title for one in book.worksheets if one.sheet_state == "visible"]
        hidden = [one.title for one in book.worksheets if one.title not in sheets]
        if sheet is not None and sheet not in (*sheets, *hidden):
            raise InputError(f"{name}: there is no sheet {sheet!r}; the sheets are {_listed(sheets)}.")
        for title in [sheet] if sheet is not None else sheets:
            head = list(islice(_rows(name, book[title]), _HEAD))
            if len(head) > 1:
                return _source(
                    name, opened, title, head, sheets, is_named=sheet is not None, header=header, skip=skip_bad_rows
                )
    finally:
        book.close()
    where = f"the sheet {sheet!r}" if sheet is not None else f"any of the sheets {_listed(sheets)}"
    raise InputError(f"{name}: expected a header and rows of data, found none in {where}; check the workbook.")


def _source(
    name: str,
    opened: Callable[[], Any],
    title: str,
    head: list[tuple[int, list[Any]]],
    sheets: list[str],
    *,
    is_named: bool,
    header: bool | None,
    skip: bool,
) -> AbstractSource:
    notes = []
    if not is_named and len(sheets) > 1:
        notes.append(
            f"Sheet {title!r} is read, the first with data of {_listed(sheets)}; '{name}#{sheets[-1]}' names another."
        )
    above = 0 if header is False else _num_above(head)
    for line, cells in head[:above]:
        told = next(str(cell) for cell in cells if cell is not None)
        notes.append(f"Row {line} ({told[:40]!r}) stands above the header and is left out.")
    head = head[above:]
    if len(head) < 2:
        raise InputError(f"{name}: expected rows of data below the header of the sheet {title!r}, got none.")
    used = [
        place
        for place in range(max(len(cells) for _, cells in head))
        if any(_cell(c, place) is not None for _, c in head)
    ]
    texts = [
        (line, ["" if (v := _cell(row, place)) is None else str(plain(v)) for place in used]) for line, row in head
    ]
    found = read_header(texts, is_tsv=False, header=header)
    columns, first, more = found.columns, found.line, found.notes
    used = used[: len(columns)]
    shown = [[_cell(cells, place) for line, cells in head if line >= first] for place in used]
    if unsaved := [
        column for column, values in zip(columns, shown, strict=True) if not any(v is not None for v in values)
    ]:
        more.append(
            f"Column {unsaved[0]!r} has no values; if it holds formulas, open the workbook in a spreadsheet program "
            "and save it, so that their values are stored."
        )
    converts = [as_date if are_dates(values) else plain for values in shown]

    def batches(size: int) -> Iterator[tuple[Sequence[int], Columns]]:
        book = _book(name, opened)
        try:
            rows = ((line, cells) for line, cells in _rows(name, book[title]) if line >= first)
            while batch := list(islice(rows, size)):
                values = tuple(
                    [convert(_cell(cells, place)) for _, cells in batch]
                    for place, convert in zip(used, converts, strict=True)
                )
                yield [line for line, _ in batch], values
        finally:
            book.close()

    footer = Footer((cells for line, cells in texts if line >= first), len(used))

    def read(bad: BadRows, size: int) -> Iterator[tuple[Sequence[int], Columns]]:
        # An empty cell is a missing value, so every row can be read.
        yield from footer.without(batches(size), bad)

    return RowSource(f"{name}#{title}" if is_named else name, XLSX, columns, notes + more, read, skip_bad_rows=skip)


def _rows(name: str, sheet: Any) -> Rows:
    """The rows of a sheet that have a value."""
    try:
        sheet.reset_dimensions()  # what programs write as the sheet's size is often wrong
        num_cells = num_values = 0
        for line, cells in enumerate(sheet.iter_rows(values_only=True, max_row=MAX_ROWS), start=1):
            num_cells, num_values = num_cells + len(cells), num_values + len(cells) - cells.count(None)
            if num_cells > MAX_EMPTY and num_values * 100 < num_cells:
                raise InputError(
                    f"{name}, line {line}: nearly all cells are empty; delete what stands far to the right."
                )
            values = [None if cell in _ERRORS or cell == "" else cell for cell in cells]
            if any(value is not None for value in values):
                yield line, values
    except InputError:
        raise
    except Exception as error:  # whatever a damaged part makes of openpyxl and its parser of XML
        raise InputError(f"{name}: the workbook is damaged or can't be read ({error}).") from None


def _cell(cells: list[Any], place: int) -> Any:
    return cells[place] if place < len(cells) else None


def _num_above(head: list[tuple[int, list[Any]]]) -> int:
    """How many rows stand above the header: titles, which fill at most half of the usual number of cells."""
    filled = [sum(cell is not None for cell in cells) for _, cells in head]
    usual = Counter(filled[1:]).most_common(1)[0][0]
    count = 0
    while count < min(_ABOVE, len(head) - 2) and filled[count] <= usual / 2:
        count += 1
    return count


def _book(name: str, opened: Callable[[], Any]) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise InputError(
            f"{name}: reading XLSX needs openpyxl; install it with pip install 'thalweg[files]'."
        ) from None
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of openpyxl, on parts of the file that hold no data
            return openpyxl.load_workbook(_with_any_ending(opened()), read_only=True, data_only=True)
    except Exception as error:  # as above
        raise InputError(f"{name}: the workbook is damaged or can't be read ({error}).") from None


def _with_any_ending(opened: Any) -> Any:
    """The workbook as openpyxl takes it, which refuses files by their endings."""
    is_refused = isinstance(opened, Path) and opened.suffix.lower() not in _ENDINGS
    return io.BytesIO(opened.read_bytes()) if is_refused else opened


def _require_sane(name: str, opened: Callable[[], Any]) -> None:
    """Refuse a workbook whose parts are far larger than what people write."""
    try:
        entries = zip_entries(opened())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: the workbook is damaged or can't be read ({error}).") from None
    packed, size = (sum(sizes) for sizes in zip(*((one.compress_size, one.file_size) for one in entries), strict=True))
    require_plausible(name, size, packed, "save the sheet as CSV if you trust it")
    texts = sum(entry.file_size for entry in entries if entry.filename.lower().endswith("sharedstrings.xml"))
    if texts > MAX_STRINGS:
        raise InputError(
            f"{name}: its texts have {texts:,} bytes, and only {MAX_STRINGS:,} are held in memory; save it as CSV."
        )
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise InputError(f"{name}: a part of the workbook is packed as no program does it; save the sheet as CSV.")


def _listed(sheets: list[str]) -> str:
    return ", ".join(map(repr, sheets[:10])) + (" ..." if len(sheets) > 10 else "")
