"""Where the columns that a run was trained on stand in another file."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, final

from thalweg import names
from thalweg.data.columns.choice import NUM_ROWS, NUM_SHOWN, Kind, TaskColumns, existing
from thalweg.data.columns.facts import is_missing, shortened
from thalweg.data.columns.recognition import recognize
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.training.recipe.options import OPTIONS

NAMED: Final = {
    name: name.removesuffix("_column").replace("columns", "series")
    for name in OPTIONS
    if re.search("_column$|^columns$", name)
}
"""Options that name a column -> the role that they name it for, by its general name."""


SEVERAL: Final = frozenset(name for name, role in NAMED.items() if role == "label")
"""The option that may name several columns, whose labels are read together."""


@final
@dataclasses.dataclass(frozen=True)
class Found:
    """The columns of a file for a run.

    Args:
        columns: role -> column, as `thalweg.tasks.base.Settings.columns`.
        plain: whether the only column is plain text, whatever it is called.
        notes: sentences about columns that are not called as those of the training data were.
    """

    columns: dict[str, Any]
    plain: bool = False
    notes: tuple[str, ...] = ()


def find_columns(
    task: str, trained: Mapping[str, Any], source: AbstractSource, named: Mapping[str, Any], roles: Iterable[str]
) -> Found:
    """Return where a file has the columns that a run was trained on.

    A column of another spelling is taken where only the case differs; a text that is wanted alone may also be the only
    column of a file, or its lines.

    Args:
        task: the run's task.
        trained: role -> column of the training data (`data.json`).
        source: the file.
        named: the options of `NAMED` that were given.
        roles: which of the columns are wanted.

    Raises:
        InputError: if a column is missing; the option that names another is told.
    """
    known = names.task_columns(task)
    columns, notes, plain = dict(trained), [], False
    for option, value in named.items():
        if option in NAMED and value and not (option in SEVERAL and trained.get("label_columns")):
            role = known.options.get(NAMED[option], NAMED[option])
            if role not in trained:
                flag = f"--{option.replace('_', '-')}"
                raise InputError(
                    f"{flag}: this run of task {task} has no such column; it reads {_read(known, trained)}."
                )
            columns[role] = _spelled(source, value, several=isinstance(trained[role], list | tuple))
    roles = [*roles]
    if "label" in roles:
        _find_labels(source, columns, named)
    elif columns.get("label_columns"):  # a file to be answered has no labels
        columns = {role: name for role, name in columns.items() if role not in ("label", "label_columns", "one_hot")}
    wanted = [role for role in roles if role in columns and not (role == "label" and columns.get("label_columns"))]
    for role in wanted:
        missing = [name for name in _listed(columns[role]) if name not in source.columns]
        if not missing:
            continue
        if len(wanted) == 1 and role != "series" and len(source.columns) == 1:
            columns[role], plain = source.columns[0], True
            if source.kind != "text":
                notes.append(f"The only column, {source.columns[0]!r}, is read as the {role}.")
            continue
        spelled = {name: _other_case(source, name) for name in missing}
        lost = next((name for name, other in spelled.items() if other is None), None)
        if lost is not None:
            flag = _flag(known, role)
            raise InputError(
                f"{source.name} has no column {lost!r}, which the run was trained on; it has "
                f"{shortened([*map(repr, source.columns)], NUM_SHOWN)}. Name the column with {flag}."
            )
        renamed = [spelled.get(name) or name for name in _listed(columns[role])]
        columns[role] = renamed if isinstance(columns[role], list | tuple) else renamed[0]
        notes += [f"Column {other!r} is read as {name!r}." for name, other in spelled.items()]
    plain = plain or (source.kind == "text" and len(wanted) == 1)
    pairs = [zip(_listed(trained[role]), _listed(columns[role]), strict=False) for role in wanted]
    called = {old: new for pair in pairs for old, new in pair}
    written = columns.get("notations", {})
    if written:  # the numbers of a column that is called otherwise are written as in training
        columns["notations"] = {called.get(name, name): how for name, how in written.items()}
    if named.get("decimal"):
        numeric = [role for role in wanted if known.roles[role] in (Kind.NUMBER, Kind.SERIES)]
        asked = {name: _notation(source, name, named["decimal"]) for role in numeric for name in _listed(columns[role])}
        columns["notations"] = {**columns.get("notations", {}), **asked}
    return Found(columns, plain, tuple(notes))


def _find_labels(source: AbstractSource, columns: dict[str, Any], named: Mapping[str, Any]) -> None:
    """Put the columns of several labels into their place; an InputError names one that is missing."""
    names = columns.get("label_columns")
    if names:
        (option,) = SEVERAL
        given = _spelled(source, named[option], several=True) if named.get(option) else None
        if given is not None and len(given) != len(names):
            flag = OPTIONS[option].flag
            raise InputError(f"{flag}: this run reads {len(names)} columns of labels; got {len(given)}.")
        lost = next((name for name in given or names if name not in source.columns), None)
        if lost is not None:
            raise InputError(
                f"{source.name} has no column {lost!r}, which the run was trained on; it has "
                f"{shortened([*map(repr, source.columns)], NUM_SHOWN)}. Name the columns with {OPTIONS[option].flag}."
            )
        if given and given != names and columns.get("one_hot"):
            columns["label_names"] = names
        columns["label_columns"] = given or names


def _spelled(source: AbstractSource, value: Any, *, several: bool) -> Any:
    """Return named columns as the file spells them; a text may name several, with commas between them."""
    parts = value if isinstance(value, list | tuple) else [value]
    if several:
        parts = [part for one in parts for part in ([one] if one in source.columns else one.split(","))]
        return [existing(source, part.strip()) for part in parts if part.strip()]
    return existing(source, parts[0])


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _notation(source: AbstractSource, column: str, decimal: str) -> str:
    """Return how the numbers of a column are written, whose decimal mark is known."""
    place = source.columns.index(column)
    values = [value for row in source.head(NUM_ROWS) if not is_missing(value := row.values[place])]
    found = recognize(values, decimal)
    if found is None:
        raise InputError(f"{source.name}: column {column!r} holds no numbers with the decimal mark {decimal!r}.")
    return found.notation.name


def _other_case(source: AbstractSource, name: str) -> str | None:
    same = [column for column in source.columns if column.strip().lower() == name.strip().lower()]
    return same[0] if len(same) == 1 else None


def _flag(known: TaskColumns, role: str) -> str:
    """Return the option that names the column of a role."""
    general = known.option_of(role)
    option = next((name for meant in (role, general) for name in NAMED if NAMED[name] == meant), "text_column")
    return OPTIONS[option].flag


def _read(known: TaskColumns, trained: Mapping[str, Any]) -> str:
    return " and ".join(role for role in known.roles if role in trained)
