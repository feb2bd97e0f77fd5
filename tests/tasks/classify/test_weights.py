"""Class weights: equal to sklearn's, in the training loss only, and under a certificate that says so."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

import thalweg
from thalweg.data.arrays.ragged import Ragged
from thalweg.tasks.classify.weights import balanced, of_targets
from thalweg.training.certified.certify import open_run, training_objective


@pytest.mark.parametrize("labels", [[0, 1, 1, 1, 2, 2], [1] * 9 + [0], [0, 1]])
def test_weights_of_labels_that_exclude_one_another_equal_sklearn(labels):
    names = np.unique(labels)
    expected = compute_class_weight("balanced", classes=names, y=np.array(labels))
    found = balanced(np.array(labels, dtype=np.int32), len(names))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-15)
    assert float(of_targets(found, torch.tensor(labels)).mean()) == pytest.approx(1.0)


def test_weights_of_several_labels_are_those_of_a_question_each():
    table = np.array([[1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 1]])  # one label never comes, one always
    found = balanced(Ragged.from_lists([np.flatnonzero(row) for row in table]), 4)
    each = of_targets(found, torch.from_numpy(table).double())
    for column in (0, 2):
        np.testing.assert_allclose(each[:, column], compute_sample_weight("balanced", table[:, column]))
    assert found[:, 1].tolist() == [0.5, 0.0]
    assert found[:, 3].tolist() == [0.0, 0.5]


def test_a_label_without_texts_weighs_nothing():
    assert balanced(np.array([0, 0, 2]), 3).tolist() == [0.5, 0.0, 1.0]


@pytest.mark.parametrize("several", [False, True])
def test_training_is_weighted_and_proved_and_validation_is_not(tmp_path, several):
    rows = [f"common words {i},{'ok' if i % 10 else 'refund'}{';late' if several and i % 3 else ''}" for i in range(90)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    runs = {
        name: thalweg.train(tmp_path / "a.csv", out=tmp_path, name=name, class_weights=name, l2=0.01, valid_share=0.3)
        for name in ("none", "balanced")
    }
    run = runs["balanced"]
    assert run.status.name == "PROVED"
    opened = open_run(run)
    objective, _ = training_objective(run.recipe, opened.task, opened.prepared, run.model, run.head)
    prediction, targets = opened.task.predictions(run.model, run.head, opened.prepared.train)
    targets = targets.numpy()
    columns = targets.T if several else [targets]
    found = [
        log_loss(
            column,
            prediction[:, i].double().sigmoid() if several else prediction.double().softmax(-1),
            sample_weight=compute_sample_weight("balanced", column),
        )
        for i, column in enumerate(columns)
    ]
    penalty = 0.5 * 0.01 * sum(float((w.detach().double() ** 2).sum()) for w in objective.penalized)
    assert objective.value().item() == pytest.approx(np.mean(found) + penalty, rel=1e-6)
    assert run.result["certificate"]["loss"] == pytest.approx(objective.value().item(), rel=1e-6)
    assert "(weighted so that rare labels count as much as frequent ones)" in run.result["certificate"]["scope"]
    assert "weighted" not in runs["none"].result["certificate"]["scope"]
    assert thalweg.certify(run, seconds=5.0).relative_gap < 1e-3
    prediction, targets = opened.task.predictions(run.model, run.head, opened.prepared.valid)
    total, count = run.head.loss(prediction.double(), targets)
    assert run.result["loss"] == pytest.approx(float(total / count), rel=1e-5)
    rare = [run.predict(["common words"])[0]["top"] for run in runs.values()]
    chance = [next(entry["probability"] for entry in top if entry["label"] == "refund") for top in rare]
    assert chance[1] > 1.5 * chance[0]
