"""Values of a stream's rows as numbers, words and names of classes."""

import dataclasses
from typing import Final

from thalweg.data.columns.recognition import recognize
from thalweg.errors import InputError
from thalweg.training.recipe.ranges import LARGEST

_NO_UNIT: Final = {"before": "", "after": "", "form": "number"}
LONGEST_NAME: Final = 1000  # characters of a label or of a column's name, which are kept for ever


def class_name(label: object) -> str:
    """Return a label as the name of a class: 1, 1.0 and "1" are the same class.

    Raises `InputError` if it is neither a text of at most 1,000 characters nor a finite number.
    """
    if isinstance(label, str):
        name = label.strip()
        if len(name) > LONGEST_NAME:
            raise InputError(
                f"Expected a label of at most {LONGEST_NAME:,} characters, got one of {len(name):,}: {name[:30]!r}..."
            )
        if name:
            return name
    elif isinstance(label, bool):
        return "true" if label else "false"
    elif isinstance(label, int | float) and abs(label) <= LARGEST:
        return str(int(label)) if label == int(label) else repr(float(label))
    raise InputError(f"Expected a text or a finite number as label, got {_shown(label)}.")


def target_number(label: object) -> float:
    """Return a label as a number, which may be written as 52,58 or 1.052,58.

    Raises `InputError` if it is not a finite number, is one beyond 1e30, or can be read in two ways.
    """
    number = _finite(label)
    if number is None and isinstance(label, str):
        number = _written(label)
    if number is None:
        raise InputError(
            f"Expected a finite number of at most {LARGEST:g} in size as label, got {_shown(label)}; for classes use "
            "the task classify."
        )
    return number


def column_number(column: str, value: object) -> float:
    """Return the number in a column; raises `InputError` if it is not a finite number, or one beyond 1e30."""
    number = _finite(value)
    if number is None:
        raise InputError(
            f"Column {column!r}: expected a finite number of at most {LARGEST:g} in size, got {_shown(value)}."
        )
    return number


def column_word(column: str, value: object) -> str:
    """Return a value of a column of texts or categories as a text; raises `InputError` for a list or an object."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and abs(value) <= LARGEST:
        return str(value)
    raise InputError(f"Column {column!r}: expected a text or a finite number, got {_shown(value)}.")


def is_number(value: object) -> bool:
    """Return whether a value is a number or spells one, finite or not; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        float(value)
    except ValueError:
        return False
    except OverflowError:
        pass
    return True


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= LARGEST else None


def _written(label: str) -> float | None:
    """Return a number that is written in another notation, such as 52,58, unless it has a unit or is unclear."""
    found = recognize([label])
    if found is None or found.other is not None or found.notation != dataclasses.replace(found.notation, **_NO_UNIT):
        return None
    number = found.notation.number(label)
    return None if number is None or abs(number) > LARGEST else number


def _shown(value: object) -> str:
    """Return a value for a message; Python refuses to write out very large integers."""
    return "a very large integer" if isinstance(value, int) and value.bit_length() > 1000 else repr(value)[:60]
