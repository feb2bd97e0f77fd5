"""Figures of a run's history: records in, plotly figures out, nothing else touched."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import plotly.graph_objects as go

from thalweg.report.curves import Curve, Record, curve, has_values, of_event, smooth, thinned
from thalweg.report.text import figure_text, format_percentage, format_value, number, short_names
from thalweg.report.theme import BLUE, COLORWAY, DASHES, GREEN, NAMED, ORANGE, PINK, RED, colorbar, new_figure

MAX_MARKS = 300  # of rejected steps; more would hide the curve
SHORTEST_SMOOTHED = 60  # points; a shorter curve is drawn as it is
MAX_LINES = 8  # layers drawn as lines; more are a heat map
MAX_COLUMNS = 200  # of a heat map over steps

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


def _add_evaluations(figure: go.Figure, line: Curve, name: str, color: str, dash: str = "solid") -> None:
    """Add a curve over the evaluations, with a mark at each where they are few."""
    mode = "lines+markers" if len(line) <= SHORTEST_SMOOTHED else "lines"
    figure.add_trace(trace_of(line, name, color, mode=mode, marker={"size": 5}, dash=dash))


def _step_figure(history: Sequence[Record], key: str, name: str, color: str, *, is_smooth: bool) -> go.Figure | None:
    """Return one quantity over the steps, or None where it was not recorded."""
    line = curve(of_event(history, "step"), key)
    if not has_values(line):
        return None
    figure = new_figure(height=270)
    if is_smooth:
        _add_smoothed(figure, line, name, color)
    else:
        figure.add_trace(trace_of(line, name, color))
    figure.update_layout(showlegend=False)
    return figure


def make_logarithmic(figure: go.Figure) -> None:
    """Give the vertical axis a logarithmic scale, with the ticks of `add_power_ticks`."""
    add_power_ticks(figure)
    figure.update_layout(yaxis={"type": "log", "tickmode": "array"})


def add_power_ticks(figure: go.Figure) -> None:
    """Set the ticks that the vertical axis uses while it is logarithmic: 1, 2, 5 over a short range, or powers."""
    positive = [value for value in all_values(figure) if value > 0]
    if positive:
        ticks = power_ticks(min(positive), max(positive))
        figure.update_layout(yaxis={"tickvals": ticks, "ticktext": [format_value(tick) for tick in ticks]})


def power_ticks(low: float, high: float) -> list[float]:
    """Return round numbers around positive values, evenly spread on a logarithmic axis: 1, 2, 5 or powers of 10."""
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


def kept_evaluation(history: Sequence[Record]) -> Record | None:
    """Return the evaluation whose weights were kept: the last that says so, of the best or of any score."""
    kept = [record for record in of_event(history, "evaluation") if record.get("kept", record.get("best"))]
    return kept[-1] if kept else None


def sees_all_data(history: Sequence[Record]) -> bool:
    """Whether each step used all training data (so that a step is an epoch at least)."""
    steps = of_event(history, "step")
    return bool(steps) and all((number(record.get("epoch")) or 0.0) >= record["step"] for record in steps)


def _place_of_marks(history: Sequence[Record], event: str) -> list[tuple[Record, float]]:
    """Return records of an event with the last finite training loss before each, where its mark is drawn."""
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
    return places[:: math.ceil(len(places) / MAX_MARKS) or 1]


def _add_rejected(figure: go.Figure, history: Sequence[Record]) -> None:
    """Mark the rejected steps on the loss."""
    marks = _place_of_marks(history, "rejected")
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
    """Draw an arrow from each rollback to the step at which the run resumed."""
    marks = [mark for mark in _place_of_marks(history, "rollback") if number(mark[0].get("to_step")) is not None]
    if marks:
        reasons = [figure_text(record.get("reason", ""), 120) for record, _ in marks]
        figure.add_scatter(
            x=[x for record, _ in marks for x in (record["step"], record["to_step"], None)],
            y=[y for _, loss in marks for y in (loss, loss, None)],
            text=[text for reason in reasons for text in (reason, reason, "")],
            name="rolled back",
            mode="lines+markers",
            line={"color": RED, "width": 1.5, "dash": "dot"},
            marker={"symbol": ["circle", "triangle-left", "circle"] * len(marks), "size": 8, "color": RED},
            hovertemplate="rolled back: %{text}<extra></extra>",
        )


def loss_figure(history: Sequence[Record]) -> go.Figure:
    """Return the loss over the steps: training raw and smoothed, validation, the kept weights, what went wrong.

    The vertical axis is logarithmic where the positive losses differ by a factor of 50 or more.
    """
    figure = new_figure(height=380)
    train = curve(of_event(history, "step"), "loss")
    evaluations = of_event(history, "evaluation")
    validation = curve(evaluations, "loss")
    if has_values(train):
        _add_smoothed(figure, train, "training", BLUE)
    if has_values(validation):
        _add_evaluations(figure, validation, "validation", ORANGE)
    _add_rejected(figure, history)
    _add_rollbacks(figure, history)
    kept = kept_evaluation(history)
    if kept is not None and number(kept.get("loss")) is not None:
        figure.add_scatter(
            x=[kept["step"]],
            y=[kept["loss"]],
            name="kept",
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
    """Return the names of the metrics, those between 0 and 1 together (at most `max_names`), every other one alone."""
    extremes: dict[str, tuple[float, float]] = {}
    for record in of_event(history, "evaluation"):
        metrics = record.get("metrics")
        for name, found in metrics.items() if isinstance(metrics, Mapping) else ():
            value = number(found)
            if value is not None:
                low, high = extremes.get(name, (value, value))
                extremes[name] = (min(low, value), max(high, value))
    fractions = [name for name, (low, high) in extremes.items() if low >= 0 and high <= 1]
    groups = [fractions[i : i + max_names] for i in range(0, len(fractions), max_names)]
    return groups + [[name] for name in extremes if name not in fractions]


def metric_figure(history: Sequence[Record], names: Sequence[str]) -> go.Figure:
    """Return the validation metrics `names` over the steps, with a line at the weights that were kept."""
    figure = new_figure(height=270)
    evaluations = of_event(history, "evaluation")
    for place, name in enumerate(names):
        color, dash = COLORWAY[place % len(COLORWAY)], DASHES[place // len(COLORWAY) % len(DASHES)]
        _add_evaluations(figure, curve(evaluations, "metrics", name), name, color, dash)
    kept = kept_evaluation(history)
    if kept is not None:
        figure.add_vline(x=kept["step"], line={"color": ORANGE, "width": 1.5, "dash": "dot"})
        values = all_values(figure) or [0.0]
        at_line = [number((kept.get("metrics") or {}).get(name)) for name in names]
        above = any(value is not None and value > (min(values) + max(values)) / 2 for value in at_line)
        end: dict[str, Any] = {"y": 0, "yanchor": "bottom"} if above else {"y": 1, "yanchor": "top"}
        figure.add_annotation(x=kept["step"], yref="paper", text="kept ", xanchor="right", **end)
    figure.layout.showlegend = len(names) > 1
    if spans_magnitudes(all_values(figure)) and max(all_values(figure)) > 1:
        make_logarithmic(figure)
    return figure


def learning_rate_figure(history: Sequence[Record]) -> go.Figure | None:
    """Return the learning rate over the steps, or None where none was recorded or it never changed."""
    rates = {value for value in curve(of_event(history, "step"), "lr").values if value is not None}
    if len(rates) < 2:
        return None
    figure = _step_figure(history, "lr", "learning rate", GREEN, is_smooth=False)
    if figure is not None:
        figure.update_yaxes(exponentformat="power", rangemode="tozero")
    return figure


def clipped_fractions(history: Sequence[Record], num_bins: int = 60) -> tuple[list[float], list[float]]:
    """Return the middle step and the fraction of clipped steps of at most `num_bins` equal stretches of the run."""
    records = [record for record in of_event(history, "step") if isinstance(record.get("clipped"), bool)]
    if not records:
        return [], []
    num_bins = min(num_bins, len(records))
    bounds = [i * len(records) // num_bins for i in range(num_bins + 1)]
    stretches = [records[start:end] for start, end in itertools.pairwise(bounds)]
    middles = [float(stretch[len(stretch) // 2]["step"]) for stretch in stretches]
    return middles, [sum(record["clipped"] for record in stretch) / len(stretch) for stretch in stretches]


def clipped_sentence(history: Sequence[Record]) -> str:
    """Return in words how many steps had their gradient clipped; "" where none had."""
    flags = [record.get("clipped") for record in of_event(history, "step")]
    num_clipped, num_known = flags.count(True), flags.count(True) + flags.count(False)
    if not num_clipped:
        return ""
    percentage = format_percentage(num_clipped, num_known)
    return f"The gradient was clipped in {percentage} of the steps ({format_value(num_clipped)})."


def gradient_norm_figure(history: Sequence[Record]) -> go.Figure | None:
    """Return the gradient norm over the steps, above the fraction of clipped steps if any; None without records."""
    figure = _step_figure(history, "grad_norm", "gradient norm", BLUE, is_smooth=True)
    if figure is None:
        return None
    if spans_magnitudes(all_values(figure), factor=20):
        make_logarithmic(figure)
    middles, fractions = clipped_fractions(history)
    if any(fractions):
        figure.add_bar(
            x=middles,
            y=fractions,
            yaxis="y2",
            name="fraction of steps clipped",
            width=(max(middles) - min(middles)) / len(middles) or 1,
            marker={"color": ORANGE, "line": {"width": 0}},
            hovertemplate="%{y:.3~p} clipped near step %{x:,}<extra></extra>",
        )
        top = max(fractions)
        figure.update_layout(
            yaxis={"domain": [0.36, 1]},
            yaxis2={"domain": [0, 0.17], "range": [0, top], "tickvals": [0, top], "tickformat": ".2~p", "anchor": "x"},
            xaxis={"anchor": "y2"},
        )
        place = {"x": 0, "xref": "paper", "xanchor": "left", "y": 0.18, "yref": "paper", "yanchor": "bottom"}
        figure.add_annotation(text="fraction of steps clipped", **place)
    return figure


def gap_figure(history: Sequence[Record]) -> go.Figure | None:
    """Return the relative gap between loss and proved bound over the steps; None where the method knows none."""
    figure = _step_figure(history, "gap", "relative gap", ORANGE, is_smooth=False)
    if figure is not None and spans_magnitudes(all_values(figure), factor=20):
        make_logarithmic(figure)
    return figure


def throughput_figure(history: Sequence[Record]) -> go.Figure | None:
    """Return tokens (or, without tokens, examples) per second over the steps, or None where neither was recorded.

    None, too, where each step used all the data: a method that looks at them several times a step has no such speed.
    """
    if sees_all_data(history):
        return None
    for key in ("tokens_per_second", "examples_per_second"):
        if any(curve(of_event(history, "step"), key).values):
            figure = _step_figure(history, key, key.replace("_", " "), PINK, is_smooth=True)
            return figure and figure.update_yaxes(rangemode="tozero", exponentformat="SI")
    return None


def layer_values(history: Sequence[Record], quantity: str) -> tuple[list[float], list[str], list[list[float | None]]]:
    """Return the steps, the layers and the values [layer][step] of "update_ratio" or "grad_norm", where recorded.

    A step that was repeated after a rollback counts once, with its last values; more than `MAX_COLUMNS` steps are
    joined in stretches of which the largest value is kept.
    """
    by_step = {
        float(record["step"]): record["layers"]
        for record in of_event(history, "step")
        if isinstance(record.get("layers"), Mapping)
    }
    names = list(dict.fromkeys(name for layers in by_step.values() for name in layers))
    steps = sorted(by_step)
    size = math.ceil(len(steps) / MAX_COLUMNS) or 1
    stretches = [steps[i : i + size] for i in range(0, len(steps), size)]

    def largest(name: str, stretch: list[float]) -> float | None:
        found = [number((by_step[step].get(name) or {}).get(quantity)) for step in stretch]
        return max((value for value in found if value is not None), default=None)

    rows = [[largest(name, stretch) for stretch in stretches] for name in names]
    kept = [i for i, row in enumerate(rows) if any(value is not None for value in row)]
    return [stretch[0] for stretch in stretches], [names[i] for i in kept], [rows[i] for i in kept]


def layer_figure(history: Sequence[Record], quantity: str) -> go.Figure | None:
    """Return a quantity of every layer over the steps: lines for a few, a heat map for many; None without any."""
    steps, names, rows = layer_values(history, quantity)
    if not names:
        return None
    if len(names) > MAX_LINES:
        return _layer_map(steps, names, rows)
    figure = new_figure(height=300)
    for place, (name, row) in enumerate(zip(short_names(names, 40), rows, strict=True)):
        line = Curve(steps, row, [None] * len(row))
        figure.add_trace(trace_of(line, name, COLORWAY[place % len(COLORWAY)]))
    make_logarithmic(figure)
    return figure


def _layer_map(steps: list[float], names: list[str], rows: list[list[float | None]]) -> go.Figure:
    """Return a heat map with a row per layer, the first on top, colored by the power of ten."""
    row_height = 18 if len(names) <= 30 else 12 if len(names) <= 120 else 6
    figure = new_figure(height=row_height * len(names) + 80)
    powers = [[round(math.log10(value), 3) if value and value > 0 else None for value in row] for row in rows]
    known = [power for row in powers for power in row if power is not None] or [0.0]
    ticks = list(range(math.ceil(min(known)), math.floor(max(known)) + 1))
    ticks = ticks[:: math.ceil(len(ticks) / 5) or 1]
    full = [figure_text(name, 60) for name in names]
    figure.add_heatmap(
        x=steps,
        y=list(range(len(names))),
        z=powers,
        customdata=[[[full[i], value and float(f"{value:.4g}")] for value in row] for i, row in enumerate(rows)],
        coloraxis="coloraxis",
        hovertemplate="%{customdata[0]}<br>%{customdata[1]:.3~g} at step %{x:,}<extra></extra>",
    )
    figure.update_layout(
        margin={"t": 4, "r": 24},
        coloraxis={"colorbar": colorbar(tickvals=ticks, ticktext=[format_value(10.0**tick) for tick in ticks])},
    )
    every = 1 if row_height >= 12 else 2
    shown = list(range(0, len(names), every))
    figure.update_yaxes(
        **NAMED,
        range=[len(names) - 0.5, -0.5],
        tickvals=shown,
        ticktext=[figure_text(name) for name in short_names(names, 26)[::every]],
        tickfont={"size": 11 if row_height >= 18 else 9},
    )
    figure.update_xaxes(showgrid=False)
    return figure
