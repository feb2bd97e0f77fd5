"""Data that is given in Python: data frames, dicts, lists, data sets, tables, and what is none."""

import datetime as dt

import pytest

from thalweg.data.builtin.catalog import SAMPLES
from thalweg.data.containers.memory import checksum_of_rows, is_data, source_of, splits_in
from thalweg.errors import InputError

RECORDS = [{"text": "a", "label": 1, "about": {"id": 7}}, {"text": None, "label": 2}]


def values(data):
    return [row.values for row in source_of(data).rows()]


def test_dicts_and_lists_are_columns_and_rows():
    source = source_of(RECORDS)
    assert (source.name, source.kind, source.columns) == ("python:list", "table", ("text", "label", "about.id"))
    assert values(RECORDS) == [("a", 1, 7), (None, 2, None)]
    assert [row.line for row in source.rows()] == [1, 2]
    assert values({"text": ("a", "b"), "words": [["x"], []]}) == [("a", ["x"]), ("b", [])]
    many = [{"text": str(i)} for i in range(10_000)]
    assert [chunk.values[0][0] for chunk in source_of(many).chunks(4096)] == ["0", "4096", "8192"]


def test_data_frames_are_read_with_their_values_as_plain_ones():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({
        "text": ["a", None], "n": [1, 2], "x": [0.5, float("nan")], "maybe": pandas.array([1, None], "Int64"),
        "day": pandas.to_datetime(["2024-05-31", None]), "kind": pandas.Categorical(["u", None]), 7: [True, False],
    }, index=[5, 3])  # fmt: skip
    assert source_of(frame).columns == ("text", "n", "x", "maybe", "day", "kind", "7")
    assert values(frame) == [("a", 1, 0.5, 1, "2024-05-31", "u", True), (None, 2, None, None, None, None, False)]
    series = pandas.DataFrame({"load": [1.0, 2.0]}, index=pandas.date_range("2024-05-31", periods=2, name="day"))
    assert values(series) == [("2024-05-31", 1.0), ("2024-06-01", 2.0)]
    with pytest.raises(InputError, match="got 'text' twice"):
        source_of(pandas.concat([frame[["text"]], frame[["text"]]], axis=1))


def test_a_series_and_an_array_of_records_have_columns():
    pandas = pytest.importorskip("pandas")
    load = pandas.Series([1.0, 2.0], index=pandas.date_range("2024-05-31", periods=2, name="day"), name="load")
    assert source_of(load).columns == ("day", "load")
    assert values(load) == [("2024-05-31", 1.0), ("2024-06-01", 2.0)]
    assert source_of(pandas.Series([1, 2])).columns == ("values",)
    assert values(pandas.DataFrame({"text": ["a"], "n": [1]}).to_records(index=False)) == [("a", 1)]
    with pytest.raises(InputError, match=r"got a ndarray\. Give a dict of lists, such as"):
        source_of(pandas.DataFrame({"text": ["a"]}).to_numpy())


def test_data_sets_and_arrow_tables_are_read():
    datasets = pytest.importorskip("datasets")
    features = {"label": datasets.ClassLabel(names=["neg", "pos"]), "text": datasets.Value("string")}
    data = datasets.Dataset.from_dict(
        {"label": [1, 0, 1], "text": ["a", "b", "c"]}, features=datasets.Features(features)
    )
    assert values(data) == [("pos", "a"), ("neg", "b"), ("pos", "c")]
    assert values(data.select([2, 0]).with_format("numpy")) == [("pos", "c"), ("pos", "a")]
    assert values(data.data.table) == values(data)
    found = splits_in(datasets.DatasetDict({"train": data, "validation": data}))
    assert (found.train, found.valid, found.test) == (data, data, None)


def test_parts_of_a_dict_are_told_apart_from_columns():
    assert splits_in({"text": ["a"]}) is None
    assert splits_in({"train": RECORDS, "test": RECORDS}).test == RECORDS
    with pytest.raises(InputError, match="Expected data with a part called train, got the parts test"):
        splits_in({"test": RECORDS})


def test_sources_are_taken_as_they_are():
    assert source_of(SAMPLES["sunspots"]) is SAMPLES["sunspots"]
    assert is_data(SAMPLES["sunspots"])
    assert not is_data("sunspots")


def test_the_checksum_is_that_of_the_contents():
    moments = {"when": [dt.datetime(2024, 5, 31)]}
    assert checksum_of_rows(source_of(RECORDS)) == checksum_of_rows(source_of([dict(row) for row in RECORDS]))
    assert checksum_of_rows(source_of(RECORDS)) != checksum_of_rows(source_of(RECORDS[:1]))
    assert checksum_of_rows(source_of(moments)) == checksum_of_rows(source_of({"when": ["2024-05-31"]}))


REFUSED = {
    "a number": (7, "got an int"),
    "nothing": ([], "got an empty list"),
    "no dicts": ([1], "a list whose entries are not all dicts"),
    "an iterator": (iter([1]), r"which can be read only once. Give list\(...\)"),
    "texts": ({"text": "a"}, "got a str for 'text'"),
    "lengths": ({"a": [1], "b": []}, "one length; 'a' has 1, 'b' has 0"),
    "no columns": ({}, "expected data with columns, got none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused(case):
    data, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        source_of(data)
