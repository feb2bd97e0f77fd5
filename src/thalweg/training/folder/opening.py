"""Data by name, their columns read as a run's `data.json` says."""

from collections.abc import Mapping
from typing import Any

from thalweg import names
from thalweg.data.columns.choice import Choice, Kind
from thalweg.data.columns.reading import ReadSource, read_as
from thalweg.data.containers.opening import open_any
from thalweg.data.files.base import AbstractSource
from thalweg.errors import counted


def open_as(data: Any, task: str, columns: Mapping[str, Any], **options: Any) -> ReadSource:
    """Open data of any kind, and read the columns as a run's `data.json` says; `task` is the task's name.

    `options` are those of `open_any`.
    """
    choice, skip = Choice.of_plain(task, columns), bool(options.get("skip_bad_rows"))
    return read_as(open_any(data, **options), names.task_columns(task), choice, skip_bad_rows=skip)


def has_series(task: str) -> bool:
    """Whether a task reads series of numbers: its rows belong together, and a file is one question or a few."""
    return Kind.SERIES in names.task_columns(task).roles.values()


def with_numbers(source: AbstractSource, task: str, columns: Mapping[str, Any]) -> AbstractSource:
    """Return a source to forecast from, in which numbers of another notation (`notations` of `columns`) are numbers."""
    known = names.task_columns(task)
    roles = [role for role, kind in known.roles.items() if kind is Kind.SERIES]
    if not roles or not columns.get("notations"):
        return source
    return read_as(source, known, Choice.of_plain(task, columns), skip_bad_rows=False, roles=roles)


def skipped_rows(*sources: AbstractSource | None) -> list[str]:
    """Return a sentence for each source with rows that could not be read, or hold what the task can't use."""
    notes = []
    for source in sources:
        if source is not None and source.num_bad_rows:
            listed = "; ".join(f"line {row.line}: {row.reason}" for row in source.bad_rows[:5])
            more = "; ..." if source.num_bad_rows > 5 else ""
            count = counted(source.num_bad_rows, "row")
            is_unusable = isinstance(source, ReadSource) and source.num_unusable_rows > 0
            verb = "used" if is_unusable else "read"
            notes.append(f"{source.name}: {count} cannot be {verb}, left out ({listed}{more}).")
        if source is not None:
            notes += source.remarks
    return notes
