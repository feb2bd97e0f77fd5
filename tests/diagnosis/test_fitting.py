"""Repairs for the recipe at hand: what changes nothing, or is refused, is not offered."""

import pytest

from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.fitting import fitted
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options


def repaired(changes, **options):
    recipe = Options(complete(Options({"task": "classify", "source": "x.csv", **options})).values())
    finding = Finding("dead-units", Severity.ERROR, "1 of 1.", Repair("Do it.", changes, "initialize"))
    found = fitted(finding, recipe)
    assert (found.name, found.repair.action) == ("dead-units", "initialize")
    return dict(found.repair.options), found.repair.sentence


RATE = {"optimizer": "auto", "lr": None, "schedule": None}
CASES = {
    "all of it": ({"model": "mlp"}, {"activation": "gelu", "skip": "prenorm"}, ["activation", "skip"], "Do it."),
    "a part without effect": (
        {"model": "lstm"}, {"activation": "silu", "skip": "prenorm"}, ["skip"],
        "Do it. --activation has no effect on --model lstm.",
    ),
    "nothing new": (
        {"model": "mlp", "init": "default"}, {"init": "default"}, [], "Do it. This run has all of that already.",
    ),
    "another model's": (
        {"model": "linear"}, {"skip": "prenorm", "init": "default"}, [],
        "Do it. --skip has no effect on --model linear; this run has all the rest.",
    ),
    "the optimizer it had": ({"model": "mlp"}, RATE, [], "Do it. This run has all of that already."),
    "its own choice": ({"model": "mlp", "optimizer": "sgd", "lr": 9.0}, RATE, ["optimizer", "lr"], "Do it."),
    "refused": (
        {"model": "linear"}, {"batch_size": 16}, [],
        "Do it. This run's other options do not go with it: --optimizer linear-newton needs --batch-size 0; got 16.",
    ),
    "another task's": (
        {"task": "tag", "model": "lstm"}, {"class_weights": "balanced"}, [],
        "Do it. --class-weights has no effect on --task tag; this run has all the rest.",
    ),
    "steps in place of epochs": ({"model": "mlp", "epochs": 3.0}, {"steps": 20}, ["steps"], "Do it."),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_repair_is_fitted_to_the_recipe(case):
    given, changes, kept, sentence = CASES[case]
    options, words = repaired(changes, **given)
    assert words == sentence
    assert set(kept) <= options.keys() <= changes.keys()
    assert bool(options) == bool(kept)
