import math

import pytest

from thalweg.optim.backtracking import Interpolation, backtrack, halve, sufficient_decrease


def test_steps_are_halved_until_one_is_accepted():
    tried = []
    found = backtrack(lambda t: tried.append(t) or t * t, lambda t, value: value <= 0.1, 1.0)
    assert tried == [1.0, 0.5, 0.25]
    assert (found.step, found.value, found.num_trials) == (0.25, 0.0625, 3)


def test_it_gives_up_after_the_trials_allowed_or_where_a_step_is_hopeless():
    def never(t, value):
        return False

    found = backtrack(halve_nothing, never, 1.0, max_trials=4)
    assert (found.step, found.value, found.num_trials) == (1 / 16, None, 4)
    found = backtrack(halve_nothing, never, 1.0, hopeless=lambda t: t < 0.2)
    assert (found.step, found.value, found.num_trials) == (0.125, None, 3)


def halve_nothing(t: float) -> float:
    return t


@pytest.mark.parametrize(
    ("decrease", "predicted", "enough"),
    [(1e-4, 1.0, True), (0.9e-4, 1.0, False), (-1.0, 1.0, False), (math.nan, 1.0, False), (0.0, 0.0, True)],
)
def test_a_decrease_is_sufficient_from_its_fraction_on(decrease, predicted, enough):
    assert sufficient_decrease(decrease, predicted) is enough


def test_interpolation_finds_the_minimum_of_a_parabola_and_of_a_cubic():
    parabola = Interpolation(1.0, -2.0)  # 1 - 2 t + 5 t^2, least at 0.2
    assert parabola(1.0, 4.0) == pytest.approx(0.2)

    def cubic(t: float) -> float:  # least at 0.2
        return 1.0 - t * 1.2 + 2.4 * t**2 + 2.0 * t**3

    search = Interpolation(1.0, -1.2)
    search(1.0, cubic(1.0))
    assert search(0.5, cubic(0.5)) == pytest.approx(0.2)


@pytest.mark.parametrize(("value", "expected"), [(math.inf, 0.2), (math.nan, 0.2), (0.0, 0.5), (1e9, 0.1)])
def test_interpolation_stays_within_a_tenth_and_a_half(value, expected):
    assert Interpolation(1.0, -1e-3)(1.0, value) == pytest.approx(expected)
    assert halve(1.0, value) == 0.5
