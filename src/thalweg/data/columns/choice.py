"""Which columns a task reads, and the rules by which it knows them, with the choice told in a sentence."""

import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, final

from thalweg.data.columns.facts import ColumnFacts, column_facts, shortened
from thalweg.data.columns.notation import PLAIN, Notation, notations_of
from thalweg.data.columns.scores import text_score
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError

NUM_ROWS: Final = 1000  # rows looked at
CLOSE: Final = 0.35  # another column whose score comes this near to the best is named to the user
NO_COLUMN: Final = "none"  # named by the user for an optional role, which then stays empty
NUM_SHOWN: Final = 12  # column names in a message
MARKS: Final = {".": "point", ",": "comma"}  # what decimal marks are called


@final
class Kind(enum.Enum):
    """What the columns of a role hold."""

    TEXT = "text"
    WORDS = "words"
    LABEL = "label"
    TAGS = "tags"
    NUMBER = "number"
    SERIES = "series"
    TIME = "time"
    ID = "id"


@final
@dataclasses.dataclass(frozen=True)
class Choice:
    """Which columns a task reads.

    Args:
        task: the task's name.
        columns: role -> column, such as `{"text": "review", "label": "stars"}`.
        sentence: the choice in words, and how to choose others.
        series: numeric columns, for a task that reads any number of them, in the file's order.
        separator: the character between several labels of one row; None when a row has one, or a list.
        is_multilabel: whether a row may have several labels.
        notations: column -> how its numbers are written, for each column of numbers.
        unclear: sentences about columns whose numbers can be read in two ways; they are not trained on.
        label_columns: the columns whose labels are read together, under their joined names in `columns`; none: one.
        is_one_hot: whether each of these is a label, which a row has where it holds 1.
        label_names: what these labels are called, where not as their columns.
        na_is_missing: whether "NA", "none" ... in the column of labels mean that there is no label.
        joined: role -> columns that are read together, the first of which stands in `columns`: year and month.
    """

    task: str
    columns: dict[str, str]
    sentence: str
    series: tuple[str, ...] = ()
    separator: str | None = None
    is_multilabel: bool = False
    notations: Mapping[str, Notation] = dataclasses.field(default_factory=dict)
    unclear: tuple[str, ...] = ()
    label_columns: tuple[str, ...] = ()
    is_one_hot: bool = False
    label_names: tuple[str, ...] = ()
    na_is_missing: bool = False

    @classmethod
    def of_plain(cls, task: str, columns: Mapping[str, Any]) -> "Choice":
        """Return the choice that `plain` told of, without its sentence."""
        roles = {role: name for role, name in columns.items() if isinstance(name, str) and role != "separator"}
        return cls(
            task,
            roles,
            "",
            series=tuple(columns.get("series", ())),
            separator=columns.get("separator"),
            is_multilabel=bool(columns.get("multilabel")),
            label_columns=tuple(columns.get("label_columns", ())),
            is_one_hot=bool(columns.get("one_hot")),
            label_names=tuple(columns.get("label_names", ())),
            na_is_missing=bool(columns.get("na_is_missing")),
            notations=notations_of(columns),
        )

    joined: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the columns as plain values, as a task's `Settings.columns` has them."""
        columns: dict[str, Any] = {**self.columns, **{role: list(names) for role, names in self.joined.items()}}
        if self.series:
            columns["series"] = list(self.series)
        if self.is_multilabel:
            columns |= {"multilabel": True, "separator": self.separator}
        written = {column: one.name for column, one in self.notations.items() if one != PLAIN}
        if written:
            columns["notations"] = written  # `notations_of` reads them back
        if self.label_columns:
            columns |= {"label_columns": list(self.label_columns), "one_hot": self.is_one_hot}
        if self.na_is_missing:
            columns["na_is_missing"] = True
        return columns

    def check(self) -> "Choice":
        """Return the choice; an InputError tells of numbers that can be read in two ways."""
        if self.unclear:
            raise InputError(" ".join(self.unclear))
        return self


