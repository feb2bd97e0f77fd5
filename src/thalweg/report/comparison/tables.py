"""The tables of a comparison: what each entrant came to, what is known of every two, how each was tuned."""

from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.errors import counted
from thalweg.report.comparison.entries import (
    AXES,
    Look,
    Score,
    amount,
    entries,
    flag,
    horizon,
    mapping,
    median_time,
    memory,
    num_diverged,
    score_of,
    text,
)
from thalweg.report.comparison.trials import settings_text
from thalweg.report.panels import Panel, table
from thalweg.report.text import format_value, number

Entry = Mapping[str, Any]
MANY_RUNS = 10  # of which the median and the best are shown


def rows_panel(comparison: Entry, found: Mapping[str, Look]) -> list[Panel]:
    """Return the table with a row for each entrant on each data set; none where there are no rows.

    Args:
        comparison: what `compare.json` says.
        found: look of each entrant.
    """
    rows = entries(comparison, "rows")
    if not rows:
        return []
    sets = {text(data, "name"): data for data in entries(comparison, "data")}
    entrants = {
        (name, text(entrant, "name")): entrant for name, data in sets.items() for entrant in entries(data, "entrants")
    }
    scores = {name: score_of(data) for name, data in sets.items()}
    metrics = {text(data, "metric").replace("_", " ") for data in sets.values()} - {"", "loss"}
    metric = metrics.pop() if len(metrics) == 1 else "metric"
    which = {"training" if data.get("scored_on") == "train" else "validation" for data in sets.values()}
    columns = ["entrant", "data"] if len(sets) > 1 else ["entrant"]
    columns += [f"{which.pop() if len(which) == 1 else 'final'} loss", metric, "time to target", "steps to target"]
    columns += ["evaluations to target", "runs", "memory"]
    shown = []
    for row in rows:
        place = (text(row, "data"), text(row, "name"))
        data, entrant = sets.get(place[0], {}), entrants.get(place, {})
        look = found.get(place[1])
        cells: list[object] = [look.label if look else place[1]]
        cells += [place[0]] if len(sets) > 1 else []
        if text(row, "failed"):
            shown.append([*cells, "failed, see Notes", *["–"] * (len(columns) - len(cells) - 1)])
            continue
        cells += [_value(row, "loss"), _value(row, "metric")]
        cells += [_way(row, data, entrant, axis) for axis in AXES]
        cells += [_runs(entrants.get(place), "seeds", row), _memory(entries(entrant, "seeds"))]
        shown.append(cells)
    by = {score.name: score for score in scores.values()}
    words = " ".join(f"{name[0].upper()}{name[1:]}: {score.better.lower()}" for name, score in by.items())
    words += (
        " Figures are of the final runs, not of the trials: loss and metric are means over the runs (± their standard "
        f"deviation), of {MANY_RUNS} runs or more the median and the best; what it takes to the target is the median. "
        "A diverged run counts as one that never gets there, and leaves no mean. > 60 s: not reached by then; (2 of "
        "3): so many runs reach it. Memory is that of weights, gradients and the optimizer's state, on a GPU the most "
        "that was allocated."
    )
    return [Panel("Every entrant", words, table=table(columns, shown, stacked=True))]


def _value(row: Entry, key: str) -> object:
    """Return a mean with its standard deviation over the runs, or of many runs the median and the best."""
    middle, best = number(row.get(f"{key}_median")), number(row.get(f"{key}_best"))
    if (number(row.get("seeds")) or 0) >= MANY_RUNS and middle is not None and best is not None:
        return f"{format_value(middle)}, best {format_value(best)}"
    value, spread = number(row.get(key)), number(row.get(f"{key}_spread"))
    if value is None or spread is None:
        return value
    return f"{format_value(value)} ± {format_value(float(f'{spread:.2g}'))}"


def _way(row: Entry, data: Entry, entrant: Entry, axis: str) -> str:
    """Return how long an entrant took to the target, such as "18.2 s", "> 60 s" or "18.2 s (2 of 3)"."""
    if number(data.get("target")) is None:
        return "–"
    seeds, unit = entries(entrant, "seeds"), "s" if axis == "seconds" else ""
    time = median_time(entrant, axis) if seeds else number(row.get(f"{axis}_to_target"))
    num_reached = sum(number(seed.get(f"{axis}_to_target")) is not None for seed in seeds)
    shown = amount(time, unit) if time is not None else f"> {amount(horizon(data, entrant, axis), unit)}"
    return f"{shown} ({num_reached} of {len(seeds)})" if 0 < num_reached < len(seeds) else shown


def _runs(entrant: Entry | None, key: str, row: Entry) -> str:
    """Return how many runs of a kind there were, and how many of them diverged."""
    if entrant is None:
        return format_value(row.get(key))
    records = entries(entrant, key)
    count = num_diverged(records)
    return f"{len(records)}, {count} diverged" if count else format_value(len(records))


def _memory(seeds: Sequence[Entry]) -> str:
    """Return the largest peak of memory of several runs."""
    known = [size for seed in seeds if (size := number(seed.get("peak_bytes"))) is not None]
    return memory(max(known, default=None))


def front_runner(comparison: Entry) -> str:
    """Return the name of the entrant that is first in the table on average over the data sets; "" without rows."""
    places: dict[str, list[int]] = {}
    counts: dict[str, int] = {}
    for row in entries(comparison, "rows"):
        data = text(row, "data")
        counts[data] = counts.get(data, 0) + 1
        places.setdefault(text(row, "name"), []).append(counts[data])
    most = max(map(len, places.values()), default=0)
    means = {name: sum(found) / len(found) for name, found in places.items() if len(found) == most}
    return min(means, key=means.__getitem__, default="")


