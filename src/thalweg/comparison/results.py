"""From the records of all runs to what `compare.json` says: targets, times to them, pairs, rows, profiles."""

import itertools
import math
import statistics as numbers
from collections.abc import Mapping, Sequence
from typing import Any, Final

from thalweg.comparison.sentences import difference_sentence, time_sentence
from thalweg.comparison.statistics import holm, paired, performance_profile, profile_ratios, restricted_time, time_ratio
from thalweg.report.cells import block, table

TIMES: Final = {"seconds": "time", "steps": "steps", "evaluations": "evaluations"}


def axis_of(data: Mapping[str, Any]) -> str:
    """Return what decides who is the faster: seconds, or, where steps were the budget, evaluations.

    Those count what a step takes, as a number of steps does not, and are the same on a busy machine.
    """
    return "evaluations" if "steps" in data["budget"] else "seconds"


def score_of(record: Mapping[str, Any], by: tuple[str, str]) -> float:
    """Return a run's score, lower is better; infinite where it diverged."""
    name, better = by
    value = record["loss" if name == "loss" else "metric"]
    if value is None or record["diverged"]:
        return math.inf
    return -value if better == "higher" else value


def winner_of(trials: Sequence[Mapping[str, Any]], by: tuple[str, str]) -> int | None:
    """Return the place of the best trial, the first of equal ones; None where all diverged."""
    scores = [score_of(trial, by) for trial in trials]
    best = min(scores, default=math.inf)
    return scores.index(best) if math.isfinite(best) else None


def rate_edge(trials: Sequence[Mapping[str, Any]], by: tuple[str, str]) -> str:
    """Return "lowest" or "highest" where the best trial has such a learning rate of all that were tried; else "".

    Nothing was then seen to get worse beyond it, so a rate outside of what was tried may be better.
    """
    best = winner_of(trials, by)
    rates = [trial["lr"] for trial in trials]
    if best is None or len(set(rates)) < 2:
        return ""
    ends = {min(rates): "lowest", max(rates): "highest"}
    return ends.get(rates[best], "")


def target_of(
    entrants: Sequence[Mapping[str, Any]], by: tuple[str, str], given: float | None
) -> tuple[float | None, str]:
    """Return the score to be reached, and where it comes from: what every run of the first entrant reaches.

    Where a run of the first diverged the next one takes its place.
    """
    if given is not None:
        return given, "It was given."
    for entrant in entrants:
        scores = [score_of(seed, by) for seed in entrant["seeds"]]
        if scores and math.isfinite(max(scores)):
            worst = max(scores)
            value = -worst if by[1] == "higher" else worst
            return value, f"Every final run of {entrant['name']} reaches it ({len(scores)} of them)."
    return None, "No entrant has finished all its runs without diverging, so there is no target."


def put_times(record: dict[str, Any], target: float | None, by: tuple[str, str]) -> None:
    """Note when a run first reached the target, as it was scored; None where it never did."""
    name, better = by
    curve = record["curve"]
    values = curve["valid_loss" if name == "loss" else "metric"]
    sign = -1.0 if better == "higher" else 1.0
    reached = next(
        (
            place
            for place, value in enumerate(values)
            if place and target is not None and value is not None and sign * value <= sign * target
        ),
        None,
    )
    for axis, key in (("seconds", "seconds"), ("steps", "step"), ("evaluations", "evaluations")):
        record[f"{axis}_to_target"] = None if reached is None else curve[key][reached]


def pairs_of(data: Mapping[str, Any], by: tuple[str, str], limit: str) -> list[dict[str, Any]]:
    """Return the comparisons of every two entrants that have run, corrected for their number."""
    entrants = [entrant for entrant in data["entrants"] if entrant["seeds"]]
    couples = list(itertools.combinations(entrants, 2))
    found: list[dict[str, Any]] = []
    if data["target"] is not None:
        for axis, quantity in TIMES.items():
            found += _time_pairs(data["name"], couples, axis, quantity, limit)
    name, better = by
    key = "loss" if name == "loss" else "metric"
    what = f"{_whose(data)} {'loss' if key == 'loss' else name.replace('_', ' ')}"
    ratios = [
        paired([seed[key] for seed in a["seeds"]], [seed[key] for seed in b["seeds"]], better=better)
        for a, b in couples
    ]
    corrected = holm([ratio.p_value for ratio in ratios])
    for (a, b), one, p_value in zip(couples, ratios, corrected, strict=True):
        sentence = difference_sentence(
            a["name"], b["name"], one, what, data["name"], p_value=p_value, num_comparisons=len(couples)
        )
        found.append(
            {
                "a": a["name"], "b": b["name"], "quantity": key, "unit": "" if key == "metric" else "per target",
                "difference": one.difference, "low": one.low, "high": one.high, "p_value": p_value,
                "num_seeds": one.num_pairs, "sentence": sentence, "clear": one.is_clear(p_value),
            }
        )  # fmt: skip
    return found


def _whose(data: Mapping[str, Any]) -> str:
    return "validation" if data["scored_on"] == "valid" else "training"


