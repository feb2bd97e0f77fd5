from comparison_cases import made

from thalweg.report.comparison.entries import looks, score_of
from thalweg.report.comparison.tables import equal_panel, front_runner, pairs_panel, rows_panel, tuned_panel


def cells(panel):
    return [[entry.text for entry in row] for row in panel.table.rows]


def test_every_entrant_has_a_row_and_losing_figures_stand_in_it():
    (panel,) = rows_panel(comparison := made(), looks(comparison))
    assert panel.table.columns == [
        *("entrant", "validation loss", "accuracy", "time to target", "steps to target"),
        *("evaluations to target", "runs", "memory"),
    ]
    rows = {row[0]: row[1:] for row in cells(panel)}
    assert list(rows) == ["adamw", "soap", "lbfgs", "sgd:momentum=0.9"]
    assert rows["sgd:momentum=0.9"] == ["–", "–", "> 60 s", "> 1,200", "> 1,200", "3, 1 diverged", "12.3 MB"]
    assert rows["lbfgs"][2:] == ["29.9 s", "600", "1,500", "3", "12.3 MB"]


def test_runs_that_reach_the_target_are_counted_where_others_do_not():
    comparison = made(names=("adamw",))
    comparison["data"][0]["entrants"][0]["seeds"][0]["seconds_to_target"] = None
    (panel,) = rows_panel(comparison, looks(comparison))
    assert cells(panel)[0][3].endswith(" s (2 of 3)")


def test_spread_stands_beside_the_mean_where_it_is_known():
    comparison = made(names=("adamw",))
    comparison["rows"][0] |= {"loss": 0.51234, "loss_spread": 0.012345, "metric": None, "metric_spread": 0.1}
    (panel,) = rows_panel(comparison, looks(comparison))
    assert cells(panel)[0][1:3] == ["0.5123 ± 0.012", "–"]


def test_of_many_runs_the_median_and_the_best_are_shown():
    comparison = made(names=("adamw",))
    comparison["rows"][0] |= {"loss": 0.5, "loss_spread": 0.1, "loss_median": 0.4, "loss_best": 0.25, "seeds": 20}
    (panel,) = rows_panel(comparison, looks(comparison))
    assert cells(panel)[0][1] == "0.4, best 0.25"


def test_without_trials_nothing_was_tuned():
    comparison = made(names=("lbfgs",))
    data = comparison["data"][0]
    (panel,) = tuned_panel(data, looks(comparison), score_of(data))
    assert panel.text.startswith("Nothing was tuned")
    assert cells(panel) == [["lbfgs", "optimizer=lbfgs"]]


def test_several_data_sets_have_a_column_and_failures_are_named():
    comparison = made(sets=("a.csv", "b.csv"), failed_set="c.csv", failed_entrant="lbfgs")
    (panel,) = rows_panel(comparison, looks(comparison))
    assert panel.table.columns[:2] == ["entrant", "data"]
    failed = [row for row in cells(panel) if row[0] == "lbfgs"]
    assert [row[:3] for row in failed] == [
        ["lbfgs", "a.csv", "failed, see Notes"],
        ["lbfgs", "b.csv", "failed, see Notes"],
    ]


def test_the_front_runner_is_first_on_average_over_the_data_sets_it_ran_on():
    rows = [("a", "x"), ("a", "y"), ("a", "z"), ("b", "y"), ("b", "x"), ("c", "y"), ("c", "x")]
    comparison = {"rows": [{"data": data, "name": name} for data, name in rows]}
    assert front_runner(comparison) == "y"
    assert front_runner({"rows": []}) == ""


def pair(a, b, difference, low, high, quantity="loss", unit="", **more):
    numbers = {"difference": difference, "low": low, "high": high, "p_value": 0.01}
    sentence = f"{a} {b} {quantity}"
    return {"a": a, "b": b, "quantity": quantity, "unit": unit, "sentence": sentence, **numbers, **more}


def test_cases_in_which_the_front_runner_loses_come_first():
    comparison = made(names=("x", "y", "z"))
    data = comparison["data"][0]
    data["pairs"] = [
        pair("x", "y", -0.5, -0.6, -0.4),  # x is better
        pair("y", "z", -0.5, -0.6, -0.4),
        pair("x", "z", 0.0, -0.1, 0.1),
        pair("z", "x", 0.5, 0.4, 0.6, "seconds_to_target", "ratio a / b"),  # z is faster
        pair("x", "y", 0.2, 0.1, 0.3, "metric"),  # x is better: a higher accuracy
        pair("x", "z", 0.5, None, 0.9, "seconds_to_target", "ratio a / b"),  # x is faster
        pair("x", "z", 0.9, 0.8, 1.0, "steps_to_target", "ratio a / b", clear=False),
        pair("x", "z", None, 0.0, None, "evaluations_to_target", "ratio a / b"),
    ]
    (panel,) = pairs_panel(data, looks(comparison), score_of(data), "x")
    assert [row[0] for row in cells(panel)] == [
        "z x seconds_to_target",
        *("x z loss", "x z steps_to_target", "x z evaluations_to_target"),
        "y z loss",
        *("x y loss", "x z seconds_to_target", "x y metric"),
    ]
    assert panel.text.startswith(
        "x, first in the table above, is clearly behind in 1 case of 8, listed first; then come"
    )


def test_a_front_runner_that_never_loses_has_no_cases_to_list():
    comparison = made(names=("x", "y"))
    comparison["data"][0]["pairs"] = [pair("x", "y", -0.5, -0.6, -0.4)]
    (panel,) = pairs_panel(comparison["data"][0], looks(comparison), score_of(comparison["data"][0]), "x")
    assert "is clearly behind in 0 cases of 1; then come" in panel.text


def test_tuning_shows_space_choice_and_what_it_cost():
    comparison = made()
    data = comparison["data"][0]
    (panel,) = tuned_panel(data, looks(comparison), score_of(data))
    rows = {row[0]: row[1:] for row in cells(panel)}
    fixed, searched, chosen, trials, best, seconds = rows["adamw"]
    assert fixed == "optimizer=adamw"
    assert searched == "lr 0.0001 to 1, logarithmic; betas one of [0.9, 0.99], [0.9, 0.95]"
    assert chosen.startswith("lr=0.00")
    assert (trials, seconds) == ("8, 1 diverged", "423 s")
    assert float(best) == round(min(t["loss"] for t in data["entrants"][0]["trials"] if t["loss"] is not None), 3)
    assert rows["lbfgs"] == ["optimizer=lbfgs", "nothing to tune", "nothing was tuned", "0", "–", "0 s"]


def test_an_entrant_whose_trials_all_diverged_has_chosen_nothing():
    comparison = made(names=("adamw",))
    data = comparison["data"][0]
    for trial in data["entrants"][0]["trials"]:
        trial |= {"diverged": True, "loss": None}
    (panel,) = tuned_panel(data, looks(comparison), score_of(data))
    assert cells(panel)[0][3:6] == ["none: every trial diverged", "8, 8 diverged", "–"]


def test_settings_in_common_are_listed():
    (panel,) = equal_panel(made()["data"][0])
    assert cells(panel) == [
        *(["model", "bag"], ["width", "64"], ["dropout", "0.1"], ["normalize", "nfc, lower"], ["valid", "–"]),
    ]
    assert equal_panel({"settings": {}}) == []
