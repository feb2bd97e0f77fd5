"""Scaling of numeric columns against scikit-learn, and the way back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from thalweg.data.arrays.standardize import KINDS, Standardizer
from thalweg.errors import InputError

VALUES = np.random.default_rng(0).normal(size=(50, 4)) * [1.0, 1e-8, 1e6, 3.0] + [0.0, 5.0, -1e6, 1e9]


def test_standard_scaling_is_that_of_scikit_learn():
    np.testing.assert_allclose(
        Standardizer.fit(VALUES).forward(VALUES), StandardScaler().fit_transform(VALUES), rtol=1e-9, atol=1e-6
    )


def test_range_scaling_is_that_of_scikit_learn():
    for low, high in [(-1.0, 1.0), (0.0, 1.0), (2.0, 10.0)]:
        scaled = Standardizer.fit(VALUES, "range", low=low, high=high).forward(VALUES)
        np.testing.assert_allclose(scaled, MinMaxScaler((low, high)).fit_transform(VALUES), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(scaled.min(axis=0), low, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(scaled.max(axis=0), high, rtol=1e-6)


NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=NUMBERS), st.sampled_from(KINDS))
def test_the_way_back_leads_back(values, kind):
    scaling = Standardizer.fit(values, kind)
    spread = np.abs(values).max() + 1.0
    np.testing.assert_allclose(scaling.inverse(scaling.forward(values)), values, rtol=1e-12, atol=1e-12 * spread)
    again = Standardizer.from_dict(json.loads(json.dumps(scaling.to_dict())))
    np.testing.assert_array_equal(again.forward(values), scaling.forward(values))


def test_a_constant_column_is_only_shifted():
    for kind, expected in [("standard", 0.0), ("range", 3.0), ("none", 7.0)]:
        values = np.array([[7.0, 1.0], [7.0, 2.0]])
        scaling = Standardizer.fit(values, kind, low=1.0, high=5.0)
        np.testing.assert_array_equal(scaling.forward(values)[:, 0], expected)
        assert scaling.forward(np.array([8.0, 1.0]))[0] == expected + 1.0
        np.testing.assert_array_equal(scaling.inverse(scaling.forward(values)), values)


def test_a_constant_that_sums_inexactly_is_constant():
    values = np.full((10, 1), 0.1)
    np.testing.assert_array_equal(Standardizer.fit(values).forward(values), 0.0)


@pytest.mark.parametrize("kind", ["standard", "range"])
def test_numbers_near_the_limits_of_float64_do_not_overflow(kind):
    values = np.array([[1.7e308, 1e-290], [-1.7e308, -1e-290]])
    np.testing.assert_allclose(Standardizer.fit(values, kind).forward(values / 1), [[1, 1], [-1, -1]], rtol=1e-12)


def test_more_dimensions_and_one_column_are_taken():
    scaling = Standardizer.fit(np.array([1.0, 3.0]))
    np.testing.assert_array_equal(scaling.forward(np.ones((2, 5, 1))), -np.ones((2, 5, 1)))
    assert scaling.forward(np.float32([[1.0]])).dtype == np.float64


def test_numbers_that_are_none_are_refused_by_their_place():
    for bad in [np.nan, np.inf]:
        values = np.ones((3, 2))
        values[1, 1] = bad
        with pytest.raises(InputError, match=f"finite numbers, got {bad} in row 2, column 2"):
            Standardizer.fit(values)


def test_what_cannot_be_fitted_is_refused():
    for arguments, error, match in [
        ((np.ones((2, 2)), "minmax"), ValueError, "must be one of standard, range, none; got 'minmax'"),
        ((np.ones((0, 2)),), InputError, r"Expected rows of numbers.*\(0, 2\)"),
        ((np.ones((2, 2, 2)),), InputError, r"Expected rows of numbers.*\(2, 2, 2\)"),
    ]:
        with pytest.raises(error, match=match):
            Standardizer.fit(*arguments)


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match=r"low < high; got 1\.0 and 1\.0"):
        Standardizer.fit(np.ones((2, 1)), "range", low=1.0, high=1.0)


def test_a_damaged_saved_form_is_refused():
    for saved in [
        {},
        {"shift": [1.0]},
        {"shift": ["x"], "scale": [1.0]},
        {"shift": [1.0], "scale": [0.0]},
        {"shift": 1, "scale": 2},
    ]:
        with pytest.raises(InputError, match="Expected a saved scaling"):
            Standardizer.from_dict(saved)
