"""What validation has chosen, as a run keeps it in `selection.json`: every value checked before it is used."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.errors import InputError


def checked_choice(choice: Any, path: Path) -> dict[str, Any]:
    """Return what was read from a file if a selection can have written it; otherwise an InputError names the file."""
    if not (isinstance(choice, dict) and _is_choice(choice)):
        raise InputError(
            f"{path} is damaged (expected the chosen model and penalty, and the points they were chosen from); "
            "restore it or train the run again."
        )
    return choice


def _is_choice(choice: Mapping[str, Any]) -> bool:
    points, left_out = choice.get("points"), choice.get("left_out")
    if not (isinstance(points, list) and all(isinstance(point, dict) and _is_point(point) for point in points)):
        return False
    if not (isinstance(left_out, dict) and all(map(_is_text, [*left_out, *left_out.values()]))):
        return False
    if len({point["accuracy"] is None for point in points}) != 1:
        return False
    chosen = (choice.get("model"), choice.get("l2"))
    return _is_text(choice.get("judged_on")) and chosen in [(point["model"], point["l2"]) for point in points]


def _is_point(point: Mapping[str, Any]) -> bool:
    figures = [point.get(name, "") for name in ("loss", "loss_error", "accuracy", "accuracy_error")]
    return (
        _is_text(point.get("model"))
        and _is_number(point.get("l2"))
        and point["l2"] >= 0.0
        and all(figure is None or _is_number(figure) for figure in figures)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and math.isfinite(value)
