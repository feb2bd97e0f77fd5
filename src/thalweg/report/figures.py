"""Figures of a run's history: records in, plotly figures out, nothing else touched."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import plotly.graph_objects as go

from thalweg.report.curves import Curve, Record, curve, has_values, of_event, smooth, thinned
from thalweg.report.text import figure_text, format_share, format_value, number
from thalweg.report.theme import BLUE, COLORWAY, DASHES, GREEN, ORANGE, PINK, RED, new_figure

MAX_MARKS = 300  # of rejected steps; more would hide the curve
SHORTEST_SMOOTHED = 60  # points; a shorter curve is drawn as it is

_HOVER = "%{y:.4~g} at step %{x:,}<extra>%{fullData.name}</extra>"
_HOVER_EPOCH = "%{y:.4~g} at step %{x:,}, epoch %{customdata:.2f}<extra>%{fullData.name}</extra>"


def trace_of(line: Curve, name: str, color: str, **settings: Any) -> go.Scatter:
    """Return a trace of a curve thinned for the screen."""
    shown = thinned(line)
    has_epochs = any(epoch is not None for epoch in shown.epochs)
    return go.Scatter(
        x=shown.steps,
        y=shown.values,
        customdata=shown.epochs if has_epochs else None,
        name=figure_text(name, 40),
        line={"color": color, "width": settings.pop("width", 2), "dash": settings.pop("dash", "solid")},
        hovertemplate=_HOVER_EPOCH if has_epochs else _HOVER,
        **{"mode": "lines", **settings},
    )


def _add_smoothed(figure: go.Figure, line: Curve, name: str, color: str) -> None:
    """Add a curve: raw and faint with its average over it, or as it is where it is short."""
    if len(line) < SHORTEST_SMOOTHED:
        figure.add_trace(trace_of(line, name, color, mode="lines+markers" if len(line) < 30 else "lines"))
        return
    raw = trace_of(line, f"{name}, each step", color, width=1, opacity=0.4)
    figure.add_trace(raw.update(hoverinfo="skip", hovertemplate=None))
    figure.add_trace(trace_of(smooth(line), f"{name}, smoothed", color))


def make_logarithmic(figure: go.Figure) -> None:
    """Give the vertical axis a logarithmic scale."""
    figure.update_layout(yaxis={"type": "log", "tickmode": "array"})


def add_power_ticks(figure: go.Figure) -> None:
    """Give the vertical axis the ticks that it uses while it is logarithmic: 1, 2, 5 over a short range, or powers."""
    positive = [value for value in all_values(figure) if value > 0]
    if positive:
        ticks = power_ticks(min(positive), max(positive))
        figure.update_layout(yaxis={"tickvals": ticks, "ticktext": [format_value(tick) for tick in ticks]})


def power_ticks(low: float, high: float) -> list[float]:
    """Return round numbers around positive values, evenly spread on a logarithmic axis.

    Example:
        >>> power_ticks(0.3, 4), power_ticks(1e-6, 1e6)
        ([0.2, 0.5, 1.0, 2.0, 5.0], [1e-06, 0.0001, 0.01, 1.0, 100.0, 10000.0, 1000000.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= 3:
        ticks = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in (1, 2, 5)]
        return [tick for tick in ticks if 0.45 * low <= tick <= 2.2 * high]
    return [float(f"1e{power}") for power in range(first, last + 1, math.ceil((last - first) / 6))]


def all_values(figure: go.Figure) -> list[float]:
    """Return every finite vertical value that a figure draws."""
    traces = cast("Sequence[Any]", figure.data)
    return [value for trace in traces for value in map(number, trace.y or ()) if value is not None]


def spans_magnitudes(values: Sequence[float], factor: float = 50) -> bool:
    """Return whether positive values differ so much that only a logarithmic axis shows them all.

    The smallest hundredth does not count, so that single lucky batches do not decide.
    """
    ordered = sorted(values)
    return bool(values) and ordered[0] > 0 and ordered[-1] >= factor * ordered[len(ordered) // 100]


def best_evaluation(history: Sequence[Record]) -> Record | None:
    """Return the last evaluation that was the best so far, the one whose weights were kept."""
    best = [record for record in of_event(history, "evaluation") if record.get("best")]
    return best[-1] if best else None


def _place_of_marks(history: Sequence[Record], event: str) -> list[tuple[Record, float]]:
    """Return the records of an event with the last finite training loss before each, where its mark is drawn."""
    places, pending, last = [], [], None
    for record in history:
        if record.get("event") == "step":
            loss = number(record.get("loss"))
            if last is None and loss is not None:
                places += [(waiting, loss) for waiting in pending]
            last = loss if loss is not None else last
        elif record.get("event") == event and number(record.get("step")) is not None:
            if last is None:
                pending.append(record)
            else:
                places.append((record, last))
    return places


def _add_rejected(figure: go.Figure, history: Sequence[Record]) -> None:
    """Mark the rejected steps on the loss."""
    marks = _place_of_marks(history, "rejected")
    marks = marks[:: math.ceil(len(marks) / MAX_MARKS) or 1]
    if marks:
        figure.add_scatter(
            x=[record["step"] for record, _ in marks],
            y=[loss for _, loss in marks],
            text=[figure_text(record.get("reason", ""), 120) for record, _ in marks],
            name="rejected step",
            mode="markers",
            marker={"symbol": "x", "size": 8, "color": RED},
            hovertemplate="step %{x:,} rejected: %{text}<extra></extra>",
        )


def _add_rollbacks(figure: go.Figure, history: Sequence[Record]) -> None:
    """Draw an arrow from each rollback to the step from which the run went on."""
    marks = [
        (record, loss)
        for record, loss in _place_of_marks(history, "rollback")
        if number(record.get("to_step")) is not None
    ]
    marks = marks[:: math.ceil(len(marks) / MAX_MARKS) or 1]
    if marks:
        reasons = [figure_text(record.get("reason", ""), 120) for record, _ in marks]
        figure.add_scatter(
            x=[x for record, _ in marks for x in (record["step"], record["to_step"], None)],
            y=[y for _, loss in marks for y in (loss, loss, None)],
            text=[text for reason in reasons for text in (reason, reason, "")],
            name="went back",
            mode="lines+markers",
            line={"color": RED, "width": 1.5, "dash": "dot"},
            marker={"symbol": ["circle", "triangle-left", "circle"] * len(marks), "size": 8, "color": RED},
            hovertemplate="went back: %{text}<extra></extra>",
        )


def loss_figure(history: Sequence[Record]) -> go.Figure:
    """Return the loss over the steps: training raw and smoothed, validation with its best point, what went wrong.

    Args:
        history: records of a run (see `thalweg.report.curves.surviving`).

    Returns:
        The figure; its vertical axis is logarithmic where the positive losses differ by a factor of 50 or more.
    """
    figure = new_figure(height=380)
    train = curve(of_event(history, "step"), "loss")
    evaluations = of_event(history, "evaluation")
    validation = curve(evaluations, "loss")
    if has_values(train):
        _add_smoothed(figure, train, "training", BLUE)
    if has_values(validation):
        mode = "lines+markers" if len(validation) <= SHORTEST_SMOOTHED else "lines"
        figure.add_trace(trace_of(validation, "validation", ORANGE, mode=mode, marker={"size": 5}))
    _add_rejected(figure, history)
    _add_rollbacks(figure, history)
    best = best_evaluation(history)
    if best is not None and number(best.get("loss")) is not None:
        figure.add_scatter(
            x=[best["step"]],
            y=[best["loss"]],
            name="best, kept",
            mode="markers",
            marker={"symbol": "circle-open", "size": 13, "color": ORANGE, "line": {"width": 2.5}},
            hovertemplate=_HOVER,
        )
    add_power_ticks(figure)
    figure.update_layout(yaxis={"tickmode": "auto"})
    if spans_magnitudes(all_values(figure)):
        make_logarithmic(figure)
    return figure


def metric_groups(history: Sequence[Record], max_names: int = 4) -> list[list[str]]:
    """Return the names of the metrics, those between 0 and 1 together and every other one alone.

    Args:
        history: records of a run.
        max_names: most metrics in a group.
    """
    extremes: dict[str, tuple[float, float]] = {}
    for record in of_event(history, "evaluation"):
        metrics = record.get("metrics")
        for name, found in metrics.items() if isinstance(metrics, Mapping) else ():
            value = number(found)
            if value is not None:
                low, high = extremes.get(name, (value, value))
                extremes[name] = (min(low, value), max(high, value))
    shares = [name for name, (low, high) in extremes.items() if low >= 0 and high <= 1]
    groups = [shares[i : i + max_names] for i in range(0, len(shares), max_names)]
    return groups + [[name] for name in extremes if name not in shares]


def metric_figure(history: Sequence[Record], names: Sequence[str]) -> go.Figure:
    """Return validation metrics over the steps, with a line where the best weights were kept.

    Args:
        history: records of a run.
        names: the metrics drawn, in the order of the legend.
    """
    figure = new_figure(height=270)
    evaluations = of_event(history, "evaluation")
    for place, name in enumerate(names):
        line = curve(evaluations, "metrics", name)
        mode = "lines+markers" if len(line) <= SHORTEST_SMOOTHED else "lines"
        color, dash = COLORWAY[place % len(COLORWAY)], DASHES[place // len(COLORWAY) % len(DASHES)]
        figure.add_trace(trace_of(line, name, color, mode=mode, marker={"size": 5}, dash=dash))
    best = best_evaluation(history)
    if best is not None:
        figure.add_vline(x=best["step"], line={"color": ORANGE, "width": 1.5, "dash": "dot"})
        values = all_values(figure) or [0.0]
        at_best = [number((best.get("metrics") or {}).get(name)) for name in names]
        above = any(value is not None and value > (min(values) + max(values)) / 2 for value in at_best)
        end: dict[str, Any] = {"y": 0, "yanchor": "bottom"} if above else {"y": 1, "yanchor": "top"}
        figure.add_annotation(x=best["step"], yref="paper", text="best ", xanchor="right", **end)
    figure.layout.showlegend = len(names) > 1
    if spans_magnitudes(all_values(figure)) and max(all_values(figure)) > 1:
        add_power_ticks(figure)
        make_logarithmic(figure)
    return figure


def learning_rate_figure(history: Sequence[Record]) -> go.Figure | None:
    """Return the learning rate over the steps, or None where none was recorded."""
    line = curve(of_event(history, "step"), "lr")
    if not has_values(line):
        return None
    figure = new_figure(height=270)
    figure.add_trace(trace_of(line, "learning rate", GREEN))
    figure.update_layout(showlegend=False)
    figure.update_yaxes(exponentformat="power", rangemode="tozero")
    return figure


def clipped_shares(history: Sequence[Record], num_bins: int = 60) -> tuple[list[float], list[float]]:
    """Return the middle step and the share of clipped steps, between 0 and 1, of equal stretches of the run.

    Args:
        history: records of a run.
        num_bins: most stretches.
    """
    records = [record for record in of_event(history, "step") if isinstance(record.get("clipped"), bool)]
    if not records:
        return [], []
    num_bins = min(num_bins, len(records))
    bounds = [i * len(records) // num_bins for i in range(num_bins + 1)]
    stretches = [records[start:end] for start, end in itertools.pairwise(bounds)]
    middles = [float(stretch[len(stretch) // 2]["step"]) for stretch in stretches]
    return middles, [sum(record["clipped"] for record in stretch) / len(stretch) for stretch in stretches]


def clipped_sentence(history: Sequence[Record]) -> str:
    """Return in words how many steps had their gradient clipped."""
    flags = [record.get("clipped") for record in of_event(history, "step")]
    num_clipped, num_known = flags.count(True), flags.count(True) + flags.count(False)
    if not num_clipped:
        return "No step was clipped." if num_known else ""
    share = format_share(num_clipped, num_known)
    return f"The gradient was clipped in {share} of the steps ({format_value(num_clipped)})."


def gradient_norm_figure(history: Sequence[Record]) -> go.Figure | None:
    """Return the norm of the gradient over the steps, above the share of clipped steps where any was clipped.

    Returns:
        The figure, or None where no gradient norm was recorded.
    """
    line = curve(of_event(history, "step"), "grad_norm")
    if not has_values(line):
        return None
    figure = new_figure(height=270)
    _add_smoothed(figure, line, "gradient norm", BLUE)
    figure.update_layout(showlegend=False)
    if spans_magnitudes(all_values(figure), factor=20):
        add_power_ticks(figure)
        make_logarithmic(figure)
    middles, shares = clipped_shares(history)
    if any(shares):
        figure.add_bar(
            x=middles,
            y=shares,
            yaxis="y2",
            name="share of steps clipped",
            width=(max(middles) - min(middles)) / len(middles) or 1,
            marker={"color": ORANGE, "line": {"width": 0}},
            hovertemplate="%{y:.3~p} clipped near step %{x:,}<extra></extra>",
        )
        top = max(shares)
        figure.update_layout(
            yaxis={"domain": [0.36, 1]},
            yaxis2={"domain": [0, 0.17], "range": [0, top], "tickvals": [0, top], "tickformat": ".2~p", "anchor": "x"},
            xaxis={"anchor": "y2"},
        )
        place = {"x": 0, "xref": "paper", "xanchor": "left", "y": 0.18, "yref": "paper", "yanchor": "bottom"}
        figure.add_annotation(text="share of steps clipped", **place)
    return figure


def throughput_figure(history: Sequence[Record]) -> go.Figure | None:
    """Return tokens (or, without tokens, examples) a second over the steps, or None where neither was recorded."""
    records = of_event(history, "step")
    for key in ("tokens_per_second", "examples_per_second"):
        line = curve(records, key)
        if any(line.values):
            figure = new_figure(height=270)
            _add_smoothed(figure, line, key.replace("_per_", " a ").replace("_", " "), PINK)
            figure.update_layout(showlegend=False)
            figure.update_yaxes(rangemode="tozero", exponentformat="SI")
            return figure
    return None
