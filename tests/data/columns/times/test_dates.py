"""One value of a time column against what it says, and against pandas where that reads it, too."""

import datetime as dt

import pandas as pd
import pytest

from thalweg.data.columns.times.dates import CLEAR, DAY_FIRST, MONTH_FIRST, readings

DAYS = [
    ("2022-01-05", "2022-01-05"), ("2022/1/5", "2022-01-05"), ("2022.01.05", "2022-01-05"),
    ("20220105", "2022-01-05"), ("01-Jan-22", "2022-01-01"), ("01-JAN-1999", "1999-01-01"), ("5-Dec-69", "1969-12-05"),
    ("January 5, 2022", "2022-01-05"), ("Jan. 5th, 2022", "2022-01-05"), ("Jan 5 2022", "2022-01-05"),
    ("Mon, 3 Jan 2022", "2022-01-03"), ("2022-Jan-05", "2022-01-05"), ("05Jan2022", "2022-01-05"),
    ("5. März 2022", "2022-03-05"), ("5. Maerz 2022", "2022-03-05"), ("1er février 2022", "2022-02-01"),
    ("mar. 1 mars 2022", "2022-03-01"), ("5 de enero de 2022", "2022-01-05"), ("5 gennaio 2022", "2022-01-05"),
    ("5 de março de 2022", "2022-03-05"), ("5 MAART 2022", "2022-03-05"), ("2022年1月5日", "2022-01-05"),
    ("2022-W05-3", "2022-02-02"),
]  # fmt: skip
PARTS = [
    ("2022Q1", "2022-01-01", "quarter"), ("Q3 2022", "2022-07-01", "quarter"), ("2022-Q4", "2022-10-01", "quarter"),
    ("2Q22", "2022-04-01", "quarter"), ("Q1/22", "2022-01-01", "quarter"), ("3. Quartal 2022", "2022-07-01", "quarter"),
    ("T2 2022", "2022-04-01", "quarter"), ("2022-W05", "2022-01-31", "week"), ("KW 5 2022", "2022-01-31", "week"),
    ("2020W53", "2020-12-28", "week"), ("2022H1", "2022-01-01", "half"), ("H2 2022", "2022-07-01", "half"),
    ("2022-01", "2022-01-01", "month"), ("2022M03", "2022-03-01", "month"), ("03/2022", "2022-03-01", "month"),
    ("Jan 2022", "2022-01-01", "month"), ("Jan-22", "2022-01-01", "month"), ("May 1949", "1949-05-01", "month"),
    ("FY2022 Q3", "2022-07-01", "quarter"), ("Q2 FY22", "2022-04-01", "quarter"), ("FY2022", "2022-01-01", "year"),
    ("styczeń 2022", "2022-01-01", "month"), ("март 2022", "2022-03-01", "month"),
    ("2022년 5월", "2022-05-01", "month"),
    ("mai 2022", "2022-05-01", "month"), ("dic-2022", "2022-12-01", "month"), ("okt 2022", "2022-10-01", "month"),
]  # fmt: skip
TIMES = [
    ("2022-01-05T10:30", "2022-01-05 10:30", None), ("2022-01-05 10:30:15.25", "2022-01-05 10:30:15.25", None),
    ("2022-01-05T10:30:15Z", "2022-01-05 10:30:15", 0), ("2022-01-05 10:30+02:00", "2022-01-05 10:30", 7200),
    ("2022-01-05T10:30:15-0530", "2022-01-05 10:30:15", -19800), ("20220105T103000Z", "2022-01-05 10:30", 0),
    ("2016-10-30 02:00 CEST", "2016-10-30 02:00", 7200), ("Jan 5, 2022 3:05 PM", "2022-01-05 15:05", None),
    ("Wed Jan 05 10:00:00 2022", "2022-01-05 10:00", None), ("2022-01-01 24:00", "2022-01-02 00:00", None),
    ("Mon, 03 Jan 2022 10:00:00 +0100", "2022-01-03 10:00", 3600), ("2022-01-05 10", "2022-01-05 10:00", None),
    ("12/Dec/2015:18:25:11 +0000", "2015-12-12 18:25:11", 0), ("12:30", "1970-01-01 12:30", None),
    ("9:05 PM", "1970-01-01 21:05", None), ("12:05 am", "1970-01-01 00:05", None),
]  # fmt: skip
STRETCHES = [
    ("05.01.2022 00:00 - 05.01.2022 01:00", "2022-01-05"), ("2022-01-05/2022-01-11", "2022-01-05"),
    ("03.01.2022-09.01.2022", "2022-01-03"), ("2022-01-05 – 2022-01-11", "2022-01-05"),
    ("Jan 5, 2022 to Jan 11, 2022", "2022-01-05"),
]  # fmt: skip
NONE = [
    "5 to 7", "page 10 - page 12", "2022-01-05 - soon",
    "soon", "may 5", "chapter 5", "5 stars", "30.02.2024", "2022-13-01", "2018-W53", "1949", "10.5", "route 66",
    "192.168.0.1", "555-1234", "version 2.0.1", "3:1", "25:00", "13:05 pm", "", "Q5 2022", "1/2", "A1 2022",
    "2022-01-01 10:30 XYZ", "1" * 70,
]  # fmt: skip


