"""The moments of whole columns, against pandas and by hand."""

import numpy as np
import pandas as pd
import pytest

from thalweg.data.columns.times.moments import Moments, are_moments, joined, part_of, read_moments, without_year

HOURS = pd.date_range("2022-10-29 22:00", periods=8, freq="h", tz="Europe/Berlin")


def moments_of(*given, **options) -> Moments:
    found = read_moments(*given, **options)
    assert found is not None
    return found


def days(found: Moments) -> list[str]:
    return found.wall.astype("datetime64[D]").astype(str).tolist()


@pytest.mark.parametrize(("freq", "form", "notation", "unit"), [
    ("D", "%Y-%m-%d", "dates", "day"), ("D", "%d/%m/%Y", "day first", "day"), ("D", "%m/%d/%Y", "month first", "day"),
    ("D", "%d.%m.%y", "day first", "day"), ("D", "%d-%b-%y", "dates", "day"), ("D", "%y-%m-%d", "year first", "day"),
    ("D", "%d/%m/%y", "day first", "day"), ("MS", "%m/%d/%Y", "month first", "day"),
    ("MS", "%d/%m/%Y", "day first", "day"), ("MS", "%b-%y", "dates", "month"), ("MS", "%B %Y", "dates", "month"),
    ("W-MON", "%G-W%V", "dates", "week"), ("h", "%d/%m/%Y %H:%M", "day first", "second"),
    ("B", "%m/%d/%y", "month first", "day"), ("s", "%Y-%m-%dT%H:%M:%SZ", "dates", "second"),
])  # fmt: skip
def test_what_pandas_writes_is_read_back(freq, form, notation, unit):
    moments = pd.date_range("2022-01-03", periods=60, freq=freq)
    found = moments_of(moments.strftime(form).tolist())
    assert (found.notation, found.unit, found.doubt, found.unreadable) == (notation, unit, "", ())
    assert np.array_equal(found.wall, moments.to_numpy())


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_epochs(unit, scale):
    moments = pd.date_range("2022-01-03", periods=5, freq="h")
    numbers = [int(moment.timestamp()) * scale for moment in moments]
    assert read_moments(numbers) is None
    for values in (numbers, [*map(str, numbers)]):
        found = moments_of(values, named=True)
        assert found.notation == f"epoch {unit}"
        assert np.array_equal(found.wall, moments.to_numpy())
    assert np.array_equal(moments.to_numpy(), pd.to_datetime(numbers, unit=unit).to_numpy())


@pytest.mark.parametrize(("values", "notation", "wanted"), [
    (["2001", "2002"], "years", ["2001-01-01", "2002-01-01"]),
    ([20240131, 20240201], "compact days", ["2024-01-31", "2024-02-01"]),
    ([202401, 202402], "compact months", ["2024-01-01", "2024-02-01"]),
    ([202152, 202201], "compact weeks", ["2021-12-27", "2022-01-03"]),
    ([2021045, 2021365], "compact days of a year", ["2021-02-14", "2021-12-31"]),
    ([45292, 45293], "Excel days", ["2024-01-01", "2024-01-02"]),
    ([1640995200.5], "epoch s", ["2022-01-01"]), (["01.2024", "02.2024"], "dates", ["2024-01-01", "2024-02-01"]),
    ([f"{2001 + i // 4}.{i % 4 + 1}" for i in range(5)], "dates",
     ["2001-01-01", "2001-04-01", "2001-07-01", "2001-10-01", "2002-01-01"]),
])  # fmt: skip
def test_numbers_are_moments_where_the_name_says_so(values, notation, wanted):
    found = moments_of(values, named=True)
    assert (found.notation, days(found)) == (notation, wanted)
    assert not are_moments(values)


@pytest.mark.parametrize(("values", "notation", "wanted"), [
    (["2021-045", "2021-365"], "dates", ["2021-02-14", "2021-12-31"]),
    (["52/2021", "01/2022"], "numbered weeks", ["2021-12-27", "2022-01-03"]),
    (["2021/52", "2022/1"], "numbered weeks", ["2021-12-27", "2022-01-03"]),
    (["11/2021", "12/2021"], "dates", ["2021-11-01", "2021-12-01"]),
])  # fmt: skip
def test_days_of_a_year_and_numbered_weeks(values, notation, wanted):
    found = moments_of(values)
    assert (found.notation, days(found)) == (notation, wanted)


def test_weeks_are_read_as_before_where_they_may_be_months():
    assert days(moments_of(["01/2022", "02/2022"], notation="numbered weeks")) == ["2022-01-03", "2022-01-10"]


