"""Values of options as people write them: durations and batch sizes. Imports no torch."""

import re
from collections.abc import Mapping
from typing import Any, Final

from thalweg.errors import shown
from thalweg.training.recipe.ranges import MOST

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Return a duration such as "60s", "1.5h" or "90" in seconds; raise a ValueError if it is none."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(s|m|min|h|)", text.strip())
    if not match:
        raise ValueError(f"expected a duration such as 60s, 5m or 1h; got {text!r}.")
    duration = float(match[1]) * _UNITS[match[2]]
    if duration > MOST:
        raise ValueError(f"expected a duration of at most {MOST:,} seconds; got {shown(text)}.")
    return duration


def batch_size(text: str) -> int:
    """Return a batch size; "full" is 0, all data in one batch. Anything but a number raises a ValueError."""
    try:
        return 0 if text == "full" else int(text)
    except ValueError:
        raise ValueError(f'expected a number of examples or "full"; got {text!r}.') from None


def written(flag: str, value: Any) -> str:
    """Return an option with its value as one gives it on the command line."""
    if isinstance(value, bool):
        return flag if value else f"--no-{flag[2:]}"
    if isinstance(value, tuple):
        return f"{flag} {','.join(value) or 'none'}"
    if isinstance(value, Mapping):
        return " ".join(f"{flag}.{key} {one}" for key, one in value.items()) or f"no {flag}"
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value) or '""'
    return f"{flag} {text}"
