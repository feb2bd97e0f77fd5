"""What is said of a training under way: four troubles, each once, and nothing of one that goes well."""

import pytest

from thalweg.cli.warnings import MAX_KEPT, LiveWarnings
from thalweg.diagnosis.live import warnings_of


def steps(losses, **more):
    return [{"event": "step", "step": i + 1, "loss": loss} | more for i, loss in enumerate(losses)]


def site(name, **figures):
    return {"name": name, "kind": "relu"} | figures


FALLING = [2.0 / (1 + i / 10) for i in range(60)]
HEALTHY = [site("a", dead=0.9, flow=0.01), site("b", flow=1.0)]


@pytest.mark.parametrize(("entries", "expected"), [
    ([], []),
    (steps(FALLING), []),
    (steps(FALLING, sites=HEALTHY), []),
    (steps([1.0] * 10 + [5.0] * 50), ["above where it started"]),
    (steps([1.0] * 10 + [5.0] * 20), []),  # too few to tell
    (steps(FALLING, sites=[site("a", dead=1.0, flow=1.0), site("b", flow=1.0)]), ["All units of a are zero"]),
    (steps(FALLING, sites=[site("a", flow=1e-9), site("b", flow=1.0)]), ["next to none of it reaches a"]),
    (steps(FALLING, sites=[site("a", flow=None), site("b", flow=0.0)]), []),
    ([{"event": "rejected", "step": 1, "where": "a.b", "what": "parameter"}], ["is in the parameter of a.b"]),
    ([{"event": "rejected", "step": 1, "reason": "the loss was NaN or infinite"}], []),
])  # fmt: skip
def test_sentences(entries, expected):
    found = warnings_of(entries)
    assert len(found) == len(expected)
    assert all(words in sentence for words, sentence in zip(expected, found, strict=True))


def test_each_is_said_once_and_when_a_measurement_comes():
    said = []
    live = LiveWarnings(said.append)
    for entry in steps([1.0] * 10 + [5.0] * 40):
        live.take(entry)
    assert said == []
    for number in range(3):
        live.take({"event": "step", "step": 60 + number, "loss": 5.0, "layers": {}})
    assert said == ["Warning: The training loss is above where it started: the learning rate may be too high."]


def test_a_name_with_escape_bytes_does_not_reach_the_terminal():
    said = []
    LiveWarnings(said.append).take({"event": "rejected", "step": 1, "where": "a\x1b[2J", "what": "parameter"})
    assert said == [
        "Warning: Steps are not finite: the first NaN or infinite number is in the parameter of a\ufffd[2J."
    ]


def test_a_long_training_is_not_kept_as_a_whole():
    said = []
    live = LiveWarnings(said.append)
    for entry in steps([1.0] * 5 * MAX_KEPT):
        live.take(entry)
    assert len(live._entries) <= MAX_KEPT
    live.take({"event": "step", "step": 1, "loss": 1.0, "layers": {}})
    assert said == []
