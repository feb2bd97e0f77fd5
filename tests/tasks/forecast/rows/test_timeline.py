"""The order of rows in time: clocks that change, gaps, what comes twice, and what comes next."""

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import InputError
from thalweg.tasks.forecast.rows.timeline import next_labels, read_clock, timeline

DAYS = pd.date_range("2024-01-01", periods=40, freq="D").strftime("%Y-%m-%d").tolist()


def line(values, **options):
    clock = read_clock(values)
    assert clock is not None
    return timeline(clock, np.arange(len(values)), "date", range(2, 2 + len(values)), **options)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Sydney"])
@pytest.mark.parametrize("frequency", ["h", "15min"])
def test_changing_clocks_are_neither_gaps_nor_twice(zone, frequency):
    for begin in ("2022-03-01", "2022-10-01"):
        when = pd.date_range(begin, periods=45 * (24 if frequency == "h" else 96), freq=frequency, tz=zone)
        for form in ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M%z"):
            for order in (1, -1):
                found = line(when.strftime(form).tolist()[::order])
                assert found.rows.tolist() == list(range(len(when)))[::order]
                assert not any("missing" in note or "sorted" in note for note in found.notes)
                assert found.labels[-1] == when[-1].strftime("%Y-%m-%d %H:%M")


def test_times_of_day_go_on_over_midnight():
    found = line(["22:00", "23:00", "00:00", "01:00"])
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.notes == ()
    assert found.labels == ["22:00", "23:00", "00:00", "01:00"], "nobody said which day"


@pytest.mark.parametrize(("gaps", "rows", "told"), [
    ("auto", 40, "2 days missing in 'date', the first between 2024-01-05 and 2024-01-07; straight lines fill"),
    ("fill", 40, "straight lines fill gaps"), ("ignore", 38, "read as if they were evenly spaced."),
])  # fmt: skip
def test_gaps(gaps, rows, told):
    found = line([day for day in DAYS if day not in ("2024-01-06", "2024-01-20")], gaps=gaps)
    assert len(found.rows) == len(found.labels) == rows
    assert told in found.notes[0]
    if rows == 40:
        assert found.labels == DAYS
        assert np.flatnonzero(found.rows < 0).tolist() == [5, 19]


def test_gaps_may_be_refused_and_many_of_them_are_read_as_they_are():
    holed = [*DAYS[:10], *DAYS[25:]]
    with pytest.raises(InputError, match="15 days missing in 'date', the first between 2024-01-10 and 2024-01-26; tra"):
        line(holed, gaps="refuse")
    found = line(holed)
    assert len(found.rows) == 25
    assert "--gaps fill draws straight lines over them" in found.notes[0]
    with pytest.raises(InputError, match="too many to fill 4 rows; leave out what is far from all others"):
        line([*DAYS[:3], "2924-01-01"], gaps="fill")


@pytest.mark.parametrize("frequency", ["B", "MS", "QE", "YS", "W-SUN", "BME"])
def test_steps_of_a_calendar_are_no_gaps(frequency):
    when = pd.date_range("2015-01-01", periods=50, freq=frequency).strftime("%Y-%m-%d").tolist()
    assert line(when, gaps="refuse").notes == ()


def test_holidays_are_no_gaps():
    when = pd.date_range("2024-01-01", periods=60, freq="B").strftime("%Y-%m-%d").tolist()
    found = line([day for day in when if day != "2024-02-19"])
    assert len(found.rows) == 59
    assert found.notes == (
        "1 business day missing in 'date', the first between 2024-02-16 and 2024-02-20: holidays, which are no gaps.",
    )


def test_what_comes_twice_is_refused_or_left_out():
    with pytest.raises(InputError, match="2024-01-02 comes twice in 'date', on the lines 3 and 4"):
        line(["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03"])
    found = line(["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03"], repeated=lambda first, again: True)
    assert found.rows.tolist() == [0, 1, 3]
    with pytest.raises(InputError, match="'date' is 2024-01-01 in all 3 rows, so it does not say when they were"):
        line(["2024-01-01"] * 3)


def test_an_order_of_day_and_month_that_nothing_decides_is_a_question():
    with pytest.raises(InputError, match="01/02/2024 may be January 2 or February 1, and no row decides it; say which"):
        read_clock(["01/02/2024", "03/02/2024"])
    clock = read_clock(["01/02/2024", "03/02/2024"], day_first=True)
    assert clock is not None
    assert clock.labels(np.array([1])) == ["2024-02-03"]