@pytest.mark.parametrize(("values", "example"), [
    (["31-Jan", "1-Feb", "2-Feb"], "31-Jan"), (["31.12.", "01.01."], "31.12."), (["30/1", "31/1", "1/2"], "30/1"),
    (["Jan 30", "Jan 31", "Feb 1", "Feb 2", "Feb 3"], "Jan 30"), (["14-Jan-21", "15-Jan-21"], ""),
    (["Jan-21", "Feb-21", "Mar-21"], ""), (["Jan 20", "Jan 21", "Jan 22"], "Jan 20"),
    (["Jan 20", "Jun 20", "Jan 21"], ""), (["1.5", "13.7", "40.2"], ""), ([], ""),
])  # fmt: skip
def test_days_without_a_year_are_known(values, example):
    assert without_year(values) == example


@pytest.mark.parametrize("values", [[1, 2, 3], [0.5, 0.7], ["12", "17"], [-5, 3], [99999999999999999999]])
def test_other_numbers_are_none(values):
    assert read_moments(values, named=True) is None


def test_the_column_decides_the_order_of_day_and_month():
    assert days(moments_of(["01/02/2024", "13/02/2024"])) == ["2024-02-01", "2024-02-13"]
    assert days(moments_of(["01/02/2024", "02/13/2024"])) == ["2024-01-02", "2024-02-13"]
    unclear = ["01/02/2024", "03/02/2024"]
    assert moments_of(unclear).doubt == "01/02/2024 may be January 2 or February 1"
    assert days(moments_of(unclear, day_first=True)) == ["2024-02-01", "2024-02-03"]
    assert days(moments_of(unclear, day_first=False)) == ["2024-01-02", "2024-03-02"]
    assert days(moments_of(unclear, notation="month first")) == ["2024-01-02", "2024-03-02"]
    assert moments_of(["01/01/2024", "02/02/2024"]).doubt == ""  # both ways mean the same


def test_even_spacing_decides_what_no_value_does():
    found = moments_of([f"{month:02}/01/{year}" for year in (2020, 2021) for month in range(1, 13)])
    assert (found.notation, found.doubt) == ("month first", "")
    assert found.told == "02/01/2020 is read month first: so the moments are evenly spaced"
    unclear = moments_of([f"{month:02}/01/2020" for month in range(1, 13)])  # 12 days or 12 months
    assert unclear.doubt == "02/01/2020 may be February 1 or January 2"


def test_offsets_give_the_order():
    found = moments_of(HOURS.strftime("%Y-%m-%dT%H:%M:%S%z").tolist())
    assert np.array_equal(found.instants, HOURS.tz_convert("UTC").tz_localize(None).to_numpy())
    assert len(set(found.wall.tolist())) == len(HOURS) - 1  # a clock shows one hour twice
    offset = moments_of(HOURS.tolist()).offset
    assert offset is not None
    assert offset.tolist() == [7200] * 5 + [3600] * 3


def test_unreadable_values_are_told_and_too_many_are_no_moments():
    found = moments_of([*["2024-01-01"] * 18, "", "soon"])
    assert found.unreadable == (18, 19)
    assert read_moments(["2024-01-01", "soon"]) is None
    assert moments_of(["2024-01-01", "soon"], least=0.5).unreadable == (1,)
    assert read_moments(["", None]) is None


def test_columns_are_joined():
    rows = [(2024, 1, 31, 5), ("2024", "2", "1", "6"), (2024, None, 1, 1)]
    assert joined(["year", "month", "day", "hour"], rows) == ["2024-1-31 05:00", "2024-2-1 06:00", ""]
    assert joined(["Month", "Year"], [("Feb", 2024.0)]) == ["2024 Feb"]
    assert joined(["quarter", "year"], [(3, 2024)]) == ["2024 Q3"]
    assert days(moments_of(joined(["year", "week"], [(2022, 5)]))) == ["2022-01-31"]
    assert [part_of(name) for name in ("Year", "Monat", "Año", "qtr", "date")] == [
        "year",
        "month",
        "year",
        "quarter",
        None,
    ]


@pytest.mark.parametrize(("form", "separator"), [("{0}{2}{1:02}", "/"), ("{0}{2}{1:02}", "-"), ("FY{0}{2}{1:02}", "/")])
@pytest.mark.parametrize("begin", [1980, 1999, 2001])
def test_years_that_end_in_the_next_one_are_neither_months_nor_weeks(form, separator, begin):
    years = range(begin, begin + 21)
    found = moments_of([form.format(year, (year + 1) % 100, separator) for year in years])
    assert (found.unit, [one.year for one in found.when if one]) == ("year", list(years))
    assert found.told.endswith(f"is read as the year that begins in {begin}")
    again = moments_of([form.format(2001, 2, separator)], notation=found.notation)
    assert (again.unit, days(again)) == ("year", ["2001-01-01"])


def test_months_are_not_taken_for_years_and_decades_are_years():
    months = [f"{year}/{month:02}" for year in (2000, 2001) for month in range(1, 13)]
    assert moments_of(months).unit == "month"
    assert moments_of(["2001/02"]).unit == "month"
    assert days(moments_of(["1980s", "1990's"])) == ["1980-01-01", "1990-01-01"]
