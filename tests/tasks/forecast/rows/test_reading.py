"""Which columns of a file are time, series and their names, and what is read from them."""

import json

import numpy as np
import pandas as pd
import pytest

from thalweg import names
from thalweg.data.columns.choice import choose_columns
from thalweg.data.columns.guess import guess_task
from thalweg.data.columns.reading import read_as
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.tasks.forecast.rows.reading import Layout, examined, read_series

DAYS = pd.date_range("2022-01-01", periods=48, freq="D")
MONTHS = pd.date_range("2020-01-01", periods=48, freq="MS")
VALUES = [round(50 + 20 * float(np.sin(i / 7)), 2) for i in range(48)]


def opened(tmp_path, header, rows, **options):
    path = tmp_path / "data.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return open_source(path, **options)


def choice_of(source, **named):
    return choose_columns(source, names.task_columns("forecast"), named)


@pytest.mark.parametrize(("header", "rows", "time", "id_"), [
    ("date,sales", [(f"{day:%d-%b-%y}", y) for day, y in zip(DAYS, VALUES, strict=True)], "date", None),
    ("quarter,sales", [(f"{2000 + i // 4}Q{i % 4 + 1}", y) for i, y in enumerate(VALUES)], "quarter", None),
    ("mois,ventes", [(f"{day:%m/%Y}", y) for day, y in zip(MONTHS, VALUES, strict=True)], "mois", None),
    ("ts,y", [(1640995200 + 3600 * i, y) for i, y in enumerate(VALUES)], "ts", None),
    ("timestamp,y", [(1640995200 + 3600 * i, y) for i, y in enumerate(VALUES)], "timestamp", None),
    ("year,month,y", [(day.year, day.month, y) for day, y in zip(MONTHS, VALUES, strict=True)], ["year", "month"],
     None),
    ("Month,Year,y", [(f"{day:%b}", day.year, y) for day, y in zip(MONTHS, VALUES, strict=True)], ["Year", "Month"],
     None),
    ("date,time,y", [(f"2022-01-0{i // 24 + 1}", f"{i % 24}:00", y) for i, y in enumerate(VALUES)], ["date", "time"],
     None),
    ("date,hour,y", [(f"2022-01-0{i // 24 + 1}", i % 24, y) for i, y in enumerate(VALUES)], ["date", "hour"], None),
    ("unique_id,ds,y", [(u, f"{day:%Y-%m-%d}", y) for u in "AB" for day, y in zip(DAYS, VALUES, strict=True)], "ds",
     "unique_id"),
    ("ds,store,y", [(f"{day:%Y-%m-%d}", u, y) for day, y in zip(DAYS, VALUES, strict=True) for u in (1, 2, 3)], "ds",
     "store"),
    ("ds,store,item,y", [(f"{day:%d.%m.%Y}", f"North {s}", i, y) for day, y in zip(DAYS, VALUES, strict=True)
                         for s in "ab" for i in (1, 2)], "ds", ["store", "item"]),
    ("y", [(y,) for y in VALUES], None, None),
])  # fmt: skip
def test_time_and_names_of_series_are_found(tmp_path, header, rows, time, id_):
    source = opened(tmp_path, header, rows)
    assert guess_task(source, names.all_task_columns())[0].task == "forecast"
    plain = choice_of(source).plain()
    assert (plain.get("time"), plain.get("id")) == (time, id_)
    used = {name for one in (time, id_) if one for name in ([one] if isinstance(one, str) else one)}
    assert plain["series"] == [name for name in header.split(",") if name not in used]
    json.dumps(plain)


def test_the_user_names_them(tmp_path):
    rows = [(u, i, f"{day:%Y-%m-%d}", y) for u in "AB" for i, (day, y) in enumerate(zip(DAYS, VALUES, strict=True))]
    source = opened(tmp_path, "shop,n,ds,y", rows)
    plain = choice_of(source, time="n", id="shop", label="y").plain()
    assert plain == {"time": "n", "id": "shop", "series": ["y"]}
    assert choice_of(source, time="none", id="none", label="y").plain() == {"series": ["y"]}
    with pytest.raises(InputError, match="there is no column 'day'; the columns are 'shop', 'n', 'ds', 'y'"):
        choice_of(source, time="day")


