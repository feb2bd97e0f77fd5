"""What is said of a training under way: what its history shows, each once, and nothing of one that goes well."""

import pytest

from thalweg.cli.warnings import MAX_KEPT, LiveWarnings
from thalweg.diagnosis.live import URGENT, warnings_of


def steps(losses, **more):
    return [{"event": "step", "step": i + 1, "loss": loss, "lr": 0.1, "grad_norm": 1.0} | more
            for i, loss in enumerate(losses)]  # fmt: skip


def sites(**figures):
    return [{"name": name, "kind": "relu", "std": 1.0, "flow": 1.0} | figures.get(name, {}) for name in "abcdef"]


FALLING = [2.0 / (1 + i / 10) for i in range(60)]


@pytest.mark.parametrize(("entries", "name", "words"), [
    ([], "", ""),
    (steps(FALLING), "", ""),
    (steps(FALLING, sites=sites(a={"dead": 0.5})), "", ""),
    (steps([1.0] * 10 + [5.0] * 50), "learning-rate-too-high", "went from 1 up to 5"),
    (steps([1.0] * 10 + [5.0] * 20), "", ""),  # too few to tell
    (steps(FALLING, sites=sites(a={"dead": 1.0})), "dead-units", "100% of the units of a (relu) are zero"),
    (steps(FALLING, sites=sites(a={"flow": 1e-9}, b={"flow": 1e-6}, c={"flow": 1e-3})), "vanishing-gradient", "1e+09"),
    ([{"event": "rejected", "step": 1, "where": "a.b", "what": "parameter"}], "non-finite", "in the parameter of a.b"),
])  # fmt: skip
def test_sentences(entries, name, words):
    found = warnings_of(entries)
    assert list(found) == ([name] if name else [])
    assert words in found.get(name, "")
    assert set(found) <= set(URGENT)


def test_each_is_said_once_and_when_a_measurement_comes():
    said = []
    live = LiveWarnings(said.append)
    for entry in steps([1.0] * 10 + [5.0] * 40):
        live.take(entry)
    assert said == []
    for number in range(3):
        live.take({"event": "step", "step": 60 + number, "loss": 5.0 + number, "sites": []})
    assert len(said) == 1
    assert said[0].startswith("Warning: Learning rate too high: The training loss went from 1 up to 5.")


def test_a_long_training_is_not_kept_as_a_whole():
    said = []
    live = LiveWarnings(said.append)
    for entry in steps([1.0] * 5 * MAX_KEPT):
        live.take(entry)
    assert len(live._entries) <= MAX_KEPT
    live.take({"event": "step", "step": 1, "loss": 1.0, "sites": []})
    assert said == []