def _is_behind(pair: Entry, data: Entry, name: str) -> bool | None:
    """Whether an entrant is clearly worse than the other one of a pair; None where nothing is clear."""
    difference, low, high = (number(pair.get(key)) for key in ("difference", "low", "high"))
    nothing = 1.0 if "ratio" in text(pair, "unit") else 0.0
    above, below = low is not None and low > nothing, high is not None and high < nothing
    if not flag(pair, "clear") if "clear" in pair else not (above or below):
        return None
    is_more = difference > nothing if difference is not None else above
    is_higher_better = text(pair, "quantity") == "metric" and data.get("better") == "higher"
    return (is_more != is_higher_better) == (text(pair, "a") == name)


def pairs_panel(data: Entry, found: Mapping[str, Look], score: Score, front: str) -> list[Panel]:
    """Return the table of what is known about every two entrants; none where there is nothing.

    Args:
        data: what `compare.json` says of one data set.
        found: look of each entrant.
        score: what entrants are compared by.
        front: name of the front-runner; the cases in which it is behind come first.
    """
    first = "steps" if number(mapping(data, "budget").get("steps")) is not None else "seconds"
    order = [score.key, f"{first}_to_target", *(f"{axis}_to_target" for axis in AXES if axis != first)]
    rows = []
    for pair in entries(data, "pairs"):
        names, quantity = (text(pair, "a"), text(pair, "b")), text(pair, "quantity")
        behind = _is_behind(pair, data, front) if front in names else None
        rank = 0 if behind else (1 if behind is None and front in names else 3 if behind is False else 2)
        place = order.index(quantity) if quantity in order else len(order)
        rows.append((rank, place, [text(pair, "sentence"), number(pair.get("p_value"))]))
    if not rows:
        return []
    rows.sort(key=lambda row: row[:2])
    num_behind = sum(rank == 0 for rank, _, _ in rows)
    label = found[front].short if front in found else front
    words = (
        f"{label}, first in the table above, is clearly behind in {counted(num_behind, 'case')} of {len(rows)}"
        f"{', listed first' if num_behind else ''}; then come those in which it is neither ahead nor behind beyond "
        "noise. "
        "Each compares runs in pairs that began from the same start with the same order of the data. Of such 95 % "
        "intervals 19 in 20 contain the true difference if differences are normal, which a few seeds cannot show. The "
        "p-values are corrected for the number of pairs (Holm)."
    )
    columns = ["what was found", "p"]
    return [Panel("Every two entrants", words, table=table(columns, [cells for _, _, cells in rows], stacked=True))]


def tuned_panel(data: Entry, found: Mapping[str, Look], score: Score) -> list[Panel]:
    """Return the table of how each entrant was tuned; none where there are no entrants.

    Args:
        data: what `compare.json` says of one data set.
        found: look of each entrant.
        score: what entrants are compared by.
    """
    rows = []
    for entrant in entries(data, "entrants"):
        space, trials = mapping(entrant, "space"), entries(entrant, "trials")
        losses = [loss for trial in trials if (loss := score.loss_of(trial)) is not None]
        best = score.turned(min(losses)) if losses else None
        chosen = settings_text(mapping(entrant, "winner")) if trials else "nothing was tuned"
        rows.append(
            [
                found[text(entrant, "name")].label,
                settings_text(mapping(entrant, "fixed")).replace("its defaults", "–"),
                "; ".join(f"{name} {_range(one)}" for name, one in space.items()) or "nothing to tune",
                chosen if not trials or losses else "none: every trial diverged",
                _runs(entrant, "trials", entrant),
                best,
                amount(number(entrant.get("seconds_tuning")), "s"),
            ]
        )
    if not rows:
        return []
    if not any(entries(entrant, "trials") for entrant in entries(data, "entrants")):
        columns = ["entrant", "settings"]
        words = "Nothing was tuned: each ran with these settings, and its defaults for all others."
        return [Panel("What each ran with", words, table=table(columns, [row[:2] for row in rows], stacked=True))]
    words = (
        f"Every entrant with something to tune got the same number of trials, and the best {score.name} decided. The "
        "trials had another start than the runs that are compared."
    )
    if data.get("scored_on") != "train":
        words += " Trials and runs are scored on the same validation data, so all figures are a little optimistic."
    columns = ["entrant", "fixed", "searched", "chosen", "trials", f"best {score.name}", "time"]
    return [Panel("How each was tuned", words, table=table(columns, rows, stacked=True))]


def _range(one: Any) -> str:
    """Return a range of a search space in words."""
    if not isinstance(one, Mapping):
        return str(one)
    if "choices" in one:
        return f"one of {', '.join(map(str, one['choices']))}" if isinstance(one["choices"], list) else "one of several"
    scale = ", logarithmic" if flag(one, "log") else ""
    return f"{format_value(one.get('low'))} to {format_value(one.get('high'))}{scale}"


def equal_panel(data: Entry) -> list[Panel]:
    """Return the table of the settings that all entrants have in common; none where there are none.

    Args:
        data: what `compare.json` says of one data set.
    """
    rows = [[name, _plain(value)] for name, value in mapping(data, "settings").items()]
    if not rows:
        return []
    words = "These settings, the data and their order, and for each seed the starting weights were the same for all."
    return [Panel("Settings in common", words, table=table(["setting", "value"], rows))]


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    if isinstance(value, Mapping):
        return settings_text(value).replace("its defaults", "–")
    return format_value(value) if value != "" else "–"
