"""Values as other programs hold them -> values as the tasks read them: dates as text, classes by name, missing as None.

The rule for records inside records, wherever they come from: `{"translation": {"en": ...}}` is the column
`translation.en`.
"""

import datetime as dt
import decimal
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

SEPARATOR: Final = "."  # between the names of a record and of what is in it
MAX_DEPTH: Final = 8  # of records in records
_MIDNIGHT: Final = dt.time()


def flattened(record: Mapping[Any, Any], depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Return a record without records in it: their values have names with points; lists stay as they are.

    Example:
        >>> flattened({"id": 7, "translation": {"en": "river", "de": "Fluss"}})
        {'id': 7, 'translation.en': 'river', 'translation.de': 'Fluss'}
    """
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and value and depth:
            found |= {f"{key}{SEPARATOR}{name}": one for name, one in flattened(value, depth - 1).items()}
        else:
            found[str(key)] = value
    return found


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers, texts, True and False, lists; None for what is missing.

    Example:
        >>> plain(float("nan")), plain(dt.date(2024, 5, 31)), plain(decimal.Decimal("2.50"))
        (None, '2024-05-31', 2.5)
    """
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return value
    if kind is float:
        return None if value != value else value
    if isinstance(value, dt.datetime):
        return None if value != value else value.isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # of numpy, scalars and arrays
        other = value.tolist()
        return plain(other) if type(other) is not kind else str(other)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    return value if isinstance(value, str | bytes) else str(value)


def are_dates(values: Iterable[Any]) -> bool:
    """Whether moments are all at midnight, so that they are days."""
    found = [value for value in values if isinstance(value, dt.datetime) and value == value]
    return bool(found) and all(value.time() == _MIDNIGHT and value.tzinfo is None for value in found)


def as_date(value: Any) -> Any:
    """Return a moment at midnight as the text of its day, anything else as `plain` does."""
    if isinstance(value, dt.datetime) and value == value and value.time() == _MIDNIGHT:
        return value.date().isoformat()
    return plain(value)


def class_names(features: Any, prefix: str = "") -> dict[str, list[str]]:
    """Return the names of classes that are stored as numbers, by column, from what `datasets` says of its features.

    Example:
        >>> class_names({"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {"_type": "Value"}})
        {'label': ['neg', 'pos']}
    """
    found: dict[str, list[str]] = {}
    if not isinstance(features, Mapping):
        return found
    for key, value in features.items():
        feature, name = value, f"{prefix}{key}"
        while isinstance(feature, list) or (isinstance(feature, Mapping) and _is_sequence(feature)):
            feature = (feature[0] if feature else None) if isinstance(feature, list) else feature["feature"]
        if not isinstance(feature, Mapping):
            continue
        if feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            if isinstance(names, list) and names:
                found[name] = list(map(str, names))
        elif "_type" not in feature:
            found |= class_names(feature, f"{name}{SEPARATOR}")
    return found


def _is_sequence(feature: Mapping[str, Any]) -> bool:
    return feature.get("_type") in ("Sequence", "List", "LargeList") and "feature" in feature


def named(value: Any, names: Sequence[str]) -> Any:
    """Return the name of a class, or those of a list of classes; None for a number that has none, such as -1."""
    if isinstance(value, list):
        return [named(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
