"""Figures of results: every value is where it belongs, and text stays text."""

import math

import pytest

from thalweg.report import section_figures
from thalweg.report.page import Report, render_report
from thalweg.report.panels import section_panel
from thalweg.report.section_figures import ladder_figure

DATES = ("2024-01-01T00:00:00", "2024-02-01T00:00:00", "2024-03-01T12:00:00")
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
    assert marks["proved lower bound"] == ([0.1], [3])
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
    assert 'class="stacked"' in page  # its sentences are too wide for a column on a telephone
    assert "Evidence for each level" in page
    assert section_panel({**section, "rows": []}).table is None


def test_confusion_figure_is_normalized_by_row_and_keeps_the_counts():
    figure = section_figures.confusion_figure(["a", "b", "c"], [[3, 1, 0], [0, 0, 0], [1, 1, 2]])
    (heat,) = figure.data
    assert [list(row) for row in heat.z] == [[0.75, 0.25, 0.0], [None] * 3, [0.25, 0.25, 0.5]]
    assert [[cell[2] for cell in row] for row in heat.customdata] == [[3, 1, 0], [0, 0, 0], [1, 1, 2]]
    assert heat.customdata[2][0] == ["c", "a", 1]
    assert figure.layout.xaxis.ticktext == figure.layout.yaxis.ticktext == ("a", "b", "c")


def test_labels_that_look_alike_or_like_numbers_are_texts_at_whole_numbers():
    figure = section_figures.confusion_figure(["1", "1", "2024-01-01"], [[1, 0, 0]] * 3)
    assert figure.data[0].x == figure.data[0].y == figure.layout.xaxis.tickvals == (0, 1, 2)
    assert figure.layout.yaxis.ticktext == ("1", "1", "2024-01-01")
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "linear"


def test_many_labels_are_numbered_on_the_columns():
    size = 150
    figure = section_figures.confusion_figure([f"label {i}" for i in range(size)], [[1] * size] * size)
    assert len(figure.layout.yaxis.ticktext) == size
    assert figure.layout.yaxis.ticktext[9] == "label 9  10"
    assert figure.layout.xaxis.ticktext[:2] == ("5", "10")


def test_rare_labels_beyond_the_limit_are_counted_together_without_losing_any():
    labels = [f"l{i}" for i in range(6)]
    counts = [[i + 1 if j == i else 1 for j in range(6)] for i in range(6)]
    kept, joined = section_figures.most_frequent_labels(labels, counts, limit=4)
    assert kept == ["l3", "l4", "l5", "3 rarer labels"]
    assert sum(map(sum, joined)) == sum(map(sum, counts))
    assert joined[0][0] == 4
    assert joined[3][3] == sum(counts[i][j] for i in range(3) for j in range(3))


def test_scatter_draws_the_finite_points_and_the_diagonal():
    figure = section_figures.scatter_figure([1, 2, math.nan, 4], [2, 1, 3, None], "true <b>", "predicted", list("abcd"))
    diagonal, points = figure.data
    assert list(diagonal.x) == list(diagonal.y) == [1, 2]
    assert (list(points.x), list(points.y), list(points.text)) == ([1, 2], [2, 1], ["a", "b"])
    assert figure.layout.xaxis.title.text == "true &lt;b&gt;"


def test_scatter_of_many_points_keeps_those_farthest_from_the_diagonal():
    x = [i / 1000 for i in range(50_000)]
    y = list(x)
    y[123] = 99.0
    points = section_figures.scatter_figure(x, y, "x", "y").data[1]
    assert len(points.x) == section_figures.MAX_POINTS
    assert max(points.y) == 99.0
    assert len(set(points.x)) == len(points.x)


def test_scatter_without_points_is_an_empty_figure():
    assert section_figures.scatter_figure([], [], "x", "y").data[1].x == ()


@pytest.mark.parametrize(
    ("x", "drawn", "kind"),
    [
        ([1, 2, 3], (1.0, 2.0, 3.0), "linear"),
        (["2024-01-01", "20240201", "2024-03-01T12:00Z"], DATES, "date"),
        (["2024-01-01", "x", "2024-03-01"], (0, 1, 2), "linear"),
        (["1", "2", "nan"], (0, 1, 2), "linear"),
        (["<b>", "x", "y"], (0, 1, 2), "linear"),
    ],
)
def test_series_lie_over_numbers_dates_or_names(x, drawn, kind):
    figure = section_figures.series_figure(
        x, {"actual": [1.0, None, 3.0], "forecast": [1.0, 2.0, math.inf]}, "t", "v", x[1]
    )
    actual, forecast = figure.data
    assert actual.x == drawn
    assert actual.y == (1.0, None, 3.0)
    assert forecast.y == (1.0, 2.0, None)
    assert figure.layout.xaxis.type == kind
    assert figure.layout.shapes[0].x0 == drawn[1]


def test_series_of_different_length_are_refused():
    with pytest.raises(ValueError, match="'forecast' has 1 values for 2 x"):
        section_figures.series_figure([1, 2], {"forecast": [1.0]}, "t", "v")


def test_bars_keep_names_values_and_order():
    figure = section_figures.bars_figure(["b", "<i>a</i>"], [0.5, None], "F1")
    assert figure.data[0].x == (0.5, None)
    assert figure.layout.yaxis.ticktext == ("b", "&lt;i&gt;a&lt;/i&gt;")
    with pytest.raises(ValueError, match="2 names for 1 values"):
        section_figures.bars_figure(["a", "b"], [1.0], "F1")


def test_a_band_is_the_area_between_its_ends():
    band = {"name": "95 % interval", "low": [None, 1.0, 2.0, None, 3.0], "high": [None, 4.0, 5.0, 6.0, 7.0]}
    figure = section_figures.series_figure([10, 11, 12, 13, 14], {"actual": [1, 2, 3, 4, 5]}, "t", "y", 11, band)
    area, line = figure.data
    assert (list(area.x), list(area.y)) == ([11, 12, 14, 14, 12, 11], [4, 5, 7, 3, 2, 1])
    assert (area.fill, area.name, line.name) == ("toself", "95 &#37; interval", "actual")
