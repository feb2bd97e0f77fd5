"""Pretrained taggers: subwords of words, and the state that a word's tag is predicted from."""

import random

import pytest
import torch
from small_models import TEXTS

import thalweg
from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.tasks.reading.subwords import SubwordReader

WORDS = sorted({word for text in TEXTS for word in text.replace(",", "").replace(";", "").split()})


@pytest.fixture
def sentences():
    draw = random.Random(0)
    rows = [[draw.choice(WORDS) for _ in range(draw.randint(1, 50))] for _ in range(60)]
    return [{"tokens": words, "tags": ["A" if "a" in word else "B" for word in words]} for words in rows]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_pieces_fit_and_places_are_first_subwords(models, kind):
    found = PretrainedFolder.open(models(kind))
    reader = SubwordReader(Normalizer(()), found, 20)
    words = [*WORDS, "extraordinarily-long-and-unknown-word" * 3, "", "a"]
    covered = []
    for start, stop in reader.bounds(words):
        part = words[start:stop]
        ids, places = reader.encode(part), reader.places(part)
        assert len(ids) <= 20
        assert len(places) == len(part)
        assert places == sorted(set(places))
        assert ids[: places[0]] == reader.tokenizer.frame[0]
        covered += part
        if max(map(len, part)) < 40 and "" not in part:
            assert found.tokenizer.decode(ids) == " ".join(part)
    assert covered == words
    assert list(reader.bounds([])) == []


@pytest.mark.parametrize(("kind", "options"), [("bert", {}), ("roberta", {"head": "crf"}), ("gpt2", {"lora": 2}),
                                               ("t5", {})])  # fmt: skip
def test_sentences_are_tagged_whatever_their_length(models, sentences, tmp_path, kind, options):
    run = thalweg.train(sentences, task="tag", model=models(kind), out=tmp_path, steps=6, max_length=32, **options)
    answers = run.predict(["the cat was cold", ["a"] * 70, [""], ["film"]])
    assert [len(answer["tags"]) for answer in answers] == [4, 70, 1, 1]
    again = thalweg.load(run.folder).predict(["the cat was cold", ["a"] * 70, [""], ["film"]])
    assert again == answers
    assert 0.0 <= run.metrics["accuracy"] <= 1.0


def test_a_word_has_the_state_of_its_first_subword(models, sentences, tmp_path):
    run = thalweg.train(sentences, task="tag", model=models("bert"), out=tmp_path, steps=1, max_length=32)
    words = ["the", "lifeless", "film"]
    reader, model = run.task.reader, run.model.eval()
    tokens, places = torch.tensor([reader.encode(words)]), torch.tensor([reader.places(words)])
    with torch.inference_mode():
        states = model(tokens, torch.ones_like(tokens, dtype=torch.bool), places=places)
        every = model.model(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(states[0], every[0, places[0]])
