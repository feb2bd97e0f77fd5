"""Pictures over the steps of a run: the loss with marks, and what happened inside the network."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from thalweg.report import figures
from thalweg.report.curves import Record, of_event, surviving
from thalweg.report.panels import Panel
from thalweg.report.text import figure_text, format_value, number, short_names
from thalweg.report.theme import GRAY, NAMED, colorbar, new_figure

MAX_MARKS = 12  # findings marked on the loss
ROW_HEIGHT = 18  # of a heat map, in pixels
_STEP = re.compile(r"(?:step )?(\d{1,3}(?:,\d{3})+|\d+)")


def loss_panel(history: Sequence[Record], findings: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Return the loss over the steps, with a mark at each step that a finding is about."""
    history = surviving(history)
    figure = figures.loss_figure(history)
    if not figures.all_values(figure):
        return []
    marks = [(place, step) for place, finding in enumerate(findings, start=1) for step in steps_of(finding)][:MAX_MARKS]
    for place, step in marks:
        figure.add_vline(x=step, line={"color": GRAY, "width": 1, "dash": "dot"})
        figure.add_annotation(x=step, y=1, yref="paper", text=str(place), yanchor="bottom")
    text = "Lower is better. Training loss (of each batch faint, its moving average strong) and validation loss."
    if marks:
        text += " Dotted lines stand where the finding of that number is."
    return [Panel("Loss", text, figure=figure, log_toggle=min(figures.all_values(figure)) > 0)]


def steps_of(finding: Mapping[str, Any]) -> list[float]:
    """Return the steps that a finding is about.

    Example:
        >>> steps_of({"where": ["step 1,200", "30", "layers.0"]})
        [1200.0, 30.0]
    """
    where = finding.get("where")
    found = [_STEP.fullmatch(str(entry)) for entry in where] if isinstance(where, list | tuple) else []
    return [float(match[1].replace(",", "")) for match in found if match]


def of_sites(history: Sequence[Record]) -> list[Record]:
    """Return a history in which what was measured at single operations stands in place of the layers."""
    found = []
    for record in of_event(surviving(history), "step"):
        sites = record.get("sites")
        if not isinstance(sites, list | tuple):
            continue
        seen: Counter[str] = Counter()
        layers = {}
        for site in sites:
            if isinstance(site, Mapping):
                name = f"{site.get('name') or 'model'} ({site.get('kind')})"
                seen[name] += 1
                layers[name if seen[name] == 1 else f"{name} {seen[name]}"] = site
        found.append({**record, "layers": layers})
    return found


# What is drawn of the operations: its key, whether it is a share, the title, and how to read it.
QUANTITIES: dict[str, tuple[str, bool, str, str]] = {
    "flow": (
        "flow", False, "Gradient flow by operation",
        "Norm of the gradient with respect to each operation's output, the first on top. Where it shrinks toward the "
        "top, little of the error reaches the first layers; where it grows, steps there are too long.",
    ),
    "deviation": (
        "std", False, "Spread of the activations",
        "Standard deviation of each operation's output. It should neither shrink nor grow from one to the next.",
    ),
    "dead": (
        "dead", True, "Dead units",
        "Share of an activation's units that are zero on all of a batch, and so pass no gradient.",
    ),
    "saturated": (
        "saturated", True, "Saturated activations",
        "Share of an activation's entries at its ends, where its derivative is near zero.",
    ),
    "attention": (
        "entropy", True, "Entropy of attention",
        "1: attention is spread evenly over all tokens; 0: each token looks at one.",
    ),
}  # fmt: skip
LAYERS: dict[str, tuple[str, str, str]] = {
    "gradients": (
        "grad_norm", "Gradient norm by layer",
        "Norm of the gradient of each layer's weights. A layer with much smaller gradients than the others learns "
        "little; a much larger one limits the step.",
    ),
    "updates": (
        "update_ratio", "Update-to-weight ratio by layer",
        "Norm of one step's update divided by the norm of the weights. On mini-batches around 10⁻³ is typical.",
    ),
}  # fmt: skip


def site_panel(history: Sequence[Record], name: str) -> list[Panel]:
    """Return one of `QUANTITIES` over the steps; nothing where it was not recorded."""
    quantity, is_share, title, text = QUANTITIES[name]
    records = of_sites(history)
    figure = share_figure(records, quantity) if is_share else _magnitudes(records, quantity)
    return [] if figure is None else [Panel(title, text, figure=figure)]


def layer_panel(history: Sequence[Record], name: str) -> list[Panel]:
    """Return one of `LAYERS` over the steps; nothing where it was not recorded."""
    quantity, title, text = LAYERS[name]
    figure = _magnitudes(surviving(history), quantity)
    return [] if figure is None else [Panel(title, text, figure=figure)]


def norm_panel(history: Sequence[Record]) -> list[Panel]:
    """Return the norm of the gradient and the share of clipped steps."""
    history = surviving(history)
    figure = figures.gradient_norm_figure(history)
    clipped = figures.clipped_sentence(history)
    if figure is None:
        return []
    return [Panel("Gradient norm", f"Before clipping. {clipped}".strip(), figure=figure, half=True)]


def rate_panel(history: Sequence[Record]) -> list[Panel]:
    """Return the learning rate, where it was not the same all the time."""
    figure = figures.learning_rate_figure(surviving(history))
    return [] if figure is None else [Panel("Learning rate", "As scheduled.", figure=figure, half=True)]


def paired(panels: Sequence[Panel]) -> list[Panel]:
    """Return panels of which each narrow one has a narrow one beside it."""
    found: list[Panel] = []
    is_open = False
    for place, panel in enumerate(panels):
        following = panels[place + 1 : place + 2]
        if panel.half and not is_open and not (following and following[0].half):
            found.append(replace(panel, half=False))
            continue
        is_open = panel.half and not is_open
        found.append(panel)
    return found


def _magnitudes(history: Sequence[Record], quantity: str) -> go.Figure | None:
    _, names, rows = figures.layer_values(history, quantity)
    if not any(value for row in rows for value in row):
        return None  # all of it is zero or unknown
    return figures.layer_figure(history, quantity) if names else None


def share_figure(history: Sequence[Record], quantity: str) -> go.Figure | None:
    """Return a share of each operation over the steps as a heat map from 0 to 1; None where none was recorded."""
    steps, names, rows = figures.layer_values(history, quantity)
    if not names:
        return None
    figure = new_figure(height=ROW_HEIGHT * len(names) + 90)
    full = [figure_text(name, 60) for name in names]
    figure.add_heatmap(
        x=steps,
        y=list(range(len(names))),
        z=rows,
        customdata=[
            [[full[i], format_value(None if number(value) is None else round(float(value or 0.0), 3))] for value in row]
            for i, row in enumerate(rows)
        ],
        coloraxis="coloraxis",
        hovertemplate="%{customdata[0]}<br>%{customdata[1]} at step %{x:,}<extra></extra>",
    )
    bar = colorbar(tickvals=[0, 0.5, 1], ticktext=["0", "½", "1"])
    figure.update_layout(margin={"t": 4, "r": 24}, coloraxis={"cmin": 0, "cmax": 1, "colorbar": bar})
    figure.update_yaxes(
        **NAMED,
        range=[len(names) - 0.5, -0.5],
        tickvals=list(range(len(names))),
        ticktext=[figure_text(name) for name in short_names(names, 30)],
    )
    figure.update_xaxes(showgrid=False)
    if len(steps) == 1 or not math.isfinite(steps[-1]):
        figure.update_xaxes(tickvals=steps)
    return figure
