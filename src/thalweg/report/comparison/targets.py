"""The figure of how long each entrant takes to the target, in seconds, steps or evaluations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from thalweg.report.comparison.curves import SCALES
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
    text,
)
from thalweg.report.panels import Panel, View
from thalweg.report.text import clip, figure_text, format_value, number
from thalweg.report.theme import NAMED, new_figure

ROW_HEIGHT = 46
LONGEST_LABEL = 22  # characters


def _order(data: Mapping[str, Any], axis: str) -> list[Mapping[str, Any]]:
    """Return the entrants that have run: those that never reach the target, then the slowest to it first."""

    def place(entrant: Mapping[str, Any]) -> tuple[bool, float]:
        time = median_time(entrant, axis)
        return time is not None, -(time or 0.0)

    return sorted((entrant for entrant in entries(data, "entrants") if entries(entrant, "seeds")), key=place)


def outcome(data: Mapping[str, Any], entrant: Mapping[str, Any], axis: str) -> str:
    """Return what an entrant's way to the target comes to, such as "18.2 s" or "not reached in 60 s"."""
    seeds, unit = entries(entrant, "seeds"), AXES[axis]
    time, end = median_time(entrant, axis), amount(horizon(data, entrant, axis), unit)
    num_reached = sum(number(seed.get(f"{axis}_to_target")) is not None for seed in seeds)
    if not num_reached:
        return f"not reached in {end}"
    found = amount(time, unit) if time is not None else f"over {end}"
    return found if num_reached == len(seeds) else f"{found}, {num_reached} of {len(seeds)} runs"


@final
@dataclass(frozen=True)
class Bars:
    """Bars and the marks of single runs over one axis."""

    lengths: list[float] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)  # "/" where fewer than half of the runs reach the target
    labels: list[str] = field(default_factory=list)  # of the rows
    colors: list[str] = field(default_factory=list)  # of the rows
    places: list[float] = field(default_factory=list)  # of the marks, along the axis
    rows: list[int] = field(default_factory=list)  # of the marks
    words: list[str] = field(default_factory=list)  # shown where a mark is pointed at
    symbols: list[str] = field(default_factory=list)

    @property
    def mark_colors(self) -> list[str]:
        """Color of each mark: that of its row."""
        return [self.colors[row] for row in self.rows]


def _bars(data: Mapping[str, Any], found: Mapping[str, Look], axis: str) -> Bars:
    """Return what is drawn over one axis."""
    bars = Bars()
    for row, entrant in enumerate(_order(data, axis)):
        time, end = median_time(entrant, axis), horizon(data, entrant, axis)
        bars.lengths.append(end if time is None else time)
        bars.patterns.append("/" if time is None else "")
        look = found[text(entrant, "name")]
        name = figure_text(clip(look.label, LONGEST_LABEL))
        bars.colors.append(look.color)
        bars.labels.append(f"{name}<br>{figure_text(outcome(data, entrant, axis))}")
        for seed in entries(entrant, "seeds"):
            own = number(seed.get(f"{axis}_to_target"))
            stop = own if own is not None else number(seed.get(axis)) or end
            has_diverged = own is None and flag(seed, "diverged")
            how = "reached after" if own is not None else "diverged after" if has_diverged else "not reached in"
            bars.places.append(stop)
            bars.rows.append(row)
            bars.words.append(f"seed {figure_text(seed.get('seed'))}: {how} {figure_text(amount(stop, AXES[axis]))}")
            bars.symbols.append("circle" if own is not None else "x" if has_diverged else "triangle-right-open")
    return bars


def targets_panel(data: Mapping[str, Any], found: Mapping[str, Look], score: Score) -> list[Panel]:
    """Return the panel of the times to the target; none where there is no target, or nothing has run.

    Args:
        data: what `compare.json` says of one data set.
        found: look of each entrant.
        score: what the target is one of.
    """
    target, rows = number(data.get("target")), _order(data, "seconds")
    if target is None or not rows:
        return []
    first = "steps" if number(mapping(data, "budget").get("steps")) is not None else "seconds"
    axes = [
        axis
        for axis in dict.fromkeys((first, *AXES))
        if axis == first
        or any(number(s.get(f"{axis}_to_target")) is not None for e in rows for s in entries(e, "seeds"))
    ]
    drawn = {axis: _bars(data, found, axis) for axis in axes}
    bars = drawn[first]
    figure = new_figure(height=ROW_HEIGHT * len(rows) + 64, x_title=SCALES[first][1])
    figure.add_bar(
        x=bars.lengths,
        y=list(range(len(rows))),
        orientation="h",
        marker={"color": bars.colors, "pattern": {"shape": bars.patterns}, "line": {"width": 0}},
        opacity=0.6,
        customdata=bars.labels,
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.add_scatter(
        x=bars.places,
        y=bars.rows,
        customdata=bars.words,
        mode="markers",
        marker={
            "symbol": bars.symbols,
            "size": 9,
            "color": bars.mark_colors,
            "line": {"width": 1.5, "color": bars.mark_colors},
        },
        cliponaxis=False,
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.update_layout(bargap=0.5, showlegend=False, margin={"r": 24})
    figure.update_xaxes(type="linear", rangemode="tozero")
    figure.update_yaxes(**NAMED, range=[len(rows) - 0.4, -0.6], tickvals=list(range(len(rows))), ticktext=bars.labels)
    views = [
        View(
            SCALES[axis][1],
            {
                "x": [one.lengths, one.places],
                "y": [list(range(len(rows))), one.rows],
                "marker.color": [one.colors, one.mark_colors],
                "marker.line.color": [None, one.mark_colors],
                "marker.pattern.shape": [one.patterns, None],
                "marker.symbol": [None, one.symbols],
                "customdata": [one.labels, one.words],
            },
            {"xaxis.title.text": SCALES[axis][1], "xaxis.autorange": True, "yaxis.ticktext": one.labels},
        )
        for axis, one in drawn.items()
    ]
    words = [
        f"The target is a {score.name} of {format_value(float(f'{target:.4g}'))}. {text(data, 'target_from')}",
        "Bars are medians over the runs, the slowest first; a point is one run.",
    ]
    if any(number(s.get(f"{first}_to_target")) is None for e in rows for s in entries(e, "seeds")):
        words.append(
            "A triangle is a run that had not reached the target when it ended, so its time is longer than shown; a "
            "cross is one that diverged. Where that leaves no median the bar is hatched, and as long as a run may last."
        )
    title = "Time to the target"
    return [
        Panel(
            title, " ".join(words), figure=figure, views=views if len(views) > 1 else (), views_label="what is counted"
        )
    ]
