"""Translation memories (TMX): a row for each unit, a column for each language, parsed as a stream of XML."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, final
from xml.parsers import expat

from thalweg.data.files.base import BadRows, Chunk
from thalweg.data.files.lines import LineReader
from thalweg.errors import InputError

NUM_UNITS: Final = 10_000  # that decide the columns
MAX_TOKEN: Final = 16_000_000  # bytes of one tag or comment
MAX_DEPTH: Final = 100  # elements inside of each other
_PIECE: Final = 1 << 16  # characters that are parsed before their units are given
_NUM_NAMED: Final = 8  # languages in a message
_CODES: Final = ("bpt", "ept", "ph", "it", "ut")  # inline elements that hold marks of another format, and no text
_BREAKS: Final = ("lb", "pb")  # types of marks that end a line or a page
_INDENTED: Final = re.compile(r"[ \t]*\n\s*")
_TMX: Final = re.compile(
    r"\s*(<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE[^\[>]*(\[[^\]]*\]\s*)?>\s*)*<(\w+:)?tmx[\s>]", re.S
)


@final
@dataclass(slots=True)
class Unit:
    """A translation unit: its line, the text in each language (the code as it stands), and what is wrong with it."""

    line: int
    texts: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    repeated: list[str] = field(default_factory=list)  # languages with more than one text


@final
@dataclass(frozen=True, eq=False)
class Memory:
    """Reads the units of a translation memory; a unit that lacks a language gives None."""

    name: str
    columns: tuple[str, ...]
    lines: LineReader
    codes: dict[str, str]  # as `plain_code` has them -> column
    max_length: int  # of a unit, in characters

    def parse(self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int) -> Iterator[Chunk]:
        """All units in chunks of at most `size`; the file is read as a stream of XML, and not by its lines."""
        del blocks
        rows = self._rows(bad)
        while batch := list(islice(rows, size)):
            lines, texts = zip(*batch, strict=True)
            yield Chunk(self.columns, list(lines), tuple([one.get(name) for one in texts] for name in self.columns))

    def _rows(self, bad: BadRows) -> Iterator[tuple[int, dict[str, str]]]:
        for unit in units_of(self.name, self.lines.texts(), self.max_length):
            found: dict[str, str] = {}
            for code, text in unit.texts.items():
                column = self.codes.get(plain_code(code))
                if column is None:
                    bad.leave_out(unit.line, f"a language that the first {NUM_UNITS:,} units lack is left out")
                elif column in found:
                    unit.repeated.append(code)
                else:
                    found[column] = text
            if unit.problem or not found:
                bad.add(unit.line, unit.problem or "the unit has no text")
                continue
            if unit.repeated:
                bad.leave_out(unit.line, "of several texts of one unit in one language the first is read")
            yield unit.line, found


def looks_like_tmx(beginning: str) -> bool:
    """Whether a text begins as a translation memory does.

    Example:
        >>> looks_like_tmx('<?xml version="1.0"?><tmx version="1.4">'), looks_like_tmx("<html>")
        (True, False)
    """
    return _TMX.match(beginning) is not None


def plain_code(code: str) -> str:
    """A language's code without the differences in spelling: "en-us" for "EN_US"."""
    return code.strip().lower().replace("_", "-")


def open_memory(name: str, lines: LineReader, max_length: int) -> tuple[Memory, list[str]]:
    """Return how a translation memory is read, judged by its first units: its languages, the source first; and notes.

    Raises `InputError`, with the line, for damaged XML, another kind of XML, or units in one language only.
    """
    parser = _Units(name, max_length)
    counts: Counter[str] = Counter()
    for unit in islice(parser.units(lines.texts()), NUM_UNITS):
        counts.update(list(dict.fromkeys(map(plain_code, unit.texts))))
    if len(counts) < 2:
        found = f"only {next(iter(counts))!r}" if counts else "no texts"
        raise InputError(f"{name}: expected translation units (<tu>) with texts in two languages, got {found}.")
    codes = _columns(counts)
    totals: Counter[str] = Counter()
    for code, count in counts.items():
        totals[codes[code]] += count
    if len(totals) < 2:
        raise InputError(f"{name}: expected texts in two languages, got {' and '.join(counts)}, which are one.")
    source = _source(parser.source, codes, totals)
    others = [column for column, _ in totals.most_common() if column != source]
    columns = (source, *others)
    notes = [f"Each translation unit is a row; its languages are {_named(columns, totals)}, the source first."]
    if len(columns) > 2:
        notes.append(f"Source and target are {source!r} and the most frequent of the others, {others[0]!r}.")
    joined = [column for column in columns if sum(one == column for one in codes.values()) > 1]
    notes += [
        f"{' and '.join(code for code in codes if codes[code] == column)} are read as one language, {column!r}."
        for column in joined
    ]
    if parser.has_marks:
        notes.append("Marks of formatting inside of texts (bpt, ept, ph, it, ut) are left out; the text in hi is kept.")
    return Memory(name, columns, lines, codes, max_length), notes


def _columns(counts: Counter[str]) -> dict[str, str]:
    """The column of each code: the language where it has one region (and perhaps none), else the code itself."""
    regions: dict[str, list[str]] = {}
    for code in counts:
        regions.setdefault(code.partition("-")[0], []).append(code)
    return {
        code: language if len(same) == 1 or (len(same) == 2 and language in same) else _spelled(code)
        for language, same in regions.items()
        for code in same
    }


def _spelled(code: str) -> str:
    """A code as it is usually written: "pt-BR", "zh-Hant"."""
    first, *rest = code.split("-")
    return "-".join([first, *(part.upper() if len(part) == 2 else part.title() for part in rest)])


