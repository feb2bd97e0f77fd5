"""What the records of all runs come to: who is the faster, in which order, in which words."""

from typing import Any

from thalweg.comparison.results import pairs_of, rows_of, sentence_of


def test_where_steps_are_the_budget_evaluations_decide_who_is_faster():
    taken = {
        "a": [(9.0, 10, 10.0), (9.5, 11, 11.0), (9.2, 10, 10.0)],
        "b": [(1.0, 5, 50.0), (1.1, 5, 52.0), (1.2, 5, 51.0)],
    }

    def entrant(name: str) -> dict[str, Any]:
        runs = [
            {
                "seconds_to_target": seconds, "steps_to_target": steps, "evaluations_to_target": evaluations,
                "seconds": 20.0, "steps": 20, "evaluations": 100.0, "loss": 1.0 + place / 100, "metric": None,
                "diverged": False, "peak_bytes": 1,
            }
            for place, (seconds, steps, evaluations) in enumerate(taken[name])
        ]  # fmt: skip
        return {"name": name, "seeds": runs, "trials": [], "edge": "", "failed": "", "seconds_tuning": 0.0}

    data: dict[str, Any] = {
        "name": "x", "target": 1.5, "scored_by": "loss", "scored_on": "valid", "better": "lower", "failed": "",
        "entrants": [entrant("a"), entrant("b")],
    }  # fmt: skip
    for budget, faster, words in (({"steps": 20}, "a", "evaluations"), ({"seconds": 20.0}, "b", "times as fast")):
        data["budget"] = budget
        data["pairs"] = pairs_of(data, ("loss", "lower"), "20 steps")
        rows = rows_of(data)
        assert rows[0]["name"] == faster
        assert words in sentence_of(data, rows)
