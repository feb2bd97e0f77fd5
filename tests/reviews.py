"""The words of the reviews in `training/conftest.py`, and a small session, for tests of what a recipe builds."""

from thalweg.training.recipe.recipe import Options
from thalweg.training.session.prepare import Request, prepare

WORDS = ["river", "stone", "light", "water", "field", "cloud", "house", "table", "music", "paper"]


def session_for(source, out, **options):
    small = {"width": 8, "hidden": 8, "heads": 2, "steps": 6, "batch_size": 32}
    return prepare(Request(Options({"source": source, **small, **options}), out), lambda sentence: None)
