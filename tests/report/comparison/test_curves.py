import math
import statistics

import pytest
from comparison_cases import made

from thalweg.report.comparison.curves import MAX_PLACES, Line, band_of, curves_panel, lines_of
from thalweg.report.comparison.entries import looks, score_of


def panel_of(comparison):
    data = comparison["data"][0]
    (panel,) = curves_panel(data, looks(comparison), score_of(data))
    return panel


def test_a_line_is_straight_between_measurements_and_keeps_its_end():
    line = Line([1.0, 3.0], [4.0, 2.0], has_diverged=False)
    assert [line.at(place) for place in (0.5, 1.0, 2.5, 3.0, 9.0)] == [None, 4.0, 2.5, 2.0, 2.0]
    diverged = Line([1.0, 3.0], [4.0, 2.0], has_diverged=True)
    assert [diverged.at(place) for place in (3.0, 3.1)] == [2.0, math.inf]


def test_a_band_holds_every_run_and_its_middle_is_the_median():
    lines = [Line([0.0, 10.0], [5.0, 1.0 + i], has_diverged=False) for i in range(3)]
    band = band_of([*lines, Line([0.0, 5.0], [5.0, 0.0], has_diverged=False)])
    assert band.places == [0.0, 5.0, 10.0]
    assert band.middle == [5.0, 3.25, 1.5]
    assert band.low == [5.0, 0.0, 0.0]
    assert band.high == [5.0, 4.0, 3.0]


@pytest.mark.parametrize(("num_diverged", "middle"), [(0, 1.0), (1, 1.0), (2, None), (3, None)])
@pytest.mark.parametrize("is_higher_better", [False, True])
def test_runs_that_diverged_are_the_worst_from_there_on(num_diverged, middle, is_higher_better):
    lines = [Line([0.0, 1.0], [1.0, 1.0], has_diverged=i < num_diverged) for i in range(3)]
    band = band_of([*lines, Line([0.0, 2.0], [1.0, 1.0], has_diverged=False)], is_higher_better=is_higher_better)
    assert band.middle == [1.0, 1.0, middle]
    assert band.high == [1.0, 1.0, 1.0]


def test_many_measurements_are_thinned_with_both_ends():
    line = Line([float(i) for i in range(1000)], [float(i) for i in range(1000)], has_diverged=False)
    band = band_of([line])
    assert len(band.places) == MAX_PLACES
    assert band.middle == band.places
    assert (band.places[0], band.places[-1]) == (0.0, 999.0)


def test_points_without_a_score_are_left_out():
    nan, inf = math.nan, math.inf
    curve = {"step": [0, 1, 2, 3, None, 5, 4], "valid_loss": [3.0, None, nan, inf, 1.0, 0.5, 9.0]}
    (line,) = lines_of([{"curve": curve}, {"curve": None}, {}, {"curve": {"step": None}}], "steps", "valid_loss")
    assert (line.places, line.values) == ([0.0, 5.0], [3.0, 0.5])


def test_each_view_draws_the_same_runs_over_another_scale():
    comparison = made()
    panel = panel_of(comparison)
    assert [view.label for view in panel.views] == ["seconds of training", "steps", "gradient evaluations"]
    names = [trace.name for trace in panel.figure.data]
    for view in panel.views:
        assert all(len(values) == len(names) for values in view.traces.values())
    (lbfgs,) = [entrant for entrant in comparison["data"][0]["entrants"] if entrant["name"] == "lbfgs"]
    place = names.index("lbfgs") + 1  # behind its band
    steps, evaluations = (view.traces["x"][place] for view in panel.views[1:])
    assert list(evaluations) == [2.5 * step for step in steps]
    at_end = [seed["curve"]["valid_loss"][-1] for seed in lbfgs["seeds"]]
    assert panel.views[1].traces["y"][place][-1] == statistics.median(at_end)


def test_a_budget_of_steps_is_drawn_over_steps_first():
    panel = panel_of(made(budget={"steps": 1200}))
    assert panel.figure.layout.xaxis.title.text == panel.views[0].label == "steps"


def test_target_and_divergence_are_drawn():
    panel = panel_of(made())
    traces = {trace.name: trace for trace in panel.figure.data}
    assert list(traces["target 0.9"].y) == [0.9, 0.9]
    assert list(traces["a run diverged"].customdata) == ["sgd:momentum=0.9"]
    assert "A run that diverged (cross) counts as the worst from there on" in panel.text
    calm = panel_of(made(names=("adamw", "soap"), target=None))
    assert {trace.name for trace in calm.figure.data} == {"adamw", "soap"}
    assert "diverged" not in calm.text


def test_heads_are_compared_by_the_metric():
    comparison = made(vary="head")
    panel = panel_of(comparison)
    assert panel.title == "How the validation accuracy rises"
    assert panel.text.startswith("Higher is better.")


def test_one_run_each_has_no_band():
    panel = panel_of(made(num_seeds=1))
    assert all(not trace.x for trace in panel.figure.data if trace.fill == "toself")
    assert "Each line is one run." in panel.text


def test_without_curves_there_is_no_panel():
    comparison = made()
    data = comparison["data"][0]
    for entrant in data["entrants"]:
        for seed in entrant["seeds"]:
            seed["curve"] = {"step": [0], "valid_loss": [None]}
    assert curves_panel(data, looks(comparison), score_of(data)) == []
