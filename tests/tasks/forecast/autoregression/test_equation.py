"""Linear forecasts against slow, plain formulas: differences, ridge, several steps, the rolling origin, intervals."""

import itertools

import numpy as np
import pytest

from thalweg.errors import InputError
from thalweg.tasks.forecast.autoregression.candidates import candidates, lag_sets, naive_forms
from thalweg.tasks.forecast.autoregression.equation import Scaled, fit_equation, predicted, ridge
from thalweg.tasks.forecast.autoregression.form import JOINT, OWN, SHARED, Form, listed
from thalweg.tasks.forecast.autoregression.intervals import radii

FORMS = [
    Form(difference=d, seasonal=s, season=4, lags=lags, drift=d + s < 2, equations=equations)
    for (d, s), lags, equations in itertools.product(
        [(0, 0), (1, 0), (0, 1), (1, 1)], [(), (1,), (1, 2, 5)], [JOINT, OWN, SHARED]
    )
    if lags or d + s == 1
]
ids = [f"{f.difference}{f.seasonal}-{listed(f.lags)}-{f.equations}" for f in FORMS]


def series(num=40, columns=2, seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(num, columns)), 0) + 20.0 + np.arange(num)[:, None] % 4


def slow_differences(form, z):
    u = z
    if form.difference:
        u = u[1:] - u[:-1]
    return u[form.season :] - u[: -form.season] if form.seasonal else u


@pytest.mark.parametrize("form", FORMS, ids=ids)
def test_differences_and_the_way_back(form):
    z = series()
    u = form.differences(z)
    assert u == pytest.approx(slow_differences(form, z))
    degree = len(form.polynomial) - 1
    for row in range(degree, len(z)):
        assert form.base(z[:row]) + u[row - degree] == pytest.approx(z[row])


def test_ridge_solves_the_augmented_least_squares():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 5)), rng.normal(size=(30, 2))
    penalties = np.array([1e-6, 0.01, 3.0])
    for found, penalty in zip(ridge(x, y, penalties), penalties, strict=True):
        # ||y - Xw||^2 / (2 n m) + l/2 ||w||^2 is least squares with sqrt(n m l) times the identity below X.
        rows = np.vstack([x, np.sqrt(y.size * penalty) * np.eye(5)])
        assert found == pytest.approx(np.linalg.lstsq(rows, np.vstack([y, np.zeros((5, 2))]), rcond=None)[0])


@pytest.mark.parametrize("form", FORMS, ids=ids)
def test_an_equation_is_what_its_rows_say(form):
    """The features, the fit and forecasts of several steps, by loops over rows and series."""
    z, penalty = series(), 0.02
    scaled = Scaled.fit(form, z)
    weights, bias = fit_equation(scaled, z, np.array([penalty]))
    u = scaled.forward(slow_differences(form, z))
    own = form.equations != JOINT

    def read(u, row, column):
        if not form.lags:
            return [0.0] * {JOINT: 2, OWN: 2, SHARED: 1}[form.equations]
        lagged = [u[row - lag] for lag in form.lags]
        if form.equations == JOINT:
            return list(np.ravel(lagged))
        mine = [values[column] for values in lagged]
        blocks = [[0.0] * len(form.lags) for _ in range(2)]
        blocks[column] = mine
        return mine if form.equations == SHARED else blocks[0] + blocks[1]

    def answer(u, row):
        outputs = [np.array(read(u, row, column)) @ weights[0] + bias[0, 0] for column in range(2)]
        return np.array([outputs[column][0 if own else column] for column in range(2)])

    first = max(form.lags, default=0)
    rows = np.array([read(u, row, column) for row in range(first, len(u)) for column in range(2 if own else 1)])
    targets = u[first:].reshape(-1, 1) if own else u[first:]
    # The gradient of the penalized mean of half the squared errors is zero, by the weights and by the bias.
    residual = rows @ weights[0] + bias[0] - targets
    assert rows.T @ residual / targets.size + penalty * weights[0] == pytest.approx(0.0, abs=1e-12)
    if form.drift:
        assert residual.sum(0) == pytest.approx(0.0, abs=1e-10)

    past = np.stack([z[:30], z[5:35]])
    found = scaled.ahead(lambda features: predicted(features, weights, bias)[0], past, 6)
    for start, window in enumerate(past):
        known = window
        for _ in range(6):
            before = scaled.forward(slow_differences(form, known))
            after = form.base(known) + scaled.inverse(answer(before, len(before)))
            known = np.vstack([known, after])
        assert found[start] == pytest.approx(known[30:])


def test_naive_forms_are_naive():
    z = series()
    last, ago = naive_forms(4)
    for form, expected in ((last, np.repeat(z[-1:], 3, 0)), (ago, z[-4:-1])):
        scaled = Scaled.fit(form, z)
        found = scaled.ahead(lambda features: np.zeros((len(features), 2)), z[None], 3)
        assert form.is_naive
        assert found[0] == pytest.approx(expected)
    assert naive_forms(1) == [Form(season=1)]


def test_names_say_what_it_is():
    assert Form().name == "the last value"
    assert Form(drift=True).name == "the last value with a drift"
    assert Form(difference=0, seasonal=1, season=7).name == "the value a season (7 rows) ago"
    form = Form(log=True, seasonal=1, season=12, lags=(1, 2, 12), equations=OWN)
    assert form.name == (
        "linear autoregression of changes of differences over a season (12 rows) of log values, lags 1-2, 12, each "
        "series by itself"
    )
    assert Form.from_dict(form.to_dict()) == form


def test_logarithms_are_of_positive_numbers():
    form = Form(log=True)
    assert form.values(form.levels(np.array([1.0, 7.0]))) == pytest.approx([1.0, 7.0])
    with pytest.raises(InputError, match="positive numbers only; got -1"):
        form.levels(np.array([2.0, -1.0]))


def test_candidates_fit_the_data():
    values = series(60, 1)
    found = list(candidates(values, 4))
    assert len(set(found)) == len(found)
    assert {form.log for form in found} == {False, True}
    assert {form.log for form in candidates(values - 100.0, 4)} == {False}
    assert all(form.seasonal == 0 for form in candidates(values, 1))
    assert {form.lags for form in candidates(values, 1, lags=5)} == {(1, 2, 3, 4, 5)}
    assert {form.equations for form in candidates(series(), 1)} == {JOINT, OWN, SHARED}
    assert max(max(lags) for lags in lag_sets(12, 15)) == 13


def test_radii_are_conformal_quantiles():
    rng = np.random.default_rng(4)
    errors = rng.normal(size=(2, 99, 1))
    errors[1, 50:] = np.nan
    expected = [np.sort(np.abs(errors[0, :, 0]))[94], np.sort(np.abs(errors[1, :50, 0]))[48]]
    assert radii(errors).ravel() == pytest.approx(expected)


@pytest.mark.parametrize("num", [19, 20, 50, 200])
def test_exchangeable_errors_are_covered(num):
    """The probability that a new value is within the radius is exactly its rank over n + 1, at least 95 %."""
    draws = np.random.default_rng(num).normal(size=(4000, num + 1))
    radius = radii(draws[:, :num].T[None]).ravel()  # each draw is a series of its own
    rank = np.ceil(0.95 * (num + 1) - 1e-9)
    assert (np.abs(draws[:, num]) <= radius).mean() == pytest.approx(
        rank / (num + 1), abs=4 * np.sqrt(0.05 * 0.95 / 4000)
    )
