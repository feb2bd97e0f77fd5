"""Files and streams in, rows out: CSV, TSV, JSON Lines, CoNLL and CoNLL-U, plain text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, final

from thalweg.data.containers.container import open_container
from thalweg.data.files.base import KINDS, AbstractSource, BadRows, Chunk
from thalweg.data.files.conll import open_sentences
from thalweg.data.files.delimited import Table, open_table
from thalweg.data.files.detection import LINES, is_memory, kind_of, suffix_of
from thalweg.data.files.formats.fasttext import open_labeled_lines
from thalweg.data.files.formats.foreign import refuse_by_ending
from thalweg.data.files.formats.tmx import open_memory
from thalweg.data.files.jsonl import JsonLines, is_one_document, open_json_lines
from thalweg.data.files.lines import MAX_LINE_LENGTH, LineReader
from thalweg.data.files.nested.documents import MAX_LENGTH as MAX_DOCUMENT
from thalweg.data.files.nested.documents import Document, open_document
from thalweg.errors import InputError

_SAMPLE_LENGTH: Final = 2_000_000  # characters that are looked at to find the format, at most
_SAMPLE_LINES: Final = 5_000
CUT: Final = ("csv", "tsv", "jsonl", "fasttext", "text")  # kinds of files whose rows end where lines do


@final
@dataclass(eq=False, repr=False)
class FileSource(AbstractSource):
    """A file that can be read again and again; made by `open_source`."""

    name: str
    kind: str  # one of `KINDS`
    columns: tuple[str, ...]
    notes: list[str]
    lines: LineReader
    _parse: Callable[[Iterator[tuple[int, str]], BadRows, int], Iterator[Chunk]]  # blocks, bad rows, a chunk's size
    table: Table | None = None  # how its rows are taken apart, where they are those of a table
    is_piece: bool = False  # whether it is some of the lines of a file

    @property
    def uncut(self) -> str:
        """Why its rows can't be read from the middle of the file on, as the end of a sentence; "" where they can."""
        if self.kind not in CUT:
            return f"is {self.kind}, of which {', '.join(CUT)} alone can be read from the middle on"
        if self.lines.unmarked or self.lines.is_wide:
            return "is not UTF-8"
        return "has a word in each row" if self.table is not None and self.table.sentences is not None else ""

    def on(self, piece: bytes, line: int, position: int, *, is_end: bool) -> "FileSource":
        """Return whole rows of the file as a source: the bytes, the line of the first (from 1), and where it begins.

        What stands below a table is looked for at the end of the file alone.
        """
        parse = self._parse if is_end or self.table is None else self.table.goes_on().parse
        return replace(self, lines=self.lines.on(piece, line, position), is_piece=True, _parse=parse)

    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """All rows from the beginning, at most `size` at a time.

        Raises `InputError`, with file and line, when the rest can't be read, more than 1 % of the rows are bad, or
        there is no row at all.
        """
        bad = self._begin(skip=self.lines.skip_bad_rows)
        num_rows = 0
        for chunk in self._parse(self.lines.blocks(bad), bad, size):
            num_rows += len(chunk)
            bad.check(num_rows=num_rows, at_end=False)
            yield chunk
        bad.check(num_rows=num_rows, at_end=not self.is_piece)
        if not self.is_piece and not num_rows and not (bad.waiting is not None and bad.count):
            raise InputError(f"{self.name}: expected rows of data, got none that can be read; check the file.")


@final
@dataclass(frozen=True)
class _PlainText:
    """Each line of a text is a row, empty ones too: joined by line ends they are the text again."""

    columns: tuple[str, ...] = ("text",)

    def parse(self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int) -> Iterator[Chunk]:
        del bad  # there is no bad line but those that the line reader finds
        for first, text in blocks:
            lines = text[:-1].split("\n")
            for start in range(0, len(lines), size):
                part = lines[start : start + size]
                yield Chunk(self.columns, range(first + start, first + start + len(part)), (part,))


