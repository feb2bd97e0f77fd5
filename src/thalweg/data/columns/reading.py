"""One reading of the chosen columns: the same values and the same unusable rows, whoever reads them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple, final

from typing_extensions import override

from thalweg.data.columns.choice import Choice, Kind, TaskColumns
from thalweg.data.columns.facts import as_text, is_missing, is_text, kind_of, shortened
from thalweg.data.columns.label_values import label_of, labels_of, shown, truth
from thalweg.data.columns.notation import PLAIN
from thalweg.data.files.base import AbstractSource, BadRow, BadRows, Chunk
from thalweg.errors import InputError

MAX_REMEMBERED: Final = 2**16  # different fields whose labels are remembered, so that memory stays bounded
NUM_LABELS: Final = 8  # known labels in a message

SOME_TAGS: Final = "words without a tag (_) in column {!r} count neither in the loss nor in the scores"
NO_TAGS: Final = "no word has a tag in column {!r}, so the sentence is left out"

ONE_HOT: Final = "correct it (a label of its own may have a column)"

MISSING, UNREADABLE, UNEQUAL, UNSEEN = "missing", "unreadable", "unequal", "unseen"


@final
class Fault(NamedTuple):
    """Why a row can't be used: its line and column, what is wrong (`MISSING`, ...), the value, and two half sentences.

    `reason` says what was expected and got, `remedy` what can be done besides leaving the row out.
    """

    line: int
    column: str
    what: str
    value: Any
    reason: str
    remedy: str = "correct it"


class _UnusableError(Exception):
    """A value that can't be used: what is wrong, and the reason."""


_Values = list[Any]
_Faults = dict[int, Fault]  # by the place of the row in its chunk
_Reader = Callable[[Chunk, _Faults], tuple[str, _Values]]  # gives a column's name and its values


def read_as(
    source: AbstractSource,
    task: TaskColumns,
    choice: Choice,
    *,
    skip_bad_rows: bool,
    known_labels: Collection[str] | None = None,
    roles: Collection[str] | None = None,
    on_fault: Callable[[Fault], None] | None = None,
    keeps_gaps: bool = False,
    is_piece: bool = False,
) -> "ReadSource":
    """Return the source with the chosen columns as the task reads them.

    A text is a text, also an empty one (null is none). Numbers are float (None where a series lacks one), a label is a
    text without spaces around it (None where the row has none), several labels are a list, words and tags are lists of
    texts. Everything else is as in the source. Rows with a value that the task can't use are left out and counted with
    those that can't be read.

    Args:
        source: the data.
        task: the task's columns.
        choice: which of them the data have; columns that the source lacks are left to the task to complain about.
        skip_bad_rows: whether rows that can't be used are left out; otherwise the first one is an InputError.
        known_labels: the labels (tags) that there may be; None: any. See also `ReadSource.know`.
        roles: the roles to read; None: all of the choice.
        on_fault: takes what is wrong with each row that is left out.
        keeps_gaps: whether rows in which a series has no value stay even so; they do where no row may be left out.
        is_piece: whether it is some rows of others, so that it may have none that can be used.

    Example:
        >>> from thalweg import names
        >>> from thalweg.data.builtin.catalog import SAMPLES
        >>> from thalweg.data.columns.choice import choose_columns
        >>> task = names.task_columns("score")
        >>> source = read_as(SAMPLES["phrases"], task, choose_columns(SAMPLES["phrases"], task), skip_bad_rows=False)
        >>> type(source.head(1)[0].values[2])
        <class 'float'>
    """
    source = source.source if isinstance(source, ReadSource) else source
    return ReadSource(source, task, choice, skip_bad_rows, roles, on_fault, known_labels, keeps_gaps, is_piece)


