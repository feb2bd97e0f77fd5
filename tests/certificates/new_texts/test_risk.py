"""PAC-Bayes: the errors of drawn weights against drawing them, the bound against mpmath and on made-up data."""

import mpmath
import numpy as np
import pytest
from scipy.special import ndtr

from thalweg.certificates.new_texts.risk import CELLS, gaussian_bound, gibbs_errors, pac_bayes_bound
from thalweg.certificates.new_texts.shares import kl


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_errors_of_drawn_weights_against_drawing(num_classes):
    rng = np.random.default_rng(num_classes)
    z, labels = rng.normal(size=(12, num_classes)), rng.integers(0, num_classes, 12)
    noise = rng.uniform(0.3, 2.0, 12)
    drawn = z[:, None] + noise[:, None, None] * rng.normal(size=(12, 40_000, num_classes))
    expected = (drawn.argmax(2) != labels[:, None]).mean(1)
    found = gibbs_errors(z, labels, noise)
    assert (found >= expected - 4 * 0.5 / 200).all()  # never below, but for the error of drawing
    assert (found <= expected + 1 / CELLS + 4 * 0.5 / 200).all()


def test_errors_are_rounded_up():
    """The exact chance is an integral; a cell is at most 1 / CELLS of it."""
    z, labels = np.array([[1.0, 0.2, -0.5], [3.0, 0.0, 0.0]]), np.array([0, 2])
    found = gibbs_errors(z, labels, np.array([0.7, 0.1]))
    for row, label, noise, error in zip(z, labels, (0.7, 0.1), found, strict=True):
        lead = [(float(row[label]) - float(row[k])) / noise for k in range(3) if k != label]
        right = mpmath.quad(
            lambda g, lead=lead: mpmath.npdf(g) * mpmath.ncdf(lead[0] + g) * mpmath.ncdf(lead[1] + g), [-9, -3, 0, 3, 9]
        )
        assert float(1 - right) <= error <= float(1 - right) + 1 / CELLS
    assert gibbs_errors(z[:, :2], np.array([0, 1]), np.ones(2))[0] == pytest.approx(
        float(mpmath.ncdf(-0.8 / mpmath.sqrt(2)))
    )


@pytest.mark.parametrize(("gibbs", "divergence", "examples"), [(0.0, 0.0, 8), (0.1, 5.0, 2000), (0.3, 800.0, 3000)])
def test_bound_solves_the_inequality(gibbs, divergence, examples):
    found = pac_bayes_bound(gibbs, divergence, examples, 0.05)
    budget = (divergence + float(mpmath.log(2 * mpmath.sqrt(examples) / 0.05))) / examples
    assert kl(gibbs, found) == pytest.approx(budget, rel=1e-9)
    assert gibbs < found < 1.0


def test_bound_holds_where_it_must():
    """400 samples of 60 examples, of whose signs 80 % are right: weights that are drawn have a known error."""
    rng = np.random.default_rng(0)
    size, failures = 60, 0
    for _ in range(400):
        labels = rng.integers(0, 2, size)
        x = (2 * labels - 1) * np.where(rng.random(size) < 0.8, 1.0, -1.0)
        prior, scale = np.stack([-x, x], 1), rng.uniform(0.5, 2.0)
        found = gaussian_bound(prior, scale * prior, labels, np.ones(size), 2 * (scale - 1) ** 2, [0.3, 1.0])
        lead = 2.0 * (1.0 + found.step * (scale - 1.0))
        flipped = float(ndtr(-lead / (2**0.5 * found.noise)))
        failures += found.bound < 0.2 * (1 - flipped) + 0.8 * flipped
    assert failures <= 0.05 * 400


def test_one_step_and_unseen_classes():
    z = np.array([[2.0, 0.0], [0.0, 2.0]] * 50)
    labels, lengths = np.array([0, 1] * 50), np.ones(100)
    plain = gaussian_bound(z, z, labels, lengths, 1.0, [0.5, 1.0])
    assert plain.step == 0.125  # the same predictions cost least there
    assert gaussian_bound(z, z, labels, lengths, 1.0, [0.5, 1.0], steps=(1.0,)).bound > plain.bound
    more = gaussian_bound(z, z, labels, lengths, 1.0, [0.5, 1.0], unseen=20)
    assert more.gibbs == pytest.approx((plain.gibbs * 100 + 20) / 120, abs=0.01)
    assert more.bound > 20 / 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 1.0, 7, 0.05), "examples=...\\) must be at least 8; got 7"),
        ((0.1, -1.0, 70, 0.05), "divergence=...\\) must be at least 0"),
        ((0.1, 1.0, 70, 0.0), "chance=...\\) must lie in \\(0, 1\\)"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        pac_bayes_bound(*arguments)
