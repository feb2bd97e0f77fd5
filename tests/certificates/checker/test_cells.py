"""Counts and lists of cells in integers: against Cover, against lists in float64, in every scale of columns."""

from fractions import Fraction

import numpy as np
import pytest

from thalweg.certificates.checker.cells import (
    cells,
    count_cells,
    distinct,
    integer_rows,
    integers,
    most_cells,
    sides,
)
from thalweg.certificates.halfspaces.cells import arrange


@pytest.mark.parametrize(
    ("num", "dimension", "count"), [(7, 1, 14), (150, 2, 22_352), (60, 3, 68_560), (30, 4, 55_682)]
)
def test_general_position_has_covers_number(num, dimension, count):
    rows = integer_rows(np.random.default_rng(0).normal(size=(num, dimension)))
    assert count_cells(rows) == most_cells(num, dimension + 1) == count


def test_small_cases_by_hand():
    assert count_cells([]) == 1
    assert count_cells([(0, 0)]) == 1
    assert count_cells([(2, 0, 0), (-3, 0, 0)]) == 2
    assert count_cells([(1, 0, 0), (0, 1, 0), (1, 1, 0)]) == 6  # three planes through one line
    assert count_cells([(1, 0, 0), (0, 1, 0), (1, 1, 1)]) == 8


@pytest.mark.parametrize("seed", range(20))
def test_lists_are_complete_and_do_not_depend_on_scales(seed):
    rng = np.random.default_rng(seed)
    num, dimension = int(rng.integers(1, 9)), int(rng.integers(1, 5))
    x = rng.integers(-1, 2, size=(num, dimension)).astype(float)
    normals = distinct(integer_rows(x))
    found = cells(normals)
    assert len(np.unique(found, axis=0)) == len(found) == count_cells(normals)
    rows = np.array(normals, float)
    by_float = arrange(rows)
    assert {tuple(s) for s in np.sign(by_float.inside @ rows.T).astype(int).tolist()} == {
        tuple(s) for s in found.tolist()
    }
    scaled = np.ldexp(x, rng.integers(-20, 20, dimension)) * 3.0 + np.ldexp(1.0, rng.integers(0, 31, dimension))
    assert count_cells(integer_rows(scaled)) == len(found)


def test_two_steps_of_the_last_digit_are_two_points():
    x = np.nextafter(0.1, 1.0) * np.array([[1.0], [1.0], [2.0]])
    assert count_cells(integer_rows(x)) == 4
    x[1] = 0.1
    assert count_cells(integer_rows(x)) == 6


@pytest.mark.parametrize("column", [[0.0, -0.0], [1e308, 5e-324], [-0.1, 0.3, 1e22]])
def test_integers_are_exact(column):
    whole, exponent = integers(np.array(column))
    assert [Fraction(k) * Fraction(2) ** exponent for k in whole] == [Fraction(value) for value in column]


def test_sides_are_exact():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(50, 3)), rng.integers(-2, 3, size=(50, 3)) * [1e-6, 1.0, 1e9]])
    for weight, bias in [(rng.normal(size=3), 0.3), (np.array([1e6, -1.0, 1e-9]), 0.0), (np.zeros(3), 0.0)]:
        exact = [sum(Fraction(a) * Fraction(b) for a, b in zip(row, weight, strict=True)) + Fraction(bias) for row in x]
        assert sides(x, weight, bias).tolist() == [(value > 0) - (value < 0) for value in exact]
    huge = np.array([[1e308, -1e308, 1e308]])
    assert sides(huge, np.array([1e8, 1e8, 0.0]), -5e-324).tolist() == [-1]
