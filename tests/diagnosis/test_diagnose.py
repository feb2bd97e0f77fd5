"""A diagnosis as a value: order, plain values, and the catalog behind it."""

import json

from thalweg.diagnosis import Diagnosis, Finding, Repair, Severity


def test_diagnosis_without_findings_is_healthy():
    found = Diagnosis(())
    assert found.is_healthy
    assert str(found) == "Nothing was found."
    assert json.loads(json.dumps(found.to_json()))["findings"] == []


def test_finding_is_found_by_its_name():
    finding = Finding("label-noise", Severity.WARNING, "10 labels are doubtful.", Repair("Look at them."))
    assert Diagnosis([finding]).named("label-noise") is finding
    assert Diagnosis([finding]).named("loss-spikes") is None
