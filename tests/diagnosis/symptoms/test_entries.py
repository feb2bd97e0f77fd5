"""Histories that somebody wrote by hand, or that are damaged: what is left of them can be judged."""

import math

import pytest

from thalweg.diagnosis.symptoms.entries import well_formed
from thalweg.diagnosis.symptoms.rules import findings_of
from thalweg.diagnosis.trends import trends_of
from thalweg.training.integrity.history import damaged_line, read_history

STEPS = [{"event": "step", "step": k, "loss": 1.0 / k, "lr": 0.1, "grad_norm": 1.0} for k in range(1, 13)]
FORGED = {
    "no entry": ["step", None, 3, [], {}, {"step": 1}, {"event": ["step"]}],
    "steps": [{"event": "step", "step": value, "loss": 1.0} for value in ("1", None, [1], {}, True, -1, 10**30, 0.5)],
    "losses": [{"event": "step", "step": 13, "loss": value} for value in ("1", [], True, 10**400)],
    "rates": [{"event": "step", "step": 13, "loss": 0.1, "lr": value} for value in ("x", None, [], math.inf, 10**400)],
    "layers": [
        {"event": "step", "step": 13, "loss": 0.1, "layers": value} for value in (3, [1], {"a": 1}, {"a": None})
    ],
    "sites": [
        {"event": "step", "step": 13, "loss": 0.1, "sites": value}
        for value in (3, {"a": 1}, [1], [{}], [{"name": 3, "kind": "relu"}])
    ],
    "rollbacks": [{"event": "rollback", "to_step": value} for value in ("1", None, [], math.nan)],
    "rejected": [{"event": "rejected", "step": 3, "where": value, "what": value} for value in (3, None, ["x"])],
    "evaluations": [
        {"event": "evaluation", "step": 3, "loss": value, "metrics": value} for value in ("x", [], 10**400)
    ],
    "lists": [{"event": "watched", "frozen": value, "not_in_optimizer": value} for value in (3, "x", [1], {"a": 1})],
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_entries_do_not_stop_the_rules(case):
    for entry in FORGED[case]:
        trends = trends_of([*STEPS, entry, *STEPS], 4)
        assert trends["num_steps"] >= 24
        findings_of({"lr": 0.1}, trends, {})


def test_what_a_recorder_writes_is_kept():
    layers = {"a": {"grad_norm": 1.0, "update_ratio": None}}
    entries = [{**STEPS[0], "layers": layers, "sites": [{"name": "", "kind": "relu"}]}, {**STEPS[1], "loss": math.nan}]
    assert well_formed(entries)[0] == entries[0]
    assert math.isnan(well_formed(entries)[1]["loss"])


DAMAGED = {"a number": b"3\n", "no text": b"\xff\xfe\n", "deep": b"[" * 100_000 + b"\n", "cut off": b'{"event": "st'}


@pytest.mark.parametrize("case", DAMAGED)
def test_history_is_read_up_to_its_first_damaged_line(tmp_path, case):
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"event": "step", "step": 1}\n' + DAMAGED[case])
    assert read_history(path) == [{"event": "step", "step": 1}]
    assert damaged_line(path) == 2
    path.write_bytes(b'{"event": "step", "step": 1}\n')
    assert damaged_line(path) is None
