from comparison_cases import BUDGET, made

from thalweg.report.comparison.entries import looks, score_of
from thalweg.report.comparison.targets import targets_panel


def panel_of(comparison):
    data = comparison["data"][0]
    (panel,) = targets_panel(data, looks(comparison), score_of(data))
    return panel


def rows_of(panel):
    return [label.split("<br>") for label in panel.figure.layout.yaxis.ticktext]


def with_times(*times, **changes):
    """A comparison of one entrant, whose runs take these times to the target."""
    comparison = made(names=("adamw",), num_seeds=len(times), **changes)
    for seed, time in zip(comparison["data"][0]["entrants"][0]["seeds"], times, strict=True):
        seed |= {"seconds": 59.0, "seconds_to_target": time, "steps_to_target": None if time is None else 10 * time}
    return comparison


def test_bars_are_medians_from_the_slowest_to_the_fastest():
    panel = panel_of(made())
    bars, _ = panel.figure.data
    assert rows_of(panel)[0] == ["sgd:momentum=0.9", "not reached in 60 s"]
    assert [name for name, _ in rows_of(panel)] == ["sgd:momentum=0.9", "adamw", "lbfgs", "soap"]
    assert list(bars.x) == sorted(bars.x, reverse=True)
    assert bars.x[0] == BUDGET
    assert list(bars.marker.pattern.shape) == ["/", "", "", ""]


def test_a_run_that_never_gets_there_counts_as_the_slowest():
    cases = {
        (20.0, 10.0, 30.0): (20.0, "20 s"),
        (20.0, 10.0, None): (20.0, "20 s, 2 of 3 runs"),
        (None, 10.0, None): (BUDGET, "over 60 s, 1 of 3 runs"),
        (None, None): (BUDGET, "not reached in 60 s"),
        (None, 12.0): (BUDGET, "over 60 s, 1 of 2 runs"),
    }
    for times, (length, words) in cases.items():
        panel = panel_of(with_times(*times))
        assert panel.figure.data[0].x == (length,)
        assert rows_of(panel) == [["adamw", words]]


def test_marks_tell_how_each_run_ended():
    comparison = with_times(20.0, None, None)
    comparison["data"][0]["entrants"][0]["seeds"][2] |= {"diverged": True, "seconds": 3.25}
    panel = panel_of(comparison)
    _, marks = panel.figure.data
    assert list(marks.marker.symbol) == ["circle", "triangle-right-open", "x"]
    assert list(marks.x) == [20.0, 59.0, 3.25]
    assert list(marks.customdata) == [
        "seed 0: reached after 20 s",
        "seed 1: not reached in 59 s",
        "seed 2: diverged after 3.25 s",
    ]
    assert "A triangle is a run that had not reached the target" in panel.text
    assert "triangle" not in panel_of(with_times(20.0, 30.0)).text


def test_views_count_steps_and_evaluations():
    panel = panel_of(with_times(20.0, 10.0, 30.0))
    assert [view.label for view in panel.views] == ["seconds of training", "steps", "gradient evaluations"]
    assert panel.views[1].traces["x"] == [[200.0], [200.0, 100.0, 300.0]]
    assert panel.views[1].layout["yaxis.ticktext"] == ["adamw<br>200 steps"]


def test_each_view_has_the_order_of_its_own():
    comparison = made()
    panel = panel_of(comparison)
    looked = looks(comparison)
    for view in panel.views:
        names = [label.split("<br>")[0] for label in view.layout["yaxis.ticktext"]]
        assert view.traces["marker.color"][0] == [looked[name].color for name in names]
        assert view.traces["x"][0][1:] == sorted(view.traces["x"][0][1:], reverse=True)
    assert [label.split("<br>")[0] for label in panel.views[2].layout["yaxis.ticktext"]][1] == "lbfgs"


def test_without_a_target_there_is_no_panel():
    comparison = made(target=None)
    data = comparison["data"][0]
    assert targets_panel(data, looks(comparison), score_of(data)) == []
    empty = made(num_seeds=0)
    assert targets_panel(empty["data"][0], looks(empty), score_of(empty["data"][0])) == []
