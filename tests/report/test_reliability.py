"""The figure of calibration: the error against its definition example by example, and what is drawn."""

import numpy as np
import pytest

from thalweg.report.calibration import calibration_error
from thalweg.report.panels import section_panel
from thalweg.report.reliability import reliability_figure


def binned(probability, right, num_bins):
    bins = np.minimum((probability * num_bins).astype(int), num_bins - 1)
    parts = [bins == b for b in range(num_bins)]
    means = [float(probability[part].mean()) if part.any() else None for part in parts]
    shares = [float(right[part].mean()) if part.any() else None for part in parts]
    return means, shares, [int(part.sum()) for part in parts]


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_the_error_is_that_of_its_definition(num_bins):
    draw = np.random.default_rng(0)
    probability = draw.uniform(0.31, 0.99, 500)
    right = draw.uniform(size=500) < probability**2
    error = calibration_error(*binned(probability, right, num_bins))
    excess = [0.0] * num_bins
    for p, hit in zip(probability.tolist(), right.tolist(), strict=True):
        excess[int(p * num_bins)] += hit - p
    assert error == pytest.approx(sum(map(abs, excess)) / 500, abs=1e-12)


def test_nothing_counted_has_no_error():
    assert calibration_error([None, None], [None, None], [0, 0]) is None
    assert calibration_error([], [], []) is None
    reliability_figure([], [], []).to_json()


def test_empty_bins_are_left_out_of_the_line_and_counted_as_zero():
    figure = reliability_figure([0.1, None, 0.9], [0.0, None, 0.8], [2, 0, 1500], [[0.0, 0.4], None, [0.7, 0.9]])
    diagonal, line, bars = figure.data
    assert diagonal.x == diagonal.y == (0, 1)
    assert (line.x, line.y, line.customdata) == ((0.1, 0.9), (0.0, 0.8), ("2", "1,500"))
    assert line.error_y.array == pytest.approx((0.4, 0.1))
    assert line.error_y.arrayminus == pytest.approx((0.0, 0.1))
    assert (bars.x, bars.y) == (pytest.approx((1 / 6, 0.5, 5 / 6)), (2, 0, 1500))


def test_the_panel_says_the_error_and_refuses_lists_of_different_lengths():
    section = {
        "kind": "reliability",
        "title": "t",
        "text": "Read it.",
        "confidence": [0.5, 0.9],
        "accuracy": [0.4, 1.0],
    }
    panel = section_panel(section | {"counts": [1, 3]})
    assert panel.text == "Read it. Expected calibration error: 0.1, over 2 bins of equal width."
    with pytest.raises(ValueError, match="shorter"):
        section_panel(section | {"counts": [1]})
