"""What a stranger's data.json and metrics.json may hold."""

import json

import pytest

from thalweg import errors
from thalweg.storage.ledger import Ledger
from thalweg.training.integrity.contents import read_data, read_metrics

DATA = {
    "described": "reviews.csv",
    "files": {"reviews.csv": "00"},
    "columns": {"text": "text", "label": "label"},
    "num_train": 54,
    "num_valid": 6,
    "notes": [],
}
METRICS = {
    **dict.fromkeys(("steps", "best_step", "num_rejected", "num_rollbacks", "num_train", "num_valid"), 0),
    "status": "COMPLETED", "sentence": "Done.", "metrics": {"accuracy": 0.5}, "seconds": 1.0, "num_parameters": 3,
    "steps_per_epoch": 1, "certificate": {"sentence": "Proved.", "reached": True},
}  # fmt: skip


def ledger(folder, name, content, **changes):
    found = {key: value for key, value in {**content, **changes}.items() if value != "gone"}
    return Ledger.create(folder, {name: json.dumps(found).encode()})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": "gone"}, "expected 'columns', which is missing"),
        ({"columns": {"text": "text"}}, "it names no column of the role 'label'"),
        ({"columns": {"text": 3, "label": "label"}}, "at columns.text, got 3"),
        ({"columns": {"text": "text", "label": "label", "multilabel": "yes"}}, "expected true or false"),
        ({"files": 3}, "expected an object at files, got 3"),
        ({"num_train": -1}, "expected a whole number from 0"),
    ],
)
def test_data_of_another_form_are_named(tmp_path, change, said):
    found = ledger(tmp_path, "data.json", DATA, **change)
    with pytest.raises(errors.InputError, match=f"data.json is damaged .*{said}"):
        read_data(found, "data.json", "classify")


def test_data_and_metrics_come_back(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert read_data(ledger(tmp_path / "a", "data.json", DATA), "data.json", "classify") == DATA
    assert read_metrics(ledger(tmp_path / "b", "metrics.json", METRICS), "metrics.json") == METRICS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "DONE"}, "expected one of"),
        ({"metrics": {"accuracy": "high"}}, "at metrics.accuracy"),
        ({"steps_per_epoch": 0}, "expected a whole number from 1"),
        ({"steps": "gone"}, "expected 'steps', which is missing"),
        ({"certificate": {}}, "expected 'sentence' in certificate"),
        ({"intervals": {"loss": [1.0]}}, "at intervals.loss"),
    ],
)
def test_metrics_of_another_form_are_named(tmp_path, change, said):
    found = ledger(tmp_path, "metrics.json", METRICS, **change)
    with pytest.raises(errors.InputError, match=f"metrics.json is damaged .*{said}"):
        read_metrics(found, "metrics.json")
