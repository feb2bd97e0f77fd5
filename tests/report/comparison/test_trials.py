import math

import pytest
from comparison_cases import made

from thalweg.report.comparison.entries import looks, score_of
from thalweg.report.comparison.trials import rate_of, rates_panel, settings_text, tunability_panel
from thalweg.report.comparison.tuning import expected_best


def with_trials(trials, **changes):
    """A comparison of one entrant with trials of these rates and losses."""
    comparison = made(names=("adamw",), **changes)
    entrant = comparison["data"][0]["entrants"][0]
    entrant["trials"] = [
        {"number": i, "settings": {"lr": rate}, "loss": loss, "metric": loss, "diverged": loss is None}
        for i, (rate, loss) in enumerate(trials)
    ]
    entrant["winner"] = {"lr": trials[0][0]} if trials else {}
    return comparison


def panels_of(comparison, make):
    data = comparison["data"][0]
    return make(data, looks(comparison), score_of(data))


def test_points_are_trials_in_order_of_their_rates_and_the_chosen_one_has_a_ring():
    (panel,) = panels_of(with_trials([(0.01, 1.0), (0.1, 2.0), (0.001, 3.0)]), rates_panel)
    line, points, ring = panel.figure.data
    assert list(points.x) == [0.001, 0.01, 0.1]
    assert list(points.y) == list(line.y) == [3.0, 1.0, 2.0]
    assert (list(ring.x), list(ring.y)) == ([0.01], [1.0])
    assert panel.figure.layout.xaxis.type == "log"
    assert "diverged" not in panel.text


def test_diverged_trials_are_crosses_at_the_worse_edge():
    (panel,) = panels_of(with_trials([(0.01, 1.0), (0.1, 2.0), (1.0, None), (2.0, math.nan)]), rates_panel)
    line, points, _ = panel.figure.data
    low, high = panel.figure.layout.yaxis.range
    assert list(points.marker.symbol) == ["circle", "circle", "x", "x"]
    assert 2.0 < points.y[2] == points.y[3] < high
    assert low < 1.0
    assert list(line.y) == [1.0, 2.0, None, None]
    assert "1 trial diverged: drawn as a cross at the upper edge" in panel.text  # NaN is not called diverged
    (turned,) = panels_of(with_trials([(0.01, 0.9), (0.1, 0.8), (1.0, None)], scored_by="metric"), rates_panel)
    low, high = turned.figure.layout.yaxis.range
    assert low < turned.figure.data[1].y[2] < 0.8
    assert "at the lower edge" in turned.text


def test_losses_of_many_magnitudes_are_drawn_on_a_logarithmic_axis():
    (panel,) = panels_of(with_trials([(0.01, 0.01), (0.1, 2.0), (1.0, None)]), rates_panel)
    axis = panel.figure.layout.yaxis
    assert axis.type == "log"
    low, high = (10**end for end in axis.range)
    assert low < 0.01 < 2.0 < panel.figure.data[1].y[2] < high


def test_the_share_of_good_rates_is_told():
    (panel,) = panels_of(with_trials([(0.01, 1.0), (0.1, 1.0), (1.0, 1.1)]), rates_panel)
    assert "within 5 % of the entrant's own best: adamw 75%." in panel.text


def test_rates_are_found_where_they_stand():
    assert rate_of({"lr": 0.1, "settings": {"lr": 0.2}}) == 0.1
    assert rate_of({"settings": {"lr": 0.2}}) == 0.2
    assert [rate_of(trial) for trial in ({}, {"settings": None}, {"lr": 0.0}, {"lr": "auto"}, {"lr": math.nan})] == [
        None
    ] * 5


@pytest.mark.parametrize("trials", [[], [(0.1, 1.0)], [(0.1, None), (0.2, None)]])
def test_without_rates_to_compare_there_is_no_panel(trials):
    assert panels_of(with_trials(trials), rates_panel) == []


def test_expected_scores_are_those_of_the_formula():
    losses = [3.0, 1.0, 2.0, None]
    (panel,) = panels_of(with_trials([(0.1, loss) for loss in losses]), tunability_panel)
    band, line = panel.figure.data
    assert list(line.y) == [None, *expected_best(losses)[1:]]
    assert list(line.x) == [1, 2, 3, 4]
    assert list(band.x) == [1, 2, 3, 4, 4, 3, 2, 1]
    assert "Trials that diverged count: adamw 1 of 4." in panel.text


def test_expected_metrics_are_turned_back():
    (panel,) = panels_of(with_trials([(0.1, 0.5), (0.2, 0.7)], scored_by="metric"), tunability_panel)
    assert list(panel.figure.data[1].y) == pytest.approx([0.6, 0.7])
    assert "Who starts high needs little tuning" in panel.text


@pytest.mark.parametrize("trials", [[], [(0.1, 1.0)], [(0.1, None), (0.2, None)]])
def test_without_trials_to_draw_from_there_is_no_panel(trials):
    assert panels_of(with_trials(trials), tunability_panel) == []


def test_settings_are_written_as_they_are_typed():
    assert (
        settings_text({"lr": 0.0123456, "betas": [0.9, 0.99], "amsgrad": True})
        == "lr=0.01235, betas=[0.9, 0.99], amsgrad=True"
    )
    assert settings_text({}) == "its defaults"
