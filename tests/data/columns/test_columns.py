"""Columns are found by names and contents, and the choice is told."""

import json

import pytest

from thalweg import names
from thalweg.data.builtin.catalog import SAMPLES
from thalweg.data.columns.choice import TASKS, choose_columns, guess_task
from thalweg.data.columns.facts import column_facts, number_of
from thalweg.data.columns.role_names import name_score, normalized
from thalweg.data.files.base import Row
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

TEXTS = [f"this is review {i} and it says a thing about film number {i * 7}" for i in range(60)]
SHORT = [f"text {i} here" for i in range(60)]

TASK_OF = {names.task_spec(task).sample: task for task in names.TASKS}


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


# columns, file name, task guessed, columns chosen for it
TABLES = {
    "plain names": ({"text": TEXTS, "label": cycle("a", "b")}, "d.csv", "classify", {"text": "text", "label": "label"}),
    "other order": (
        {"sentiment": cycle(0, 1), "review": TEXTS},
        "d.csv",
        "classify",
        {"text": "review", "label": "sentiment"},
    ),
    "banking": (
        {"text": TEXTS, "category": cycle("lost_card", "top_up")},
        "d.csv",
        "classify",
        {"text": "text", "label": "category"},
    ),
    "with an index": (
        {"": range(60), "id": range(60), "message": TEXTS, "spam": cycle(1, 0)},
        "d.csv",
        "classify",
        {"text": "message", "label": "spam"},
    ),
    "names that say nothing": (
        {"a": cycle("x", "y", "z"), "b": TEXTS},
        "d.csv",
        "classify",
        {"text": "b", "label": "a"},
    ),
    "no header, label last": (
        {"": TEXTS, "l": cycle(0, 1)},
        "d.tsv",
        "classify",
        {"text": "column1", "label": "column2"},
    ),
    "no header, label first": (
        {"l": cycle("ham", "spam"), "": TEXTS},
        "d.tsv",
        "classify",
        {"text": "column2", "label": "column1"},
    ),
    "no header, sorted labels": (
        {"l": ["0"] * 60, "": TEXTS},
        "d.tsv",
        "classify",
        {"text": "column2", "label": "column1"},
    ),
    "coarse and fine": (
        {"a": cycle("X", "Y"), "b": cycle(*"QRSTUV"), "c": TEXTS},
        "d.tsv",
        "classify",
        {"text": "column3", "label": "column1"},
    ),
    "title and text": (
        {"title": SHORT, "text": TEXTS, "topic": cycle("a", "b")},
        "d.csv",
        "classify",
        {"text": "text", "label": "topic"},
    ),
    "stars": (
        {"review": TEXTS, "stars": cycle(1, 2, 3, 4, 5)},
        "d.csv",
        "classify",
        {"text": "review", "label": "stars"},
    ),
    "json labels": (
        {"labels": cycle(["a"], ["a", "b"]), "text": TEXTS},
        "d.jsonl",
        "classify",
        {"text": "text", "label": "labels"},
    ),
    "score": (
        {"text": TEXTS, "score": [i / 7 for i in range(60)]},
        "d.csv",
        "score",
        {"text": "text", "number": "score"},
    ),
    "whole scores": (
        {"text": TEXTS, "score": cycle(*range(10))},
        "d.csv",
        "score",
        {"text": "text", "number": "score"},
    ),
    "pairs": (
        {"sentence1": TEXTS, "sentence2": TEXTS[::-1], "similarity": cycle(0.5, 2.5)},
        "d.csv",
        "score",
        {"text": "sentence1", "other": "sentence2", "number": "similarity"},
    ),
    "pairs a and b": (
        {"score": cycle(0.5, 2.5), "text_a": TEXTS, "text_b": SHORT},
        "d.csv",
        "score",
        {"text": "text_a", "other": "text_b", "number": "score"},
    ),
    "pairs without header": (
        {
            "g": cycle("main-news", "main-captions"),
            "i": range(60),
            "s": cycle("5.000", "3.800", "1.25"),
            "a": TEXTS,
            "b": TEXTS[::-1],
        },
        "d.tsv",
        "score",
        {"text": "column4", "other": "column5", "number": "column3"},
    ),
    "translate": (
        {"english": SHORT, "german": SHORT[::-1]},
        "d.csv",
        "translate",
        {"source": "english", "target": "german"},
    ),
    "translate by codes": ({"de": SHORT, "en": SHORT[::-1]}, "d.csv", "translate", {"source": "de", "target": "en"}),
    "translate, target first": (
        {"target": SHORT, "source": SHORT[::-1]},
        "d.csv",
        "translate",
        {"source": "source", "target": "target"},
    ),
    "translate without header": (
        {"": [f"Go {i}." for i in range(60)], "b": [f"Geh {i}." for i in range(60)]},
        "d.tsv",
        "translate",
        {"source": "column1", "target": "column2"},
    ),
    "tags": (
        {"tags": cycle(["O", "B"]), "tokens": [["a", str(i)] for i in range(60)]},
        "d.jsonl",
        "tag",
        {"tokens": "tokens", "tags": "tags"},
    ),
    "named entities": (
        {"id": range(60), "words": cycle(["a", "b", "a"]), "ner_tags": cycle([0, 1, 0])},
        "d.jsonl",
        "tag",
        {"tokens": "words", "tags": "ner_tags"},
    ),
    "series": ({"year": range(1700, 1760), "value": cycle(5, 2, 3)}, "d.csv", "forecast", {"time": "year"}),
    "dates": (
        {"Month": [f"{1950 + i // 12}-{i % 12 + 1:02}" for i in range(60)], "Passengers": cycle(5, 2, 3)},
        "d.csv",
        "forecast",
        {"time": "Month"},
    ),
    "only numbers": ({"a": cycle(0.5, 1), "b": cycle(1, 2, 3)}, "d.csv", "forecast", {}),
    "growing numbers alone": ({"a": range(60)}, "d.csv", "forecast", {}),
    "texts alone": ({"text": TEXTS}, "d.csv", "language", {"text": "text"}),
}


