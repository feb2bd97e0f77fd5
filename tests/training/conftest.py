"""A file of reviews that tests of a recipe train on."""

import random

import pytest
from reviews import WORDS


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    generator = random.Random(0)
    rows = [
        f"{' '.join(generator.choices(WORDS, k=5))} {'fine' if k % 2 else 'awful'},{'good' if k % 2 else 'bad'}"
        for k in range(160)
    ]
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path
