"""Classification: one label or several, metrics against sklearn, what the report shows, what is refused."""

import json
import re

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from tests.folders import put_files

import thalweg
from thalweg.batch import Batch
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.models import presets
from thalweg.tasks.base import HeadOptions, Settings
from thalweg.tasks.classify.decision import Decision
from thalweg.tasks.classify.meter import LabelMeter
from thalweg.tasks.classify.notes import label_notes
from thalweg.tasks.classify.task import Classify
from thalweg.tasks.questions import AnswerOptions

SINGLE = {"text": "text", "label": "label"}
SEVERAL = {**SINGLE, "multilabel": True, "separator": ";"}
COLUMNS = {"one label": SINGLE, "several": SEVERAL}


def settings(columns=SINGLE, layout="padded"):
    return Settings(
        columns=columns, valid_share=0.3, normalize=("lower",), tokenizer="word", vocabulary_size=100, bigrams=0,
        max_length=8, lags=0, scaling="none", layout=layout,
    )  # fmt: skip


def prepared(folder, columns=SINGLE, layout="padded", lines=None):
    labels = ("a", "b", "c", "a") if columns is SINGLE else ("a;b", "b", "", "c;a")
    lines = lines or [f"word{i % 4} thing{i},{labels[i % 4]}" for i in range(80)]
    (folder / "a.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    return Classify.prepare(open_source(folder / "a.csv"), None, settings(columns, layout))


def networks(task, layout="padded"):
    torch.manual_seed(0)
    build = presets.pooled_bag if layout == "bag" else presets.pooled_lstm
    model = build(task.shape(), presets.ModelOptions(width=8, hidden=8, layers=1, dropout=0.0))
    return model, task.head(model, HeadOptions())


@pytest.mark.parametrize("layout", ["bag", "padded"])
@pytest.mark.parametrize("columns", COLUMNS)
def test_training_learns_and_a_saved_task_answers_the_same(tmp_path, columns, layout):
    task, data = prepared(tmp_path, COLUMNS[columns], layout)
    model, head = networks(task, layout)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.05)
    batch = task.batch(data.train, np.arange(len(data.train)))
    for _ in range(40):
        total, count = head.loss(head(model(**batch.inputs)), batch.targets)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    texts = ["WORD0 new", "word1", "word2 thing2"]
    answers = task.predict(model, head, texts, AnswerOptions(top=2))
    found = [answer["label"] if columns == "one label" else answer["labels"] for answer in answers]
    assert found == (["a", "b", "c"] if columns == "one label" else [["a", "b"], ["b"], []])
    assert all(len(answer["top"]) == 2 for answer in answers)
    put_files(tmp_path, task.files())
    again = Classify.load(tmp_path, settings(COLUMNS[columns], layout))
    assert again.predict(model, head, texts, AnswerOptions(top=2)) == answers
    sections = task.sections(model, head, data, seed=0)
    kinds = ["confusion", "bars", "reliability", "examples"] if columns == "one label" else ["bars", "examples"]
    assert [section["kind"] for section in sections] == kinds
    json.dumps(sections, allow_nan=False)
    meter = task.meter()
    with torch.no_grad():
        batch = task.batch(data.valid, np.arange(len(data.valid)))
        meter.update(head(model(**batch.inputs)), batch)
    assert meter.compute()[task.selects_by[0]] > 0.9
    assert set(meter.compute()) <= set(task.explanations)


def test_answers_are_lines(tmp_path):
    task, _ = prepared(tmp_path)
    top = [{"label": "a", "probability": 0.75}, {"label": "b", "probability": 0.25}]
    assert task.lines_of({"text": "x", "label": "a", "top": top}, 2) == ["a  75.0%", "    b  25.0%"]
    assert task.lines_of({"text": "x", "label": "a", "top": top}) == ["a  75.0%"]
    assert task.lines_of({"text": "x", "labels": [], "top": top}, 2) == ["(none)", "    a  75.0%", "    b  25.0%"]
    assert task.lines_of({"text": "x", "labels": ["a", "b"], "top": top}) == ["a, b"]


