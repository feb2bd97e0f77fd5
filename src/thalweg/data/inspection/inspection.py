"""A look at a data file before training: counts, labels, lengths, duplicates, contradictions, empty texts."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, final

from thalweg.data.columns.choice import Choice, Kind, TaskColumns
from thalweg.data.columns.facts import as_text, is_missing
from thalweg.data.columns.notation import number_of
from thalweg.data.columns.reading import ReadSource
from thalweg.data.files.base import AbstractSource, BadRow, Chunk
from thalweg.data.inspection.conflicts import Answer, Conflict, ConflictTally, hash_of
from thalweg.data.inspection.tallies import SHOWN_LENGTH, Finding, Lengths, LengthTally, Numbers, NumberTally
from thalweg.errors import InputError

MIN_ROWS_OF_A_LABEL: Final = 10  # of fewer not one would be among the tenth that validates


@final
@dataclass(frozen=True)
class Inspection:
    """What `inspect` found; of the rows behind each count, the first few are listed."""

    name: str  # of the file
    kind: str  # csv, tsv, jsonl, conll, conllu, text or sample
    task: str  # that the columns were chosen for
    columns: tuple[str, ...]  # all columns
    choice: Choice  # the columns chosen, with the sentence about it
    notes: list[str]  # choices made while opening the file
    num_rows: int  # rows that can be read
    num_bad_rows: int  # rows that can't
    bad_rows: list[BadRow]
    labels: dict[str, int]  # label or tag -> number of occurrences, the most frequent first
    rare_labels: list[str]  # the labels (not tags) with fewer than 10 rows
    lengths: list[Lengths]  # of each column of texts
    numbers: list[Numbers]  # of each column of numbers
    num_duplicates: int  # rows whose text (pair of texts) came before
    duplicates: list[tuple[int, int, str]]  # line, line of the first, beginning of the text
    num_conflicts: int  # texts that come with different labels (tags, numbers)
    num_conflict_rows: int  # rows with one of these texts
    conflict_errors: int  # so many of these rows every model that reads the text alone gets wrong at least
    conflict_nats: float | None  # and their cross-entropies add up to so many nats at least; None: not one label a row
    conflicts: list[Conflict]  # the costliest first
    num_unequal: int  # rows with more words than tags, or fewer
    unequal_lines: list[int]
    num_valid_rows: int  # rows of the validation file; 0 without one
    num_shared: int  # rows of the validation file whose text is also in the data
    shared_lines: list[int]  # in the validation file
    unseen_labels: dict[str, int]  # labels of the validation file that the data lack -> number of occurrences
    preview: list[dict[str, Any]]  # the first rows, by the name of the chosen columns

    def to_json(self) -> dict[str, Any]:
        """Plain values only, ready for `json.dumps`; a bad row is an object with line and reason."""
        plain = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        plain["choice"] = dataclasses.asdict(self.choice)
        plain["choice"]["notations"] = {column: one.name for column, one in self.choice.notations.items()}
        for name in ("lengths", "numbers", "conflicts"):
            plain[name] = [dataclasses.asdict(one) for one in plain[name]]
        plain["bad_rows"] = [{"line": line, "reason": reason} for line, reason in self.bad_rows]
        return plain


def inspect(
    source: AbstractSource,
    task: TaskColumns,
    choice: Choice,
    *,
    valid_source: AbstractSource | None = None,
    max_length: int | None = None,
    normalize: Callable[[str], str] = str,
    num_preview: int = 5,
    num_examples: int = 5,
) -> Inspection:
    """Read a data file once and say what is in it; texts are hashed, not kept, so memory stays small.

    `choice` comes from `choose_columns`; a validation file with the same columns is searched for what both share; texts
    of more than `max_length` words are counted, and `num_examples` of each finding listed. Texts are the same if they
    are once they are normalized. Unreadable data, or a validation file that lacks a chosen column, is an InputError.
    """
    source = source.source if isinstance(source, ReadSource) else source
    valid_source = valid_source.source if isinstance(valid_source, ReadSource) else valid_source
    look = _Look(task, choice, num_examples, max_length, num_preview, normalize)
    for chunk in source.chunks():
        look.add(chunk)
    shared: Finding[int] = Finding(num_examples)
    num_valid, unseen = _compare(look, valid_source, shared) if valid_source else (0, {})
    labels = dict(look.labels.most_common())
    conflicts = look.conflicts.result(num_examples)
    return Inspection(
        name=source.name,
        kind=source.kind,
        task=task.task,
        columns=source.columns,
        choice=choice,
        notes=list(source.notes),
        num_rows=look.num_rows,
        num_bad_rows=source.num_bad_rows,
        bad_rows=list(source.bad_rows),
        labels=labels,
        rare_labels=look.rare(labels),
        lengths=[tally.result() for tally in look.lengths.values()],
        numbers=[tally.result() for tally in look.numbers.values()],
        num_duplicates=look.duplicates.count,
        duplicates=look.duplicates.first,
        num_conflicts=conflicts.num_texts,
        num_conflict_rows=conflicts.num_rows,
        conflict_errors=conflicts.errors,
        conflict_nats=conflicts.nats,
        conflicts=list(conflicts.worst),
        num_unequal=look.unequal.count,
        unequal_lines=look.unequal.first,
        num_valid_rows=num_valid,
        num_shared=shared.count,
        shared_lines=shared.first,
        unseen_labels=unseen,
        preview=look.preview,
    )


@final
class _Look:
    """One pass over the data."""

    def __init__(
        self,
        task: TaskColumns,
        choice: Choice,
        num_examples: int,
        max_length: int | None,
        num_preview: int,
        normalize: Callable[[str], str],
    ) -> None:
        self.choice = choice
        self.num_preview = num_preview
        self.normalize = normalize
        self.preview: list[dict[str, Any]] = []
        self.columns = {task.roles[role]: choice.columns[role] for role in task.roles if role in choice.columns}
        texts = [role for role, kind in task.roles.items() if kind in (Kind.TEXT, Kind.WORDS)]
        self.texts = [choice.columns[role] for role in texts if role in choice.columns]
        self.target_kind = next((kind for kind in (Kind.LABEL, Kind.TAGS, Kind.NUMBER) if kind in self.columns), None)
        self.target = self.columns[self.target_kind] if self.target_kind else None
        self.lengths = {name: LengthTally(name, num_examples, max_length) for name in self.texts}
        numbers = [*choice.series, *([self.columns[Kind.NUMBER]] if Kind.NUMBER in self.columns else [])]
        self.numbers = {name: NumberTally(name, num_examples) for name in numbers}
        self.labels: Counter[str] = Counter()
        self.seen: dict[int, Answer] = {}  # hash of a text -> the answer of the first row that has it
        self.num_rows = 0
        self.duplicates = Finding[tuple[int, int, str]](num_examples)
        self.conflicts = ConflictTally(single=self.target_kind is Kind.LABEL and not choice.is_multilabel)
        self.unequal = Finding[int](num_examples)

    def add(self, chunk: Chunk) -> None:
        self.num_rows += len(chunk)
        if room := self.num_preview - len(self.preview):
            shown = [*self.choice.columns.values(), *self.choice.series]
            rows = zip(*(chunk.column(name)[:room] for name in shown), strict=True)
            self.preview.extend(dict(zip(shown, row, strict=True)) for row in rows)
        for name, numbers in self.numbers.items():
            for line, value in zip(chunk.lines, chunk.column(name), strict=True):
                numbers.add(line, value)
        for name, lengths in self.lengths.items():
            for line, value in zip(chunk.lines, chunk.column(name), strict=True):
                lengths.add(line, len(value) if isinstance(value, list) else len(as_text(value).split()))
        if self.texts:
            for line, key, text, target in self.keyed(chunk):
                self._remember(line, key, text, target)
        for labels in self.label_lists(chunk):
            self.labels.update(labels)
        if Kind.WORDS in self.columns and Kind.TAGS in self.columns:
            words, tags = chunk.column(self.columns[Kind.WORDS]), chunk.column(self.columns[Kind.TAGS])
            for line, one, other in zip(chunk.lines, words, tags, strict=True):
                if not (isinstance(one, list) and isinstance(other, list) and len(one) == len(other)):
                    self.unequal.add(line)

    def keyed(self, chunk: Chunk) -> Iterator[tuple[int, int, str, str | None]]:
        """Line, hash of the text (pair of texts), text, and target (None: it has none) of each row that has a text."""
        columns = [[as_text(value).strip() for value in chunk.column(name)] for name in self.texts]
        targets = [None] * len(chunk) if self.target is None else map(self._target, chunk.column(self.target))
        for line, texts, target in zip(chunk.lines, zip(*columns, strict=True), targets, strict=True):
            if any(texts):
                yield line, hash_of("\0".join(map(self.normalize, texts))), texts[0], target

    def _target(self, value: Any) -> str | None:
        """What must be the same for two rows not to contradict each other; None for a row without a label."""
        if self.target_kind is Kind.NUMBER:
            number = number_of(value)
            if number is not None:
                return f"{number:g}"  # 5 and 5.00 are no contradiction
            return None if is_missing(value) else as_text(value)
        if self.target_kind is Kind.LABEL and self.choice.is_multilabel:
            parts = value if isinstance(value, list) else as_text(value).split(self.choice.separator)
            return ", ".join(sorted({part for part in (as_text(one).strip() for one in parts) if part}))
        text = as_text(value).strip()
        return None if self.target_kind is Kind.LABEL and not text else text

    def label_lists(self, chunk: Chunk) -> Iterator[list[str]]:
        """The labels of each row, or its tags."""
        if self.target is None or self.target_kind is Kind.NUMBER:
            return
        separator = self.choice.separator
        for value in chunk.column(self.target):
            if isinstance(value, list):
                yield [as_text(one) for one in value]
            elif separator and isinstance(value, str):
                yield [part.strip() for part in value.split(separator) if part.strip()]
            elif not (value is None or value == ""):
                yield [as_text(value)]

    def rare(self, labels: dict[str, int]) -> list[str]:
        """The labels of few rows; a sentence has many tags, so that these are not rows."""
        is_label = self.target_kind is Kind.LABEL
        return [label for label, count in labels.items() if is_label and count < MIN_ROWS_OF_A_LABEL]

    def _remember(self, line: int, key: int, text: str, target: str | None) -> None:
        answer = Answer.of(line, target)
        first = self.seen.setdefault(key, answer)
        if first is answer:
            return
        self.duplicates.add((line, first.line, text[:SHOWN_LENGTH]))
        if first.shown is None:
            self.seen[key] = answer  # a row without a label contradicts nobody
        elif target is not None:
            self.conflicts.add(key, text, first, answer)


def _compare(look: _Look, valid: AbstractSource, shared: Finding[int]) -> tuple[int, dict[str, int]]:
    """Number of rows of the validation file, and labels the data lack; `shared` takes the lines the data have too."""
    for name in (*look.texts, *([look.target] if look.target else []), *look.choice.series):
        if name not in valid.columns:
            listed = ", ".join(map(repr, valid.columns))
            raise InputError(f"{valid.name}: expected the column {name!r}, as in the training data; got {listed}.")
    num_rows = 0
    unseen: Counter[str] = Counter()
    for chunk in valid.chunks():
        num_rows += len(chunk)
        if look.texts:
            for line, key, _, _ in look.keyed(chunk):
                if key in look.seen:
                    shared.add(line)
        for labels in look.label_lists(chunk):
            unseen.update(label for label in labels if label not in look.labels)
    return num_rows, dict(unseen.most_common())
