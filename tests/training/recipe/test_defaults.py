"""Defaults that follow from other options."""

import pytest

from thalweg.training.recipe import defaults


@pytest.mark.parametrize(
    ("optimizer", "given", "found"), [("newton-cg", "", "armijo"), ("adamw", "", ""), ("adamw", "armijo", "armijo")]
)
def test_a_method_of_the_package_searches_its_steps(optimizer, given, found):
    values = {"optimizer": optimizer, "line_search": given}
    assert defaults.line_search(values) == found


def test_a_line_search_needs_no_schedule_and_no_warmup():
    searched = {"line_search": "armijo", "schedule": "cosine", "average": "", "warmup": 0.1}
    plain = {**searched, "line_search": ""}
    assert (defaults.schedule(searched), defaults.warmup(searched)) == ("constant", 0.0)
    assert (defaults.schedule(plain), defaults.warmup(plain)) == ("cosine", 0.1)


def test_only_trained_vectors_are_tied():
    assert defaults.tie({"tie": True, "head": "softmax", "targets": "random"})
    assert not defaults.tie({"tie": True, "head": "vmf", "targets": "random"})


def test_what_was_given_is_not_chosen():
    assert [defaults.select(given) for given in ({"l2": 0.1}, {"model": "bag"}, {})] == ["none", "penalty", "model"]
