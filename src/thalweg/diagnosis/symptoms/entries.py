"""Entries of a history as rules may rely on them; what has another form, in a damaged or foreign file, is left out."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

LARGEST: Final = 2**53  # step


def known_number(value: Any) -> float | None:
    """Return a finite number, or None for anything else.

    Example:
        >>> known_number(3), known_number(True), known_number(10**400), known_number(math.nan)
        (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def well_formed(history: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Return the entries that are some, each without the parts that have another form than a recorder writes.

    Example:
        >>> well_formed([{"event": "step", "step": 1, "loss": 2.0, "layers": 3}, {"event": "step", "step": "x"}])
        [{'event': 'step', 'step': 1, 'loss': 2.0}]
    """
    found = []
    for entry in history:
        if not (isinstance(entry, Mapping) and isinstance(entry.get("event"), str)):
            continue
        if all(_is_step(entry[key]) for key in ("step", "to_step") if key in entry):
            found.append({key: value for key, value in entry.items() if key not in FORMS or FORMS[key](value)})
    return found


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _is_layers(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, Mapping) for one in value.values())


def _is_sites(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(one, Mapping) and isinstance(one.get("name"), str) and isinstance(one.get("kind"), str)
        for one in value
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    """Whether it is a number, be it finite or not, or the null that stands for one that is not."""
    return value is None or known_number(value) is not None or isinstance(value, float)


FORMS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "loss": _is_number,
    "lr": lambda value: known_number(value) is not None,
    "layers": _is_layers,
    "sites": _is_sites,
    "metrics": lambda value: isinstance(value, Mapping),
    **dict.fromkeys(("where", "what", "reason"), _is_text),
    **dict.fromkeys(("frozen", "not_in_optimizer"), _is_texts),
}
