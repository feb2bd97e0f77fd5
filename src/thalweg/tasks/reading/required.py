"""Whether a source has the columns that a task was told to read."""

from collections.abc import Iterable

from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError


def check_columns(source: AbstractSource, names: Iterable[str | None]) -> None:
    """Raise an InputError unless the source has all these columns; None stands for one that is not used."""
    for name in names:
        if name is not None and name not in source.columns:
            listed = ", ".join(source.columns[:20]) + (", ..." if len(source.columns) > 20 else "")
            raise InputError(f"{source.name}: there is no column {name!r}; it has {listed}.")
