"""Where the columns of a run stand in another file: moments and names of series among them."""

import pytest

from thalweg.data.containers.memory import source_of
from thalweg.errors import InputError
from thalweg.training.folder.columns import find_columns

TRAINED = {"series": ["level"], "time": "date"}
PANEL = {**TRAINED, "id": "store"}
ROWS = [(f"2024-01-{k + 1:02}", k * 7 % 11, "AB"[k % 2]) for k in range(28)]


def source(*names):
    """A file with these columns out of the day, the level and the store, called otherwise where they have a dash."""
    columns = {}
    for name in names:
        place = ["date", "level", "store"].index(name.split("-")[0])
        columns[name.rsplit("-", 1)[-1]] = [row[place] for row in ROWS]
    return source_of(columns)


FOUND = {
    "as in training": (("date", "level"), {}, "date", None),
    "another case": (("date-Date", "level"), {}, "Date", "Column 'Date' is read as 'date'."),
    "another name": (("date-day", "level"), {}, "day", "Column 'day' is read as the time."),
    "named": (("date-day", "date-when", "level"), {"time_column": "when"}, "when", None),
    "none": (("level",), {}, None, "has no column 'date' of moments, so its rows are taken in their order"),
    "declined": (("date", "level"), {"time_column": "none"}, None, None),
}


@pytest.mark.parametrize("case", FOUND)
def test_moments_are_found_or_their_absence_is_told(case):
    names, named, time, note = FOUND[case]
    found = find_columns("forecast", TRAINED, source(*names), named, ("series",))
    assert found.columns.get("time") == time
    assert [note in said for said in found.notes] == ([] if note is None else [True])


def test_names_of_series_must_be_there():
    assert find_columns("forecast", PANEL, source("date", "level", "store"), {}, ("series",)).columns == PANEL
    with pytest.raises(InputError, match=r"has no column 'store'.*Name the column with --id-column"):
        find_columns("forecast", PANEL, source("date", "level"), {}, ("series",))
    found = find_columns("forecast", PANEL, source("date", "level", "store-shop"), {"id_column": "shop"}, ("series",))
    assert found.columns["id"] == "shop" or found.columns["id"] == ["shop"]