@pytest.mark.parametrize("skip", [False, True])
def test_missing_cells_are_filled_or_their_rows_left_out(tmp_path, skip):
    cells = ["" if i in (7, 27, 40) else y for i, y in enumerate(VALUES)]
    rows = [(f"{day:%Y-%m-%d}", y) for day, y in zip(DAYS, cells, strict=True)]
    source = opened(tmp_path, "ds,y", rows, skip_bad_rows=skip)
    (series,) = read_series(source, Layout(("y",), ("ds",)))
    assert len(series) == 48
    assert source.num_bad_rows == (3 if skip else 0)
    assert series.observed is not None
    assert np.flatnonzero(~series.observed[:, 0]).tolist() == [7, 27, 40]
    assert series.values[7, 0] == pytest.approx((VALUES[6] + VALUES[8]) / 2)
    (series,) = read_series(source, Layout(("y",), ("ds",), gaps="ignore"))
    assert len(series) == (45 if skip else 48)
    if not skip:
        with pytest.raises(InputError, match="line 9: a number is missing; fill it in, leave such rows out with"):
            read_series(source, Layout(("y",), ("ds",), gaps="refuse"))


def test_rows_that_say_the_same_twice_are_left_out(tmp_path):
    rows = [(f"{day:%Y-%m-%d}", y) for day, y in zip(DAYS, VALUES, strict=True)]
    rows = [*rows[:5], rows[4], *rows[5:]]
    with pytest.raises(InputError, match="2022-01-05 comes twice in 'ds', on the lines 6 and 7"):
        read_series(opened(tmp_path, "ds,y", rows), Layout(("y",), ("ds",)))
    source = opened(tmp_path, "ds,y", rows, skip_bad_rows=True)
    (series,) = read_series(source, Layout(("y",), ("ds",)))
    assert series.values[:, 0].tolist() == VALUES
    assert source.bad_rows == [(7, "says the same as line 6")]
    rows[5] = (rows[5][0], 1.0)
    with pytest.raises(InputError, match="2022-01-05 comes twice"):
        read_series(opened(tmp_path, "ds,y", rows, skip_bad_rows=True), Layout(("y",), ("ds",)))


def test_offsets_give_the_order_and_shorter_notations_of_training_hold(tmp_path):
    when = pd.date_range("2022-10-29", periods=48, freq="h", tz="Europe/Berlin")
    rows = [(f"{one:%Y-%m-%dT%H:%M%z}", y) for one, y in zip(when, VALUES, strict=True)]
    (series,) = read_series(opened(tmp_path, "ds,y", rows[::-1]), Layout(("y",), ("ds",), gaps="refuse"))
    assert series.values[:, 0].tolist() == VALUES
    assert series.frequency == "hour"
    few = [("01/02/2024", 1), ("02/02/2024", 2), ("03/02/2024", 3)]
    with pytest.raises(
        InputError, match=r"data.csv, column 'ds': 01/02/2024 may be January 2 or February 1, and no row"
    ):
        read_series(opened(tmp_path, "ds,y", few), Layout(("y",), ("ds",)))
    (series,) = read_series(opened(tmp_path, "ds,y", few), Layout(("y",), ("ds",), notation="day first"))
    assert series.labels == ["2024-02-01", "2024-02-02", "2024-02-03"]
    (series,) = read_series(opened(tmp_path, "ds,y", few), Layout(("y",), ("ds",), day_first=False))
    assert series.labels == ["2024-01-02", "2024-02-02", "2024-03-02"]


@pytest.mark.parametrize(("days", "told"), [
    (DAYS, []),
    (DAYS[::-1], ["runs backwards, from 2022-02-17 to 2022-01-01"]),
    (DAYS.delete([20, 21]), ["2 days missing in 'date', the first between 2022-01-20 and 2022-01-23"]),
    (DAYS.insert(5, DAYS[7]), ["2022-01-08 comes twice in 'date', on the lines 7 and 10"]),
])  # fmt: skip
def test_what_is_odd_about_the_rows_is_told(tmp_path, days, told):
    source = opened(tmp_path, "date,sales", [(f"{day:%Y-%m-%d}", i % 7) for i, day in enumerate(days)])
    sentences = examined(source, choice_of(source).plain(), gaps="auto", day_first=None)
    assert len(sentences) == len(told)
    assert all(part in sentence for part, sentence in zip(told, sentences, strict=True)), sentences


def test_rows_without_a_moment_are_told_before_training_refuses_them(tmp_path):
    rows = [*((f"{day:%Y-%m-%d}", i % 7) for i, day in enumerate(DAYS)), ("soon", 3)]
    source = opened(tmp_path, "date,sales", rows)
    choice = choice_of(source)
    read = read_as(source, names.task_columns("forecast"), choice, skip_bad_rows=True, keeps_gaps=True)
    told = f"1 row has no moment in date (line {len(rows) + 1}: 'soon'): thalweg train refuses it"
    assert any(one.startswith(told) for one in examined(read, choice.plain(), gaps="auto", day_first=None))