@final
@dataclasses.dataclass
class Table:
    """The columns of a source while their roles are being decided.

    Args:
        source: the data.
        named: role -> the column that the user named for it.
        named_series: the columns that the user named where a role may have several; None if none were named.
        named_labels: several columns that the user named for the labels; none: one at most.
        declined: roles that the user wants to stay empty.
        decimal: the decimal mark that the user named; "" where the values decide.
        named_columns: the columns that the user named for a role that several may have together.
    """

    source: AbstractSource
    named: dict[str, ColumnFacts] = dataclasses.field(default_factory=dict)
    named_series: tuple[str, ...] | None = None
    named_labels: tuple[ColumnFacts, ...] = ()
    declined: frozenset[str] = frozenset()
    decimal: str = ""
    doubts: dict[str, str] = dataclasses.field(default_factory=dict)
    named_columns: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def _rows(self) -> list[Any]:
        return self.source.head(NUM_ROWS + 1)

    @property
    def rows(self) -> list[Any]:
        """The rows that are looked at."""
        return self._rows[:NUM_ROWS]

    @functools.cached_property
    def facts(self) -> list[ColumnFacts]:
        """What the first 1,000 rows say about each column."""
        return column_facts(self.source.columns, self._rows[:NUM_ROWS], self.decimal)

    def values(self, one: ColumnFacts) -> list[Any]:
        """Return the first 1,000 values of a column."""
        return [row.values[one.position] for row in self._rows[:NUM_ROWS]]

    @property
    def looked_at(self) -> str:
        """What a count of values refers to, as the end of a phrase; empty where all rows were looked at."""
        return f" in the first {NUM_ROWS:,} rows" if len(self._rows) > NUM_ROWS else ""

    def best(
        self, role: str, score: Callable[[ColumnFacts], float | None], taken: Iterable[ColumnFacts] = ()
    ) -> ColumnFacts | None:
        """Return the column the user named for a role, or else the first of those with the highest score.

        Args:
            role: what is looked for; columns nearly as good are noted as a doubt about it.
            score: how well a column fits; None if it can't be.
            taken: columns that have another role.
        """
        if role in self.named:
            return self.named[role]
        taken = (*taken, *self.named.values())
        scored = [(value, one) for one in self.facts if one not in taken and (value := score(one)) is not None]
        if not scored:
            return None
        scored.sort(key=lambda pair: (-pair[0], pair[1].position))
        near = [repr(one.name) for value, one in scored[1:] if value > scored[0][0] - CLOSE]
        if near:
            self.doubts[role] = f"other candidates for the {role} column: {', '.join(near[:2])}"
        return scored[0][1]

    def text(self, task: str, taken: Iterable[ColumnFacts] = ()) -> ColumnFacts:
        """Return the column of texts.

        Raises:
            InputError: if there is none.
        """
        found = self.best("text", text_score, taken)
        if found is None:
            raise self.fail(f"a column of texts for the task {task}", "name it with --text-column")
        return found

    def fail(self, what: str, how: str) -> InputError:
        """Return an error that says what was expected, which columns there are, and what to do."""
        names = shortened([*map(repr, self.source.columns)], NUM_SHOWN)
        return InputError(f"{self.source.name}: expected {what}, found none among the columns {names}; {how}.")

    def sentence(self, text: str) -> str:
        """Return a choice in words, with the doubts about it and how to choose others."""
        return f"{'; '.join([text, *self.doubts.values()])}; --text-column and --label-column choose others."


@final
@dataclasses.dataclass(frozen=True)
class Rule:
    """A sign that a table is for a task.

    Args:
        score: how much the sign says, in (0, 1]; the strongest one that is seen decides. See the constants below.
        reason: the sign, as half a sentence for the user.
        holds: whether a table has it.
    """

    score: float
    reason: str
    holds: Callable[[Table], bool]


# How much a sign says. Between two of them the one that fewer tables have by accident is the stronger.
FORMAT: Final = 1.0  # the kind of file leaves no doubt
LISTS: Final = 0.95  # lists of words beside lists: no other data look like that
PAIR_AND_NUMBER: Final = 0.9  # three columns that belong together, by names or contents
NAMED: Final = 0.8  # a column's name says what it is for
TYPICAL: Final = 0.75  # a column's values can hardly be anything else
PARTS: Final = 0.72  # several columns are called parts of one thing
PAIR: Final = 0.7  # two columns that belong together
LIKELY: Final = 0.6  # a column's values look like it
POSSIBLE: Final = 0.5  # a column's values do not speak against it
REST: Final = 0.1  # nothing else fits


@final
@dataclasses.dataclass(frozen=True)
class TaskColumns:
    """The columns that a task reads, and how they are recognized.

    Args:
        task: the task's name.
        roles: role -> what such columns hold, in the order in which the user is told.
        choose: decides the columns of a table, those that the user named first.
        rules: the signs by which the task knows its data; without any, it must be named with `--task`.
        options: what `--text-column` ("text") and `--label-column` ("label") mean where the roles have other names.
        optional: roles that the user may decline, by naming the column "none".
        objection: why a table that is guessed to be for the task is not, as a sentence; "" where nothing says so.
    """

    task: str
    roles: Mapping[str, Kind]
    choose: Callable[[Table], Choice]
    rules: tuple[Rule, ...] = ()
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    objection: Callable[[Sequence[ColumnFacts]], str] = lambda facts: ""  # noqa: ARG005

    def option_of(self, role: str) -> str:
        """Return the general role ("text", "label") under which the user names this one, or the role itself."""
        return next((option for option, meant in self.options.items() if meant == role), role)


