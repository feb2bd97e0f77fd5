"""Figures of results: confusion matrix, predictions against truth, forecasts, bars, the ladder of a certificate."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import plotly.graph_objects as go

from thalweg.report.curves import thin
from thalweg.report.text import clip, figure_text, format_value, number
from thalweg.report.theme import BLUE, COLORWAY, DASHES, GRAY, GREEN, NAMED, ORANGE, colorbar, new_figure

MAX_LABELS = 150  # of a confusion matrix
MAX_POINTS = 4000  # of a scatter plot
MAX_BARS = 150
NAMES_ON_BOTH_SIDES = 30  # labels; with more, the columns carry the numbers of the rows
RUNG_HEIGHT = 34
# What a rung is -> its color, its mark, and how it is read.
MARKS = {
    "model": (BLUE, "diamond", "your model"),
    "reached": (ORANGE, "circle", "loss reached"),
    "bound": (GREEN, "triangle-right", "proved lower bound"),
    "partial": (GRAY, "triangle-right-open", "bound for a part only"),
}


def most_frequent_labels(
    labels: Sequence[str], counts: Sequence[Sequence[int]], limit: int = MAX_LABELS
) -> tuple[list[str], list[list[int]]]:
    """Return a confusion matrix counts[true][predicted] of at most `limit` labels, the rare ones joined at the end."""
    if len(labels) <= limit:
        return [str(label) for label in labels], [[int(count) for count in row] for row in counts]
    order = sorted(range(len(labels)), key=lambda i: -sum(counts[i]))
    kept = sorted(order[: limit - 1])
    place = {label: new for new, label in enumerate(kept)}
    joined = [[0] * limit for _ in range(limit)]
    for true, row in enumerate(counts):
        for predicted, count in enumerate(row):
            joined[place.get(true, limit - 1)][place.get(predicted, limit - 1)] += int(count)
    others = f"{len(labels) - len(kept)} rarer labels"
    return [*(str(labels[i]) for i in kept), others], joined


def confusion_figure(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> go.Figure:
    """Return the confusion matrix of `counts`, colored by the fraction of each row, with the counts on hover.

    z_ij = n_ij / sum_k n_ik, where n_ij = counts[i][j] is the number of examples of class i (true) predicted as j; a
    row without examples stays empty.
    """
    labels, table = most_frequent_labels(labels, counts)
    size = len(labels)
    names = [figure_text(label, 80 if size <= 60 else 30) for label in labels]
    places = list(range(size))
    fractions = [[round(count / sum(row), 4) if sum(row) else None for count in row] for row in table]
    numbered = size > NAMES_ON_BOTH_SIDES
    cell = 46 if size <= 8 else 30 if size <= 16 else 22 if size <= NAMES_ON_BOTH_SIDES else 15 if size <= 60 else 11
    font_size = 11 if cell >= 15 else 8
    figure = new_figure(height=cell * size + (90 if numbered else 150), x_title="predicted", y_title="true")
    figure.add_heatmap(
        x=places,
        y=places,
        z=fractions,
        customdata=[
            [[names[true], names[predicted], count] for predicted, count in enumerate(row)]
            for true, row in enumerate(table)
        ],
        text=[[f"{count:,}" if count else "" for count in row] for row in table] if not numbered else None,
        texttemplate="%{text}" if not numbered else None,
        coloraxis="coloraxis",
        xgap=1 if size <= 60 else 0,
        ygap=1 if size <= 60 else 0,
        hovertemplate="true: %{customdata[0]}<br>predicted: %{customdata[1]}<br>"
        "%{customdata[2]:,} (%{z:.1%} of the row)<extra></extra>",
    )
    short = short_labels(labels)
    every = places[4::5] if numbered else places
    axis = {**NAMED, "tickfont": {"size": font_size}}
    figure.update_xaxes(
        **axis,
        range=[-0.5, size - 0.5],
        tickvals=every,
        ticktext=[str(i + 1) for i in every] if numbered else short,
        tickangle=0 if numbered else -45 if size > 6 else None,
    )
    figure.update_yaxes(
        **axis,
        range=[size - 0.5, -0.5],
        tickvals=places,
        ticktext=[f"{label}  {i + 1}" for i, label in enumerate(short)] if numbered else short,
    )
    bar = colorbar(tickvals=[0, 0.5, 1], tickformat=".0%")
    figure.update_layout(margin={"t": 4, "r": 24}, coloraxis={"cmin": 0, "cmax": 1, "colorbar": bar})
    return figure


def short_labels(labels: Sequence[str]) -> list[str]:
    """Return labels as they stand at the axes of a confusion matrix."""
    return [figure_text(clip(str(label), 22)) for label in labels]


def scatter_figure(
    x: Sequence[float], y: Sequence[float], x_label: str, y_label: str, names: Sequence[str] | None = None
) -> go.Figure:
    """Return points (named on hover) with the diagonal on which both are equal; one with a missing value is left out.

    Of more than `MAX_POINTS` points, those farthest from the diagonal and an even choice of the others are drawn.
    """
    points = [(i, number(a), number(b)) for i, (a, b) in enumerate(zip(x, y, strict=True))]
    finite = [(i, a, b) for i, a, b in points if a is not None and b is not None]
    if len(finite) > MAX_POINTS:
        finite.sort(key=lambda point: -abs(point[1] - point[2]))
        num_far = MAX_POINTS // 10
        rest = finite[num_far:]
        stride = len(rest) / (MAX_POINTS - num_far)
        finite = sorted(finite[:num_far] + [rest[int(i * stride)] for i in range(MAX_POINTS - num_far)])
    figure = new_figure(height=460, x_title=figure_text(x_label, 80), y_title=figure_text(y_label, 80))
    hover = f"{figure_text(x_label, 40)}: %{{x:.4~g}}<br>{figure_text(y_label, 40)}: %{{y:.4~g}}<extra></extra>"
    ends = [min(min(a, b) for _, a, b in finite), max(max(a, b) for _, a, b in finite)] if finite else [0, 1]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="equal", line={"color": GRAY, "width": 1.5, "dash": "dash"}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=[a for _, a, _ in finite],
        y=[b for _, _, b in finite],
        text=[figure_text(names[i], 90) for i, _, _ in finite] if names is not None else None,
        hovertemplate=f"%{{text}}<br>{hover}" if names is not None else hover,
        name="examples",
        mode="markers",
        marker={"color": BLUE, "size": 7 if len(finite) <= 500 else 5, "opacity": 0.65 if len(finite) <= 500 else 0.35},
    )
    figure.update_layout(showlegend=False)
    return figure


def _horizontal(x: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return places on the horizontal axis and the settings of an axis of numbers, of dates or of names."""
    if all(number(value) is not None for value in x):
        return [number(value) for value in x], {"type": "linear"}
    texts = [str(value) for value in x]
    try:  # written as plotly reads them: it knows no weeks ("2024-W05"), no "20240131" and no time zones
        return [datetime.fromisoformat(text).replace(tzinfo=None).isoformat() for text in texts], {"type": "date"}
    except ValueError:
        shown = list(range(0, len(texts), math.ceil(len(texts) / 12)))
        names = [figure_text(texts[i], 24) for i in shown]
        angle = -90 if max(map(len, names), default=0) > 6 else 0  # slanted ones would stand over the edge
        return list(range(len(texts))), {"type": "linear", "tickvals": shown, "ticktext": names, "tickangle": angle}


