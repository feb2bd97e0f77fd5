"""Distances between rows and the moments that come next, against pandas."""

import numpy as np
import pandas as pd
import pytest

from thalweg.tasks.forecast.rows.calendar import find_step, written

FREQUENCIES = {
    "D": "day", "B": "business day", "W-MON": "week", "h": "hour", "15min": "15 minutes", "MS": "month", "ME": "month",
    "QS": "quarter", "QE": "quarter", "YS": "year", "YE": "year", "BME": "month", "BMS": "month", "s": "second",
    "4W": "4 weeks",
    "2D": "2 days", "7min": "7 minutes", "2QS": "half-year", "100ms": "100 milliseconds",
}  # fmt: skip


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_the_next_moments_are_those_of_pandas(frequency):
    when = pd.date_range("2020-01-07 05:00", periods=60, freq=frequency).to_numpy().astype("datetime64[us]")
    step = find_step(when[:40])
    assert step is not None
    assert step.name == FREQUENCIES[frequency]
    np.testing.assert_array_equal(step.after(when[39], 20), when[40:])
    np.testing.assert_array_equal(step.distances(when), np.ones(59))


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_missing_moments_are_counted(frequency):
    when = pd.date_range("2020-01-07 05:00", periods=60, freq=frequency).to_numpy().astype("datetime64[us]")
    step = find_step(np.delete(when, [10, 11, 30]))
    assert step is not None
    found = step.distances(np.delete(when, [10, 11, 30]))
    assert sorted(found)[-3:] == [1.0, 2.0, 3.0]


def test_numbers_and_what_is_not_even():
    step = find_step(np.array([1.0, 3.0, 5.0, 9.0]))
    assert step is not None
    assert step.after(9.0, 2).tolist() == [11.0, 13.0]
    assert find_step(np.array([1.0, 3.0, 4.5, 9.0, 19.0])) is None
    assert find_step(np.array(["2020-01-01"], "datetime64[us]")) is None
    about = find_step(np.cumsum([0, 60, 61, 59, 60, 61, 60, 58]).astype("datetime64[s]").astype("datetime64[us]"))
    assert about is not None
    assert about.name == "minute"


@pytest.mark.parametrize(("moment", "unit", "text"), [
    ("2024-04-01", "half", "2024-H1"), ("2021-01-03", "week", "2020-W53"), ("2024-04-01 10:30:15.25", "second",
    "2024-04-01 10:30:15.25"), ("2024-04-01 10:30:15", "second", "2024-04-01 10:30:15"),
])  # fmt: skip
def test_moments_are_written(moment, unit, text):
    assert written(np.datetime64(moment, "us"), unit) == text