def test_metrics_of_one_label_equal_sklearn():
    logits, targets = torch.randn(200, 5), torch.randint(4, (200,))  # the last label never comes
    meter = LabelMeter(5, Decision(multilabel=False))
    for part in (slice(0, 120), slice(120, 200)):
        meter.update(logits[part], Batch({}, targets[part]))
    found, guess = meter.compute(), logits.argmax(-1)
    assert found["accuracy"] == pytest.approx(accuracy_score(targets, guess))
    assert found["macro_f1"] == pytest.approx(f1_score(targets, guess, average="macro"), abs=1e-6)


def test_metrics_of_several_labels_equal_sklearn():
    logits, targets = torch.randn(200, 4), torch.randint(2, (200, 4)).float()
    meter = LabelMeter(4, Decision(multilabel=True))
    meter.update(logits, Batch({}, targets))
    found, guess = meter.compute(), (logits > 0).int()
    assert found["accuracy"] == pytest.approx(accuracy_score(targets.int(), guess))
    assert found["macro_f1"] == pytest.approx(f1_score(targets.int(), guess, average="macro"), abs=1e-6)
    assert found["micro_f1"] == pytest.approx(f1_score(targets.int(), guess, average="micro"), abs=1e-6)


def test_the_worst_mistakes_are_those_the_network_was_surest_of(tmp_path):
    task, data = prepared(tmp_path)
    model, head = networks(task)
    worst = task.sections(model, head, data, seed=0)[-1]
    batch = task.batch(data.valid, np.arange(len(data.valid)))
    truth = head(model(**batch.inputs)).softmax(-1)[torch.arange(len(data.valid)), batch.targets]
    places = [data.valid.raw.index(row[-1]) for row in worst["rows"]]
    assert [truth[place].item() for place in places] == sorted(truth[place].item() for place in places)
    assert all(row[0] != row[1] for row in worst["rows"])


def test_one_label_is_nothing_to_learn(tmp_path):
    with pytest.raises(InputError, match=r"a\.csv: expected at least two .* got only one label \('a'\)"):
        prepared(tmp_path, lines=[f"text {i},a" for i in range(9)])


@pytest.mark.parametrize(("content", "message"), [(None, "is missing"), ("[]", "is damaged"), ("{}", "is damaged")])
def test_load_names_the_damaged_file(tmp_path, content, message):
    task, _ = prepared(tmp_path)
    put_files(tmp_path, task.files())
    path = tmp_path / "labels.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=f"labels.json {message}"):
        Classify.load(tmp_path, settings())


def test_a_missing_column_is_named(tmp_path):
    task, _ = prepared(tmp_path)
    (tmp_path / "b.csv").write_text("text,topic\nx,a\n")
    with pytest.raises(InputError, match="label"):
        task.examples(open_source(tmp_path / "b.csv"), SINGLE)


