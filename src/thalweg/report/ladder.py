"""The ladder of a certificate: bounds from below, losses that were reached from above, the best possible in between."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from thalweg.report.text import clip, figure_text, format_value, number
from thalweg.report.theme import BLUE, GRAY, GREEN, ORANGE, new_figure

ROW_HEIGHT = 34
# What a rung is -> its color, its mark, and how it is read.
MARKS = {
    "model": (BLUE, "diamond", "your model"),
    "reached": (ORANGE, "circle", "reached on the way"),
    "bound": (GREEN, "triangle-right", "nothing is below it"),
    "partial": (GRAY, "triangle-right-open", "a bound for a part only"),
}


def ladder_figure(rungs: Sequence[Mapping[str, Any]], low: float | None, high: float, x_label: str) -> go.Figure:
    """Return the rungs one below the other, and as a band where the best possible loss lies.

    Args:
        rungs: each with its `name`, `value` and `kind` out of `MARKS`, the highest value first.
        low: the lower end of the band; None: nothing bounds it.
        high: the upper end.
        x_label: what the values are.

    Raises:
        ValueError: for an unknown kind.
    """
    for rung in rungs:
        if rung["kind"] not in MARKS:
            raise ValueError(f"a rung has the unknown kind {rung['kind']!r}; known: {', '.join(MARKS)}.")
    figure = new_figure(height=ROW_HEIGHT * len(rungs) + 80, x_title=figure_text(x_label, 80))
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
    figure.update_xaxes(range=[left, right])
    figure.update_yaxes(
        range=[len(rungs) - 0.4, -0.6],
        tickvals=list(range(len(rungs))),
        ticktext=[figure_text(clip(str(rung["name"]), 30)) for rung in rungs],
        tickcolor="rgba(0,0,0,0)",
    )
    figure.update_layout(showlegend=True)
    return figure
