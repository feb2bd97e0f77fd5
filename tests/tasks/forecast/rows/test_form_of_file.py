"""What `forecast.json` may hold: a value of another kind, or of another number of series, is refused."""

import copy
import json

import pytest

from thalweg.storage.forms import parse_json
from thalweg.tasks.forecast.rows.form_of_file import MOST_ROWS, forecast_file

SCALED = {
    "form": {
        "log": False,
        "difference": 1,
        "seasonal": 0,
        "season": 1,
        "lags": [1, 2],
        "drift": True,
        "equations": "joint",
    },
    "mean": [0.0, 0.1],
    "spread": [1.0, 2.0],
}
FILE = {
    "columns": ["x", "y"],
    "time": None,
    "reference": {"season": 1, "found": "no season", "steps": 2, "scale": [1.0, 0.0], "terms": [[0.1], [0.2, 0.3]]},
    "layout": {"columns": ["x", "y"], "time": [], "id": [], "notation": "", "day_first": None, "gaps": "auto"},
    "ids": None,
    "step": {"kind": "month", "size": 1, "day": 31},
    "linear": {"scaled": SCALED, "l2": 1e-3, "radii": [[0.5, None]], "told": "Kept."},
}

WRONG = {
    "a huge season": ("reference.season", 10**12, f"a whole number from 1 to {MOST_ROWS} at reference.season"),
    "a name": ("columns", "x", "expected a list of 1 or more at columns"),
    "one scale": ("reference.scale", [1.0], "expected 2 entries at reference.scale, got 1"),
    "one radius": ("linear.radii", [[0.5]], r"expected 2 entries at linear.radii\[0\], got 1"),
    "a negative lag": ("linear.scaled.form.lags", [-1], "a whole number from 1"),
    "lags in disorder": ("linear.scaled.form.lags", [2, 1], "expected ascending lags"),
    "no spread": ("linear.scaled.spread", [0.0, 1.0], "a number from 1e-300"),
    "another step": ("step.kind", "moon", "expected one of month"),
    "series of ids": ("ids", ["a", "b"], "expected as many columns as its series have"),
    "no ids": ("ids", [], "expected as many columns as its series have"),
    "no lags": ("linear", None, "expected an object at linear"),
}


def test_a_file_of_this_form_is_taken():
    assert forecast_file(copy.deepcopy(FILE), "")["columns"] == ["x", "y"]


@pytest.mark.parametrize("case", WRONG)
def test_another_value_is_refused_where_it_stands(case):
    place, value, message = WRONG[case]
    saved = copy.deepcopy(FILE)
    *path, last = place.split(".")
    part = saved
    for name in path:
        part = part[name]
    part[last] = value
    with pytest.raises(ValueError, match=message):
        parse_json(json.dumps(saved).encode(), forecast_file)


def test_a_network_needs_its_window():
    saved = {name: value for name, value in FILE.items() if name != "linear"}
    with pytest.raises(ValueError, match="expected 'lags' and 'scaling'"):
        forecast_file(saved, "")