@pytest.mark.parametrize(("text", "day"), DAYS)
def test_days(text, day):
    found = readings(text)[CLEAR]
    assert (found.when, found.unit) == (dt.datetime.fromisoformat(day), "day")


@pytest.mark.parametrize(("text", "day"), STRETCHES)
def test_a_stretch_of_time_is_its_beginning(text, day):
    assert readings(text)[DAY_FIRST].when == dt.datetime.fromisoformat(day)


@pytest.mark.parametrize(("text", "day", "unit"), PARTS)
def test_parts_of_a_year_are_their_first_day(text, day, unit):
    found = readings(text)[CLEAR]
    assert (found.when, found.unit) == (dt.datetime.fromisoformat(day), unit)


@pytest.mark.parametrize(("text", "when", "offset"), TIMES)
def test_times(text, when, offset):
    found = readings(text)[CLEAR]
    assert (found.when, found.offset) == (pd.Timestamp(when).to_pydatetime(), offset)


@pytest.mark.parametrize("text", NONE)
def test_other_texts_are_no_moments(text):
    assert readings(text) == {}


@pytest.mark.parametrize(("text", "day_first", "month_first"), [
    ("01/02/2024", "2024-02-01", "2024-01-02"), ("01-02-24", "2024-02-01", "2024-01-02"),
    ("31/01/2024", "2024-01-31", None), ("1/31/2024", None, "2024-01-31"),
    ("01.02.2024", "2024-02-01", None), ("1. 2. 24", "2024-02-01", None),
])  # fmt: skip
def test_the_order_of_day_and_month(text, day_first, month_first):
    found = readings(text)
    days = [found[form].when.date().isoformat() if form in found else None for form in (DAY_FIRST, MONTH_FIRST)]
    assert days == [day_first, month_first]


@pytest.mark.parametrize("text", [text for text, *_ in (*DAYS, *TIMES) if "2022" in text])
def test_pandas_reads_the_same_where_it_reads_it(text):
    try:
        expected = pd.to_datetime(text)
    except (ValueError, TypeError):
        return
    found = readings(text)[CLEAR]
    assert found.when == expected.tz_localize(None).to_pydatetime()


@pytest.mark.parametrize(("value", "unit", "offset"), [
    (dt.datetime(2022, 1, 5), "day", None), (dt.datetime(2022, 1, 5, 3), "second", None),
    (dt.date(2022, 1, 5), "day", None),
    (pd.Timestamp("2022-01-05 03:00", tz="Europe/Berlin"), "second", 3600),
])  # fmt: skip
def test_dates_of_other_programs(value, unit, offset):
    found = readings(value)[CLEAR]
    assert (found.when.date(), found.unit, found.offset) == (dt.date(2022, 1, 5), unit, offset)
