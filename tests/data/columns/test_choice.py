"""Columns are found by names and contents, those that the user names first, and the choice is told."""

import json

import pytest

from thalweg import names
from thalweg.data import SAMPLES
from thalweg.data.columns.choice import Kind, Rule, TaskColumns, choose_columns
from thalweg.data.columns.guess import guess_task
from thalweg.data.columns.notation import PLAIN, notations_of
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

TEXTS = [f"this is review {i} and it says a thing about film number {i * 7}" for i in range(60)]
SHORT = [f"text {i} here" for i in range(60)]


def table(folder, columns, name="data.csv"):
    """Write columns (name -> values) as CSV, TSV or JSON Lines and open the file."""
    path = folder / name
    rows = list(zip(*columns.values(), strict=True))
    if name.endswith("jsonl"):
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    elif name.endswith("tsv"):
        lines = ["\t".join(map(str, row)) for row in rows]  # no header
    else:
        lines = [",".join(columns), *(",".join(f'"{value}"' for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return open_source(path)


def cycle(*values):
    return [values[i % len(values)] for i in range(60)]


def choose(source, task, named=None):
    return choose_columns(source, names.task_columns(task), named)


def guess(source):
    return guess_task(source, names.all_task_columns())[0].task


# Tables whose names say little or the wrong thing: columns, file name, task guessed, columns chosen for it.
TABLES = {
    "names that say nothing": (
        {"a": cycle("x", "y", "z"), "b": TEXTS}, "d.csv", "classify", {"text": "b", "label": "a"},
    ),
    "an index without a name": (
        {"": range(60), "id": range(60), "message": TEXTS, "spam": cycle(1, 0)},
        "d.csv", "classify", {"text": "message", "label": "spam"},
    ),
    "no header, sorted labels": (
        {"l": ["0"] * 60, "": TEXTS}, "d.tsv", "classify", {"text": "column2", "label": "column1"},
    ),
    "coarse and fine": (
        {"a": cycle("X", "Y"), "b": cycle(*"QRSTUV"), "c": TEXTS},
        "d.tsv", "classify", {"text": "column3", "label": "column1"},
    ),
    "whole scores": (
        {"text": TEXTS, "score": cycle(*range(10))}, "d.csv", "score", {"text": "text", "number": "score"},
    ),
    "pairs of other lengths": (
        {"score": cycle(0.5, 2.5), "text_a": TEXTS, "text_b": SHORT},
        "d.csv", "score", {"text": "text_a", "other": "text_b", "number": "score"},
    ),
    "languages in the file's order": (
        {"de": SHORT, "en": SHORT[::-1]}, "d.csv", "translate", {"source": "de", "target": "en"},
    ),
    "only numbers": ({"a": cycle(0.5, 1), "b": cycle(1, 2, 3)}, "d.csv", "forecast", {}),
    "growing numbers alone": ({"a": range(60)}, "d.csv", "forecast", {}),
    "one column of texts that come again": (
        {"a": cycle("the river bends here", "a mill stands there")}, "d.csv", "language", {"text": "a"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_the_task_and_its_columns_are_found(tmp_path, case):
    columns, name, task, chosen = TABLES[case]
    source = table(tmp_path, columns, name)
    assert guess(source) == task
    assert choose(source, task).columns == chosen


def test_forecast_takes_the_numbers_and_leaves_the_time_out(tmp_path):
    columns = {"year": range(60), "a": cycle(1.5, 2), "note": cycle("x", "y"), "b": cycle(3, 4)}
    choice = choose(table(tmp_path, columns), "forecast")
    assert choice.series == ("a", "b")
    assert "'a', 'b', in the order of 'year'" in choice.sentence


@pytest.mark.parametrize("order", [1, -1])
def test_forecast_leaves_out_what_only_counts_the_rows(tmp_path, order):
    days = [f"2024-{i // 28 + 1:02}-{i % 28 + 1:02}" for i in range(60)]
    columns = {"Unnamed: 0": range(60), "date": days, "a": cycle(1.5, 2)}
    choice = choose(table(tmp_path, {name: list(values)[:60][::order] for name, values in columns.items()}), "forecast")
    assert choice.series == ("a",)
    assert "'Unnamed: 0' only counts the rows" in choice.sentence


def test_the_sentence_tells_the_choice_and_the_options(tmp_path):
    choice = choose(table(tmp_path, {"review": TEXTS, "stars": cycle(1, 2, 3, 4, 5)}), "classify")
    assert choice.sentence == (
        "Text column 'review', label column 'stars' (5 labels); --text-column and --label-column choose others."
    )


def test_labels_of_a_long_file_are_said_to_be_those_of_its_beginning(tmp_path):
    source = table(tmp_path, {"text": TEXTS * 20, "label": cycle("a", "b") * 20})
    assert "(2 labels in the first 1,000 rows)" in choose(source, "classify").sentence


def test_what_is_ambiguous_is_told(tmp_path):
    source = table(tmp_path, {"a": cycle("x", "y"), "b": cycle("p", "q"), "c": TEXTS})
    choice = choose(source, "classify")
    assert choice.columns["label"] == "a"
    assert "other candidates for the label column: 'b'" in choice.sentence


def test_overrides_win(tmp_path):
    source = table(tmp_path, {"text": TEXTS, "title": SHORT, "label": cycle(0, 1), "topic": cycle("a", "b", "c")})
    choice = choose(source, "classify", {"text": "title", "label": "topic"})
    assert choice.columns == {"text": "title", "label": "topic"}
    assert choose(source, "classify", {"text": "TITLE", "label": None}).columns == {
        "text": "title",
        "label": "label",
    }
    assert choose(source, "translate", {"text": "title", "label": "text"}).columns == {
        "source": "title",
        "target": "text",
    }
    assert choose(source, "score", {"label": "label"}).columns["number"] == "label"
    assert choose(source, "score", {"text": "title", "other": "text"}).columns == {
        "text": "title",
        "other": "text",
        "number": "label",
    }
    assert choose(source, "language", {"text": "title"}).columns == {"text": "title"}


def test_overrides_name_the_series(tmp_path):
    source = table(tmp_path, {"a": cycle(1, 2), "b": cycle(3, 4), "c": cycle(5, 6)})
    assert choose(source, "forecast", {"label": "c, a"}).series == ("c", "a")


def test_words_and_tags_may_be_texts(tmp_path):
    source = table(tmp_path, {"tokens": cycle("a b c", "d e f g"), "tags": cycle("O O B", "B O O O")})
    assert choose(source, "tag").columns == {"tokens": "tokens", "tags": "tags"}


def test_several_labels_in_one_value_are_noticed(tmp_path):
    choice = choose(table(tmp_path, {"text": TEXTS, "topics": cycle("a;b", "b", "a;c", "c")}), "classify")
    assert (choice.separator, choice.is_multilabel) == (";", True)
    assert "(3 labels, several per row, separated by ';')" in choice.sentence
    choice = choose(table(tmp_path, {"text": TEXTS, "topics": cycle("a|b", "b|c", "a")}), "classify")
    assert (choice.separator, choice.is_multilabel) == ("|", True)
    choice = choose(table(tmp_path, {"text": TEXTS, "label": cycle("a;b", "c;d")}), "classify")
    assert (choice.separator, choice.is_multilabel) == (None, False), "parts that never come apart are one label"
    choice = choose(table(tmp_path, {"text": TEXTS, "labels": cycle(["a"], ["a", "b"])}, "d.jsonl"), "classify")
    assert (choice.separator, choice.is_multilabel) == (None, True)
    choice = choose(table(tmp_path, {"text": TEXTS, "label": cycle(["a"], ["b"])}, "e.jsonl"), "classify")
    assert (choice.separator, choice.is_multilabel) == (None, False), "lists of one label"
    choice = choose(table(tmp_path, {"text": TEXTS, "label": cycle("a", 0, 0.0, False)}, "f.jsonl"), "classify")
    assert "(3 labels)" in choice.sentence, "0 and 0.0 are one label"


def test_sentence_facts_of_conll_can_be_classified(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text(
        "".join(f"# intent = {kind}\nplay\tO\nplay\tO\nit{i}\tB-x\n\n" for i, kind in enumerate(cycle("A", "B")))
    )
    assert choose(open_source(path), "classify").columns == {"text": "text", "label": "intent"}
    assert choose(open_source(path), "tag").columns == {"tokens": "tokens", "tags": "tags"}


@pytest.mark.parametrize(
    ("task", "columns", "overrides", "message"),
    [
        (
            "classify",
            {"text": TEXTS, "label": cycle(0, 1)},
            {"text": "body"},
            "there is no column 'body'; the columns are 'text', 'label'",
        ),
        (
            "classify",
            {"text": TEXTS},
            {},
            "expected a column of labels along with the text 'text' .* name it with --label-column",
        ),
        (
            "classify",
            {"a": cycle(0.5, 1.5), "b": cycle(1, 2)},
            {},
            "expected a column of texts for .* found none among the columns 'a', 'b'; name it with --text-column",
        ),
        (
            "classify",
            {"text": TEXTS, "label": cycle(0, 1)},
            {"text": "text", "label": "text"},
            "the text and label columns must be different, got 'text'",
        ),
        ("score", {"text": TEXTS, "label": cycle("a", "b")}, {}, "expected a column of numbers for the task score"),
        ("forecast", {"text": TEXTS}, {}, "expected a column of numbers for the task forecast"),
        ("forecast", {"a": cycle(1, 2)}, {"text": "a"}, "The task forecast has no text column"),
        ("forecast", {"a": cycle(1, 2)}, {"label": "a,z"}, "there is no column 'z'"),
        (
            "tag",
            {"text": TEXTS, "label": cycle(0, 1)},
            {},
            "expected a column of lists of words and one of lists of tags",
        ),
        ("translate", {"english": TEXTS}, {}, "expected two columns of texts for the task translate"),
        ("language", {"a": cycle(1, 2)}, {}, "expected a column of texts for the task language"),
    ],
)
def test_what_is_missing_is_told(tmp_path, task, columns, overrides, message):
    with pytest.raises(InputError, match=message):
        choose(table(tmp_path, columns), task, overrides)


def test_time_and_id_may_be_declined_whatever_the_columns_are_called(tmp_path):
    days = [f"2024-01-{day:02d}" for day in range(1, 21)]
    source = table(tmp_path, {"id": ["a"] * 20, "time": days, "none of it": cycle(1.5, 2.5)[:20]})
    choice = choose(source, "forecast", {"id": "none", "time": "none"})
    assert (choice.columns, choice.series) == ({}, ("none of it",))
    assert choose(source, "forecast").columns == {"time": "time"}


def test_a_pair_may_be_declined(tmp_path):
    source = table(tmp_path, {"sentence1": TEXTS, "sentence2": TEXTS[::-1], "score": cycle(0.5, 2.5)})
    choice = choose(source, "score", {"other": "none"})
    assert choice.columns == {"text": "sentence1", "number": "score"}
    assert choice.sentence == "Text column 'sentence1' alone, number column 'score'."
    assert choose(source, "classify", {"text": "sentence1", "label": "score", "other": "none"}).columns == {
        "text": "sentence1",
        "label": "score",
    }
    with pytest.raises(InputError, match="there is no column 'none'"):
        choose(source, "score", {"label": "none"})


def test_the_strongest_sign_decides_and_the_first_of_equals(tmp_path):
    def task(name, *rules):
        return TaskColumns(name, {"text": Kind.TEXT}, choose=None, rules=rules)  # type: ignore[arg-type]

    source = table(tmp_path, {"text": TEXTS})
    weak, strong = Rule(0.2, "weak", lambda table: True), Rule(0.7, "strong", lambda table: len(table.facts) == 1)
    never = Rule(1.0, "never", lambda table: False)
    found, sentence = guess_task(source, [task("one", weak, never), task("two", strong), task("three", strong)])
    assert (found.task, sentence) == ("two", "Task two: strong; --task chooses another.")
    with pytest.raises(InputError, match="expected a column of texts or of numbers, found none"):
        guess_task(source, [task("one", never)])


def test_one_row_is_enough_for_a_guess(tmp_path):
    source = table(tmp_path, {"text": ["fine"], "label": ["1"]})
    assert guess(source) in names.TASKS
    assert choose(source, "classify").columns == {"text": "text", "label": "label"}


def test_a_choice_becomes_plain_values():
    assert choose(SAMPLES["sunspots"], "forecast").plain() == {"time": "year", "series": ["sunspots"]}


FLAGS = {"rude": cycle(0, 1, 0), "mean": cycle(0, 0, 1, 1, 0), "odd": cycle(1, 0, 0, 0)}
ONE = {"joy": cycle(1, 0, 0), "fear": cycle(0, 1, 0), "rage": cycle(0, 0, 1)}
# columns, --label-column, the label columns, whether a row may have several, part of the sentence
SEVERAL = {
    "flags": (
        {"comment": TEXTS} | FLAGS,
        None,
        ("rude", "mean", "odd"),
        True,
        "(3 labels, any number a row; 18 rows with 0 in each have none)",
    ),
    "one of them": ({"comment": TEXTS} | ONE, None, ("joy", "fear", "rage"), False, "(3 labels, one a row)"),
    "true and false": (
        {
            "comment": TEXTS,
            "x": cycle("True", "False", "False"),
            "y": cycle("False", "True", "True"),
            "z": cycle("True", "False"),
        },
        None,
        ("x", "y", "z"),
        True,
        "any number a row",
    ),
    "named": ({"comment": TEXTS} | FLAGS, "rude, odd", ("rude", "odd"), True, "label columns 'rude', 'odd' (2 labels"),
    "values": (
        {"comment": TEXTS, "one": cycle("a", "b"), "two": cycle("c", "b", "")},
        "one,two",
        ("one", "two"),
        True,
        "(3 labels, several a row)",
    ),
    "beside a label": ({"comment": TEXTS, "topic": cycle("a", "b")} | FLAGS, None, (), False, "label column 'topic'"),
    "two only": (
        {"comment": TEXTS, "toxic": cycle(0, 1), "odd": cycle(1, 0, 0)},
        None,
        (),
        False,
        "label column 'toxic'",
    ),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_several_columns_may_hold_the_labels(tmp_path, case):
    columns, named, labels, is_multilabel, sentence = SEVERAL[case]
    source = table(tmp_path, columns)
    assert guess(source) == "classify"
    choice = choose(source, "classify", {"label": named})
    assert (choice.label_columns, choice.is_multilabel) == (labels, is_multilabel)
    assert sentence in choice.sentence
    if labels:
        assert choice.columns == {"text": "comment", "label": ",".join(labels)}


def test_label_columns_of_two_kinds_are_refused(tmp_path):
    source = table(tmp_path, {"comment": TEXTS, "topic": cycle("a", "b")} | FLAGS)
    with pytest.raises(InputError, match=r"one kind, got 'rude' with 0/1 in every row and 'topic' with other values"):
        choose(source, "classify", {"label": "rude,topic"})
    with pytest.raises(InputError, match=r"there is no column 'topics'"):
        choose(source, "classify", {"label": "rude,topics"})
    with pytest.raises(InputError, match=r"must be different, got 'comment'"):
        choose(source, "classify", {"text": "comment", "label": "comment,topic"})


@pytest.mark.parametrize(
    ("values", "num_labels", "na_is_missing"),
    [(("none", "toxic"), 2, False), (("none", "NA", "-"), 3, False), (("1", "2", "NA", "3"), 3, True)],
)
def test_words_for_missing_are_labels_unless_the_others_are_numbers(tmp_path, values, num_labels, na_is_missing):
    source = table(tmp_path, {"text": TEXTS, "label": cycle(*values)})
    assert guess(source) == "classify"
    choice = choose(source, "classify")
    assert f"({num_labels} labels" in choice.sentence
    assert ("NA and the like are no label" in choice.sentence) == na_is_missing == choice.na_is_missing


def opened(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return open_source(path)


def test_a_notation_is_chosen_told_and_read_back(tmp_path):
    source = opened(tmp_path, "day;sales;rate\n1;1.052,58;85 %\n2;998,10;3 %\n3;1.002,00;12 %\n")
    assert guess_task(source, names.all_task_columns())[0].task == "forecast"
    choice = choose_columns(source, names.task_columns("forecast")).check()
    assert choice.sentence.endswith(
        "'sales' is written with decimal commas and points between thousands: 1.052,58 is read as 1052.58. "
        "'rate' is written in '%': 85 % is read as 85."
    )
    assert choice.plain()["notations"] == {"sales": "1.234.567,5", "rate": "1234567.5 %"}
    assert notations_of(choice.plain()) == choice.notations


def test_plain_numbers_need_no_notation(tmp_path):
    choice = choose_columns(opened(tmp_path, "day,sales\n1,5.5\n2,4\n"), names.task_columns("forecast"))
    assert choice.notations == {"sales": PLAIN}
    assert "notations" not in choice.plain()


VISITORS = "day;visitors\n1;997\n2;1.021\n3;1.036\n"


def test_numbers_that_can_be_read_in_two_ways_are_refused_until_the_decimal_mark_is_named(tmp_path):
    source, task = opened(tmp_path, VISITORS), names.task_columns("forecast")
    choice = choose_columns(source, task)
    assert len(choice.unclear) == 1
    two = r"column 'visitors' can be read in two ways: '1.021' is 1.021 \(--decimal \.\) or 1021 \(--decimal ,\)"
    with pytest.raises(InputError, match=two):
        choice.check()
    comma, point = (choose_columns(source, task, decimal=mark).check().notations["visitors"] for mark in ",.")
    assert (comma.number("1.021"), point.number("1.021")) == (1021, 1.021)


def test_a_decimal_mark_that_does_not_fit_is_refused(tmp_path):
    source = opened(tmp_path, "day;sales\n1;5.25\n2;4.5\n")
    with pytest.raises(InputError, match=r"column 'sales' have no decimal comma: '5\.25'; leave out --decimal"):
        choose_columns(source, names.task_columns("forecast"), decimal=",")
