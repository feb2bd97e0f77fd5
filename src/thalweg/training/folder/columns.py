"""Where the columns that a run was trained on stand in another file."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, final

from thalweg import names
from thalweg.data.columns.choice import NO_COLUMN, NUM_ROWS, NUM_SHOWN, Kind, TaskColumns, existing, table_of
from thalweg.data.columns.facts import is_missing, shortened
from thalweg.data.columns.recognition import recognize
from thalweg.data.files.base import AbstractSource
from thalweg.data.files.table.header import made_up
from thalweg.errors import InputError
from thalweg.training.recipe.options import OPTIONS, READING

NAMED: Final = {
    name: name.removesuffix("_column").replace("columns", "series")
    for name in OPTIONS
    if re.search("_column$|^columns$", name)
}
"""Options that name a column -> the role that they name it for, by its general name."""


FOR_FILES: Final = READING - {"skip_bad_rows"}
"""Options that say how a file is read, in Python: what is done about bad rows has a name of its own there."""

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


def check_reading(verb: str, given: Mapping[str, Any], others: Iterable[str] = ()) -> None:
    """Raise an InputError that names an option that is none of `FOR_FILES`, and none of the others of this verb."""
    known = sorted({*FOR_FILES, *others})
    lost = next((name for name in given if name not in known), None)
    if lost is not None:
        raise InputError(f"{verb} has no option {lost!r}; it takes {', '.join(known)}.")


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
            if value == NO_COLUMN and role in known.optional and value not in source.columns:
                del columns[role]
                continue
            several = isinstance(trained[role], list | tuple) or known.roles[role] in (Kind.TIME, Kind.ID)
            columns[role] = _spelled(source, value, several=several)
    roles = [*roles]
    notes += _find_moments(known, source, columns)
    if "label" in roles:
        _find_labels(source, columns, named)
    elif columns.get("label_columns"):  # a file to be answered has no labels
        columns = {role: name for role, name in columns.items() if role not in ("label", "label_columns", "one_hot")}
    wanted = [role for role in roles if role in columns and not (role == "label" and columns.get("label_columns"))]
    notes += _take_unnamed(known, source, columns, wanted)
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
            raise InputError(_lacks(source, lost, _flag(known, role)))
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


def _take_unnamed(
    known: TaskColumns, source: AbstractSource, columns: dict[str, Any], wanted: Iterable[str]
) -> list[str]:
    """Put the first columns of a file without names into the places of a source and its target, and say so."""
    roles = [role for role in known.roles if role in wanted]
    nameless = ("source", "target") if source.kind == "parallel" else made_up(len(source.columns))
    is_other = source.columns == nameless and not any(_other_case(source, columns[role]) for role in roles)
    if "source" not in known.roles or not is_other or len(source.columns) < max(2, len(roles)):
        return []
    pairs = [(name, role, columns[role]) for name, role in zip(source.columns, roles, strict=False)]
    columns |= {role: name for name, role, _ in pairs}
    told = " and ".join(f"{name!r} is read as the {role}, {old!r} in training" for name, role, old in pairs)
    return [f"{source.name} has no names of columns, so {told}."]


def _find_moments(known: TaskColumns, source: AbstractSource, columns: dict[str, Any]) -> list[str]:
    """Put the columns of moments and of the names of series into their places, and return what was done, in sentences.

    Without moments rows are in their order; without names nobody knows which series they are of.
    """
    notes = []
    for role in [role for role, kind in known.roles.items() if kind in (Kind.TIME, Kind.ID) and role in columns]:
        names = _listed(columns[role])
        spelled = [name if name in source.columns else _other_case(source, name) for name in names]
        found = [name for name in spelled if name is not None]
        if len(found) < len(names) and known.roles[role] is Kind.ID:
            lost = next(name for name, other in zip(names, spelled, strict=True) if other is None)
            raise InputError(_lacks(source, lost, _flag(known, role)))
        if len(found) < len(names):
            found = _moments_in(known, source, columns)
            told = f"Column {', '.join(map(repr, found))} is read as the {role}."
            if not found:
                del columns[role]
                told = (
                    f"{source.name} has no column {names[0]!r} of moments, so its rows are taken in their order, "
                    f"oldest first ({_flag(known, role)} names another column)."
                )
            notes.append(told)
        elif found != names:
            notes += [
                f"Column {new!r} is read as {old!r}." for old, new in zip(names, found, strict=True) if old != new
            ]
        if found:
            columns[role] = found if len(found) > 1 else found[0]
    return notes


def _moments_in(known: TaskColumns, source: AbstractSource, columns: Mapping[str, Any]) -> list[str]:
    """Return the columns that say when the rows were, as a training would find them; none where nothing does."""
    series = {role: ",".join(names) for role, names in columns.items() if known.roles.get(role) is Kind.SERIES}
    try:
        plain = known.choose(table_of(source, known, series, "")).plain()
    except InputError:  # of a column that is missing, which is told where it is wanted
        return []
    return next((_listed(plain[role]) for role, kind in known.roles.items() if kind is Kind.TIME and role in plain), [])


def _lacks(source: AbstractSource, name: str, flag: str, columns: str = "column") -> str:
    return (
        f"{source.name} has no column {name!r}, which the run was trained on; it has "
        f"{shortened([*map(repr, source.columns)], NUM_SHOWN)}. Name the {columns} with {flag}."
    )


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
            raise InputError(_lacks(source, lost, OPTIONS[option].flag, "columns"))
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