@pytest.mark.parametrize("case", TABLES)
def test_the_task_and_its_columns_are_found(tmp_path, case):
    columns, name, task, chosen = TABLES[case]
    source = table(tmp_path, columns, name)
    guessed, sentence = guess_task(source)
    assert guessed == task
    assert sentence.startswith(f"Task {task}: ")
    assert sentence.endswith("--task chooses another.")
    choice = choose_columns(source, task)
    assert choice.columns == chosen
    assert all(
        repr(column) in choice.sentence for column in [*chosen.values(), *choice.series] if len(source.columns) > 1
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_built_in_sets_are_understood(name):
    sample = SAMPLES[name]
    assert guess_task(sample)[0] == TASK_OF[name]
    choice = choose_columns(sample, TASK_OF[name])
    assert {*choice.columns.values(), *choice.series} == set(sample.columns)


def test_forecast_takes_the_numbers_and_leaves_the_time_out(tmp_path):
    columns = {"year": range(60), "a": cycle(1.5, 2), "note": cycle("x", "y"), "b": cycle(3, 4)}
    choice = choose_columns(table(tmp_path, columns), "forecast")
    assert choice.series == ("a", "b")
    assert "'a', 'b', in the order of the rows ('year' is left out)" in choice.sentence


def test_the_sentence_tells_the_choice_and_the_options(tmp_path):
    choice = choose_columns(table(tmp_path, {"review": TEXTS, "stars": cycle(1, 2, 3, 4, 5)}), "classify")
    assert choice.sentence == (
        "Text column 'review', label column 'stars' (5 labels); --text-column and --label-column choose others."
    )


def test_labels_of_a_long_file_are_said_to_be_those_of_its_beginning(tmp_path):
    source = table(tmp_path, {"text": TEXTS * 20, "label": cycle("a", "b") * 20})
    assert "(2 labels in the first 1,000 rows)" in choose_columns(source, "classify").sentence


def test_what_is_ambiguous_is_told(tmp_path):
    source = table(tmp_path, {"a": cycle("x", "y"), "b": cycle("p", "q"), "c": TEXTS})
    choice = choose_columns(source, "classify")
    assert choice.columns["label"] == "a"
    assert "'b' would do for the label too" in choice.sentence


def test_overrides_win(tmp_path):
    source = table(tmp_path, {"text": TEXTS, "title": SHORT, "label": cycle(0, 1), "topic": cycle("a", "b", "c")})
    choice = choose_columns(source, "classify", {"text": "title", "label": "topic"})
    assert choice.columns == {"text": "title", "label": "topic"}
    assert choose_columns(source, "classify", {"text": "TITLE", "label": None}).columns == {
        "text": "title",
        "label": "label",
    }
    assert choose_columns(source, "translate", {"text": "title", "label": "text"}).columns == {
        "source": "title",
        "target": "text",
    }
    assert choose_columns(source, "score", {"label": "label"}).columns["number"] == "label"
    assert choose_columns(source, "score", {"text": "title", "other": "text"}).columns == {
        "text": "title",
        "other": "text",
        "number": "label",
    }
    assert choose_columns(source, "language", {"text": "title"}).columns == {"text": "title"}


def test_overrides_name_the_series(tmp_path):
    source = table(tmp_path, {"a": cycle(1, 2), "b": cycle(3, 4), "c": cycle(5, 6)})
    assert choose_columns(source, "forecast", {"label": "c, a"}).series == ("c", "a")


def test_words_and_tags_may_be_texts(tmp_path):
    source = table(tmp_path, {"tokens": cycle("a b c", "d e f g"), "tags": cycle("O O B", "B O O O")})
    assert choose_columns(source, "tag").columns == {"tokens": "tokens", "tags": "tags"}


def test_several_labels_in_one_value_are_noticed(tmp_path):
    choice = choose_columns(table(tmp_path, {"text": TEXTS, "topics": cycle("a;b", "b", "a;c", "c")}), "classify")
    assert (choice.separator, choice.is_multilabel) == (";", True)
    assert "(3 labels, several a row, separated by ';')" in choice.sentence
    choice = choose_columns(table(tmp_path, {"text": TEXTS, "topics": cycle("a|b", "b|c", "a")}), "classify")
    assert (choice.separator, choice.is_multilabel) == ("|", True)
    choice = choose_columns(table(tmp_path, {"text": TEXTS, "label": cycle("a;b", "c;d")}), "classify")
    assert (choice.separator, choice.is_multilabel) == (None, False), "parts that never come apart are one label"
    choice = choose_columns(table(tmp_path, {"text": TEXTS, "labels": cycle(["a"], ["a", "b"])}, "d.jsonl"), "classify")
    assert (choice.separator, choice.is_multilabel) == (None, True)


def test_sentence_facts_of_conll_can_be_classified(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text(
        "".join(f"# intent = {kind}\nplay\tO\nplay\tO\nit{i}\tB-x\n\n" for i, kind in enumerate(cycle("A", "B")))
    )
    assert choose_columns(open_source(path), "classify").columns == {"text": "text", "label": "intent"}
    assert choose_columns(open_source(path), "tag").columns == {"tokens": "tokens", "tags": "tags"}


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
            "expected a column of labels beside the text 'text' .* name it with --label-column",
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
        choose_columns(table(tmp_path, columns), task, overrides)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"choose_columns\(task=...\) must be one of classify, .*; got 'sing'"):
        choose_columns(SAMPLES["numbers"], "sing")


def test_one_row_is_enough_for_every_task_to_answer_or_refuse(tmp_path):
    source = table(tmp_path, {"text": ["fine"], "label": ["1"]})
    assert guess_task(source)[0] in TASKS
    assert choose_columns(source, "classify").columns == {"text": "text", "label": "label"}


def test_numbers_are_what_python_and_people_call_numbers():
    values = ["1", " 2.5 ", "-1e3", 3, 2.5, "nan", "inf", "", "1_000", None, True, [1], "0x10", "1,5", 10**400]
    assert [number_of(value) for value in values] == [1, 2.5, -1000, 3, 2.5, *[None] * 10]


def test_facts_describe_a_column():
    rows = [Row(i, (f"a text {i}", str(i), f"2024-01-0{i}", ["a", "a"], None)) for i in range(1, 6)]
    text, number, date, words, nothing = column_facts(("text", "n", "when", "words", "none"), rows)
    assert (text.is_text, text.mean_words, text.distinct_share) == (True, 3, 1)
    assert (number.is_number, number.is_increasing, number.has_decimals) == (True, True, False)
    assert (date.is_date, date.is_text) == (True, False)
    assert (words.is_list, words.is_set, words.num_distinct) == (True, False, 1)
    assert (nothing.num_values, nothing.is_text) == (0, False)


def test_names_are_compared_by_their_words():
    assert normalized("Review  Text") == "review_text"
    assert name_score("text", "text") == 1
    assert 0 < name_score("my_text", "text") < name_score("Text", "text")
    assert name_score("column1", "text") == 0