def choose_columns(
    source: AbstractSource,
    task: TaskColumns,
    named: Mapping[str, str | None] | None = None,
    *,
    decimal: str = "",
) -> Choice:
    """Decide which columns a task reads, by their names and by the first 1,000 rows.

    Args:
        source: the data.
        task: the task's columns, such as `thalweg.names.task_columns("classify")`.
        named: role -> column name, for roles that the user has decided; None means not decided, "none" that an
            optional role stays empty. All tasks understand "text" and "label": for a translation they stand for source
            and target, for tagging for words and tags, for a score "label" is the number, and for a forecast the
            series (several names are separated by commas). A classification may have several columns of labels, too,
            in the same way.
        decimal: the decimal mark of the numbers, "." or ","; "" where their own notation decides.

    Returns:
        The choice, with a sentence for the user. Where numbers can be read in two ways, `Choice.check` refuses it.

    Raises:
        InputError: when a named column does not exist, or no column fits a role.

    Example:
        >>> from thalweg import names
        >>> from thalweg.data.builtin.catalog import SAMPLES
        >>> choose_columns(SAMPLES["sunspots"], names.task_columns("forecast")).series
        ('sunspots',)
    """
    table = table_of(source, task, named or {}, decimal)
    return _with_notations(task.choose(table), task, table)


def table_of(source: AbstractSource, task: TaskColumns, named: Mapping[str, str | None], decimal: str) -> Table:
    """Return a table with the columns that the user named for the task's roles; an InputError where one is missing."""
    given = {task.options.get(role, role): name for role, name in named.items() if name}
    declined = {role for role, name in given.items() if name == NO_COLUMN and name not in source.columns}
    declined = {role for role in declined if role in task.optional or role not in task.roles}
    given = {role: name for role, name in given.items() if role not in declined}
    for role in given:
        if role not in task.roles:
            raise InputError(f"The task {task.task} has no {role} column; it has {' and '.join(task.roles)}.")
    table = Table(source, declined=frozenset(declined), decimal=decimal)
    for role, name in given.items():
        if task.roles[role] is Kind.SERIES:
            table.named_series = _several(source, name)
        elif task.roles[role] in (Kind.TIME, Kind.ID):
            table.named_columns[role] = _several(source, name)
        elif task.roles[role] is Kind.LABEL and name not in source.columns and "," in name:
            names = dict.fromkeys(existing(source, part.strip()) for part in name.split(",") if part.strip())
            table.named_labels = tuple(table.facts[source.columns.index(part)] for part in names)
        else:
            table.named[role] = table.facts[source.columns.index(existing(source, name))]
    if len({one.name for one in table.named.values()}) < len(table.named):
        roles, name = " and ".join(table.named), next(iter(table.named.values())).name
        raise InputError(f"{source.name}: the {roles} columns must be different, got {name!r}.")
    return table


def _with_notations(choice: Choice, task: TaskColumns, table: Table) -> Choice:
    """A choice with the notations of its columns of numbers, told in its sentence."""
    chosen = [name for role, name in choice.columns.items() if task.roles[role] is Kind.NUMBER]
    numbers = [one for one in table.facts if one.name in (*chosen, *choice.series)]
    for one in numbers:
        if table.decimal and one.notation.decimal != table.decimal and (one.has_decimals or one.notation.thousands):
            raise InputError(
                f"{table.source.name}: the numbers of column {one.name!r} have no decimal {MARKS[table.decimal]}: "
                f"{(one.example or one.notation.name)!r}; leave out --decimal, or name other columns."
            )
    return dataclasses.replace(
        choice,
        sentence=" ".join([choice.sentence, *told_notations(numbers)]),
        notations={one.name: one.notation for one in numbers},
        unclear=tuple(_unclear(table.source.name, one) for one in numbers if one.other_notation is not None),
    )


def told_notations(numbers: Iterable[ColumnFacts]) -> list[str]:
    """Return a sentence about each column that is not written in plain numbers, with an example."""
    told: dict[str, list[ColumnFacts]] = {}
    for one in numbers:
        if one.notation != PLAIN and one.other_notation is None:
            told.setdefault(one.notation.words, []).append(one)
    sentences = []
    for words, columns in told.items():
        names = shortened([repr(one.name) for one in columns], NUM_SHOWN)
        example, verb = columns[0].example, "is" if len(columns) == 1 else "are"
        shown = f": {example} is read as {columns[0].notation.number(example):.12g}" if example else ""
        sentences.append(f"{names} {verb} written {words}{shown}.")
    return sentences


def _unclear(name: str, one: ColumnFacts) -> str:
    """Return a sentence about numbers that can be read in two ways."""
    other = one.other_notation
    assert other is not None
    readings = {notation.decimal: notation.number(one.example) for notation in (one.notation, other)}
    shown = " or ".join(f"{number:.12g} (--decimal {mark})" for mark, number in readings.items())
    return (
        f"{name}: the numbers of column {one.name!r} can be read in two ways: {one.example!r} is {shown}; say which "
        "with --decimal."
    )


def _several(source: AbstractSource, names: str) -> tuple[str, ...]:
    """The columns of names separated by commas, or the one column whose name has a comma."""
    if names in source.columns:
        return (names,)
    return tuple(existing(source, part.strip()) for part in names.split(",") if part.strip())


def existing(source: AbstractSource, name: str) -> str:
    """Return a column's name as the source spells it, ignoring case where one column matches; else an InputError."""
    if name in source.columns:
        return name
    same = [column for column in source.columns if column.lower() == name.lower()]
    if len(same) == 1:
        return same[0]
    listed = shortened([*map(repr, source.columns)], 20)
    raise InputError(f"{source.name}: there is no column {name!r}; the columns are {listed}.")
