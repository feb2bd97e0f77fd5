"""Continuations: their probabilities, samples, stops, notes, and the same text piece by piece."""

import math

import pytest
import torch
from tests.tasks.language.test_language import Lines, networks, settings, story

from thalweg.errors import InputError
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher
from thalweg.models.presets import causal_lstm, causal_transformer
from thalweg.tasks.language.task import Language
from thalweg.tasks.questions import AnswerOptions

KINDS = ["byte", "char", "bpe", "word"]
FOXES = [f"the old 🦊 größer sees {n} hens" for n in range(60)]


def made(kind="bpe", build=causal_lstm, lines=None):
    task, _ = Language.prepare(Lines(lines or story()), None, settings(kind))
    return task, *networks(task, build)


def exact(task, model, head, prompt, answer):
    """The log-probability of each token of an answer, in float64, by reading everything again for each."""
    ids, window = task.prompt(prompt), task.max_length
    names = [task.tokenizer.token(index) for index in range(task.tokenizer.vocabulary_size)]
    written = [names.index(token) for token in answer["tokens"]]
    text, begin, found = ids[-window:] + written, 0, []
    for place in range(len(ids[-window:]) - 1, len(text) - 1):
        while place - begin >= window:
            begin += window - window // 2
        with torch.no_grad():
            hidden = model(torch.tensor([text[begin : place + 1]]))[:, -1]
        found.append(head.log_probability(head(hidden), torch.tensor([text[place + 1]])).item())
    return found


@pytest.mark.parametrize("build", [causal_lstm, causal_transformer])
@pytest.mark.parametrize("family", ["softmax", "continuous"])
def test_the_probabilities_are_those_of_reading_everything_again(build, family):
    task, model, head = made("bpe", build)
    if family == "continuous":
        size = task.tokenizer.vocabulary_size
        head = VonMisesFisher(model.width, Targets(torch.randn(size, 12), counts=torch.ones(size)))
    model.double().eval()
    head.double().eval()
    prompts = ["", "the red fox", "x" * 60]
    for options in (AnswerOptions(length=30, temperature=1.0), AnswerOptions(length=30, temperature=0.0, no_repeat=2)):
        for prompt, answer in zip(prompts, task.predict(model, head, prompts, options), strict=True):
            assert answer["log_probabilities"] == pytest.approx(exact(task, model, head, prompt, answer), abs=1e-6)
            assert answer["log_probability"] == pytest.approx(sum(answer["log_probabilities"]))
            assert answer["score"] == pytest.approx(answer["log_probability"] / 30)


def test_each_sample_of_each_prompt_is_its_own_and_depends_on_no_other():
    task, model, head = made("char")
    options = AnswerOptions(length=15, temperature=1.0, samples=3)
    first, second = task.predict(model, head, ["", ""], options)
    texts = [one["text"] for answer in (first, second) for one in answer["samples"]]
    assert len(set(texts)) == 6
    assert first["text"] == texts[0]
    assert set(first["samples"][0]) == {"text", "score", "log_probability", "tokens", "log_probabilities"}
    (alone,) = task.predict(model, head, [""], AnswerOptions(length=15, temperature=1.0, places=(1,)))
    assert alone["text"] == texts[3]
    assert "samples" not in alone
    assert task.lines_of(first) == texts[:3]
    assert [row["text"] for row in task.table_rows(first, 0)] == texts[:3]


@pytest.mark.parametrize("kind", KINDS)
def test_a_continuation_ends_before_the_first_stop(kind):
    task, model, head = made(kind)
    whole = AnswerOptions(length=60, temperature=1.0, seed=1)
    for prompt, answer in zip(["", "the"], task.predict(model, head, ["", "the"], whole), strict=True):
        text = answer["text"]
        for stop in {text[10:11], text[20:23], text[31:33], "not there \x00"}:
            place = (0, 1)[prompt == "the"]
            options = AnswerOptions(length=60, temperature=1.0, seed=1, stop=(stop, "nor this \x00"), places=(place,))
            (found,) = task.predict(model, head, [prompt], options)
            expected = text[: text.index(stop)] if stop in text else text
            assert found["text"] == expected
            num = len(found["tokens"])
            assert found["log_probabilities"] == pytest.approx(answer["log_probabilities"][:num], abs=1e-5)
            assert "".join(task.stream(model, head, prompt, options)) == prompt + expected


