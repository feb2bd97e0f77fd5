"""The order in which penalties are tried, and the rule by which validation examples choose."""

import itertools
import math

import numpy as np
import pytest

from thalweg.training.session.penalties import FIRST, STEP, Judged, Path, choose, is_as_accurate


def judged(loss, right=None, model="linear", l2=1.0):
    marks = None if right is None else np.array([mark == "+" for mark in right])
    return Judged(model, l2, loss, np.full(1 if right is None else len(right), loss), marks)


def exact_is_as_accurate(point, other):
    """Brute force over the examples, in whole numbers: (b - c - 1)^2 <= b + c unless b - c - 1 <= 0."""
    lost = sum(b and not a for a, b in zip(point, other, strict=True))
    won = sum(a and not b for a, b in zip(point, other, strict=True))
    return lost - won - 1 <= 0 or (lost - won - 1) ** 2 <= lost + won


def test_the_comparison_is_mcnemars_with_its_correction():
    for point, other in itertools.product(itertools.product([False, True], repeat=5), repeat=2):
        first, second = (Judged("m", 1.0, 0.0, np.zeros(5), np.array(marks)) for marks in (point, other))
        assert is_as_accurate(first, second) == exact_is_as_accurate(point, other)


CHOICES = [
    # losses, what was right, which is chosen
    ("the lowest loss where none is right or wrong", [3.0, 1.0, 2.0], [None, None, None], 1),
    ("the lowest loss among equally accurate ones", [3.0, 2.0, 1.0], ["++--", "+-+-", "--++"], 2),
    ("one example more is chance", [1.0, 2.0], ["+++-", "++++"], 0),
    ("many more are not", [1.0, 2.0], ["-" * 9 + "+", "+" * 10], 1),
    ("the first of equals", [1.0, 1.0], ["++", "++"], 0),
    ("a single one", [1.0], ["-"], 0),
    ("a loss that is infinite is never chosen", [math.inf, 5.0], ["++", "++"], 1),
]


@pytest.mark.parametrize(("losses", "right", "chosen"), [case[1:] for case in CHOICES], ids=[c[0] for c in CHOICES])
def test_choices(losses, right, chosen):
    assert choose([judged(loss, marks) for loss, marks in zip(losses, right, strict=True)]) == chosen


def followed(losses):
    """Return the strengths of a path whose losses are a function of the logarithm of the strength."""
    path = Path()
    for strength in path:
        path.take(judged(losses(math.log10(strength)), l2=strength))
    return path.tried


def test_a_path_goes_on_while_it_gets_better_and_two_points_further():
    tried = followed(lambda power: 1.0 + abs(power + 1.0))  # the best is at 0.1
    assert np.allclose(tried, [1.0, STEP**-1, STEP**-2, STEP**-3, STEP**-4])


def test_stronger_ones_are_tried_where_the_first_is_the_best():
    tried = followed(lambda power: 1.0 + abs(power - 1.0))  # the best is at 10
    assert np.allclose(tried, [1.0, STEP**-1, STEP**-2, STEP, STEP**2, STEP**3, STEP**4])


def test_a_path_ends_at_the_weakest_and_at_the_strongest():
    assert followed(lambda power: 2.0 + 0.5 * power)[-1] == pytest.approx(1e-3)
    assert followed(lambda power: 3.0 - power)[-1] == pytest.approx(1e2)


def test_accuracy_that_rises_beyond_chance_is_progress():
    path = Path()
    right = {0: 10, 1: 30, 2: 50, 3: 50, 4: 50}
    for strength in path:
        place = round(2.0 * math.log10(FIRST / strength))
        marks = "+" * right.get(place, 50) + "-" * (60 - right.get(place, 50))
        path.take(judged(1.0, marks))
    assert len(path.tried) == 5  # two after the last rise
