"""Forecasts as answers: with the moments they are for, their intervals, and the series they are of."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from thalweg.errors import InputError
from thalweg.tasks.answering import figure
from thalweg.tasks.forecast.asked import Asked
from thalweg.tasks.forecast.panel import Panel
from thalweg.tasks.forecast.rows.calendar import Step
from thalweg.tasks.forecast.rows.timeline import next_labels
from thalweg.tasks.questions import NOT_FINITE

MOST_PLAIN: Final = (1e-4, 1e15)  # sizes of numbers that are written without an exponent
MOST_DIGITS: Final = 12  # behind the point


def windows_asked(asked: Sequence[Asked], panel: Panel | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the windows to forecast from, `[windows, lags, columns]`, and the number of the series of each.

    In a panel each column of an input is a window of its own.
    """
    past = np.stack([one.window for one in asked])
    if panel is None:
        return past, None
    numbers = np.array([number for one in asked for number in panel.numbers(one.id or "")])
    return past.transpose(0, 2, 1).reshape(-1, past.shape[1], 1), numbers


def answers_to(
    asked: Sequence[Asked], found: Mapping[str, np.ndarray], columns: Sequence[str], step: Step | None
) -> list[dict[str, Any]]:
    """Return the answers, one for each input.

    Args:
        asked: the inputs.
        found: "forecast", and "low" and "high" where there are intervals, `[windows, steps, columns]` of the windows
            of `windows_asked`.
        columns: the names of the columns of an input.
        step: how far apart the rows of the training data are.

    Raises:
        InputError: if a forecast is not finite.
    """
    steps = found["forecast"].shape[1]
    if len(found["forecast"]) != len(asked) or found["forecast"].shape[2] != len(columns):
        shape = (len(asked), len(columns), steps)
        found = {name: rows.reshape(shape).transpose(0, 2, 1) for name, rows in found.items()}
    answers = []
    for place, one in enumerate(asked):
        if not np.isfinite(found["forecast"][place, : one.steps]).all():
            raise InputError(f"{NOT_FINITE}.")
        answer: dict[str, Any] = {} if one.id is None else {"id": one.id}
        times = next_labels(one.times, one.steps, step)
        answer |= {"time": times} if times else {}
        answers.append(answer | {name: _named(rows[place, : one.steps], columns) for name, rows in found.items()})
    return answers


def lines_of(answer: Mapping[str, Any]) -> list[str]:
    """Return an answer as lines for a terminal: a step a line where more is known of it than a number."""
    steps = zip(*(answer[key] for key in ("forecast", "low", "high") if key in answer), strict=True)
    if not {"low", "time", "id"} & set(answer):
        return ["  ".join(_line(*step)[0] for step in steps)]
    lines, radii = [], dict[str, float]()
    for step in steps:
        line, radii = _line(*step, radii=radii)
        lines.append(line)
    if "time" in answer:
        lines = [f"{time}  {line}" for time, line in zip(answer["time"], lines, strict=True)]
    return lines if "id" not in answer else [f"{answer['id']}  {line}" for line in lines]


def _named(rows: np.ndarray, columns: Sequence[str]) -> list[Any]:
    shown = [[None if not np.isfinite(value) else value for value in row] for row in rows.tolist()]
    if len(columns) == 1:
        return [row[0] for row in shown]
    return [dict(zip(columns, row, strict=True)) for row in shown]


def _line(*values: Any, radii: Mapping[str, float] | None = None) -> tuple[str, dict[str, float]]:
    """Return a forecast, perhaps with the ends of its interval, as text, and the radii by the name of the column.

    `radii` are those of the step before, for a step that has no interval.
    """
    if not isinstance(values[0], Mapping):
        values = tuple({"": value} for value in values)
    found, texts = dict(radii or {}), []
    for name in values[0]:
        forecast, *ends = (one[name] for one in values)
        if ends and None not in ends:
            found[name] = (ends[1] - ends[0]) / 2.0
        shown = [number(one, found.get(name, 0.0)) for one in (forecast, *ends) if one is not None]
        text = shown[0] if len(shown) < 3 else f"{shown[0]}  [{shown[1]}, {shown[2]}]"
        texts.append(f"{name}: {text}" if name else text)
    return "  ".join(texts), found


def number(value: float | None, radius: float = 0.0) -> str:
    """Return a number as text: four digits, and as many as it takes to see two digits of a radius and whole units.

    Example:
        >>> number(57.93271), number(10109.27, 2.1), number(120137.2, 2850.0), number(1.08754, 0.00012)
        ('57.93', '10109.3', '120137', '1.08754')
        >>> number(1.0012345e-10, 3e-12), number(1.2e18)
        ('1.001e-10', '1.2e+18')
    """
    if value is None or not math.isfinite(value) or not MOST_PLAIN[0] <= abs(value) < MOST_PLAIN[1]:
        return figure(value)
    digits = 3 - math.floor(math.log10(abs(value)))
    if 0.0 < radius < math.inf:
        digits = max(digits, 1 - math.floor(math.log10(radius)))
    text = f"{value:.{min(max(digits, 0), MOST_DIGITS)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def forecast_keys(*, intervals: bool, several: bool) -> tuple[str, ...]:
    """Return what an answer has, whatever its rows."""
    return (*(("id",) if several else ()), "forecast", *(("low", "high") if intervals else ()))


def table_columns(keys: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a table of answers, a row for each step."""
    names = [""] if len(columns) == 1 else [f" {name}" for name in columns]
    values = [key for key in keys if key != "id"]
    return (*(("id",) if "id" in keys else ()), "step", "time", *(f"{key}{name}" for name in names for key in values))


def table_rows(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each step."""
    times = answer.get("time", [None] * len(answer["forecast"]))
    rows: list[dict[str, Any]] = [{"step": step, "time": time} for step, time in enumerate(times, start=1)]
    for row in rows if "id" in answer else ():
        row["id"] = answer["id"]
    for key in ("forecast", "low", "high"):
        for row, value in zip(rows, answer.get(key, ()), strict=False):
            row |= {f"{key} {name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
    return rows
