"""The ladder of a certificate: marks where the values are, and a band where the best possible loss lies."""

import pytest

from thalweg.report.ladder import ladder_figure
from thalweg.report.page import Report, render_report
from thalweg.report.panels import section_panel

RUNGS = [
    {"name": "your model", "value": 0.5, "kind": "model"},
    {"name": "polished head", "value": 0.45, "kind": "reached"},
    {"name": "best head", "value": 0.449, "kind": "partial"},
    {"name": "floor <b>", "value": 0.1, "kind": "bound"},
]


def test_marks_and_band():
    figure = ladder_figure(RUNGS, 0.1, 0.45, "training loss (nats)")
    marks = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert marks["your model"] == ([0.5], [0])
    assert marks["nothing is below it"] == ([0.1], [3])
    band = figure.layout.shapes[0]
    assert (band.x0, band.x1) == (0.1, 0.45)
    low, high = figure.layout.xaxis.range
    assert low < 0.1 < 0.5 < high


def test_without_a_bound_there_is_no_band():
    figure = ladder_figure(RUNGS[:2], None, 0.45, "training loss")
    assert [shape.type for shape in figure.layout.shapes] == ["line"]


def test_equal_values_still_have_room():
    figure = ladder_figure([{"name": "your model", "value": 0.0, "kind": "model"}], 0.0, 0.0, "loss")
    low, high = figure.layout.xaxis.range
    assert low < 0.0 < high


def test_an_unknown_kind_is_refused():
    section = {"kind": "ladder", "title": "t", "text": "", "rungs": [{"name": "x", "value": 1.0, "kind": "odd"}]}
    section |= {"low": None, "high": 1.0, "x_label": "", "columns": [], "rows": []}
    with pytest.raises(ValueError, match="unknown kind 'odd'"):
        section_panel(section)


def test_the_page_shows_it_with_its_table():
    section = {
        "kind": "ladder", "title": "How far from the best?", "text": "Not far.", "rungs": RUNGS, "low": 0.1,
        "high": 0.45, "x_label": "training loss", "columns": ["level", "at least"], "rows": [["floor <b>", 0.1]],
    }  # fmt: skip
    report = Report(
        name="r",
        task="classify",
        sentence="",
        status="",
        created="2026-01-01T00:00:00",
        version="0",
        sections=[section],
    )
    page = render_report(report)
    assert "How far from the best?" in page
    assert "floor <b>" not in page
