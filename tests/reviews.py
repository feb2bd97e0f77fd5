"""A small file of reviews, and a small session, for tests of what a recipe builds."""

import random

from thalweg.training.recipe.recipe import Options
from thalweg.training.session.prepare import Request, prepare

WORDS = ["river", "stone", "light", "water", "field", "cloud", "house", "table", "music", "paper"]


def write_reviews(path, seed=0, rows=160):
    generator = random.Random(seed)
    lines = [
        f"{' '.join(generator.choices(WORDS, k=5))} {'fine' if k % 2 else 'awful'},{'good' if k % 2 else 'bad'}"
        for k in range(rows)
    ]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


def session_for(source, out, **options):
    small = {"width": 8, "hidden": 8, "heads": 2, "steps": 6, "batch_size": 32}
    return prepare(Request(Options({"source": source, **small, **options}), out), lambda sentence: None)
