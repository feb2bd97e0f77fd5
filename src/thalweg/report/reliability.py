"""The figure of calibration: how often answers are right that were given with some confidence."""

from collections.abc import Sequence

import plotly.graph_objects as go

from thalweg.report.text import format_value, number
from thalweg.report.theme import BLUE, GRAY, new_figure


def reliability_figure(
    confidence: Sequence[float | None],
    accuracy: Sequence[float | None],
    counts: Sequence[int],
    intervals: Sequence[Sequence[float] | None] | None = None,
) -> go.Figure:
    """Return accuracy over confidence with the diagonal on which both agree, above the number of answers in each bin.

    Args:
        confidence: mean probability of the answers in each bin, the bins of equal width from 0 to 1; None: it is empty.
        accuracy: fraction of them that is right.
        counts: their number.
        intervals: for each bin the ends of the interval of its accuracy.
    """
    figure = new_figure(height=420, x_title="confidence", y_title="fraction right")
    whole = {"color": GRAY, "width": 1.5, "dash": "dash"}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="calibrated", line=whole, hoverinfo="skip")
    rows = []
    for i, (mean, right, count) in enumerate(zip(confidence, accuracy, counts, strict=True)):
        x, y = number(mean), number(right)
        if x is not None and y is not None:
            low, high = (intervals[i] if intervals is not None else None) or (y, y)
            rows.append((x, y, count, high - y, y - low))
    figure.add_scatter(
        x=[row[0] for row in rows],
        y=[row[1] for row in rows],
        customdata=[format_value(row[2]) for row in rows],
        error_y={
            "array": [row[3] for row in rows],
            "arrayminus": [row[4] for row in rows],
            "color": BLUE,
            "thickness": 1,
            "width": 3,
        }
        if intervals is not None
        else None,
        mode="lines+markers",
        name="answers",
        marker={"size": 8, "color": BLUE},
        line={"width": 1.5, "color": BLUE},
        hovertemplate="confidence %{x:.3~g}: %{y:.3~g} right of %{customdata}<extra></extra>",
    )
    size = len(counts) or 1
    figure.add_bar(
        x=[(i + 0.5) / size for i in range(len(counts))],
        y=list(counts),
        yaxis="y2",
        name="number of answers",
        width=[0.9 / size] * size,
        marker={"color": GRAY, "line": {"width": 0}},
        hovertemplate="%{y:,} answers<extra></extra>",
    )
    top = max(counts, default=0) or 1
    figure.update_layout(
        showlegend=False,
        xaxis={"range": [0, 1], "anchor": "y2", "tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1]},
        yaxis={"domain": [0.32, 1], "range": [0, 1.02]},
        yaxis2={"domain": [0, 0.18], "range": [0, top], "tickvals": [0, top], "tickformat": ",", "anchor": "x"},
    )
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": 0.19, "yref": "paper", "yanchor": "bottom"}
    figure.add_annotation(text="number of answers", **place)
    return figure
