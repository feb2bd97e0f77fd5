"""Parquet, Arrow and Feather: values of every type, records inside records, classes by name, damage."""

import datetime as dt
import decimal
import sys
import zipfile

import pytest

from thalweg.data.containers.opening import open_any
from thalweg.data.containers.plain import class_names, flattened, named, plain
from thalweg.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(table, path):
    """The table in the format of the path's ending."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=3)
    elif path.suffix == ".feather":
        pytest.importorskip("pyarrow.feather").write_feather(table, path)
    else:
        make = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, make(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    return path


def values(place):
    return [row.values for row in open_any(place).rows()]


# column -> its Arrow values, and what is read
COLUMNS = {
    "text": (pa.array(["a", None]), ["a", None]),
    "large": (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
    "category": (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    "whole": (pa.array([1, None], pa.int64()), [1, None]),
    "number": (pa.array([1.5, float("nan")]), [1.5, None]),
    "decimal": (pa.array([decimal.Decimal("1.50"), None]), [1.5, None]),
    "flag": (pa.array([True, False]), [True, False]),
    "day": (pa.array([dt.date(2024, 5, 31), None]), ["2024-05-31", None]),
    "days": (pa.array([dt.datetime(2024, 5, 31), None]), ["2024-05-31", None]),
    "moment": (pa.array([dt.datetime(2024, 5, 31, 12, 30), dt.datetime(2024, 6, 1)]),
               ["2024-05-31T12:30:00", "2024-06-01T00:00:00"]),
    "nanoseconds": (pa.array([1_717_158_600_000_000_001, None], pa.timestamp("ns")), ["2024-05-31T12:30:00", None]),
    "zoned": (pa.array([0, None], pa.timestamp("s", "UTC")), ["1970-01-01T00:00:00+00:00", None]),
    "time": (pa.array([dt.time(12, 30), None]), ["12:30:00", None]),
    "length": (pa.array([dt.timedelta(minutes=1), None]), [60.0, None]),
    "words": (pa.array([["a", "b"], None]), [["a", "b"], None]),
    "numbers": (pa.array([[0.5], []], pa.list_(pa.float32(), -1)), [[0.5], []]),
    "turns": (pa.array([[{"role": "user"}], []]), [[{"role": "user"}], []]),
    "nothing": (pa.nulls(2), [None, None]),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["parquet", "feather", "arrow", "arrows"])
def test_values_of_every_type_are_read(tmp_path, ending):
    table = pa.table({name: array for name, (array, _) in COLUMNS.items()})
    source = open_any(write(table, tmp_path / f"a.{ending}"))
    assert (source.kind, source.columns) == ("parquet" if ending == "parquet" else "arrow", tuple(COLUMNS))
    rows = list(source.rows())
    assert [row.line for row in rows] == [1, 2]
    assert [list(column) for column in zip(*(row.values for row in rows), strict=True)] == [
        expected for _, expected in COLUMNS.values()
    ]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("size", [2, 4096])
def test_rows_come_in_chunks_in_their_order(tmp_path, ending, size):
    source = open_any(write(pa.table({"text": list(map(str, range(10)))}), tmp_path / f"a.{ending}"))
    chunks = list(source.chunks(size))
    assert [line for chunk in chunks for line in chunk.lines] == list(range(1, 11))
    assert [value for chunk in chunks for value in chunk.values[0]] == list(map(str, range(10)))
    assert max(map(len, chunks)) <= size


def test_records_inside_records_are_columns_with_points(tmp_path):
    rows = [{"id": 1, "translation": {"en": "river", "de": {"word": "Fluss"}}}, {"id": 2, "translation": None}]
    path = write(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert open_any(path).columns == ("id", "translation.en", "translation.de.word")
    assert values(path) == [(1, "river", "Fluss"), (2, None, None)]
    assert flattened(rows[0]) == {"id": 1, "translation.en": "river", "translation.de.word": "Fluss"}


def test_bytes_are_left_out_by_column(tmp_path):
    table = pa.table({"image": [{"bytes": b"x", "path": "p"}], "sound": [b"x"], "pairs": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))})  # fmt: skip  # noqa: E501
    source = open_any(write(table, tmp_path / "a.parquet"))
    assert source.columns == ("image.path",)
    assert "Column 'sound' holds bytes, such as pictures or sound, which no task reads; it is left out." in source.notes
    with pytest.raises(InputError, match="expected columns of texts, numbers or lists; got 'sound' with bytes"):
        open_any(write(table.select(["sound"]), tmp_path / "b.parquet"))


def test_the_index_of_pandas_is_no_column(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b"], "n": [1, 2]}, index=[5, 7])
    frame.to_parquet(tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == [("a", 1), ("b", 2)]


def test_classes_have_their_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    tags = datasets.ClassLabel(names=["O", "B-X"])
    features = {"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(tags), "label": tags}
    rows = {"tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [1]], "label": [1, -1]}
    data = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    data.to_parquet(tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == [(["a", "b"], ["O", "B-X"], "B-X"), (["c"], ["B-X"], None)]
    assert "The classes of 'tags', 'label' are read by their names." in open_any(tmp_path / "a.parquet").notes
    assert class_names({"a": {"b": [{"_type": "ClassLabel", "names": ["x"]}]}, "c": None}) == {"a.b": ["x"]}
    assert named([0, 2, None], ["x"]) == ["x", None, None]


BROKEN = {
    "cut off": ("a.parquet", lambda content: content[: len(content) // 2], "damaged or can't be read"),
    "marks alone": ("a.parquet", lambda content: b"PAR1" + b"x" * 99, "damaged or can't be read"),
    "arrow marks": ("a.arrow", lambda content: b"ARROW1\0\0" + b"x" * 99, "damaged or can't be read"),
    "stream marks": ("a.arrows", lambda content: b"\xff\xff\xff\xff" + b"\x10" * 99, "damaged or can't be read"),
    "old feather": ("a.feather", lambda content: b"FEA1" + b"x" * 99, "Feather of version 1"),
    "encrypted": ("a.parquet", lambda content: b"PARE" + b"x" * 99, "encrypted"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_told_in_a_sentence(tmp_path, case):
    name, breaks, message = BROKEN[case]
    path = tmp_path / name
    content = write(pa.table({"text": ["a"] * 100}), tmp_path / "good.parquet").read_bytes()
    path.write_bytes(breaks(content))
    with pytest.raises(InputError, match=f"{name}.*{message}"):
        open_any(path)


@pytest.mark.parametrize("case", ["backwards", "beyond the end", "no such class", "inside a list"])
def test_places_that_lead_out_of_an_arrow_file_are_found_before_they_are_read(tmp_path, case):
    array = {"no such class": pa.array(["a", "bb", "a"]).dictionary_encode(), "inside a list": pa.array([["a", "bb"]])}
    content = write(pa.table({"text": array.get(case, pa.array(["a", "bb", "ccc"]))}), tmp_path / "a.arrow")
    numbers = {"no such class": [0, 1, 0], "inside a list": [0, 1, 3]}.get(case, [0, 1, 3, 6])
    changed = [0, 3, 1, 6] if case == "backwards" else [*numbers[:-1], 2**30]
    old, new = (b"".join(number.to_bytes(4, "little") for number in each) for each in (numbers, changed))
    assert content.read_bytes().count(old) == 1
    (tmp_path / "b.arrow").write_bytes(content.read_bytes().replace(old, new))
    with pytest.raises(InputError, match=r"b\.arrow: the file is damaged or can't be read \(In column 0"):
        values(tmp_path / "b.arrow")


def test_a_column_whose_name_is_no_utf_8_is_told(tmp_path):
    content = write(pa.table({"qwertz": ["a"]}), tmp_path / "a.arrow").read_bytes()
    (tmp_path / "b.arrow").write_bytes(content.replace(b"qwertz", b"qwert\xc8"))
    with pytest.raises(InputError, match=r"b\.arrow: the file is damaged or can't be read"):
        open_any(tmp_path / "b.arrow")


def test_a_column_that_comes_twice_and_no_rows_are_refused(tmp_path):
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(InputError, match="got 'text' twice"):
        open_any(write(twice, tmp_path / "a.parquet"))
    with pytest.raises(InputError, match="got none that can be read"):
        values(write(twice.select([0]).slice(1), tmp_path / "b.parquet"))


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    path = write(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow; install it with pip install 'thalweg\[files\]'"):
        open_any(path)


def test_a_parquet_file_in_a_zip_is_read(tmp_path):
    write(pa.table({"text": ["a", "b"]}), tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.parquet", "in/a.parquet")
    assert values(tmp_path / "a.zip") == [("a",), ("b",)]


def numbered(num_rows, text):
    """A column that holds a text in each of many rows, and in the file once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * num_rows, pa.int8()), pa.array([text]))