@final
class ReadSource(AbstractSource):
    """A source whose chosen columns hold what the task reads; made by `read_as`."""

    def __init__(
        self,
        source: AbstractSource,
        task: TaskColumns,
        choice: Choice,
        skip_bad_rows: bool,
        roles: Collection[str] | None,
        on_fault: Callable[[Fault], None] | None,
        known_labels: Collection[str] | None,
        keeps_gaps: bool,
        is_piece: bool,
    ) -> None:
        self.source = source
        self._is_piece = is_piece
        self.skip_bad_rows = skip_bad_rows
        self.name, self.kind, self.notes = source.name, source.kind, source.notes
        self._keeps_gaps = keeps_gaps or not skip_bad_rows
        self.num_rows = 0  # that the latest pass gave
        self._on_fault = on_fault
        self._unlabeled = BadRows(self.name, skip=True)
        self._known: frozenset[str] | None = None
        self._listed = ""
        joined = choice.columns.get("label") if choice.label_columns else None
        self.columns = (*source.columns, joined) if joined and joined not in source.columns else source.columns
        kinds = {role: kind for role, kind in task.roles.items() if roles is None or role in roles}
        self._readers = self._readers_of(kinds, choice)
        if known_labels is not None:
            self.know(known_labels)

    def know(self, labels: Collection[str]) -> None:
        """From now on rows with other labels (tags) than these can't be used."""
        self._known = frozenset(labels)
        self._listed = shortened(list(labels), NUM_LABELS)

    @property
    @override
    def num_bad_rows(self) -> int:
        return self.source.num_bad_rows + (self._bad.count if self._bad else 0)

    @property
    @override
    def bad_rows(self) -> list[BadRow]:
        return sorted([*self.source.bad_rows, *(self._bad.first if self._bad else ())])

    @property
    def num_unusable_rows(self) -> int:
        """How many of the bad rows could be read, and hold a value that the task can't use."""
        return self._bad.count if self._bad else 0

    @property
    def unlabeled(self) -> list[BadRow]:
        """The first rows (at most 20) of the latest pass that can be read and have no label: they are no examples."""
        return self._unlabeled.first

    @override
    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """All rows that the task can use, from the beginning."""
        bad, self._unlabeled = self._begin(skip=True), BadRows(self.name, skip=True)
        num_rows = self.num_rows = 0
        for chunk in self._source_chunks(size):
            read = self._read(chunk)
            num_rows += len(read)
            self.num_rows = num_rows
            if len(read):
                yield read
        bad.said += self.source.remarks
        if not num_rows and not self._is_piece:
            first = f" (line {bad.first[0].line}: {bad.first[0].reason})" if bad.first else ""
            raise InputError(f"{self.name}: expected rows of data, got none that can be used{first}; check the file.")

    def _source_chunks(self, size: int) -> Iterator[Chunk]:
        if self._waiting is None or self.source.kind == "sample":  # a built-in set has no bad rows
            yield from self.source.chunks(size)
            return
        self.source._waiting = self._waiting  # its bad rows are this one's
        try:
            yield from self.source.chunks(size)
        finally:
            self.source._waiting = None

    def _read(self, chunk: Chunk) -> Chunk:
        faults: _Faults = {}
        read = dict(reader(chunk, faults) for reader in self._readers)
        columns = [read.get(name) or chunk.column(name) for name in self.columns]
        if not faults:
            return Chunk(self.columns, chunk.lines, tuple(columns))
        for place in sorted(faults):
            self._leave_out(faults[place])
        rows = [place for place in range(len(chunk)) if place not in faults]
        lines = [chunk.lines[place] for place in rows]
        return Chunk(self.columns, lines, tuple([column[place] for place in rows] for column in columns))

    def _leave_out(self, fault: Fault) -> None:
        if not self.skip_bad_rows and self._waiting is None:
            raise InputError(
                f"{self.name}, line {fault.line}: {fault.reason}; {fault.remedy}, or leave such rows out with "
                "--skip-bad-rows (thalweg data lists them)."
            )
        assert self._bad is not None
        self._bad.add(fault.line, fault.reason)
        if self._on_fault is not None:
            self._on_fault(fault)

    def _readers_of(self, kinds: dict[str, Kind], choice: Choice) -> list[_Reader]:
        readers: list[_Reader] = []
        for role, kind in kinds.items():
            column = choice.columns.get(role)
            if kind is Kind.LABEL and choice.label_columns:
                if column is not None and set(choice.label_columns) <= set(self.source.columns):
                    readers.append(self._several_columns(column, choice))
            elif column in self.source.columns:
                readers += [reader for reader in [self._reader(column, kind, choice)] if reader is not None]
        names = [name for name in choice.series if name in self.source.columns]
        if Kind.SERIES in kinds.values():
            readers += [self._number(name, choice, is_series=True) for name in names]
        tokens, tags = (choice.columns.get(role) for role in ("tokens", "tags"))
        if tokens in self.source.columns and tags in self.source.columns and {"tokens", "tags"} <= set(kinds):
            readers.append(self._as_many(tokens, tags))
        return readers

    def _reader(self, column: str, kind: Kind, choice: Choice) -> _Reader | None:
        if kind is Kind.TEXT:
            return _text(column)
        if kind is Kind.LABEL:
            return self._labels(column, choice) if choice.is_multilabel else self._label(column, choice)
        if kind is Kind.NUMBER:
            return self._number(column, choice, is_series=False)
        if kind in (Kind.WORDS, Kind.TAGS):
            return self._words(column, are_tags=kind is Kind.TAGS)
        return None

    def _note_unlabeled(self, chunk: Chunk, column: str, labels: _Values) -> None:
        if None in labels:
            for line, label in zip(chunk.lines, labels, strict=True):
                if label is None:
                    self._unlabeled.add(line, f"no label in column {column!r}")

    def _unseen(self, line: int, column: str, name: str, noun: str = "label") -> Fault:
        where = f"in column {column!r} " if noun == "label" else ""
        reason = f"{noun} {name!r} {where}is not among the {noun}s of the training data ({self._listed})"
        return Fault(line, column, UNSEEN, name, reason, "correct it, add examples of it to the training data")

    def _label(self, column: str, choice: Choice) -> _Reader:
        known = _Remembered(lambda value: label_of(value, na_is_missing=choice.na_is_missing))

        def read(chunk: Chunk, faults: _Faults) -> tuple[str, _Values]:
            values = known.many(chunk.column(column))
            self._note_unlabeled(chunk, column, values)
            if known.has_faults or self._known is not None:
                for place, name in enumerate(values):
                    if isinstance(name, _UnusableError):
                        faults[place] = _fault(chunk, place, column, name)
                    elif self._known is not None and name is not None and name not in self._known:
                        faults[place] = self._unseen(chunk.lines[place], column, name)
            return column, values

        return read

    def _labels(self, column: str, choice: Choice) -> _Reader:
        known = _Remembered(lambda value: labels_of(value, choice.separator))

        def read(chunk: Chunk, faults: _Faults) -> tuple[str, _Values]:
            values = known.many(chunk.column(column))
            if known.has_faults or self._known is not None:
                for place, names in enumerate(values):
                    if isinstance(names, _UnusableError):
                        faults[place] = _fault(chunk, place, column, names)
                    elif self._known is not None and not self._known.issuperset(names):
                        name = next(name for name in names if name not in self._known)
                        faults[place] = self._unseen(chunk.lines[place], column, name)
            return column, values

        return read

    def _several_columns(self, joined: str, choice: Choice) -> _Reader:
        """The labels of several columns: their values, or the names of those that say yes."""
        columns, called = choice.label_columns, choice.label_names or choice.label_columns
        known = _Remembered(truth if choice.is_one_hot else label_of)

        def read(chunk: Chunk, faults: _Faults) -> tuple[str, _Values]:
            found: list[list[str]] = [[] for _ in range(len(chunk))]
            for column, label in zip(columns, called, strict=True):
                for place, value in enumerate(known.many(chunk.column(column))):
                    if isinstance(value, _UnusableError):
                        faults.setdefault(place, _fault(chunk, place, column, value))
                    elif value and (name := label if choice.is_one_hot else value) not in found[place]:
                        found[place].append(name)
            for place, names in enumerate(found):
                if not choice.is_multilabel and (len(names) > 1 or (not names and choice.is_one_hot)):
                    got = f"{len(names)} ({shortened(names, NUM_LABELS)})" if names else "0 in each column"
                    reason = f"expected one label as in the first rows, got {got}"
                    faults.setdefault(place, Fault(chunk.lines[place], joined, UNREADABLE, names, reason, ONE_HOT))
                if self._known is not None and not self._known.issuperset(names):
                    name = next(name for name in names if name not in self._known)
                    faults.setdefault(place, self._unseen(chunk.lines[place], joined, name))
            if choice.is_multilabel:
                return joined, found
            labels = [names[0] if names else None for names in found]
            self._note_unlabeled(chunk, joined, [True if place in faults else one for place, one in enumerate(labels)])
            return joined, labels

        return read

    def _number(self, column: str, choice: Choice, *, is_series: bool) -> _Reader:
        number_of = choice.notations.get(column, PLAIN).number

        def read(chunk: Chunk, faults: _Faults) -> tuple[str, _Values]:
            values = chunk.column(column)
            found: _Values = [number_of(value) for value in values]
            for place, number in enumerate(found):
                if number is None and not (is_series and self._keeps_gaps and is_missing(values[place])):
                    faults.setdefault(place, _no_number(chunk, place, column, values[place]))
            return column, found

        return read

    def _words(self, column: str, *, are_tags: bool) -> _Reader:
        if are_tags and self.kind in ("conll", "conllu"):
            return self._some_tags(column)

        def read(chunk: Chunk, faults: _Faults) -> tuple[str, _Values]:
            found: _Values = []
            for place, value in enumerate(chunk.column(column)):
                words = value.split() if isinstance(value, str) else value
                line, are_texts = chunk.lines[place], isinstance(words, list) and all(map(_is_word, words))
                found.append([word if type(word) is str else str(word) for word in words] if are_texts else words)
                if are_tags and isinstance(words, list) and (None in words or "" in words):
                    number = next(number for number, tag in enumerate(words, 1) if tag in (None, ""))
                    reason = f"word {number} has no tag in column {column!r}"
                    faults.setdefault(place, Fault(line, column, MISSING, value, reason))
                elif not are_texts:
                    reason = f"expected a list of texts in column {column!r}, got {shown(value)}"
                    faults.setdefault(place, Fault(line, column, UNREADABLE, value, reason))
                elif are_tags and self._known is not None and not self._known.issuperset(found[-1]):
                    name = next(name for name in found[-1] if name not in self._known)
                    faults.setdefault(place, self._unseen(line, column, name, "tag"))
            return column, found

        return read

    def _some_tags(self, column: str) -> _Reader:
        """Tags of which some are not given, as CoNLL has them; such words are read and None."""

        def read(chunk: Chunk, faults: _Faults) -> tuple[str, _Values]:
            assert self._bad is not None
            found = chunk.column(column)
            for line, (place, tags) in zip(chunk.lines, enumerate(found), strict=True):
                if not any(tags):
                    self._unlabeled.add(line, f"no word has a tag in column {column!r}")
                if None in tags:
                    self._bad.leave_out(line, (SOME_TAGS if any(tags) else NO_TAGS).format(column))
                if self._known is not None and not self._known.issuperset(filter(None, tags)):
                    name = next(name for name in tags if name is not None and name not in self._known)
                    faults.setdefault(place, self._unseen(line, column, name, "tag"))
            return column, found

        return read

    def _as_many(self, words: str, tags: str) -> _Reader:
        """Finds rows with more words than tags, or fewer."""

        def read(chunk: Chunk, faults: _Faults) -> tuple[str, _Values]:
            both = [
                [value.split() if isinstance(value, str) else value for value in chunk.column(column)]
                for column in (words, tags)
            ]
            for place, (one, other) in enumerate(zip(*both, strict=True)):
                if isinstance(one, list) and isinstance(other, list) and len(one) != len(other):
                    reason = f"expected a tag for each word, got {len(one)} words and {len(other)} tags"
                    faults[place] = Fault(chunk.lines[place], tags, UNEQUAL, other, reason)
            return "", []

        return read