def test_a_stop_counts_after_the_least_length():
    task, model, head = made("char", lines=["abcabcabc"] * 50)
    plain = AnswerOptions(length=40, temperature=1.0, stop="a")
    later = AnswerOptions(length=40, temperature=1.0, stop="a", min_length=12)
    (short,), (long,) = (task.predict(model, head, ["b"], options) for options in (plain, later))
    assert "a" not in short["text"]
    assert "a" not in long["text"][12:]
    assert len(long["text"]) >= 12
    assert long["text"].startswith(short["text"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_of_a_stream_are_whole_characters_and_add_up(kind):
    task, model, head = made(kind, lines=FOXES)
    with torch.no_grad():
        head.output.weight.mul_(5)
    for seed in range(4):
        options = AnswerOptions(length=60, temperature=1.0, seed=seed)
        prompt, *pieces = task.stream(model, head, "the 🦊", options)
        (answer,) = task.predict(model, head, ["the 🦊"], options)
        assert (prompt, "".join(pieces)) == ("the 🦊", answer["text"])
        assert not any(piece.endswith("\ufffd") for piece in pieces[:-1])
        assert sum(map(bool, pieces)) > 5


def test_a_prompt_that_is_longer_than_the_window_is_told():
    task, model, head = made("char", causal_transformer)
    short, long = task.predict(model, head, ["abc", "ab " * 30], AnswerOptions(length=40))
    assert "note" not in short
    assert long["note"] == "cut to its last 16 tokens"
    (end,) = task.predict(model, head, [("ab " * 30)[-16:]], AnswerOptions(length=40, places=(1,)))
    assert end["text"] == long["text"]


def test_rules_hold_for_greedy_and_drawn_continuations():
    task, model, head = made("char", lines=["abcabcabc"] * 50)
    with torch.no_grad():
        head.output.weight.mul_(20)
    (plain,) = task.predict(model, head, ["a"], AnswerOptions(length=30, temperature=0.0))
    assert len(set(zip(plain["text"], plain["text"][1:], strict=False))) < 29
    for options in (
        AnswerOptions(length=30, temperature=0.0, no_repeat=2),
        AnswerOptions(length=30, temperature=1.0, no_repeat=2),
    ):
        (answer,) = task.predict(model, head, ["a"], options)
        pairs = list(zip(["a", *answer["tokens"]], answer["tokens"], strict=False))
        assert len(set(pairs)) == len(pairs)
    (varied,) = task.predict(model, head, ["a"], AnswerOptions(length=30, temperature=0.0, repetition_penalty=50.0))
    assert len(set(varied["tokens"])) > len(set(plain["tokens"]))
    (best,) = task.predict(model, head, ["a"], AnswerOptions(length=30, top_k=1))
    assert best["text"] == plain["text"]


def test_wishes_without_effect_are_refused():
    task, model, head = made()
    with pytest.raises(InputError, match="--min-length 3 is for texts that end at --stop"):
        task.predict(model, head, ["a"], AnswerOptions(min_length=3))
    with pytest.raises(InputError, match="--min-length must be at most --length; got 9 and 3"):
        task.predict(model, head, ["a"], AnswerOptions(min_length=9, length=3, stop="x"))


def test_no_prompt_and_no_length_are_no_mistake():
    task, model, head = made()
    assert task.predict(model, head, [], AnswerOptions()) == []
    (nothing,) = task.predict(model, head, ["a"], AnswerOptions(length=0))
    assert (nothing["text"], nothing["log_probability"], nothing["score"]) == ("", 0.0, 0.0)
    assert math.isfinite(nothing["score"])
