"""From a run to what is looked at: runs of every kind can be diagnosed."""

import math

from thalweg.diagnosis import diagnose
from thalweg.training.session.api import train


def test_linear_forecast_has_no_parameter_in_its_model_and_no_finding(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text("x\n" + "\n".join(str(math.sin(k / 3.0) + 0.1 * (k % 5)) for k in range(160)) + "\n")
    run = train(path, task="forecast", lags=4, out=tmp_path / "runs")
    assert not list(run.model.parameters())
    found = diagnose(run)
    assert found.facts["precision"] == "float64"
    assert found.skipped == {}
    with (run.folder / "history.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "ste')
    assert "is damaged" in diagnose(run).skipped["rest of the history"]
    assert [one.evidence for one in found.findings if one.severity == "error"] == []
