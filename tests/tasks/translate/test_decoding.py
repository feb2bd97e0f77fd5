"""Translations: their probabilities against reading everything again, drawn ones, prefixes, and rules."""

import pytest
import torch
from tests.tasks.translate.test_translate import Pairs, networks, settings, words

from thalweg.errors import InputError
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher
from thalweg.models.presets import translate_lstm, translate_transformer
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.translate.decoding import prefix_places
from thalweg.tasks.translate.pairs import tokens_of
from thalweg.tasks.translate.task import Translate

SOURCES = ["ab cad", "bee", "a text of more than twenty characters, cut", "fed deaf"]


def made(kind="char", build=translate_transformer, family="softmax"):
    task, _ = Translate.prepare(Pairs(words()), None, settings(kind))
    model, head = networks(task, build, seed=1)
    if family == "continuous":
        size = task.tokenizer.vocabulary_size
        head = VonMisesFisher(model.width, Targets(torch.randn(size, 12), counts=torch.ones(size)))
    with torch.no_grad():  # so that texts end
        for parameter in head.parameters():
            parameter.mul_(3)
    return task, model.double().eval(), head.double().eval()


def exact(task, model, head, source, tokens):
    """The log-probability of each token, in float64, from one pass over the whole translation."""
    names = [task.tokenizer.token(index) for index in range(task.tokenizer.vocabulary_size)]
    ids = [names.index(token) for token in tokens]
    read = torch.tensor(tokens_of(task.tokenizer, [source], task.max_length).ids.values[None].astype("int64"))
    before = torch.tensor([[task.tokenizer.begin, *ids[:-1]]])
    with torch.no_grad():
        hidden = model(tokens=read, mask=torch.ones_like(read, dtype=torch.bool), decoder_tokens=before)[0]
        return head.log_probability(head(hidden), torch.tensor(ids)).tolist()


@pytest.mark.parametrize("build", [translate_lstm, translate_transformer])
@pytest.mark.parametrize("family", ["softmax", "continuous"])
@pytest.mark.parametrize(
    "wishes",
    [
        {"beam": 1},
        {"beam": 4},
        {"beam": 4, "no_repeat": 2, "min_length": 5, "repetition_penalty": 1.3, "prefix": "AB"},
        {"samples": 3, "temperature": 0.7, "top_k": 9, "prefix": "C"},
    ],
    ids=str,
)
def test_scores_are_those_of_a_teacher_forced_pass(build, family, wishes):
    task, model, head = made("char", build, family)
    for power in (1.0, 0.6):
        options = AnswerOptions(**wishes, top=4, length_penalty=power)
        for source, answer in zip(SOURCES, task.predict(model, head, SOURCES, options), strict=True):
            for one in [*answer["candidates"], *answer.get("samples", ())]:
                gains = exact(task, model, head, source, one["tokens"])
                assert one["log_probabilities"] == pytest.approx(gains, abs=1e-4)
                assert one["log_probability"] == pytest.approx(sum(gains), abs=1e-4)
                assert one["score"] == pytest.approx(sum(gains) / len(gains) ** power, abs=1e-4)
            assert answer["score"] < 0.0


@pytest.mark.parametrize("build", [translate_lstm, translate_transformer])
def test_greedy_is_a_plain_loop_that_reads_everything_again(build):
    task, model, head = made("char", build)
    for source, answer in zip(SOURCES, task.predict(model, head, SOURCES, AnswerOptions(beam=1)), strict=True):
        read = torch.tensor(tokens_of(task.tokenizer, [source], task.max_length).ids.values[None].astype("int64"))
        ids = [task.tokenizer.begin]
        while len(ids) <= task.max_length and ids[-1] != task.tokenizer.end:
            with torch.no_grad():
                scores = head(model(tokens=read, decoder_tokens=torch.tensor([ids]))[:, -1])[0]
            scores[[0, 1, 2]] = -torch.inf
            ids.append(int(scores.argmax()))
        assert answer["text"] == task.text(ids[1:])


def test_drawn_translations_are_of_their_own_and_depend_on_no_other():
    task, model, head = made()
    first, second = task.predict(model, head, ["bee", "bee"], AnswerOptions(samples=4))
    texts = [one["text"] for answer in (first, second) for one in answer["samples"]]
    assert len(set(texts)) > 4
    assert first["text"] == texts[0]
    (alone,) = task.predict(model, head, ["bee"], AnswerOptions(temperature=1.0, places=(1,)))
    assert alone["text"] == texts[4]
    assert task.lines_of(first) == texts[:4]
    assert [row["text"] for row in task.table_rows(first, 0)] == texts[:4]


def test_one_line_for_one_text_unless_more_are_asked_for():
    task, model, head = made()
    (answer,) = task.predict(model, head, ["bee"], AnswerOptions())
    assert len(answer["candidates"]) == 3
    assert task.lines_of(answer) == [answer["text"]]
    assert len(task.lines_of(answer, 2)) == 2


@pytest.mark.parametrize("kind", ["char", "byte", "word", "bpe"])
def test_translations_begin_with_the_prefix(kind):
    task, model, head = made(kind)
    for wishes in ({"beam": 1}, {"beam": 3}, {"samples": 3}):
        options = AnswerOptions(prefix="AB", **wishes)
        for answer in task.predict(model, head, ["bee", "ab", "cad fed"], options):
            texts = [answer, *answer["candidates"], *answer.get("samples", ())]
            assert all(one["text"].startswith("AB") for one in texts)


def test_a_prefix_of_subwords_may_end_within_a_word():
    rows = [(f"{n}", f"house{'s' * (n % 2)} and housing {n}") for n in range(200)]
    task, _ = Translate.prepare(Pairs(rows), None, settings("bpe", vocabulary_size=300))
    ids = task.tokenizer.encode("hou")
    places = prefix_places(task.tokenizer, "hou", 20)
    assert [len(place) for place in places[:-1]] == [1] * (len(ids) - 1)
    last = task.tokenizer.token(ids[-1])
    assert ids[-1] in places[-1]
    assert all(task.tokenizer.token(one).startswith(last) for one in places[-1])
    whole = task.tokenizer.id_of("house")
    assert whole is None or len(ids) > 1 or whole in places[-1]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"prefix": "A" * 30}, "--prefix has 30 tokens, and a translation at most 19"),
        ({"min_length": 20}, "--min-length must be at most 19, the tokens of this run's translations; got 20"),
    ],
)
def test_wishes_that_no_translation_fulfils_are_refused(wishes, message):
    task, model, head = made()
    with pytest.raises(InputError, match=message):
        task.predict(model, head, ["ab"], AnswerOptions(**wishes))


def test_a_prefix_of_unknown_words_is_refused():
    task, model, head = made("word")
    with pytest.raises(InputError, match="--prefix 'zebra' has a word that is not in the vocabulary"):
        task.predict(model, head, ["ab"], AnswerOptions(prefix="zebra"))
