"""The columns of a forecast: numbers in the order of time."""

from thalweg.data.columns import misfits
from thalweg.data.columns.choice import POSSIBLE, Choice, Kind, Rule, Table, TaskColumns
from thalweg.data.columns.scores import is_text_like, is_time

NUM_SHOWN = 6  # names of series in the sentence


def choose(table: Table) -> Choice:
    """Return the series, and the column that says when the rows were."""
    time = table.named.get("time") or next((one for one in table.facts if is_time(one)), None)
    if table.named_series is not None:
        series = table.named_series
        time = None if time and time.name in series else time
    else:
        # The only numbers there are may happen to grow.
        time = time if any(one.is_number for one in table.facts if one is not time) else None
        series = tuple(one.name for one in table.facts if one.is_number and one is not time)
    if not series:
        raise table.fail("a column of numbers for the task forecast", "name it with --label-column")
    shown = ", ".join(map(repr, series[:NUM_SHOWN])) + (f" ... ({len(series)} in all)" if len(series) > 6 else "")
    told = f"Numeric column{'s' if len(series) > 1 else ''} {shown}"
    told += f", in the order of the rows ({time.name!r} is left out)" if time else ""
    columns = {"time": time.name} if time else {}
    return Choice("forecast", columns, f"{told}; --label-column chooses others.", series)


def has_numbers_only(table: Table) -> bool:
    """There are numbers and no texts."""
    return not any(map(is_text_like, table.facts)) and any(one.is_number for one in table.facts)


COLUMNS = TaskColumns(
    "forecast",
    {"series": Kind.SERIES, "time": Kind.TIME},
    choose,
    (Rule(POSSIBLE, "the columns are numbers", has_numbers_only),),
    options={"label": "series"},
    objection=misfits.of_series,
)
