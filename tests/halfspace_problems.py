"""Drawn problems whose columns have scales from 1e-6 to 1e6 and offsets to 1.7e9, and their answers in integers."""

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from thalweg.certificates.checker.cells import integer_rows
from thalweg.certificates.halfspaces.simplex import widest
from thalweg.certificates.halfspaces.threshold import Gate

OFFSETS = (0.0, 0.0, 1e9, 1.7e9, -0.3)


@st.composite
def features(draw, most=10, columns=3):
    """Points of a small grid (ties, duplicates, collinear ones), each column in a scale of its own; some constant."""
    num, dimension = draw(st.integers(1, most)), draw(st.integers(1, columns))
    points = draw(st.lists(st.integers(-2, 2), min_size=num * dimension, max_size=num * dimension))
    kinds = draw(st.lists(st.sampled_from([1.0, 0.1, 1.0 / 3.0]), min_size=dimension, max_size=dimension))
    scales = draw(st.lists(st.integers(-6, 6), min_size=dimension, max_size=dimension))
    offsets = draw(st.lists(st.sampled_from(OFFSETS), min_size=dimension, max_size=dimension))
    x = np.array(points, float).reshape(num, dimension) * kinds * 10.0 ** np.array(scales) + offsets
    if draw(st.booleans()):
        x[:, -1] = 5.0 if draw(st.booleans()) else 3.0 * x[:, 0]
    return x


@st.composite
def labeled(draw, most=10, columns=3, classes=2):
    """Features and class ids; sometimes a class is missing."""
    x = draw(features(most, columns))
    return x, np.array(draw(st.lists(st.integers(0, classes - 1), min_size=len(x), max_size=len(x))))


def demands(x, labels):
    """For two classes and more: a row for each example and other class, on the scores of all classes."""
    rows, classes = integer_rows(x), np.unique(labels).tolist()
    found = []
    for row, mine in zip(rows, labels, strict=True):
        for other in classes:
            if other != mine:
                vector = [0] * len(classes) * len(row)
                for k, value in enumerate(row):
                    vector[classes.index(mine) * len(row) + k] += value
                    vector[classes.index(other) * len(row) + k] -= value
                found.append(vector)
    return found


def separable_in_integers(x, labels):
    rows = demands(x, labels)
    return not rows or widest(rows, 60.0)[0]


def scores(row, weights, bias):
    """Scores in rational numbers."""
    return [
        sum(Fraction(a) * Fraction(b) for a, b in zip(row, w, strict=True)) + Fraction(float(c))
        for w, c in zip(weights, bias, strict=True)
    ]


def splits(x):
    """All ways in which a threshold unit can answer: a program in integers for each subset of the different points."""
    points, place = np.unique(x + 0.0, axis=0, return_inverse=True)
    rows, found = integer_rows(points), []
    for signs in itertools.product((1, -1), repeat=len(points)):
        if widest([[s * k for k in row] for s, row in zip(signs, rows, strict=True)], 60.0)[0]:
            found.append((np.array(signs) > 0)[place.ravel()])
    return np.array(found)


def fewest(units, labels, gate):
    """The fewest errors over all units and pairs."""
    if gate is Gate.SINGLE:
        return int((units != labels).sum(1).min())
    join = np.logical_and if gate is Gate.AND else np.logical_or
    return min(int((join(a, b) != labels).sum()) for a in units for b in units)
