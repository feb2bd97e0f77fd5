"""A look at a data file before training: counts, labels, lengths, duplicates, contradictions, empty texts."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, final

from thalweg.data.columns import problems
from thalweg.data.columns.choice import Choice, Kind, TaskColumns
from thalweg.data.columns.facts import as_text
from thalweg.data.columns.reading import UNEQUAL, Fault, read_as
from thalweg.data.files.base import NUM_LISTED, AbstractSource, BadRow, Chunk
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
    looked_for: list[str]  # what the findings are about
    num_rows: int  # rows that can be read
    num_bad_rows: int  # rows that can't
    bad_rows: list[BadRow]
    num_unusable: int  # rows that can be read, and hold a value that the task can't use
    unusable_rows: list[BadRow]
    num_unlabeled: int  # rows without a label, which are left out
    unlabeled_lines: list[int]
    labels: dict[str, int]  # label or tag -> number of occurrences, the most frequent first
    rare_labels: list[str]  # the labels (not tags) with fewer than 10 rows
    label_problems: list[str]  # sentences about labels that may not be what they look like
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
    num_valid_unusable: int  # rows of the validation file that can't be read or used
    valid_unusable_rows: list[BadRow]
    preview: list[dict[str, Any]]  # the first rows, by the name of the chosen columns

    def to_json(self) -> dict[str, Any]:
        """Plain values only, ready for `json.dumps`; a bad row is an object with line and reason."""
        plain = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        plain["choice"] = dataclasses.asdict(self.choice)
        plain["choice"]["notations"] = {column: one.name for column, one in self.choice.notations.items()}
        for name in ("lengths", "numbers", "conflicts"):
            plain[name] = [dataclasses.asdict(one) for one in plain[name]]
        for name in ("bad_rows", "unusable_rows", "valid_unusable_rows"):
            plain[name] = [{"line": line, "reason": reason} for line, reason in plain[name]]
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
    is_running: bool = False,
) -> Inspection:
    """Read a data file once and say what is in it; texts are hashed, not kept, so memory stays small.

    `choice` comes from `choose_columns`; a validation file with the same columns is searched for what both share; texts
    of more than `max_length` words are counted, and `num_examples` of each finding listed. Texts are the same if they
    are once they are normalized. Of a running text, whose lines are no examples, those that come again, are empty or
    long are not counted. Unreadable data, or a validation file that lacks a chosen column, is an InputError.
    """
    max_length = None if is_running else max_length
    look = _Look(task, choice, num_examples, max_length, num_preview, normalize, is_running=is_running)
    read = read_as(source, task, choice, skip_bad_rows=True, on_fault=look.add_fault, keeps_gaps=True)
    for chunk in read.chunks():
        look.add(chunk)
    source, shared, valid = read.source, Finding[int](num_examples), None
    num_valid, unseen = 0, {}
    if valid_source is not None:
        valid = read_as(valid_source, task, choice, skip_bad_rows=True, keeps_gaps=True)
        num_valid, unseen = _compare(look, valid, shared)
    labels = dict(look.labels.most_common())
    conflicts = look.conflicts.result(num_examples)
    return Inspection(
        name=source.name,
        kind=source.kind,
        task=task.task,
        columns=source.columns,
        choice=choice,
        notes=[*source.notes, *source.remarks],
        looked_for=look.looked_for(has_limit=max_length is not None, has_valid=valid is not None),
        num_rows=look.num_rows + read.num_unusable_rows,
        num_bad_rows=source.num_bad_rows,
        bad_rows=list(source.bad_rows),
        num_unusable=read.num_unusable_rows,
        unusable_rows=look.unusable,
        num_unlabeled=look.unlabeled.count,
        unlabeled_lines=look.unlabeled.first,
        labels=labels,
        rare_labels=look.rare(labels),
        label_problems=look.label_problems(labels),
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
        num_valid_unusable=valid.num_bad_rows if valid else 0,
        valid_unusable_rows=list(valid.bad_rows) if valid else [],
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
        *,
        is_running: bool,
    ) -> None:
        self.is_running = is_running
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
        self.unlabeled = Finding[int](num_examples)
        self.unusable: list[BadRow] = []

    def add_fault(self, fault: Fault) -> None:
        """Count a row that the task can't use."""
        if len(self.unusable) < NUM_LISTED:
            self.unusable.append(BadRow(fault.line, fault.reason))
        if fault.column in self.numbers:
            self.numbers[fault.column].add(fault.line, fault)
        if fault.what == UNEQUAL:
            self.unequal.add(fault.line)

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
                num_words = len(value) if isinstance(value, list) else len(as_text(value).split())
                if num_words or not self.is_running:
                    lengths.add(line, num_words)
        if self.texts:
            for line, key, text, target in self.keyed(chunk):
                self._remember(line, key, text, target)
        for line, labels in zip(chunk.lines, self.label_lists(chunk), strict=False):
            self.labels.update(labels)
            if not labels and self.target_kind is Kind.LABEL and not self.choice.is_multilabel:
                self.unlabeled.add(line)

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
            return f"{value:g}"  # 5 and 5.00 are no contradiction
        if self.target_kind is Kind.LABEL:
            return ", ".join(sorted(value)) if isinstance(value, list) else value
        return as_text(value).strip()

    def label_lists(self, chunk: Chunk) -> Iterator[list[str]]:
        """The labels of each row, or its tags."""
        if self.target is None or self.target_kind is Kind.NUMBER:
            return
        for value in chunk.column(self.target):
            yield (
                [one for one in value if one is not None]
                if isinstance(value, list)
                else []
                if value is None
                else [value]
            )

    def rare(self, labels: dict[str, int]) -> list[str]:
        """The labels of few rows; a sentence has many tags, so that these are not rows."""
        is_label = self.target_kind is Kind.LABEL
        return [label for label, count in labels.items() if is_label and count < MIN_ROWS_OF_A_LABEL]

    def label_problems(self, labels: dict[str, int]) -> list[str]:
        """Sentences about labels with which nothing can be learned, or that may not be what they look like."""
        if self.target is None or self.target_kind not in (Kind.LABEL, Kind.TAGS):
            return []
        noun = "label" if self.target_kind is Kind.LABEL else "tag"
        if len(labels) < 2:
            sentence = problems.one_label(list(labels), self.target, noun)
            return [f"{sentence[0].upper()}{sentence[1:]}"]
        once = problems.all_once(labels.values(), self.target) if noun == "label" else ""
        first = [f"{once[0].upper()}{once[1:]}"] if once else []
        return [*first, *problems.label_sentences(labels, self.target, noun)]

    def looked_for(self, *, has_limit: bool, has_valid: bool) -> list[str]:
        """What the findings are about, with these columns."""
        kind, found = self.target_kind, ["rows that can't be read or used"]
        if self.texts:
            found += [] if self.is_running else ["repeated texts", "empty texts"]
            found += ["texts longer than --max-length"] if has_limit else []
        noun = {Kind.LABEL: "label", Kind.TAGS: "tag", Kind.NUMBER: "number"}.get(kind) if kind else None
        if noun and self.texts:
            found.append(f"texts with different {noun}s")
        if kind is Kind.LABEL:
            found += ["rows without a label", "labels of few rows"]
        if kind in (Kind.LABEL, Kind.TAGS):
            found += [f"a single {noun}", f"{noun}s written in several ways"]
        if self.numbers:
            found += ["missing numbers", "numbers that stand for missing ones", "columns that never change"]
        if has_valid and self.texts:
            found.append("validation texts that are trained on")
        if has_valid and kind in (Kind.LABEL, Kind.TAGS):
            found.append(f"validation {noun}s that training lacks")
        return found

    def _remember(self, line: int, key: int, text: str, target: str | None) -> None:
        answer = Answer.of(line, target)
        first = self.seen.setdefault(key, answer)
        if first is answer:
            return
        if not self.is_running:
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
