"""Answers of a run from Python: one for each input, however they are given."""

import numpy as np
import pandas as pd
import pytest
import torch

from thalweg import InputError, train
from thalweg.data.containers.memory import source_of
from thalweg.training.folder.build import get_weights, is_sound, put_weights
from thalweg.training.steps.evaluate import Evaluation

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
QUESTIONS = {"classify": TEXTS[:1], "score": [("a 1", "b 2")], "tag": [["Anna"]], "forecast": [[1.0] * 40]}
QUESTIONS |= {"language": ["fine"], "translate": ["fine"]}
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
    "text for a number": (["fine"], {"top": "2"}, "--top must be a whole number from 1 to 1,000; got '2'"),
    "a part of a candidate": (["fine"], {"top": 1.5}, "--top must be a whole number from 1 to 1,000; got 1.5"),
    "an option of another task": (
        ["fine"],
        {"top_p": 0.5},
        "--top-p is for language and translate; this run is of task classify ",
    ),
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


@pytest.mark.parametrize("task", QUESTIONS)
def test_what_is_not_finite_is_no_answer_and_no_evaluation(task, tmp_path):
    """Weights that are huge or NaN: null with the reason, InputError, and never a label, a text or a loss of nan."""
    more = {"language": "\n".join(TEXTS * 20), "translate": "".join(f"fine {k}\tgood {k}\n" for k in range(40))}
    rows = {"classify": ROWS, "score": PAIRS, "tag": WORDS, "forecast": SERIES}.get(task)
    if rows is None:
        rows = tmp_path / ("text.txt" if task == "language" else "pairs.tsv")
        rows.write_text(("" if task == "language" else "source\ttarget\n") + more[task], encoding="utf-8")
    model = {"classify": "mlp", "score": "bag", "forecast": "mlp"}.get(task, "lstm")
    run = train(rows, task=task, model=model, fast=True, out=tmp_path, optimizer="sgd")
    for value in (np.nan, 3e38):
        with torch.no_grad():
            for weight in (*run.model.parameters(), *run.head.parameters()):
                weight.fill_(value)
        (answer,) = run.predict(QUESTIONS[task], errors="null")
        assert "not a finite number" in answer.pop("error")
        assert set(answer.values()) == {None}
        with pytest.raises(InputError, match="computes from it is not a finite number; give numbers like"):
            run.predict(QUESTIONS[task])
        with pytest.raises(InputError, match="cannot be evaluated: the loss of this run on it is not a finite number"):
            run.evaluate(rows)


def test_weights_that_are_not_finite_are_not_used(tmp_path):
    run = train(ROWS, task="classify", model="mlp", fast=True, out=tmp_path, optimizer="sgd")
    weights = get_weights(run.model, run.head)
    for value in (np.nan, np.inf):
        name = next(iter(weights))
        with pytest.raises(InputError, match=rf"^it cannot be used: numbers in '{name}' are NaN or infinite; restore"):
            put_weights(run.model, run.head, weights | {name: torch.full_like(weights[name], value)}, "it")
    assert all(is_sound(weight) for weight in get_weights(run.model, run.head).values())


def test_weights_with_a_loss_that_is_not_finite_are_never_the_best(tmp_path):
    """Accuracy counts something whatever the scores are."""
    assert np.isnan(Evaluation(np.nan, {"accuracy": 1.0}).value("accuracy"))
    assert Evaluation(0.5, {"accuracy": 1.0}).value("accuracy") == 1.0
    run = train(ROWS, task="classify", model="mlp", optimizer="sgd", lr=1e30, clip=0, steps=4, out=tmp_path, name="nan")
    assert run.result["sentence"].startswith("No evaluation produced a finite score, so no weights were saved")
    assert not (tmp_path / "nan" / "model.safetensors").exists()
