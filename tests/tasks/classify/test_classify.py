"""Classification: one label or several, metrics against sklearn, what the report shows, what is refused."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from thalweg.batch import Batch
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.models import presets
from thalweg.tasks.base import AnswerOptions, HeadOptions, Settings
from thalweg.tasks.classify.task import Classify, LabelMeter

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
    task.save(tmp_path)
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
    assert task.lines_of({"text": "x", "label": "a", "top": top}) == ["a  75.0%", "    b  25.0%"]
    assert task.lines_of({"text": "x", "labels": [], "top": top}) == ["(none)", "    a  75.0%", "    b  25.0%"]


def test_metrics_of_one_label_equal_sklearn():
    logits, targets = torch.randn(200, 5), torch.randint(4, (200,))  # the last label never comes
    meter = LabelMeter(5, multilabel=False)
    for part in (slice(0, 120), slice(120, 200)):
        meter.update(logits[part], Batch({}, targets[part]))
    found, guess = meter.compute(), logits.argmax(-1)
    assert found["accuracy"] == pytest.approx(accuracy_score(targets, guess))
    assert found["macro_f1"] == pytest.approx(f1_score(targets, guess, average="macro"), abs=1e-6)


def test_metrics_of_several_labels_equal_sklearn():
    logits, targets = torch.randn(200, 4), torch.randint(2, (200, 4)).float()
    meter = LabelMeter(4, multilabel=True)
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
    task.save(tmp_path)
    path = tmp_path / "labels.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=f"labels.json {message}"):
        Classify.load(tmp_path, settings())


def test_a_missing_column_is_named(tmp_path):
    task, _ = prepared(tmp_path)
    (tmp_path / "b.csv").write_text("text,topic\nx,a\n")
    with pytest.raises(InputError, match="label"):
        task.examples(open_source(tmp_path / "b.csv"), SINGLE)
