"""Forecasts as answers: with the moments they are for, their intervals, and the series they are of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.tasks.answering import figure
from thalweg.tasks.forecast.asked import Asked
from thalweg.tasks.forecast.panel import Panel
from thalweg.tasks.forecast.rows.calendar import Step
from thalweg.tasks.forecast.rows.timeline import next_labels


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
    """
    steps = found["forecast"].shape[1]
    if len(found["forecast"]) != len(asked) or found["forecast"].shape[2] != len(columns):
        shape = (len(asked), len(columns), steps)
        found = {name: rows.reshape(shape).transpose(0, 2, 1) for name, rows in found.items()}
    answers = []
    for place, one in enumerate(asked):
        answer: dict[str, Any] = {} if one.id is None else {"id": one.id}
        times = next_labels(one.times, one.steps, step)
        answer |= {"time": times} if times else {}
        answers.append(answer | {name: _named(rows[place, : one.steps], columns) for name, rows in found.items()})
    return answers


def lines_of(answer: Mapping[str, Any]) -> list[str]:
    """Return an answer as lines for a terminal: a step a line where more is known of it than a number."""
    if "low" in answer:
        ends = (answer["low"], answer["high"])
        lines = [_with_interval(*step) for step in zip(answer["forecast"], *ends, strict=True)]
    elif "time" in answer or "id" in answer:
        lines = [figure(value) for value in answer["forecast"]]
    else:
        return ["  ".join(figure(value) for value in answer["forecast"])]
    if "time" in answer:
        lines = [f"{time}  {line}" for time, line in zip(answer["time"], lines, strict=True)]
    return lines if "id" not in answer else [f"{answer['id']}  {line}" for line in lines]


def _named(rows: np.ndarray, columns: Sequence[str]) -> list[Any]:
    shown = [[None if not np.isfinite(value) else value for value in row] for row in rows.tolist()]
    if len(columns) == 1:
        return [row[0] for row in shown]
    return [dict(zip(columns, row, strict=True)) for row in shown]


def _with_interval(forecast: Any, low: Any, high: Any) -> str:
    if isinstance(forecast, Mapping):
        return "  ".join(f"{name}: {_with_interval(value, low[name], high[name])}" for name, value in forecast.items())
    return figure(forecast) if low is None else f"{figure(forecast)}  [{figure(low)}, {figure(high)}]"


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
