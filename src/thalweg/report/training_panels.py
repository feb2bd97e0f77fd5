"""The panels that show how a training run went."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from thalweg.errors import counted
from thalweg.report import figures
from thalweg.report.curves import Record, curve, of_event, surviving
from thalweg.report.panels import Panel, table
from thalweg.report.text import format_value, number

INCIDENTS = {"rejected": "rejected", "rollback": "rolled back", "resumed": "resumed"}
MAX_INCIDENTS = 50
SHORTEST_AUTOMATIC_TICKS = 10  # steps


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _loss(history: Sequence[Record]) -> Panel | None:
    figure = figures.loss_figure(history)
    values = figures.all_values(figure)
    if not values:
        return None
    whole = figures.sees_all_data(history)
    text = "Lower is better. Training: " + ("the loss on all training data" if whole else "the mean loss of each batch")
    if len(of_event(history, "step")) >= figures.SHORTEST_SMOOTHED:
        text += " (faint) and its moving average (strong)"
    text += (
        ". Validation: data that the model was not trained on; where it rises while the training loss still falls, the "
        "model is memorizing its training data. With --l2 the penalty is in the training loss only."
    )
    kept = figures.kept_evaluation(history)
    if kept is not None and number(kept.get("loss")) is not None:
        loss, step = format_value(kept["loss"]), format_value(kept["step"])
        text += f" The ring marks the weights that were kept: {loss} at step {step}."
    return Panel("Loss", text, figure=figure, log_toggle=min(values) > 0)


def _metrics(history: Sequence[Record], metrics: Sequence[Mapping[str, Any]]) -> list[Panel]:
    if len(of_event(history, "evaluation")) < 2:  # a single value is on its card
        return []
    better = {metric["name"]: f"{metric['better']} is better" for metric in metrics}
    panels = []
    for names in figures.metric_groups(history):
        words = {better[name] for name in names if name in better}
        text = "On the validation data"
        text += f"; {words.pop()}." if len(words) == 1 and all(name in better for name in names) else "."
        title = ", ".join(names)
        panels.append(Panel(title, text, figure=figures.metric_figure(history, names), half=True))
    return panels


def _half(title: str, text: str, figure: go.Figure | None) -> list[Panel]:
    return [Panel(title, text, figure=figure, half=True)] if figure is not None else []


def _rate_sentence(history: Sequence[Record]) -> str:
    rates = [rate for rate in curve(of_event(history, "step"), "lr").values if rate is not None]
    peak = f" Its peak was {format_value(float(f'{max(rates):.3g}'))}." if rates else ""
    return f"The step size as scheduled.{peak}"


def _gradient_sentence(history: Sequence[Record]) -> str:
    clipped = figures.clipped_sentence(history)
    return f"Norm of the gradient before clipping. {clipped}" if clipped else "Norm of the gradient."


def _throughput(history: Sequence[Record]) -> list[Panel]:
    records = of_event(history, "step")
    rates = [
        f"{format_value(float(f'{mean:.3g}'))} {what} per second"
        for what, mean in (
            ("examples", _mean(curve(records, "examples_per_second").values)),
            ("tokens", _mean(curve(records, "tokens_per_second").values)),
        )
        if mean
    ]
    figure = figures.throughput_figure(history)
    what = "Tokens" if any(curve(records, "tokens_per_second").values) else "Examples"
    return _half("Speed", f"{what} per second; on average {' and '.join(rates)}.", figure)


# How to read what layers do, of steps on mini-batches and of steps on all data.
_RATIO = "Norm of one step's update divided by the norm of the weights."
_LAYERS = {
    "update_ratio": (
        "Update-to-weight ratio by layer",
        f"{_RATIO} Around 10⁻³ is typical; much less means that a layer hardly learns, much more that its training is "
        "unstable.",
        f"{_RATIO} Steps on all data may be as long as the weights; the ratio falls as the training converges.",
    ),
    "grad_norm": (
        "Gradient norm by layer",
        "A layer with much smaller gradients than the others learns little; a much larger one limits the step.",
        "It falls in every layer as the training converges.",
    ),
}


def _layers(history: Sequence[Record]) -> list[Panel]:
    panels = []
    for quantity, (title, of_batches, of_all_data) in _LAYERS.items():
        text = of_all_data if figures.sees_all_data(history) else of_batches
        figure = figures.layer_figure(history, quantity)
        if figure is not None:
            panels.append(Panel(title, text, figure=figure))
    return panels


def incident_rows(history: Sequence[Record]) -> list[list[object]]:
    """Return a row (step, what, why) per rejected step, rollback and resume, equal neighbors joined into one."""
    rows: list[list[object]] = []
    last: tuple[object, object, float] | None = None
    num_joined = 1
    for record in history:
        event, step = record.get("event"), number(record.get("step"))
        if event not in INCIDENTS or step is None:
            continue
        reason = str(record.get("reason", ""))
        if event == "rollback":
            reason += f" (resumed from step {format_value(record.get('to_step'))}"
            scale = number(record.get("lr_scale"))
            reason += f", steps scaled by {format_value(scale)})" if scale is not None else ")"
        if event == "rejected" and last is not None and last[:2] == (event, reason) and step == last[2] + 1:
            num_joined += 1
            rows[-1][0] = f"{format_value(int(step) - num_joined + 1)} to {format_value(int(step))}"
        else:
            num_joined = 1
            rows.append([format_value(int(step)), INCIDENTS[event], reason or "–"])
        last = (event, reason, step)
    return rows


def _incidents(history: Sequence[Record]) -> list[Panel]:
    rows = incident_rows(history)
    if not rows:
        return []
    num_rejected, num_back = (len(of_event(history, event)) for event in ("rejected", "rollback"))
    text = (
        f"{counted(num_rejected, 'rejected step')}, {counted(num_back, 'rollback')} to an earlier checkpoint. "
        "A step whose loss or gradient is not finite is never applied to the weights."
    )
    shown = table(["step", "event", "reason"], rows[:MAX_INCIDENTS])
    return [Panel("Incidents", text, table=replace(shown, num_left_out=max(0, len(rows) - MAX_INCIDENTS)))]


def training_panels(history: Sequence[Record], metrics: Sequence[Mapping[str, Any]] = ()) -> list[Panel]:
    """Return what a history shows: loss, metrics, gap, learning rate, gradients, speed, layers, incidents.

    What would say nothing of a run (a learning rate that never changes, the speed of steps on all data) is left out.
    """
    history = surviving(history)
    loss = _loss(history)
    halves = [
        *_metrics(history, metrics),
        *_half(
            "Relative gap",
            "How far the loss is above what is proved to be out of reach, relative to the loss; training stops at the "
            "tolerance of --certify.",
            figures.gap_figure(history),
        ),
        *_half("Learning rate", _rate_sentence(history), figures.learning_rate_figure(history)),
        *_half(
            "Gradient norm",
            _gradient_sentence(history),
            figures.gradient_norm_figure(history),
        ),
        *_throughput(history),
    ]
    if len(halves) % 2:
        halves[-1] = replace(halves[-1], half=False)
    panels = [*([loss] if loss else []), *_incidents(history), *halves, *_layers(history)]
    if max((record["step"] for record in of_event(history, "step")), default=0) <= SHORTEST_AUTOMATIC_TICKS:
        for panel in panels:
            if panel.figure is not None:
                panel.figure.update_xaxes(dtick=1)  # there is no half step
    return panels
