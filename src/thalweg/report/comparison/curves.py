"""The figure of the runs that decide: the score over seconds, steps or evaluations, median and band of each entrant."""

import math
import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import plotly.graph_objects as go

from thalweg.errors import counted
from thalweg.report.comparison.entries import Look, Score, entries, flag, mapping, num_diverged, text, values
from thalweg.report.figures import add_power_ticks, all_values, make_logarithmic, spans_magnitudes
from thalweg.report.panels import Panel, View
from thalweg.report.text import figure_text, format_value, number
from thalweg.report.theme import GRAY, RED, new_figure

MAX_PLACES = 240  # at which a line is drawn
# What is on the horizontal axis -> its key in a curve, the title of the axis, and the words behind a value.
SCALES = {
    "seconds": ("seconds", "seconds of training", "s"),
    "steps": ("step", "steps", "steps"),
    "evaluations": ("evaluations", "gradient evaluations", "evaluations"),
}


@final
@dataclass(frozen=True)
class Line:
    """One run: where its score was measured, in order, and whether it diverged after that."""

    places: list[float]
    values: list[float]
    has_diverged: bool

    def at(self, place: float) -> float | None:
        """Return the score at a place: between measurements on the straight line, at the end what was reached.

        None before the first measurement; infinite after a divergence.
        """
        after = bisect_right(self.places, place)
        if not after:
            return None
        if after == len(self.places):
            return math.inf if self.has_diverged and place > self.places[-1] else self.values[-1]
        left, right = self.places[after - 1 : after + 1]
        share = (place - left) / (right - left)
        return self.values[after - 1] + share * (self.values[after] - self.values[after - 1])


@final
@dataclass(frozen=True)
class Band:
    """Median, smallest and largest score of several runs at each place; None where they have none."""

    places: list[float]
    middle: list[float | None]
    low: list[float | None]
    high: list[float | None]


def lines_of(seeds: Sequence[Mapping[str, Any]], scale: str, key: str) -> list[Line]:
    """Return the runs that have a score anywhere, over what a scale of `SCALES` counts."""
    found = []
    for seed in seeds:
        curve = mapping(seed, "curve")
        pairs: dict[float, float] = {}
        for place, value in zip(values(curve, SCALES[scale][0]), values(curve, key), strict=False):
            x, y = number(place), number(value)
            if x is not None and y is not None and x >= max(pairs, default=0.0):
                pairs[x] = y
        if pairs:
            found.append(Line(list(pairs), list(pairs.values()), flag(seed, "diverged")))
    return found


def band_of(lines: Sequence[Line], *, is_higher_better: bool = False) -> Band:
    """Return the band of several runs; a run that diverged counts as the worst from there on.

    A run that ended early keeps what it reached. The median is None where half of the runs have diverged; the ends are
    those of the runs that have not.
    """
    places = sorted({place for line in lines for place in line.places})
    if len(places) > MAX_PLACES:
        places = [places[round(i * (len(places) - 1) / (MAX_PLACES - 1))] for i in range(MAX_PLACES)]
    band = Band(places, [], [], [])
    for place in places:
        there = [value for line in lines if (value := line.at(place)) is not None]
        worst = -math.inf if is_higher_better else math.inf
        turned = [worst if math.isinf(value) else value for value in there]
        finite = [value for value in there if math.isfinite(value)]
        band.middle.append(number(statistics.median(turned)) if turned else None)
        band.low.append(min(finite, default=None))
        band.high.append(max(finite, default=None))
    return band