@pytest.mark.parametrize("columns", COLUMNS)
def test_calibration_is_measured_where_labels_exclude_one_another(columns):
    several = columns == "several"
    meter = LabelMeter(3, Decision(multilabel=several))
    logits = torch.tensor([[100.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    meter.update(logits, Batch({}, torch.eye(3) if several else torch.tensor([0, 0, 1])))
    found = meter.compute()
    assert ("ece" in found) == (not several)
    if not several:  # the two of a third are right once: 2 / 3 of the texts, off by 1 / 2 - 1 / 3
        assert found["ece"] == pytest.approx(2 / 3 * (1 / 2 - 1 / 3), abs=1e-6)
        assert "ece" not in meter.samples().intervals()


def test_an_open_decision_is_measured_in_halves_and_then_kept(tmp_path):
    task, data = prepared(tmp_path, SEVERAL)
    model, head = networks(task)
    assert task.is_tuned
    prediction, target = task.predictions(model, head, data.valid)
    meter = task.meter()
    for part in (slice(0, 9), slice(9, None)):
        meter.update(prediction[part], Batch({}, target[part]))
    given = task.decision.crossed(prediction, target)
    assert meter.compute()["macro_f1"] == pytest.approx(
        f1_score(target.int(), given.int(), average="macro", zero_division=0.0), abs=1e-6
    )
    before = task.files()
    (sentence, *_), changed = task.settle(model, head, data)
    assert changed.keys() == {"labels.json"}
    assert before["labels.json"] != changed["labels.json"] == task.files()["labels.json"]
    put_files(tmp_path, before | changed)
    assert "for its F1 on the validation data" in sentence
    again = Classify.load(tmp_path, settings(SEVERAL))
    assert again.decision == task.decision
    assert again.decision.limits is not None
    assert again.with_threshold(1e-9).predict(model, head, ["word0"], AnswerOptions())[0]["labels"] == ["a", "b", "c"]
    assert again.with_threshold(0.999999).predict(model, head, ["word0"], AnswerOptions())[0]["labels"] == []


def test_of_two_labels_one_answers_from_its_threshold_on(tmp_path):
    task, _ = prepared(tmp_path, lines=[f"word{i % 4} thing{i},{'ab'[i % 4 == 0]}" for i in range(80)])
    model, head = networks(task)
    answers = [task.with_threshold(value).predict(model, head, ["word0"], AnswerOptions()) for value in (1e-6, 0.999)]
    assert [answer[0]["label"] for answer in answers] == ["b", "a"]
    for (answer,) in answers:
        chance = {entry["label"]: entry["probability"] for entry in answer["top"]}
        assert answer["probability"] == pytest.approx(chance[answer["label"]])


LABELS = tuple("abcdefgh")


@pytest.mark.parametrize(
    ("train", "valid", "given", "expected"),
    [
        ([9] * 8, [2] * 8, [1] * 8, []),
        ([9] * 8, [0] * 8, [0] * 8, []),  # nothing was held out
        ([0] + [9] * 7, [2] * 8, [1] * 8, ["Without a training example, so that it can't be learned: 'a'."]),
        ([9] * 8, [0, 0] + [2] * 6, [0] * 2 + [1] * 6, ["Without a validation example, .*: 'a', 'b'.$"]),
        ([9] * 8, [2] * 8, [0] * 7 + [16], ["Never given .*: 'a', 'b', 'c', 'd', 'e' and 2 more; .*--class-weights"]),
    ],
)
def test_labels_in_trouble_are_named_in_one_sentence(train, valid, given, expected):
    counts = {"train": np.array(train), "valid": np.array(valid), "given": np.array(given)}
    found = label_notes(LABELS, **counts, multilabel=False)
    assert len(found) == len(expected)
    for sentence, pattern in zip(found, expected, strict=True):
        assert re.search(pattern, sentence)


def test_nothing_is_held_out_where_that_was_asked_for(tmp_path):
    (tmp_path / "a.csv").write_text(
        "\n".join(["text,label", *(f"word{i % 2} thing{i},{'ab'[i % 2]}" for i in range(30))])
    )
    for name, options in (("proved", {}), ("steps", {"optimizer": "adamw", "epochs": 2})):
        run = thalweg.train(tmp_path / "a.csv", out=tmp_path, name=name, valid_share=0.0, **options)
        assert (run.data["num_train"], run.data["num_valid"]) == (30, 0)
        assert run.metrics == {}
        assert "loss" not in run.result
        assert not any(entry["event"] == "evaluation" for entry in run.history)
        assert run.result["best_step"] == run.result["steps"]
        assert run.result["interval_notes"][0].startswith("Nothing was held out")
        assert run.result["warnings"] == []
        report = (run.folder / "report.html").read_text()
        assert "Nothing was held out" in report
        assert '<div class="card">' not in report
        assert run.evaluate(tmp_path / "a.csv").num_examples == 30
        interval = thalweg.certify(run, seconds=5.0)
        assert interval.left_out["held_out"].startswith("Nothing was held out; give --test FILE")