def _source(given: str, codes: dict[str, str], totals: Counter[str]) -> str:
    """The column of the language that the header gives as the source, or else the most frequent one."""
    code = plain_code(given)
    if code in codes:
        return codes[code]
    language = code.partition("-")[0]
    same = [column for column in totals if column.lower().partition("-")[0] == language]
    return same[0] if len(same) == 1 else totals.most_common(1)[0][0]


def _named(columns: tuple[str, ...], totals: Counter[str]) -> str:
    listed = [f"{column!r} ({totals[column]:,})" for column in columns[:_NUM_NAMED]]
    more = [f"{len(columns) - _NUM_NAMED} more"] if len(columns) > _NUM_NAMED else []
    return ", ".join([*listed, *more])


def units_of(name: str, texts: Iterator[str], max_length: int) -> Iterator[Unit]:
    """Yield the units of a memory whose text comes in pieces; an InputError tells of damaged or dangerous XML.

    Example:
        >>> memory = '<tmx><body><tu><tuv xml:lang="en"><seg>a <hi>dog</hi></seg></tuv></tu></body></tmx>'
        >>> [unit.texts for unit in units_of("memory.tmx", iter([memory]), 1000)]
        [{'en': 'a dog'}]
    """
    return _Units(name, max_length).units(texts)


@final
class _Units:
    """One pass of expat over a memory. Nothing is fetched, no entity is declared, and no more than a unit is held."""

    def __init__(self, name: str, max_length: int) -> None:
        self.name = name
        self.source = ""  # language, by the header
        self.has_marks = False
        self._max_length = max_length
        self._done: list[Unit] = []
        self._unit: Unit | None = None
        self._language: str | None = None
        self._text: list[str] | None = None  # of the segment that is open
        self._length = self._depth = self._num_hidden = 0  # hidden: elements with marks that are open
        # The text is decoded already, whatever the XML says about its encoding.
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._declared
        parser.SkippedEntityHandler = self._skipped

    def units(self, texts: Iterator[str]) -> Iterator[Unit]:
        """The units, as soon as they are whole."""
        num_bytes = 0
        for piece in (text[at : at + _PIECE] for text in texts for at in range(0, len(text), _PIECE)):
            data = piece.encode("utf-8", "replace")
            num_bytes += len(data)
            self._feed(data)
            yield from self._done
            self._done.clear()
            if num_bytes - self._parser.CurrentByteIndex > MAX_TOKEN + len(data):
                raise self._refused("a tag or a comment is longer than any translation memory has")
        self._feed(b"", is_end=True)
        yield from self._done

    def _feed(self, data: bytes, *, is_end: bool = False) -> None:
        try:
            self._parser.Parse(data, is_end)
        except expat.ExpatError as error:
            raise InputError(
                f"{self.name}, line {error.lineno}: the XML is damaged ({expat.ErrorString(error.code)}, at column "
                f"{error.offset + 1}); correct it there, or export the memory again."
            ) from None

    def _refused(self, what: str) -> InputError:
        return InputError(f"{self.name}, line {self._parser.CurrentLineNumber}: {what}; export the memory again.")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2].lower()
        self._depth += 1
        if self._depth == 1 and tag != "tmx":
            raise InputError(
                f"{self.name}, line {self._parser.CurrentLineNumber}: expected a translation memory (<tmx>), got XML "
                f"that begins with <{tag[:40]}>; convert its elements to CSV or JSON Lines."
            )
        if self._depth > MAX_DEPTH:
            raise self._refused(f"more than {MAX_DEPTH} elements inside of each other")
        if self._text is not None:
            if tag in _CODES:
                self._num_hidden += 1
                self.has_marks = True
                if attributes.get("type", "").lower() in _BREAKS:
                    self._text.append(" ")
        elif tag == "header":
            self.source = attributes.get("srclang", "")
        elif tag == "tu":
            self._unit, self._length = Unit(self._parser.CurrentLineNumber), 0
        elif tag == "tuv" and self._unit is not None:
            self._language = attributes.get("xml:lang") or attributes.get("lang")
            if not (self._language or "").strip():
                self._unit.problem = "a text has no language (xml:lang)"
        elif tag == "seg" and self._language:
            self._text = []

    def _end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2].lower()
        self._depth -= 1
        if tag in _CODES and self._num_hidden:
            self._num_hidden -= 1
        elif tag == "seg" and self._text is not None:
            unit, language = self._unit, self._language
            if unit is not None and language:
                if any(plain_code(code) == plain_code(language) for code in unit.texts):
                    unit.repeated.append(language)
                else:
                    unit.texts[language] = _INDENTED.sub(" ", "".join(self._text)).strip()
            self._text, self._num_hidden = None, 0
        elif tag == "tuv":
            self._language = None
        elif tag == "tu" and self._unit is not None:
            self._done.append(self._unit)
            self._unit = None

    def _characters(self, text: str) -> None:
        if self._text is None or self._num_hidden:
            return
        self._length += len(text)
        if self._length <= self._max_length:
            self._text.append(text)
        elif self._unit is not None:
            self._unit.problem = f"the texts are longer than {self._max_length:,} characters"

    def _declared(self, entity: str, *rest: Any) -> None:
        del rest
        raise self._refused(f"the document type declares an entity ({entity[:40]}), which is never expanded here")

    def _skipped(self, entity: str, is_parameter: bool) -> None:
        if not is_parameter and self._unit is not None:
            self._unit.problem = f"the entity &{entity[:40]}; is not defined in XML"
