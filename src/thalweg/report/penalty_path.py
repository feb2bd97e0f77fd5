"""The figure of a choice: the validation score of one model after the other, over the penalty each was trained with."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from thalweg.report.figures import power_ticks
from thalweg.report.text import figure_text, format_value, number
from thalweg.report.theme import COLORWAY, DASHES, GRAY, ORANGE, new_figure


def _points(name: str, line: Sequence[Sequence[Any]]) -> list[tuple[float, float | None, float | None]]:
    """Return penalty, score and its standard error (None: not known) of each point, by growing penalty."""
    points = []
    for point in line:
        penalty = number(point[0]) if len(point) in (2, 3) else None
        if penalty is None or penalty < 0.0:
            raise ValueError(
                f"lines[{name!r}] has the point {point!r}; expected a penalty of at least 0, a score, and where it is "
                "known the standard error of the score."
            )
        points.append((penalty, number(point[1]), number(point[2]) if len(point) == 3 else None))
    return sorted(points, key=lambda point: point[0])


def _no_penalty(penalties: Sequence[float]) -> float:
    """Return where a penalty of zero is drawn, which a logarithmic axis has no place for: left of all others."""
    return min((penalty for penalty in penalties if penalty), default=1.0) / 10.0


def path_figure(
    lines: Mapping[str, Sequence[Sequence[Any]]], chosen: Sequence[Any] | None, x_label: str, y_label: str
) -> go.Figure:
    """Return a score over the penalty (logarithmic), a line for each kind of model, with a ring around the chosen one.

    Args:
        lines: for each kind of model its points `[penalty, score]` or `[penalty, score, standard error]`, in any order;
            a score of None is a gap. No penalty at all (0) is drawn left of the others.
        chosen: kind of model and penalty of the point that was chosen; None: none was.
        x_label: what the penalty is.
        y_label: what the score is.

    Raises:
        ValueError: a point has another form, or the chosen one is on no line.
    """
    points = {name: _points(name, line) for name, line in lines.items()}
    penalties = sorted({penalty for line in points.values() for penalty, _, _ in line})
    zero = _no_penalty(penalties)
    figure = new_figure(height=340, x_title=figure_text(x_label, 80), y_title=figure_text(y_label, 80))
    for rank, (name, line) in enumerate(points.items()):
        color = COLORWAY[rank % len(COLORWAY)]
        errors = [error for _, _, error in line]
        bars = {"array": [error or 0.0 for error in errors], "color": color, "thickness": 1, "width": 3}
        figure.add_scatter(
            x=[penalty or zero for penalty, _, _ in line],
            y=[score for _, score, _ in line],
            customdata=[figure_text(format_value(penalty)) for penalty, _, _ in line],
            error_y=bars if any(errors) else None,
            name=figure_text(name, 40),
            mode="lines+markers",
            marker={"size": 6},
            line={"color": color, "width": 2, "dash": DASHES[rank // len(COLORWAY) % len(DASHES)]},
            hovertemplate="%{y:.4~g} with a penalty of %{customdata}<extra>%{fullData.name}</extra>",
        )
    if chosen is not None:
        name, penalty = chosen
        score = next((score for found, score, _ in points.get(name, ()) if found == penalty), None)
        if score is None:
            raise ValueError(f"the chosen point {list(chosen)!r} is on none of the lines {', '.join(points)}.")
        figure.add_scatter(
            x=[penalty or zero],
            y=[score],
            name="chosen",
            mode="markers",
            marker={"symbol": "circle-open", "size": 14, "color": ORANGE, "line": {"width": 2.5}},
            hoverinfo="skip",
        )
        figure.add_vline(x=penalty or zero, line={"color": GRAY, "width": 1, "dash": "dot"}, layer="below")
    positive = [penalty for penalty in penalties if penalty]
    ticks = power_ticks(positive[0], positive[-1]) if positive else []
    if penalties and not penalties[0]:
        ticks = [zero, *(tick for tick in ticks if tick > 2 * zero)]
    texts = ["none" if tick == zero and not penalties[0] else format_value(tick) for tick in ticks]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=texts, tickangle=0)
    figure.update_layout(showlegend=True)
    return figure