def series_figure(
    x: Sequence[Any],
    lines: Mapping[str, Sequence[float | None]],
    x_label: str,
    y_label: str,
    split: Any = None,
    band: Mapping[str, Any] | None = None,
) -> go.Figure:
    """Return series over time, the first one (what happened) in gray and the others (forecasts) in color.

    The x are numbers, ISO dates or names, increasing; a series has a value or None for each. `split` is the first x
    that was not used for fitting. A `band` has a `name` and its ends, `low` and `high`, one for each x or None.
    """
    figure = new_figure(height=380, x_title=figure_text(x_label, 80), y_title=figure_text(y_label, 80))
    places, axis = _horizontal(x)
    if band is not None:
        _add_band(figure, places, band)
    for rank, (name, found) in enumerate(lines.items()):
        values = [number(value) for value in found]
        if len(values) != len(places):
            raise ValueError(f"series_figure(lines=...): {name!r} has {len(values)} values for {len(places)} x.")
        shown = thin(values) if values else []
        alone = sum(value is not None for value in values) <= 60
        figure.add_scatter(
            x=[places[i] for i in shown],
            y=[values[i] for i in shown],
            text=[figure_text(x[i], 40) for i in shown],
            name=figure_text(name, 40),
            mode="lines+markers" if alone else "lines",
            marker={"size": 4},
            line={
                "color": GRAY if rank == 0 else COLORWAY[(rank - 1) % 7],
                "width": 2,
                "dash": DASHES[max(rank - 1, 0) // 7 % len(DASHES)],
            },
            hovertemplate="%{y:.4~g} at %{text}<extra>%{fullData.name}</extra>",
        )
    if split is not None and places:
        texts = [str(value) for value in x]
        place = places[texts.index(str(split))] if str(split) in texts else number(split)
        if place is None and axis["type"] == "date":
            place = str(split)
        if place is not None:
            figure.add_vline(x=place, line={"color": GRAY, "width": 1, "dash": "dot"})
            for text, side in (("used for fitting ", "right"), (" not used", "left")):
                figure.add_annotation(x=place, y=0, yref="paper", text=text, xanchor=side, yanchor="bottom")
    figure.update_layout(xaxis=axis, showlegend=len(lines) > 1)
    return figure


def _add_band(figure: go.Figure, places: Sequence[Any], band: Mapping[str, Any]) -> None:
    """Draw the area between the ends of a band, below all lines."""
    ends = [[number(value) for value in band[end]] for end in ("low", "high")]
    known = [i for i, pair in enumerate(zip(*ends, strict=True)) if None not in pair]
    shown = [known[i] for i in thin([ends[1][i] for i in known])] if known else []
    color = "rgba(127, 127, 127, 0.25)"
    figure.add_scatter(
        x=[places[i] for i in [*shown, *reversed(shown)]],
        y=[ends[1][i] for i in shown] + [ends[0][i] for i in reversed(shown)],
        name=figure_text(band["name"], 40),
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=color,
        hoverinfo="skip",
    )


def bars_figure(names: Sequence[str], values: Sequence[float | None], x_label: str) -> go.Figure:
    """Return horizontal bars, the first on top; a missing length is left empty."""
    if len(names) != len(values):
        raise ValueError(f"bars_figure(names=..., values=...): {len(names)} names for {len(values)} values.")
    row_height = 24 if len(names) <= 40 else 15
    lengths = [number(value) for value in values]
    figure = new_figure(height=row_height * len(names) + 60, x_title=figure_text(x_label, 80))
    places = list(range(len(names)))
    figure.add_bar(
        x=lengths,
        y=places,
        orientation="h",
        text=["" if value is None else f"{value:.3g}" for value in lengths],
        textposition="outside",
        cliponaxis=False,
        customdata=[figure_text(name, 80) for name in names],
        marker={"color": BLUE, "line": {"width": 0}},
        hovertemplate="%{customdata}: %{x:.4~g}<extra></extra>",
    )
    figure.update_layout(bargap=0.35, showlegend=False, margin={"r": 44})
    figure.update_xaxes(type="linear", rangemode="tozero")
    figure.update_yaxes(
        **NAMED,
        range=[len(names) - 0.4, -0.6],
        tickvals=places,
        ticktext=[figure_text(clip(str(name), 26)) for name in names],
        tickfont={"size": 11 if row_height > 20 else 9},
    )
    return figure


def ladder_figure(rungs: Sequence[Mapping[str, Any]], low: float | None, high: float, x_label: str) -> go.Figure:
    """Return the ladder of a certificate: bounds from below, losses from above, and as a band the best possible loss.

    The rungs each have a `name`, a `value` and a `kind` out of `MARKS` (or `ValueError` is raised), the highest value
    first. The band reaches from `low` (None: nothing bounds it) to `high`.
    """
    for rung in rungs:
        if rung["kind"] not in MARKS:
            raise ValueError(f"a rung has the unknown kind {rung['kind']!r}; known: {', '.join(MARKS)}.")
    figure = new_figure(height=RUNG_HEIGHT * len(rungs) + 80, x_title=figure_text(x_label, 80))
    values = [number(rung["value"]) or 0.0 for rung in rungs]
    ends = [*values, high, *([] if low is None else [low])]
    margin = 0.12 * (max(ends) - min(ends) or abs(high) or 1.0)
    left, right = min(ends) - margin, max(ends) + 2.5 * margin
    if min(ends) >= 0.0:
        left = max(left, 0.0) if min(ends) > margin else -0.15 * margin
    if low is not None:
        figure.add_vrect(x0=low, x1=high, fillcolor=GREEN, opacity=0.16, line_width=0, layer="below")
    for end, dash in ((low, "solid"), (high, "dot")):
        if end is not None:
            figure.add_vline(x=end, line={"color": GREEN, "width": 1.5, "dash": dash}, layer="below")
    for kind, (color, mark, label) in MARKS.items():
        places = [place for place, rung in enumerate(rungs) if rung["kind"] == kind]
        if places:
            figure.add_scatter(
                x=[values[place] for place in places],
                y=places,
                mode="markers+text",
                name=label,
                text=[f"  {format_value(values[place])}" for place in places],
                textposition="middle right",
                customdata=[figure_text(rungs[place]["name"], 80) for place in places],
                marker={"color": color, "symbol": mark, "size": 12, "line": {"width": 2, "color": color}},
                cliponaxis=False,
                hovertemplate="%{customdata}: %{x:.8~g}<extra></extra>",
            )
    figure.update_xaxes(type="linear", range=[left, right])
    figure.update_yaxes(
        **NAMED | {"showgrid": True},
        range=[len(rungs) - 0.4, -0.6],
        tickvals=list(range(len(rungs))),
        ticktext=[figure_text(clip(str(rung["name"]), 30)) for rung in rungs],
    )
    figure.update_layout(showlegend=True)
    return figure
