"""Given texts are as probable as they are when the model writes them."""

import math

import pytest
import torch
from tests.tasks.language.test_language import Lines, networks, settings, story

from thalweg.errors import InputError
from thalweg.models.presets import causal_lstm, causal_transformer
from thalweg.tasks.language.task import Language
from thalweg.tasks.questions import AnswerOptions


@pytest.mark.parametrize("build", [causal_lstm, causal_transformer])
@pytest.mark.parametrize("kind", ["byte", "char", "bpe", "word"])
def test_each_token_has_the_probability_that_reading_everything_before_gives(build, kind):
    task, _ = Language.prepare(Lines(story()), None, settings(kind))
    model, head = networks(task, build)
    model.double().eval()
    head.double().eval()
    # One window, and many of them.
    texts = ["the fox", "\n".join(story()[:4])]
    begin, window = task.prompt(""), task.max_length
    assert len(task.prompt(texts[1])) > 2 * window or kind == "word"
    for text, found in zip(texts, task.scorer().predict(model, head, texts, AnswerOptions()), strict=True):
        ids, start, exact = begin + task.prompt(text), 0, []
        for place in range(len(ids) - 1):
            if place - start == window:
                start = place - window // 2
            with torch.no_grad():
                hidden = model(torch.tensor([ids[start : place + 1]]))[:, -1]
                exact.append(head.log_probability(head(hidden), torch.tensor([ids[place + 1]])).item())
        exact = exact[len(begin) - 1 :]
        assert found["log_probabilities"] == pytest.approx(exact, abs=1e-9)
        assert found["log_probability"] == pytest.approx(sum(exact))
        assert found["score"] == pytest.approx(sum(exact) / len(exact))
        assert found["perplexity"] == pytest.approx(math.exp(-sum(exact) / len(exact)))
        assert found["tokens"] == [task.tokenizer.token(index) for index in task.prompt(text)]


@pytest.mark.parametrize("build", [causal_lstm, causal_transformer])
def test_what_was_written_has_the_same_probability_when_it_is_given(build):
    task, _ = Language.prepare(Lines(story()), None, settings("word"))
    model, head = networks(task, build)
    written = task.predict(model, head, ["", ""], AnswerOptions(length=70, temperature=1.0, seed=2))
    found = task.scorer().predict(model, head, [one["text"] for one in written], AnswerOptions())
    for one, other in zip(written, found, strict=True):
        assert other["tokens"] == one["tokens"]
        assert other["log_probabilities"] == pytest.approx(one["log_probabilities"], abs=1e-4)


def test_a_text_in_a_batch_is_measured_as_if_it_were_alone():
    task, _ = Language.prepare(Lines(story()), None, settings("bpe"))
    model, head = networks(task, causal_transformer)
    texts = ["the red fox", "a", "line 1\nline 2\n", "x" * 200]
    together = task.scorer().predict(model, head, texts, AnswerOptions())
    for text, one in zip(texts, together, strict=True):
        (alone,) = task.scorer().predict(model, head, [text], AnswerOptions())
        assert alone["tokens"] == one["tokens"]
        assert alone["log_probabilities"] == pytest.approx(one["log_probabilities"], abs=1e-5)
    (line,) = task.scorer().lines_of(together[0])
    assert line.startswith("log-probability -")
    assert f"perplexity {together[0]['perplexity']:.4g}  tokens {len(together[0]['tokens'])}" in line


def test_what_is_no_text_is_refused():
    task, _ = Language.prepare(Lines(story()), None, settings())
    model, head = networks(task)
    with pytest.raises(InputError, match="Input 2: expected a text to measure, got an empty one"):
        task.scorer().predict(model, head, ["a", ""], AnswerOptions())
    with pytest.raises(InputError, match="Input 1: expected a text, got"):
        task.scorer().predict(model, head, [7], AnswerOptions())
    assert task.scorer().predict(model, head, [], AnswerOptions()) == []