def open_source(
    path: str | Path,
    *,
    kind: str | None = None,
    skip_bad_rows: bool = False,
    header: bool | None = None,
    max_line_length: int = MAX_LINE_LENGTH,
    once: bool = False,
) -> AbstractSource:
    r"""Open a data file: detect its format and its columns; the rows are read when asked for.

    | kind | endings | a row |
    | --- | --- | --- |
    | csv | .csv | values by column; the delimiter is the one of ``, ; tab |`` that fits |
    | tsv | .tsv .tab | the same with tabs; quotation marks are part of the text; a header is not needed |
    | jsonl | .jsonl .ndjson .json | the values of an object; the columns are its keys |
    | conll, conllu | .conll .conllu .bio .iob | a sentence: lists of words, of tags ... |
    | tmx | .tmx | a translation unit: its text in each language |
    | text | .txt .text .md .rst | a line |

    An ending .xz, .gz or .bz2 may follow; with any other ending the content decides.

    Args:
        path: the file.
        kind: one of `KINDS`; None detects it automatically.
        skip_bad_rows: skip rows that can't be read, however many; otherwise more than 1 % are an error.
        header: whether the first row of a CSV or TSV file holds the names of the columns; None detects it.
        max_line_length: in characters; a longer line is a bad row, and is never held in memory as a whole.

        once: whether the file may also be a pipe, which can be read once only; it is copied first.

    Returns:
        A source: `columns`, `notes`, `chunks()`, `rows()`, `bad_rows`, `num_bad_rows`.

    Raises:
        InputError: when the file can't be opened, is empty, or is not data of this kind.
        ValueError: when `kind` is not one of `KINDS`.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "reviews.csv"
        >>> _ = path.write_text("text,label\n'a fine film',good\n")
        >>> source = open_source(path)
        >>> source.kind, source.columns, [row.values for row in source.rows()]
        ('csv', ('text', 'label'), [("'a fine film'", 'good')])
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"open_source(kind=...) must be one of {', '.join(KINDS)}; got {kind!r}.")
    if str(path) == "-":
        raise InputError("-: standard input can be read only once, as a stream; use --online, or save it to a file.")
    if kind is None:
        refuse_by_ending(Path(path))
    options: dict[str, Any] = {"skip_bad_rows": skip_bad_rows, "header": header}
    open_file = partial(open_source, kind=kind, max_line_length=max_line_length, **options)
    if (opened := open_container(path, open_file, **options)) is not None:
        return opened
    path = Path(path)
    lines = LineReader(path, max_line_length=max_line_length, skip_bad_rows=skip_bad_rows, once=once)
    name = str(path)
    if kind == "tmx" or (kind is None and is_memory(path, lines.beginning())):  # whose lines may have any length
        memory, notes = open_memory(name, lines, max_line_length)
        return FileSource(name, "tmx", memory.columns, [*notes, *_unmarked(lines)], lines, memory.parse)
    bad = BadRows(name, skip=True)
    sample, is_whole = _sample(lines, bad)
    if not sample.strip("\n") and kind in (None, "json") and lines.beginning().lstrip()[:1] in ("[", "{"):
        kind = "json"  # one long line
    elif not sample.strip("\n"):
        if bad.first:
            raise InputError(
                f"{name}, line {bad.first[0].line}: {bad.first[0].reason}, and no line before it could be read; check "
                "that the file is text with line breaks."
            )
        raise InputError(f"{name}: expected rows of data, got an empty file; check that it was saved.")
    notes: list[str] = []
    are_lines = kind == "jsonl" or suffix_of(path) in LINES  # and not one value, even where there is one line
    if kind is None:
        kind, notes = kind_of(path, sample)
    if kind in ("csv", "tsv"):
        form, more = open_table(name, sample, is_tsv=kind == "tsv", header=header, max_field_length=max_line_length)
        kind = "tsv" if form.dialect.delimiter == "\t" and not form.dialect.has_quotes else "csv"
    elif kind == "json" or (kind == "jsonl" and not are_lines and is_whole and is_one_document(sample)):
        kind = "json"
        form, more = open_document(name, lines.whole(MAX_DOCUMENT, "JSON Lines, for example with jq -c '.[]'"))
    elif kind == "jsonl":
        form, more = open_json_lines(name, sample, is_whole=is_whole)
    elif kind in ("conll", "conllu"):
        form, more = open_sentences(name, sample)
    elif kind == "fasttext":
        form, more = open_labeled_lines(name, sample)
    else:
        form, more = _PlainText(), []
    table = form if isinstance(form, Table) else None
    source = FileSource(name, kind, form.columns, [*notes, *more, *_unmarked(lines)], lines, form.parse, table)
    if isinstance(form, JsonLines | Document):
        source.left_out = form.layout.left_out
    return source


def _unmarked(lines: LineReader) -> list[str]:
    return [f"Its zero bytes show that the file is {lines.unmarked} without a byte-order mark."] * bool(lines.unmarked)


def _sample(lines: LineReader, bad: BadRows) -> tuple[str, bool]:
    """The first lines, and whether they are all."""
    texts, length, num_lines = [], 0, 0
    for _, text in lines.blocks(bad):
        texts.append(text)
        length, num_lines = length + len(text), num_lines + text.count("\n")
        if length > _SAMPLE_LENGTH or num_lines > _SAMPLE_LINES:
            return "\n".join("".join(texts).removesuffix("\n").split("\n", _SAMPLE_LINES)[:_SAMPLE_LINES]) + "\n", False
    return "".join(texts), True
