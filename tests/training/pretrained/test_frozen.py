"""A frozen pretrained model: features that are computed once, and an output layer that is proved to be the best."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import thalweg
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.errors import InputError
from thalweg.tasks.reading.encoder import ENCODER, EncoderFeatures
from thalweg.training.certified.certify import certify_run
from thalweg.training.folder.again import read_again


def train(data, out, **options):
    return thalweg.train(data, out=out, max_length=32, freeze=True, **options)


def encoder(name):
    found = PretrainedFolder.open(name)
    return found, EncoderFeatures.open(found, name, "cpu")


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2", "llama", "t5", "marian"])
def test_features_are_the_pooled_states_of_the_library(models, kind):
    from transformers import AutoModel

    found, features = encoder(models(kind))
    texts = ["the film was a delight", "a", "good acting, a bad script, and a cat"]
    ids = [found.tokenizer.encode(text) for text in texts]
    network = AutoModel.from_pretrained(models(kind).removeprefix("hf:")).eval()
    network = network.get_encoder() if found.is_translator else network
    for row, tokens in zip(features.vectors(Ragged.from_lists(ids)), ids, strict=True):
        with torch.inference_mode():
            states = network(input_ids=torch.tensor([tokens])).last_hidden_state[0]
        state = states[-1] if found.pooling == "last" else states.mean(0)
        np.testing.assert_allclose(row, (state / state.norm()).numpy(), atol=2e-6)


def test_features_do_not_depend_on_what_else_is_read_and_are_read_once(models, monkeypatch):
    found, features = encoder(models("bert"))
    texts = [f"film {number} " * (number % 9 + 1) for number in range(70)]
    ids = Ragged.from_lists([found.tokenizer.encode(text) for text in texts])
    monkeypatch.setenv("THALWEG_CACHE", "/dev/null/nowhere")
    _, apart = encoder(models("bert"))
    single = np.concatenate([apart.vectors(ids.take([row])) for row in (0, 13, 69)])
    together = features.vectors(ids)
    assert np.array_equal(together[[0, 13, 69]], single)
    monkeypatch.setattr(features, "_computed", lambda ids: pytest.fail("it was kept"))
    assert np.array_equal(features.vectors(ids.take([5, 5, 0])), together[[5, 5, 0]])


def test_features_that_are_kept_are_those_of_the_same_pooling(models, tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    found, features = encoder(models("bert"))
    ids = Ragged.from_lists([found.tokenizer.encode("the film was a delight")])
    mean = features.vectors(ids)
    other = dataclasses.replace(found, pooling="cls")
    first = EncoderFeatures.open(other, models("bert"), "cpu").vectors(ids)
    monkeypatch.setenv("THALWEG_CACHE", "/dev/null/nowhere")
    assert np.array_equal(EncoderFeatures.open(other, models("bert"), "cpu").vectors(ids), first)
    assert not np.allclose(first, mean, atol=1e-3)


def test_the_penalty_is_chosen_where_none_is_given(models, reviews, tmp_path):
    run = train(reviews, tmp_path, model=models("bert"))
    chosen = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))["selection"]
    assert len(chosen["points"]) > 1
    assert run.recipe.values()["l2"] == chosen["l2"] > 0.0


def test_the_output_layer_is_the_one_that_scikit_learn_finds(models, reviews, tmp_path):
    run = train(reviews, tmp_path, model=models("bert"), l2=1e-3, certify=1e-8, refit=False)
    assert run.status is thalweg.Status.PROVED
    _, prepared = read_again(run)
    vectors = prepared.train.ragged("weights").values.reshape(len(prepared.train), -1)
    labels = prepared.train.columns["labels"]
    # A softmax over two labels spreads the weights of a logistic regression over both.
    strength = 2 / (1e-3 * len(labels))
    other = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-10).fit(vectors.astype("f8"), labels)
    texts = [row["text"] for row in reviews[:9]]
    found = [
        next(one["probability"] for one in answer["top"] if one["label"] == "yes") for answer in run.predict(texts)
    ]
    own = run.task.reader
    columns = own.read(texts)
    expected = other.predict_proba(columns["weights"].values.reshape(9, -1))[:, 1]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_run_needs_nothing_but_its_folder(models, reviews, tmp_path, monkeypatch):
    run = train(reviews, tmp_path, model=models("distilbert"))
    expected = run.predict(["a good film"])
    monkeypatch.setattr(PretrainedFolder, "open", lambda name: pytest.fail("the folder of the model was opened"))
    assert thalweg.load(run.folder).predict(["a good film"]) == expected
    (run.folder / ENCODER).write_bytes(b"damaged")
    with pytest.raises(InputError, match=ENCODER):
        thalweg.load(run.folder).predict(["a good film"])


def test_the_certificate_says_what_is_fixed_and_a_floor_holds_for_any_body(models, reviews, tmp_path):
    doubled = [*reviews, *({**row, "label": "no"} for row in reviews[1:20:2])]
    run = train(doubled, tmp_path, model=models("bert"))
    interval = certify_run(run).interval
    print(interval)
    assert interval.loss - interval.bound <= 2e-4 * interval.loss
    sentence = " ".join(one.scope for one in interval.levels)
    assert "a pretrained bert that is not trained" in sentence


def test_pairs_are_scored_by_what_is_said_of_both_texts(models, scored, tmp_path):
    options = {"task": "score", "text_column": "first", "other_column": "second", "label_column": "number"}
    run = train(scored, tmp_path, model=models("bert"), **options)
    assert run.task.shape().vocabulary_size == 4 * 16
    answer = run.predict([("a fine film 3", "dull script")])[0]
    assert 0 <= answer["score"] <= 6
    with pytest.raises(InputError, match="--pairs cross needs a model that is trained"):
        train(scored, tmp_path, model=models("bert"), pairs="cross", **options)


@pytest.mark.parametrize("task", ["tag", "language", "translate", "forecast"])
def test_tasks_that_take_no_frozen_model_say_so(models, reviews, tmp_path, task):
    with pytest.raises(InputError, match=rf"Task '{task}' takes no pretrained model.* with --freeze"):
        train(reviews, tmp_path, model=models("bert"), task=task)


def test_a_new_run_starts_from_a_frozen_one(models, reviews, tmp_path):
    first = train(reviews, tmp_path, model=models("bert"), name="first")
    second = thalweg.train(reviews, out=tmp_path, start_from=str(first.folder), name="second")
    assert second.predict(["a good film"])[0]["label"] == first.predict(["a good film"])[0]["label"]
