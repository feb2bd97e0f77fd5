"""The rows of a file with texts and numbers: what is read of them, and whether something can be learned."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from thalweg.data.arrays.ragged import Ragged
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.overlap import Pairs
from thalweg.errors import InputError
from thalweg.tasks.reading.numeric import read_numbers, require_size
from thalweg.tasks.reading.text_column import TextColumn, check_columns
from thalweg.tasks.reading.text_reader import MAX_RAW

ROLES = ("text", "other")


def read_targets(source: AbstractSource, columns: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Read the column of numbers, float64 `[rows]`, and the lines of the rows."""
    check_columns(source, (columns.get(role) for role in (*ROLES, "number")))
    name = columns["number"]
    parts, lines = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for chunk in source.chunks():
        parts.append(read_numbers(chunk.column(name), chunk.lines, name, source.name))
        lines.append(np.asarray(chunk.lines, dtype=np.int64))
    numbers = np.concatenate(parts)
    require_size(numbers, source.name)
    return numbers, np.concatenate(lines)


def check_variation(numbers: np.ndarray, column: str, where: str) -> None:
    """Raise an InputError where all numbers are one."""
    if len(numbers) < 2 or numbers.min() == numbers.max():
        value = f"{numbers[0]:g} in all {len(numbers):,} rows" if len(numbers) else "no rows"
        raise InputError(
            f"{where}: expected different numbers in column {column!r}, got {value}; there is "
            "nothing to learn. Is it the right column (--label-column)?"
        )


def joint_keys(texts: Sequence[TextColumn]) -> np.ndarray:
    """Return one 64-bit key a row: equal rows have equal keys, and a pair's key depends on its order."""
    keys = texts[0].keys()
    for column in texts[1:]:
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + column.keys()
    return keys


def joined(ids: Sequence[Ragged]) -> Ragged:
    """Return all texts of all columns as one, to choose features from."""
    if len(ids) == 1:
        return ids[0]
    values = np.concatenate([part.values for part in ids])
    return Ragged.from_lengths(values, np.concatenate([part.lengths for part in ids]))


def pairs_of(texts: Sequence[TextColumn], rows: np.ndarray) -> Iterator[Pairs]:
    """Yield both texts of the rows that are True, some rows at a time."""
    first, second = texts
    return zip(first.chosen(rows), second.chosen(rows), strict=True)


def raw_texts(texts: Sequence[TextColumn], rows: np.ndarray) -> list[str] | None:
    """Return the texts as they are shown, pairs around a bar; None where they are too many to keep."""
    columns = [column.kept(rows, MAX_RAW) for column in texts]
    kept = [column for column in columns if column is not None]
    return [" | ".join(parts) for parts in zip(*kept, strict=True)] if len(kept) == len(texts) else None
