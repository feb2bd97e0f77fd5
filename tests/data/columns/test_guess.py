"""A task is guessed that can use the columns that the user has named, as what they were named for."""

# ruff: noqa: E501  (rows of tables as they are)

import pytest

from thalweg import names
from thalweg.data.columns.choice import choose_columns
from thalweg.data.columns.guess import guess_task
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

NUM_ROWS = 60
TEXTS = [f"this is note {i} and it says a thing about film number {i * 7}" for i in range(NUM_ROWS)]


def table(folder, **columns):
    rows = zip(*columns.values(), strict=True)
    (folder / "t.csv").write_text("\n".join(map(",".join, [columns, *(map(str, row) for row in rows)])) + "\n")
    return open_source(folder / "t.csv")


def cycle(*values):
    return [values[i % len(values)] for i in range(NUM_ROWS)]


BANK = {"memo": TEXTS, "amount": [f"{i % 31}.{i % 7}5" for i in range(NUM_ROWS)], "group": cycle("rent", "food", "car")}
FILMS = {
    "title": [f"film {i}" for i in range(NUM_ROWS)],
    "plot": TEXTS,
    "kinds": cycle("War|Crime", "War", "Crime|War|Love", "Love"),
}
PAIRS = {"question1": TEXTS, "question2": TEXTS[::-1], "len": cycle(4, 5, 6), "same": cycle(0, 1)}
SIDES = {
    "source": [f"number {i % 40}" for i in range(NUM_ROWS)],
    "target": [f"Zahl {i % 40}" for i in range(NUM_ROWS)],
}
LOAD = {
    "note": TEXTS,
    "load": [f"{i}.5" for i in range(NUM_ROWS)],
    "price": [f"{i * 7 % 11}.5" for i in range(NUM_ROWS)],
}

# A table and the columns that are named -> the task, and its columns.
NAMED = {
    "a number by itself": (BANK, {}, "score", {"text": "memo", "number": "amount"}),
    "a label beside a number": (BANK, {"label": "group"}, "classify", {"text": "memo", "label": "group"}),
    "a number": (BANK, {"label": "amount"}, "score", {"text": "memo", "number": "amount"}),
    "labels beside two texts": (FILMS, {"label": "kinds"}, "classify", {"text": "title", "label": "kinds"}),
    "labels and one of two texts": (FILMS, {"text": "plot", "label": "kinds"}, "classify", {"text": "plot", "label": "kinds"}),
    "a target": (FILMS, {"text": "title", "label": "plot"}, "translate", {"source": "title", "target": "plot"}),
    "the number of a pair": (PAIRS, {"label": "same"}, "score", {"text": "question1", "other": "question2", "number": "same"}),
    "one of a pair": (PAIRS, {"text": "question2", "other": "none", "label": "same"}, "classify", {"text": "question2", "label": "same"}),
    "no pair": (BANK, {"other": "none", "time": "none"}, "score", {"text": "memo", "number": "amount"}),
    "labels and no pair": (FILMS, {"other": "none", "label": "kinds"}, "classify", {"text": "title", "label": "kinds"}),
    "series beside a text": (LOAD, {"series": "load,price"}, "forecast", {}),
    "sides of a translation, some of which come again": (SIDES, {}, "translate", {"source": "source", "target": "target"}),
    "labels called a target": (
        {"source": TEXTS, "target": cycle("very good", "very bad")}, {}, "classify", {"text": "source", "label": "target"},
    ),
    "several columns of labels": (
        {"text": TEXTS, "a": cycle("x", "y"), "b": cycle("p", "q", "")}, {"label": "a,b"}, "classify", {"text": "text", "label": "a,b"},
    ),
    "a code": ({"text": TEXTS, "icd_9": cycle("250.00", "401.9", "428.0")}, {"label": "icd_9"}, "classify", {"text": "text", "label": "icd_9"}),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_what_is_named_decides(tmp_path, case):
    columns, named, task, chosen = NAMED[case]
    source = table(tmp_path, **columns)
    found, sentence = guess_task(source, names.all_task_columns(), named)
    assert found.task == task, sentence
    choice = choose_columns(source, found, named)
    assert choice.columns == chosen, choice.sentence


# A table and the columns that are named -> what the refusal says.
REFUSED = {
    "one column twice": (BANK, {"text": "memo", "label": "memo"}, "the text and label columns must be different, got 'memo'"),
    "no such column": (BANK, {"label": "grup"}, "there is no column 'grup'; the columns are 'memo', 'amount', 'group'"),
    "identifiers": (
        {"text": TEXTS, "key": [f"a{i}" for i in range(NUM_ROWS)]}, {"label": "key", "text": "text"},
        "'key': its 60 values are all different, such as 'a0'",
    ),
    "a label of a pair": (PAIRS | {"same": cycle("yes", "no")}, {"label": "same"}, "the labels are those of pairs ('question1' and 'question2')"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_task_can_use_is_refused(tmp_path, case):
    columns, named, told = REFUSED[case]
    with pytest.raises(InputError) as error:
        guess_task(table(tmp_path, **columns), names.all_task_columns(), named)
    assert told in str(error.value)
