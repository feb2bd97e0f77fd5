"""One reading of the chosen columns, and the rows that a task can't use."""

import json

import pytest

from thalweg import names
from thalweg.data.columns.choice import Choice, choose_columns
from thalweg.data.columns.label_values import label_of
from thalweg.data.columns.reading import MISSING, UNEQUAL, UNREADABLE, UNSEEN, Fault, ReadSource, read_as
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError


def rows_of(tmp_path, task, columns, rows, *, skip=True, known=None, **more):
    """The chosen values of each row that is left, and the source."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    choice = Choice.of_plain(task, columns | more)
    source = read_as(open_source(path), names.task_columns(task), choice, skip_bad_rows=skip, known_labels=known)
    chosen = [*choice.columns.values(), *choice.series]
    return [tuple(row.values[source.columns.index(name)] for name in chosen) for row in source.rows()], source


def labels(tmp_path, values, **more):
    rows = [{"text": "so so", "label": value} for value in values]
    found, source = rows_of(tmp_path, "classify", {"text": "text", "label": "label"}, rows, **more)
    return [label for _, label in found], source


ONE = [
    ("pos", "pos"),
    (" pos\u00a0", "pos"),
    (1, "1"),
    (1.0, "1"),
    (1.5, "1.5"),
    (True, "true"),
    (["pos"], "pos"),
    ("None", "None"),
    ("NA", "NA"),
    (None, None),
    ("  ", None),
    ([], None),
]


@pytest.mark.parametrize(("value", "label"), ONE)
def test_a_field_holds_one_label(tmp_path, value, label):
    assert labels(tmp_path, [value, "x"])[0] == [label, "x"]
    assert label_of(value) == label


def test_words_for_missing_are_no_labels_where_the_choice_says_so(tmp_path):
    assert labels(tmp_path, ["NA", "none", "3", "-"], na_is_missing=True)[0] == [None, None, "3", None]


def test_an_object_is_no_label():
    with pytest.raises(ValueError, match="expected a label, got an object"):
        label_of({"a": 1})


def test_a_float_that_is_no_number_is_no_label():
    assert label_of(float("nan")) is None


SEVERAL = [("a; b;a", ["a", "b"]), (["b", " a", None, 2.0], ["b", "a", "2"]), (None, []), ("", []), (3, ["3"])]


@pytest.mark.parametrize(("value", "found"), SEVERAL)
def test_a_field_holds_several_labels(tmp_path, value, found):
    assert labels(tmp_path, [value], multilabel=True, separator=";")[0] == [found]


def test_columns_of_zeros_and_ones_are_the_labels_of_a_row(tmp_path):
    columns = {"text": "text", "label": "rude,mean", "label_columns": ["rude", "mean"], "one_hot": True}
    rows = [{"text": "t", "rude": one, "mean": two} for one, two in [(1, "0"), (0, 0), ("yes", 1.0), (True, False)]]
    found, source = rows_of(tmp_path, "classify", columns, rows, multilabel=True)
    assert found == [("t", ["rude"]), ("t", []), ("t", ["rude", "mean"]), ("t", ["rude"])]
    assert source.columns == ("text", "rude", "mean", "rude,mean")
    found, source = rows_of(tmp_path, "classify", columns, rows)
    assert found == [("t", "rude"), ("t", "rude")]
    expected = "expected one label as in the first rows, got"
    assert source.bad_rows == [(2, f"{expected} 0 in each column"), (3, f"{expected} 2 (rude, mean)")]


def test_columns_of_labels_with_other_names_are_the_labels_in_their_order(tmp_path):
    columns = {"text": "text", "label": "rude,mean", "label_columns": ["is_rude", "is_mean"], "one_hot": True}
    rows = [{"text": "t", "is_rude": 0, "is_mean": 1}]
    assert rows_of(tmp_path, "classify", columns | {"label_names": ["rude", "mean"]}, rows)[0] == [("t", "mean")]


def test_several_columns_of_labels_are_one_list(tmp_path):
    columns = {"text": "text", "label": "one,two", "label_columns": ["one", "two"], "one_hot": False}
    rows = [{"text": "t", "one": "a", "two": "b"}, {"text": "t", "one": "b", "two": None}]
    assert rows_of(tmp_path, "classify", columns, rows, multilabel=True)[0] == [("t", ["a", "b"]), ("t", ["b"])]


TEXT = {"text": "text", "label": "label"}
NUMBER = {"text": "text", "number": "score"}
TAGS = {"tokens": "words", "tags": "tags"}
SERIES = {"series": ["load"]}
ONE_HOT = {"text": "text", "label": "a,b", "label_columns": ["a", "b"], "one_hot": True, "multilabel": True}
# task, columns, a row that can't be used, one that can, what is wrong, the reason
UNUSABLE = [
    (
        "classify",
        TEXT,
        {"label": ["a", "b"]},
        {"label": "a"},
        UNREADABLE,
        r"expected one label, got a list of 2 in col",
    ),
    (
        "classify",
        TEXT,
        {"label": "c"},
        {"label": " a "},
        UNSEEN,
        r"label 'c' in column 'label' is not .*data \(a, B-X\)",
    ),
    ("classify", ONE_HOT, {"a": 1, "b": -1}, {"a": 1, "b": 0}, UNREADABLE, r"expected 0 or 1, got -1 in column 'b'"),
    ("classify", ONE_HOT, {"a": None, "b": 0}, {"a": 1, "b": 0}, UNREADABLE, r"expected 0 or 1, got an empty value"),
    ("classify", ONE_HOT, {"a": 1, "b": 1}, {"a": 1, "b": 0}, UNSEEN, r"label 'b' in column 'a,b' is not among"),
    ("score", NUMBER, {"score": None}, {"score": "1.5"}, MISSING, r"expected a number .*'score', got an empty value"),
    ("score", NUMBER, {"score": "high"}, {"score": 1}, UNREADABLE, r"expected a number in column 'score', got 'high'"),
    ("score", NUMBER, {"score": True}, {"score": 1}, UNREADABLE, r"got True"),
    ("forecast", SERIES, {"load": "n/a"}, {"load": 1}, MISSING, r"got an empty value \('n/a'\)"),
    ("tag", TAGS, {"words": ["a"], "tags": ["a", "a"]}, {"words": "a a", "tags": "a a"}, UNEQUAL, r"got 1 words and 2"),
    (
        "tag",
        TAGS,
        {"words": ["a", "b"], "tags": ["a", None]},
        {"words": ["a"], "tags": ["a"]},
        MISSING,
        r"word 2 has no",
    ),
    (
        "tag",
        TAGS,
        {"words": ["a"], "tags": [""]},
        {"words": ["a"], "tags": ["a"]},
        MISSING,
        r"word 1 has no tag in col",
    ),
    (
        "tag",
        TAGS,
        {"words": 3, "tags": ["a"]},
        {"words": ["a"], "tags": ["a"]},
        UNREADABLE,
        r"a list of texts in .*got 3",
    ),
    (
        "tag",
        TAGS,
        {"words": ["a"], "tags": ["x"]},
        {"words": ["a"], "tags": ["B-X"]},
        UNSEEN,
        r"tag 'x' is not among the",
    ),
]


@pytest.mark.parametrize(("task", "columns", "bad", "good", "what", "reason"), UNUSABLE)
def test_a_row_that_the_task_cannot_use_is_refused_or_left_out(tmp_path, task, columns, bad, good, what, reason):
    rows = [{"text": "t", **row} for row in (good, bad, good)]
    known = ("a", "B-X")
    if task != "forecast":  # which judges missing values itself
        with pytest.raises(InputError, match=rf"a\.jsonl, line 2: .*{reason}.*or leave such rows out with --skip-bad"):
            rows_of(tmp_path, task, columns, rows, skip=False, known=known)
    faults: list[Fault] = []
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    choice = Choice.of_plain(task, columns)
    source = read_as(
        open_source(path),
        names.task_columns(task),
        choice,
        skip_bad_rows=True,
        known_labels=known,
        on_fault=faults.append,
    )
    assert [row.line for row in source.rows()] == [1, 3]
    assert [(fault.line, fault.what) for fault in faults] == [(2, what)]
    assert (source.num_bad_rows, source.num_unusable_rows) == (1, 1)
    assert source.bad_rows[0].line == 2


def test_a_missing_value_of_a_series_is_for_the_task_to_judge(tmp_path):
    rows = [{"load": 1.5}, {"load": None}, {"load": "2"}]
    assert rows_of(tmp_path, "forecast", SERIES, rows, skip=False)[0] == [(1.5,), (None,), (2.0,)]
    assert rows_of(tmp_path, "forecast", SERIES, rows, skip=True)[0] == [(1.5,), (2.0,)]


def test_unusable_and_unreadable_rows_are_counted_together(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"so so {i},{i}" for i in range(300)]
    rows[10:12] = ["one,two,3", "so so,high"]
    path.write_text("\n".join(["text,score", *rows]) + "\n")
    task, file = names.task_columns("score"), open_source(path, skip_bad_rows=True)
    source = read_as(file, task, choose_columns(file, task), skip_bad_rows=True)
    for _ in range(2):  # every pass counts from the beginning
        assert sum(map(len, source.chunks(7))) == 298
        assert source.bad_rows == [
            (12, "expected 2 columns, got 3"),
            (13, "expected a number in column 'score', got 'high'"),
        ]
    assert source.num_unusable_rows == 1


def test_data_without_a_row_that_can_be_used_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"got none that can be used \(line 1: label 'x' in column"):
        labels(tmp_path, ["x", "y"], known=("a", "b"))


def test_labels_may_be_known_later_and_columns_may_be_lacking(tmp_path):
    found, source = labels(tmp_path, ["a", "b", "a"])
    assert found == ["a", "b", "a"]
    source.know(["a"])
    assert [row.line for row in source.rows()] == [1, 3]
    again = read_as(source, names.task_columns("classify"), Choice.of_plain("classify", TEXT), skip_bad_rows=True)
    assert isinstance(again, ReadSource), "a reading of a reading is one of the file"
    assert sum(map(len, again.chunks())) == 3


def test_null_and_an_object_are_no_texts_and_an_empty_text_is_one(tmp_path):
    rows = [{"text": value} for value in ("", None, ["a", "b"], 3)]
    found, source = rows_of(tmp_path, "classify", {"text": "text"}, rows)
    assert found == [("",), ("a b",), ("3",)]
    assert source.bad_rows == [(2, "expected a text in column 'text', got null")]
    with pytest.raises(InputError, match=r"line 2: expected a text in column 'text', got null; fill it in, or leave"):
        rows_of(tmp_path, "classify", {"text": "text"}, rows, skip=False)


def test_what_is_remembered_of_a_column_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.data.columns.reading.MAX_REMEMBERED", 3)
    assert labels(tmp_path, [f" l{i % 7}" for i in range(50)])[0] == [f"l{i % 7}" for i in range(50)]


@pytest.mark.parametrize(
    "choice",
    [
        Choice("classify", {"text": "t", "label": "l"}, "", separator=";", is_multilabel=True, na_is_missing=True),
        Choice("classify", {"text": "t", "label": "a,b"}, "", label_columns=("a", "b"), is_one_hot=True),
        Choice("forecast", {"time": "day"}, "", series=("load", "price")),
    ],
)
def test_a_choice_is_read_back_from_what_a_run_keeps(choice):
    assert Choice.of_plain(choice.task, json.loads(json.dumps(choice.plain()))) == choice
