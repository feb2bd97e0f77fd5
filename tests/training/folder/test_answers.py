"""Answers of a run from Python: one for each input, however they are given."""

import numpy as np
import pandas as pd
import pytest

from thalweg import InputError, train
from thalweg.data.containers.memory import source_of

ROWS = [
    {"text": f"{'fine' if k % 2 else 'awful'} thing {k % 37}", "label": "good" if k % 2 else "bad"} for k in range(60)
]
PAIRS = [{"sentence1": f"a {k % 7}", "sentence2": f"b {k % 5}", "score": k % 3} for k in range(60)]
WORDS = [{"tokens": ["Anna", f"sees{k}"], "tags": ["B-PER", "O"]} for k in range(30)]
SERIES = [{"date": f"2024-01-{k + 1:02}", "level": k * 7 % 11} for k in range(31)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    data = {"classify": ROWS, "score": PAIRS, "tag": WORDS, "forecast": SERIES}
    return {task: train(rows, task=task, fast=True, out=out, name=task) for task, rows in data.items()}


TEXTS = ["a fine thing", "an awful thing"]
FORMS = {
    "a list": TEXTS,
    "a tuple": tuple(TEXTS),
    "a generator": (text for text in TEXTS),
    "a map": map(str, TEXTS),
    "an array": np.array(TEXTS),
    "a series with an index of its own": pd.Series(TEXTS, index=[7, 3]),
    "a data frame": pd.DataFrame({"text": TEXTS}, index=["x", "y"]),
    "a dict of lists": {"text": TEXTS},
    "a generator of dicts": ({"text": text} for text in TEXTS),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_input_has_its_answer_whatever_holds_them(runs, form):
    answers = runs["classify"].predict(FORMS[form])
    assert [answer["text"] for answer in answers] == TEXTS
    assert answers == [runs["classify"].predict([text])[0] for text in TEXTS]


def test_pairs_and_words_may_be_arrays(runs):
    (pair,) = runs["score"].predict(zip(["a 1"], ["b 2"], strict=True))
    assert runs["score"].predict(np.array([["a 1", "b 2"]])) == [pair]
    assert runs["tag"].predict([np.array(["Anna", "sees"])]) == runs["tag"].predict([["Anna", "sees"]])


WRONG = {
    "None": (None, {}, "Expected inputs to answer, got null; inputs are given as a list"),
    "a number": (5, {}, "Expected inputs to answer, got a number"),
    "bytes": (b"fine", {}, "Expected inputs to answer, got bytes"),
    "an option that there is not": (["fine"], {"topp": 1}, "predict has no option 'topp'; it takes beam, columns, "),
    "text for a number": (["fine"], {"top": "2"}, "--top must be a whole number of at least 1; got '2'"),
    "a part of a candidate": (["fine"], {"top": 1.5}, "--top must be a whole number of at least 1; got 1.5"),
    "an option of another task": (["fine"], {"top_p": 0.5}, "--top-p is for language; this run is of task classify "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_answered_is_told_in_a_sentence(runs, case):
    inputs, options, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        runs["classify"].predict(inputs, **options)


def test_evaluate_takes_no_option_that_it_does_not_know(runs):
    with pytest.raises(InputError, match="evaluate has no option 'text_col'; it takes columns, decimal, header"):
        runs["classify"].evaluate(ROWS, text_col="text")


def test_files_are_read_as_the_training_data_were(tmp_path):
    for name in ("old.csv", "new.csv"):
        (tmp_path / name).write_text("".join(f"{row['text']},{row['label']}\n" for row in ROWS))
    run = train(str(tmp_path / "old.csv"), header="no", fast=True, out=tmp_path)
    assert len(run.predict(tmp_path / "new.csv")) == len(ROWS)


def test_what_was_filled_in_a_series_is_told(runs):
    rows = [{**row, "level": None if place == 3 else row["level"]} for place, row in enumerate(SERIES) if place != 7]
    questions, notes = runs["forecast"].questions(source_of(pd.DataFrame(rows), skip_bad_rows=True), {})
    assert len(list(questions)) == 1
    assert any("1 day missing in 'date', the first between 2024-01-07 and 2024-01-09" in note for note in notes)
    assert any("1 value missing (the first on line 4). Gaps are filled on a straight line" in note for note in notes)


def test_texts_are_no_names_of_files(tmp_path):
    for texts in (["a fine thing", "an awful thing"], ["x" * 300]):
        with pytest.raises(InputError, match="Expected names of files, got a list of texts"):
            train(texts, out=tmp_path)
