"""The table of search spaces, and the settings that are tried."""

import math

import pytest
import torch

from thalweg.comparison.results import rate_edge
from thalweg.comparison.spaces import SPACES, Choices, Interval, points, space_of
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.optimizer import build_optimizer, known_defaults


def values(**given):
    return complete(Options(task="classify", source="docstrings", model="mlp", **given)).values()


@pytest.mark.parametrize(
    ("given", "tuned"),
    [
        ({"optimizer": "adamw"}, ["lr", "weight_decay", "betas"]),
        ({"optimizer": "sgd"}, ["lr", "momentum"]),
        ({"optimizer": "pytorch_optimizer.SOAP"}, ["lr"]),
        ({"optimizer": "newton"}, []),
        ({"optimizer": "newton", "line_search": "none"}, ["lr"]),
        ({"optimizer": "lbfgs", "line_search": "wolfe"}, []),
        ({"optimizer": "adam", "line_search": "armijo"}, ["betas"]),
    ],
)
def test_a_line_search_leaves_no_rate_to_tune(given, tuned):
    assert list(space_of(values(**given), 0.01)) == tuned


def test_an_unknown_optimizer_is_tuned_around_its_own_rate():
    assert space_of(values(optimizer="pytorch_optimizer.SOAP"), 3e-3)["lr"] == Interval(3e-4, 3e-2)


@pytest.mark.parametrize("name", SPACES)
def test_every_space_holds_what_the_optimizer_takes(name):
    model, head = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 3)), torch.nn.Linear(3, 2)
    given = Options(task="classify", source="docstrings", model="mlp", optimizer=name)
    recipe = complete(given, known_defaults(given))
    for settings in points(SPACES[name], 6, seed=0):
        own = {key: value for key, value in settings.items() if key in recipe.values()}
        more = {key: value for key, value in settings.items() if key not in own}
        optimizer = build_optimizer(recipe.with_(**own, optimizer_options=more), model, head)
        assert settings.get("lr", optimizer.param_groups[0]["lr"]) == optimizer.param_groups[0]["lr"]


def test_points_are_even_on_a_logarithmic_scale_and_in_range():
    one = Interval(1e-4, 1e-2)
    assert (one.at(0.0), one.at(0.5)) == (1e-4, 1e-3)
    assert Interval(0.0, 4.0, log=False).at(0.25) == 1.0
    assert [Choices(("a", "b")).at(place) for place in (0.0, 0.49, 0.5, 1.0)] == ["a", "a", "b", "b"]
    found = points({"lr": one}, 17, seed=3)
    logs = sorted(math.log10(point["lr"]) for point in found[1:])
    assert [int((log + 4) * 8) for log in logs] == list(range(16))  # one in each sixteenth


def test_more_trials_begin_with_those_of_fewer_and_the_defaults_come_first():
    space = SPACES["adamw"]
    assert points(space, 9, seed=1)[:4] == points(space, 4, seed=1)
    assert points(space, 4, seed=1)[0] == {}
    assert points(space, 4, seed=1) != points(space, 4, seed=2)
    assert points({}, 8, seed=1) == points(space, 0, seed=1) == []


@pytest.mark.parametrize(
    ("rates", "losses", "edge"),
    [
        ([0.01, 0.1, 1.0], [3.0, 2.0, 1.0], "highest"),
        ([0.01, 1.0, 0.1], [1.0, 2.0, 3.0], "lowest"),
        ([0.01, 0.1, 1.0], [2.0, 1.0, None], ""),  # a diverged trial is the edge of what works
        ([0.01], [1.0], ""),
        ([None, None], [1.0, 2.0], ""),
        ([0.01, 0.1], [None, None], ""),
    ],
)
def test_a_winner_at_the_edge_of_what_was_tried_is_flagged(rates, losses, edge):
    trials = [{"lr": lr, "loss": loss, "diverged": loss is None} for lr, loss in zip(rates, losses, strict=True)]
    assert rate_edge(trials, ("loss", "lower")) == edge
