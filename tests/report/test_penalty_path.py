"""The figure of a choice by the penalty: the points where they belong, one ring, and no place for wrong data."""

import pytest

from thalweg.report.panels import section_panel
from thalweg.report.penalty_path import path_figure

LINES = {"linear": [[1e-4, 0.9, 0.01], [1e-2, 0.8, 0.02], [1e-6, 0.85, None]], "bag": [[1e-3, 0.7], [1e-5, None]]}


def test_each_model_is_a_line_over_growing_penalties_and_the_chosen_one_has_a_ring():
    figure = path_figure(LINES, ["linear", 1e-4], "penalty", "accuracy")
    linear, bag, chosen = figure.data
    assert (linear.x, linear.y) == ((1e-6, 1e-4, 1e-2), (0.85, 0.9, 0.8))
    assert linear.error_y.array == (0.0, 0.01, 0.02)
    assert (bag.x, bag.y, bag.error_y.array) == ((1e-5, 1e-3), (None, 0.7), None)
    assert (chosen.name, chosen.x, chosen.y) == ("chosen", (1e-4,), (0.9,))
    assert figure.layout.shapes[0].x0 == 1e-4
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.ticktext == ("1 × 10⁻⁶", "1 × 10⁻⁵", "0.0001", "0.001", "0.01")


def test_no_penalty_stands_left_of_all_others():
    figure = path_figure({"linear": [[0, 0.5], [1e-3, 0.6], [1e-1, 0.4]]}, ["linear", 0], "penalty", "r")
    assert figure.data[0].x == pytest.approx((1e-4, 1e-3, 1e-1))
    assert figure.data[1].x == pytest.approx((1e-4,))
    assert figure.layout.xaxis.ticktext[0] == "none"
    assert figure.data[0].customdata[0] == "0"


@pytest.mark.parametrize("lines", [{}, {"linear": []}, {"linear": [[0, 0.5]]}, {"a": [[1.0, 0.5]]}])
def test_few_or_no_points_are_no_error(lines):
    figure = path_figure(lines, None, "penalty", "accuracy")
    assert [len(trace.x) for trace in figure.data] == [len(line) for line in lines.values()]
    assert figure.to_json()


@pytest.mark.parametrize(
    ("lines", "chosen", "message"),
    [
        ({"a": [[-1.0, 0.5]]}, None, r"lines\['a'\] has the point \[-1.0, 0.5\]; expected a penalty of at least 0"),
        ({"a": [[1.0]]}, None, "expected a penalty"),
        ({"a": [["1", 0.5]]}, None, "expected a penalty"),
        ({"a": [[1.0, 0.5]]}, ["a", 2.0], r"the chosen point \['a', 2.0\] is on none of the lines a"),
        ({"a": [[1.0, 0.5]]}, ["b", 1.0], r"the chosen point \['b', 1.0\]"),
    ],
)
def test_wrong_points_are_refused(lines, chosen, message):
    section = {"kind": "path", "title": "t", "text": "", "lines": lines, "chosen": chosen, "x_label": "", "y_label": ""}
    with pytest.raises(ValueError, match=message):
        section_panel(section)
