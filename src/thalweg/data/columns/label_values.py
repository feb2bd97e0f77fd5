"""What the values of a column of labels mean: one label, several, or yes and no."""

import math
import numbers
from typing import Any, Final

from thalweg.data.columns.facts import as_text, is_missing

MAX_SHOWN: Final = 60  # characters of a value in a message
YES: Final = frozenset(("1", "1.0", "true", "yes"))
NO: Final = frozenset(("0", "0.0", "false", "no"))


def label_of(value: Any, *, na_is_missing: bool = False) -> str | None:
    """Return the one label that a field holds, None where it holds none.

    White space around it does not count, and the numbers 1 and 1.0 are the same label. A field is empty where it is
    null or blank; words such as "NA" and "none" are labels, unless `na_is_missing`.

    Raises:
        ValueError: for a list of several labels, and an object.

    Example:
        >>> label_of(" pos "), label_of(1.0), label_of(True), label_of("none"), label_of(" ")
        ('pos', '1', 'true', 'none', None)
    """
    if isinstance(value, str):
        name = value.strip()
        return None if not name or (na_is_missing and is_missing(name)) else name
    if value is None:
        return None
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise ValueError(f"expected one label, got a list of {len(value)}")
        return label_of(value[0], na_is_missing=na_is_missing) if value else None
    if isinstance(value, dict):
        raise ValueError("expected a label, got an object")
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return str(bool(value)).lower()
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        number = float(value)
        if math.isnan(number):
            return None
        return str(int(number)) if number.is_integer() else str(value)
    return as_text(value).strip() or None


def labels_of(value: Any, separator: str | None) -> list[str]:
    """Return the different labels of a field that may hold several: a list, or a text with a separator.

    Raises:
        ValueError: for a list in the list, and an object.

    Example:
        >>> labels_of("a; b;a", ";"), labels_of(["a", 2.0], None), labels_of(None, ";")
        (['a', 'b'], ['a', '2'], [])
    """
    parts = value if isinstance(value, list) else value.split(separator) if isinstance(value, str) else [value]
    return list(dict.fromkeys(name for name in map(label_of, parts) if name))


def truth(value: Any) -> bool:
    """Whether a field of a column that is a label says yes; neither yes nor no is a ValueError."""
    name = label_of(value, na_is_missing=True)
    if name is not None and name.lower() in YES:
        return True
    if name is None or name.lower() not in NO:
        raise ValueError(f"expected 0 or 1, got {'an empty value' if name is None else shown(value)}")
    return False


def shown(value: Any) -> str:
    """A value as a message has it."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