def test_days_without_a_year_are_refused():
    with pytest.raises(InputError, match=r"its days have no year \('30-Dec'\), so that nothing says in which order"):
        read_clock(["30-Dec", "31-Dec", "1-Jan"])


def test_uneven_rows_are_told():
    found = line(["2024-01-01 00:00", "2024-01-02 07:13", "2024-01-09 02:41", "2024-01-11 17:05", "2024-02-20 03:00"])
    assert (
        "not evenly spaced in 'date', for example from 2024-01-11 17:05 to 2024-02-20 03:00; they are read"
        in found.notes[0]
    )
    assert found.following(2) == []
    assert read_clock(["soon", "later"]) is None


@pytest.mark.parametrize(("given", "wanted"), [
    (["2024-01", "2024-02", "2024-03"], ["2024-04", "2024-05"]), (["2024-Q3", "2024-Q4"], ["2025-Q1", "2025-Q2"]),
    (["2024-02-28", "2024-02-29"], ["2024-03-01", "2024-03-02"]), (["7", "9", "11"], ["13", "15"]),
    (["2020", "2021"], ["2022", "2023"]),
    (["23:58", "23:59", "00:00"], ["00:01", "00:02"]), (["2020-W52", "2020-W53"], ["2021-W01", "2021-W02"]),
    (["2024-05-02", "2024-05-03", "2024-05-06"], ["2024-05-07", "2024-05-08"]),
    (["2024-01-31 22:00", "2024-01-31 23:00"], ["2024-02-01 00:00", "2024-02-01 01:00"]), (["a", "b"], []), ([], []),
])  # fmt: skip
def test_next_labels(given, wanted):
    assert next_labels(given, 2) == wanted


def test_few_rows_follow_the_step_of_training():
    step = line(pd.date_range("2024-01-01", periods=30, freq="B").strftime("%Y-%m-%d").tolist()).step
    assert next_labels(["2024-03-07", "2024-03-08"], 1, step) == ["2024-03-11"]
    assert next_labels(["2024-03-08 10:00", "2024-03-08 11:00"], 1, step) == ["2024-03-08 12:00"]


def test_moments_that_are_missing_between_odd_distances_are_counted_in_words():
    when = pd.date_range("2024-01-01 09:30", periods=26, freq="15min").strftime("%Y-%m-%d %H:%M").tolist()
    (note,) = line([*when, "2024-01-01 17:00"], gaps="ignore").notes
    assert note.startswith("4 moments (15 minutes apart) missing in 'date', the first between 2024-01-01 15:45 and ")


@pytest.mark.parametrize(("zone", "begin"), [
    ("Africa/Cairo", "2023-10-20"), ("Asia/Beirut", "2021-10-24"), ("Asia/Gaza", "2021-10-22"),
    ("America/Santiago", "2022-03-25"), ("Asia/Tehran", "2021-09-15"), ("Europe/Berlin", "2022-10-24"),
])  # fmt: skip
@pytest.mark.parametrize("frequency", ["h", "30min"])
def test_clocks_that_are_set_back_around_midnight_too(zone, begin, frequency):
    when = pd.date_range(begin, periods=480, freq=frequency, tz=zone).strftime("%Y-%m-%d %H:%M").tolist()
    found = line(when)
    assert (found.rows.tolist(), found.labels) == (list(range(480)), when)
    assert len(found.notes) == 1
    assert found.notes[0].startswith("Clocks are set back in 'date' (")


def test_the_joint_of_two_months_is_no_change_of_clocks():
    when = pd.date_range("2022-09-25", "2022-10-01", freq="h").strftime("%Y-%m-%d %H:%M").tolist()
    after = pd.date_range("2022-10-01", "2022-10-05", freq="h").strftime("%Y-%m-%d %H:%M").tolist()
    with pytest.raises(InputError, match="2022-10-01 00:00 comes twice in 'date', on the lines 146 and 147"):
        line([*when, *after])


def test_the_rows_of_opening_hours_go_on_the_next_day_and_after_the_weekend():
    days = pd.bdate_range("2023-01-02", "2023-01-27")
    when = [f"{day:%Y-%m-%d} {minute // 60:02}:{minute % 60:02}" for day in days for minute in range(570, 960, 15)]
    assert next_labels(when[:-1], 3) == ["2023-01-27 15:45", "2023-01-30 09:30", "2023-01-30 09:45"]
    assert len(next_labels(when, 200)) == 200
    whole = pd.date_range("2023-01-02", periods=100, freq="h").strftime("%Y-%m-%d %H:%M").tolist()
    assert next_labels(whole, 1) == ["2023-01-06 04:00"]