def _text(column: str) -> _Reader:
    def read(chunk: Chunk, faults: _Faults) -> tuple[str, _Values]:
        values = chunk.column(column)
        if set(map(type, values)) == {str}:
            return column, values
        for place, value in enumerate(values):
            if not is_text(value):
                reason = f"expected a text in column {column!r}, got {kind_of(value)}"
                what, remedy = (UNREADABLE, "correct it") if isinstance(value, dict) else (MISSING, "fill it in")
                faults.setdefault(place, Fault(chunk.lines[place], column, what, value, reason, remedy))
        return column, [value if type(value) is str else as_text(value) for value in values]

    return read


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _no_number(chunk: Chunk, place: int, column: str, value: Any) -> Fault:
    is_empty = is_missing(value)
    got = f"an empty value ({value!r})" if is_empty else shown(value)
    reason = f"expected a number in column {column!r}, got {got}"
    what, remedy = (MISSING, "fill it in") if is_empty else (UNREADABLE, "correct it")
    return Fault(chunk.lines[place], column, what, value, reason, remedy)


def _fault(chunk: Chunk, place: int, column: str, error: _UnusableError) -> Fault:
    value = chunk.column(column)[place]
    return Fault(chunk.lines[place], column, UNREADABLE, value, f"{error} in column {column!r}")


@final
class _Remembered(dict[str, Any]):
    """What the texts of a column stand for, worked out once for each; an `_UnusableError` in place of what failed."""

    def __init__(self, meaning: Callable[[Any], Any]) -> None:
        self._meaning = meaning
        self.has_faults = False

    def many(self, values: Sequence[Any]) -> _Values:
        if set(map(type, values)) == {str}:
            return list(map(self.__getitem__, values))
        return [self[value] if type(value) is str else self._of(value) for value in values]

    def __missing__(self, value: str) -> Any:
        found = self._of(value)
        if len(self) < MAX_REMEMBERED:
            self[value] = found
        return found

    def _of(self, value: Any) -> Any:
        try:
            return self._meaning(value)
        except ValueError as error:
            self.has_faults = True
            return _UnusableError(*error.args)