FEW_BYTES = {
    "long.parquet": lambda: numbered(2_000, "x" * 100_000),
    "long.arrow": lambda: numbered(2_000, "x" * 100_000),
    "one.parquet": lambda: ["a " * 60_000_000],
    "empty.arrow": lambda: pa.nulls(200_000_000),
    "repeated.arrow": lambda: pa.RunEndEncodedArray.from_arrays(pa.array([200_000_000], pa.int32()), pa.array(["a"])),
}


@pytest.mark.parametrize("name", FEW_BYTES)
def test_few_bytes_that_stand_for_many_rows_or_long_texts_are_refused(tmp_path, name):
    table = pa.table({"text": FEW_BYTES[name]()})
    if name.endswith("parquet"):
        pq.write_table(table, tmp_path / name, compression="zstd")
    else:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(tmp_path / name, table.schema, options=options) as writer:
            writer.write_table(table)
    assert (tmp_path / name).stat().st_size < 50_000
    with pytest.raises(InputError, match=rf"{name}: it would grow from [\d,]+ to [\d,]+ bytes .* save it as CSV"):
        next(iter(open_any(tmp_path / name).chunks()))


def test_what_needs_more_memory_than_there_is_is_told(tmp_path, monkeypatch):
    path = write(pa.table({"text": ["a"]}), tmp_path / "a.parquet")

    def refuse(*arguments, **named):
        raise pa.ArrowMemoryError("malloc of size 4096000000 failed")

    monkeypatch.setattr(pq, "ParquetFile", refuse)
    with pytest.raises(InputError, match=r"no memory for a part of it; write it with fewer rows in a group\.$"):
        open_any(path)


def test_plain_values_of_other_programs():
    numpy = pytest.importorskip("numpy")
    assert [plain(one) for one in (numpy.int8(1), numpy.float32(0.5), numpy.str_("a"), numpy.array([1, 2]))] == [
        1, 0.5, "a", [1, 2],
    ]  # fmt: skip
    assert plain({"a": (1, float("inf"))}) == {"a": [1, float("inf")]}
