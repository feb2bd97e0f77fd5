"""Small pretrained models, saved once for the tests of a file."""

import random

import pytest
from small_models import TEXTS, saved_models

GOOD = ("a fine film", "the good cat", "delight and joy", "lovely scene")
BAD = ("dull script", "bad and cold", "lifeless acting", "nobody should watch")


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return saved_models(tmp_path_factory)


@pytest.fixture
def reviews():
    draw = random.Random(0)
    rows = [(draw.choice(GOOD if i % 2 else BAD), "yes" if i % 2 else "no", i) for i in range(120)]
    return [{"text": f"{text} {i} {draw.choice(TEXTS)[:20]}", "label": label} for text, label, i in rows]


@pytest.fixture
def scored():
    draw = random.Random(1)
    rows = [(draw.choice(GOOD), draw.choice(BAD), i) for i in range(100)]
    return [{"first": f"{a} {i}", "second": f"{b}", "number": i % 7} for a, b, i in rows]