def translucent(color: str) -> str:
    """Return a color such as "#3b7dd8" for an area that others shine through."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.16)"


def _area(band: Band) -> tuple[list[float], list[float | None]]:
    """Return the outline of a band: along its upper end, and back along the lower one."""
    known = [i for i, low in enumerate(band.low) if low is not None]
    back = known[::-1]
    return (
        [band.places[i] for i in (*known, *back)],
        [*(band.high[i] for i in known), *(band.low[i] for i in back)],
    )


def _traces(data: Mapping[str, Any], found: Mapping[str, Look], score: Score, scale: str) -> list[go.Scatter]:
    """Return the traces of a figure over one scale; the same ones, in the same order, over every scale."""
    traces: list[go.Scatter] = []
    unit, ends, diverged = SCALES[scale][2], [0.0], ([], [], [])
    for entrant in entries(data, "entrants"):
        seeds = entries(entrant, "seeds")
        lines = lines_of(seeds, scale, score.curve)
        if not lines_of(seeds, "steps", score.curve) and not lines:
            continue
        look, band = found[text(entrant, "name")], band_of(lines, is_higher_better=score.is_higher_better)
        name = figure_text(look.label, 32)
        shared = {"name": name, "legendgroup": text(entrant, "name")[:60].encode("utf-8").hex()}
        x, y = _area(band) if len(lines) > 1 else ([], [])
        area = {"fill": "toself", "fillcolor": translucent(look.color), "line": {"width": 0}, "mode": "lines"}
        traces.append(go.Scatter(x=x, y=y, **shared, **area, showlegend=False, hoverinfo="skip"))
        traces.append(
            go.Scatter(
                x=band.places,
                y=band.middle,
                **shared,
                mode="lines+markers" if len(band.places) < 4 else "lines",
                line={"color": look.color, "width": 2, "dash": look.dash},
                hovertemplate=f"%{{y:.4~g}} after %{{x:,.4~g}} {unit}<extra>{name}</extra>",
            )
        )
        ends += [line.places[-1] for line in lines]
        for line in lines:
            if line.has_diverged:
                for entry, value in zip(diverged, (line.places[-1], line.values[-1], name), strict=True):
                    entry.append(value)
    target = number(data.get("target"))
    if target is not None:
        traces.append(
            go.Scatter(
                x=[0.0, max(ends)],
                y=[target, target],
                name=f"target {format_value(float(f'{target:.4g}'))}",
                mode="lines",
                line={"color": GRAY, "width": 1.5, "dash": "dash"},
                hoverinfo="skip",
            )
        )
    if diverged[0] or any(num_diverged(entries(entrant, "seeds")) for entrant in entries(data, "entrants")):
        traces.append(
            go.Scatter(
                x=diverged[0],
                y=diverged[1],
                customdata=diverged[2],
                name="a run diverged",
                mode="markers",
                marker={"symbol": "x", "size": 9, "color": RED},
                hovertemplate=f"%{{customdata}} diverged after %{{x:,.4~g}} {unit}<extra></extra>",
            )
        )
    return traces


def curves_panel(data: Mapping[str, Any], found: Mapping[str, Look], score: Score) -> list[Panel]:
    """Return the panel of the curves; none where no run was measured.

    Args:
        data: what `compare.json` says of one data set.
        found: look of each entrant.
        score: what is drawn.
    """
    first = "steps" if number(mapping(data, "budget").get("steps")) is not None else "seconds"
    scales = [scale for scale in dict.fromkeys((first, *SCALES)) if _has(data, scale, score)]
    if not scales:
        return []
    drawn = {scale: _traces(data, found, score, scale) for scale in scales}
    height = 340 + 22 * max(0, len(entries(data, "entrants")) - 4)
    figure = new_figure(height=height, x_title=SCALES[scales[0]][1], y_title=figure_text(score.name, 40))
    figure.add_traces(drawn[scales[0]])
    add_power_ticks(figure)
    figure.update_layout(yaxis={"tickmode": "auto"}, showlegend=True)
    figure.update_xaxes(rangemode="tozero")
    drawn_values = all_values(figure)
    if spans_magnitudes(drawn_values):
        make_logarithmic(figure)
    views = [
        View(
            SCALES[scale][1],
            {key: [getattr(trace, key) for trace in drawn[scale]] for key in ("x", "y", "hovertemplate")},
            {"xaxis.title.text": SCALES[scale][1], "xaxis.autorange": True},
        )
        for scale in scales
    ]
    panel = Panel(f"How the {score.name} falls" if not score.is_higher_better else f"How the {score.name} rises")
    return [
        replace(
            panel,
            text=_reading(data, score),
            figure=figure,
            log_toggle=min(drawn_values, default=0.0) > 0.0,
            views=views if len(views) > 1 else (),
            views_label="horizontal axis",
        )
    ]


def _has(data: Mapping[str, Any], scale: str, score: Score) -> bool:
    """Whether any run has points over a scale."""
    return any(lines_of(entries(entrant, "seeds"), scale, score.curve) for entrant in entries(data, "entrants"))


def _reading(data: Mapping[str, Any], score: Score) -> str:
    """Return how to read the curves."""
    num_seeds = max((len(entries(entrant, "seeds")) for entrant in entries(data, "entrants")), default=0)
    words = [score.better]
    if num_seeds > 1:
        words.append(
            f"Each line is the median of {counted(num_seeds, 'run')}, each from another start; the "
            "band reaches from the smallest to the largest of them."
        )
    else:
        words.append("Each line is one run.")
    words.append("Between measurements lines are straight; a run that ended early keeps what it reached.")
    if any(num_diverged(entries(entrant, "seeds")) for entrant in entries(data, "entrants")):
        words.append(
            "A run that diverged (cross) counts as the worst from there on: a median ends where half of the runs have."
        )
    words.append(
        "Seconds are those of training by the clock, evaluations of the score left out. A step may cost several "
        f"gradient evaluations. {text(data, 'evaluation')}"
    )
    return " ".join(words).strip()
