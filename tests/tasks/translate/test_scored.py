"""Given translations are as probable as they are when the model writes them."""

import math

import pytest
from tests.tasks.translate.test_decoding import SOURCES, exact, made

from thalweg.errors import InputError
from thalweg.models.presets import translate_lstm, translate_transformer
from thalweg.tasks.questions import AnswerOptions


@pytest.mark.parametrize("build", [translate_lstm, translate_transformer])
@pytest.mark.parametrize("family", ["softmax", "continuous"])
def test_each_token_has_the_probability_of_a_pass_of_its_own(build, family):
    task, model, head = made("char", build, family)
    pairs = [(source, target) for source in SOURCES for target in ("AB CAD", "x", "A TEXT LONGER THAN TWENTY")]
    for pair, found in zip(pairs, task.scorer().predict(model, head, pairs, AnswerOptions()), strict=True):
        assert (found["source"], found["target"]) == pair
        gains = exact(task, model, head, pair[0], found["tokens"])
        assert found["log_probabilities"] == pytest.approx(gains, abs=1e-6)
        assert found["log_probability"] == pytest.approx(sum(gains))
        assert found["score"] == pytest.approx(sum(gains) / len(gains))
        assert found["perplexity"] == pytest.approx(math.exp(-sum(gains) / len(gains)))
        is_cut = len(pair[0]) > 19 or len(pair[1]) > 19
        assert found.get("note") == ("truncated to 20 tokens" if is_cut else None)


def test_what_was_written_has_the_same_probability_when_it_is_given():
    task, model, head = made("word")
    for answer in task.predict(model, head, ["ab cad", "bee"], AnswerOptions(beam=3)):
        (found,) = task.scorer().predict(model, head, [(answer["source"], answer["text"])], AnswerOptions())
        if found["tokens"] == answer["candidates"][0]["tokens"]:
            assert found["log_probability"] == pytest.approx(answer["log_probability"], abs=1e-4)
            assert found["score"] == pytest.approx(answer["score"], abs=1e-5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ab", "expected a text and its translation, two texts"),
        (("ab", 3), "expected a text and its translation, two texts"),
        (("ab", " "), "expected a text and its translation, got an empty one"),
    ],
)
def test_what_is_no_pair_is_refused(value, message):
    task, model, head = made()
    with pytest.raises(InputError, match=f"Input 1: {message}"):
        task.scorer().predict(model, head, [value], AnswerOptions())


def test_a_line_holds_both_texts():
    scorer = made()[0].scorer()
    assert scorer.parse_input("ab\tAB", None) == ("ab", "AB")
    with pytest.raises(InputError, match="with one tab between them; got 0 tabs"):
        scorer.parse_input("ab AB", None)