def _time_pairs(
    name: str, couples: Sequence[tuple[Any, Any]], axis: str, quantity: str, limit: str
) -> list[dict[str, Any]]:
    ratios = []
    for a, b in couples:
        times = [[seed[f"{axis}_to_target"] for seed in one["seeds"]] for one in (a, b)]
        ends = [[max(seed[axis], 1e-9) for seed in one["seeds"]] for one in (a, b)]
        ratios.append(time_ratio(times[0], times[1], ends))
    corrected = holm([ratio.p_value for ratio in ratios])
    found = []
    for (a, b), one, p_value in zip(couples, ratios, corrected, strict=True):
        sentence = time_sentence(
            a["name"], b["name"], one, name, limit, quantity=quantity, p_value=p_value, num_comparisons=len(couples)
        )
        found.append(
            {
                "a": a["name"], "b": b["name"], "quantity": f"{axis}_to_target", "unit": "ratio a / b",
                "difference": one.ratio, "low": one.low, "high": one.high, "p_value": p_value,
                "num_seeds": one.num_pairs, "sentence": sentence, "clear": one.is_clear(p_value),
            }
        )  # fmt: skip
    return found


def rows_of(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each entrant: the fastest to the target first, then by score; the failed ones last."""
    rows = []
    for entrant in data["entrants"]:
        seeds = entrant["seeds"]
        row: dict[str, Any] = {"name": entrant["name"], "data": data["name"], "target": data["target"]}
        for axis in TIMES:
            row[f"{axis}_to_target"] = _median_time(seeds, axis)
        losses, metrics = ([seed[key] for seed in seeds] for key in ("loss", "metric"))
        row |= {
            "reached": sum(seed["seconds_to_target"] is not None for seed in seeds),
            "loss": _mean(losses), "loss_spread": _spread(losses),
            "metric": _mean(metrics), "metric_spread": _spread(metrics),
            "loss_median": _middle(losses), "loss_best": _best(losses, "lower"),
            "metric_median": _middle(metrics), "metric_best": _best(metrics, data["better"]),
            "diverged": sum(seed["diverged"] for seed in seeds),
            "seconds": _mean([seed["seconds"] for seed in seeds]),
            "seconds_tuning": entrant["seconds_tuning"],
            "peak_bytes": max((seed["peak_bytes"] for seed in seeds), default=None),
            "trials": len(entrant["trials"]), "edge": entrant["edge"], "seeds": len(seeds), "failed": entrant["failed"],
        }  # fmt: skip
        rows.append(row)
    sign = -1.0 if data["better"] == "higher" else 1.0
    key = "loss" if data["scored_by"] == "loss" else "metric"
    taken = f"{axis_of(data)}_to_target"

    def place(row: dict[str, Any]) -> tuple[bool, float, int, float]:
        value = math.inf if row[key] is None else (sign if key == "metric" else 1.0) * row[key]
        return bool(row["failed"]), math.inf if row[taken] is None else row[taken], -row["reached"], value

    return sorted(rows, key=place)


def _median_time(seeds: Sequence[Mapping[str, Any]], axis: str) -> float | None:
    times = [seed[f"{axis}_to_target"] for seed in seeds]
    if not times:
        return None
    median = restricted_time(times, [max(seed[axis], 1e-9) for seed in seeds]).median
    return median if math.isfinite(median) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return numbers.fmean(known) if known and len(known) == len(values) else None


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return numbers.stdev(known) if len(known) > 1 and len(known) == len(values) else None


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return numbers.median(known) if known and len(known) == len(values) else None


def _best(values: Sequence[float | None], better: str) -> float | None:
    known = [value for value in values if value is not None]
    return (max(known) if better == "higher" else min(known)) if known else None


def html_of(name: str, rows: Sequence[Mapping[str, Any]], sentence: str) -> str:
    """Return what a notebook shows of a comparison."""
    names = ("data", "name", "seconds_to_target", "steps_to_target", "loss", "metric", "seeds", "failed")
    cells = [[row.get(column) for column in names] for row in rows]
    return block(f"Comparison in {name}", [table([column.replace("_", " ") for column in names], cells)], [sentence])


def profiles_of(data: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the performance profiles of the entrants over several data sets, by their median time to each target."""
    named = [one["name"] for one in data if not one["failed"]]
    entrants = list(dict.fromkeys(row["name"] for row in rows))
    if len(named) < 2:
        return None
    taken = {one["name"]: f"{axis_of(one)}_to_target" for one in data}
    times = {(row["data"], row["name"]): row[taken[row["data"]]] for row in rows}
    table = [[times.get((one, entrant)) for entrant in entrants] for one in named]
    if all(time is None for row in table for time in row):
        return None
    ratios = profile_ratios(table)
    shares = performance_profile(table, ratios)
    return {
        "entrants": entrants,
        "ratios": ratios.tolist(),
        "shares": {entrant: shares[place].tolist() for place, entrant in enumerate(entrants)},
    }


def sentence_of(data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what one data set comes to: the first entrant against the best of the others."""
    if data["failed"]:
        return f"{data['name']} failed: {data['failed']}"
    ran = [row for row in rows if row["data"] == data["name"] and row["seeds"]]
    if len(ran) < 2:
        return f"On {data['name']} only {ran[0]['name']} has run." if ran else f"On {data['name']} nothing has run."
    first = next(entrant["name"] for entrant in data["entrants"] if entrant["seeds"])
    rival = next(row["name"] for row in ran if row["name"] != first)
    by, taken = "loss" if data["scored_by"] == "loss" else "metric", f"{axis_of(data)}_to_target"
    pairs = {
        pair["quantity"]: pair
        for pair in data["pairs"]
        if {pair["a"], pair["b"]} == {first, rival} and pair["quantity"] in (taken, by)
    }
    time = pairs.get(taken)
    if time is not None and time["difference"] is not None and (time["clear"] or not pairs[by]["clear"]):
        return time["sentence"]
    return pairs[by]["sentence"]
