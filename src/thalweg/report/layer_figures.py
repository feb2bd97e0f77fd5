"""Figures of single layers over a run: lines for a few, a heat map for many."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from thalweg.report.curves import Curve, Record, of_event
from thalweg.report.figures import add_power_ticks, make_logarithmic, trace_of
from thalweg.report.text import distinct, figure_text, format_value, number, short_names
from thalweg.report.theme import COLORWAY, colorbar, new_figure

MAX_LINES = 8  # layers drawn as lines; more are a heat map
MAX_COLUMNS = 200  # of a heat map over steps


def layer_values(history: Sequence[Record], quantity: str) -> tuple[list[float], list[str], list[list[float | None]]]:
    """Return the steps, the layers and the values [layer][step] of a quantity that is recorded now and then.

    A step that was done again after a rollback counts once, with its last values; more than `MAX_COLUMNS` steps are
    joined in stretches of which the largest value is kept.

    Args:
        history: records of a run.
        quantity: ``"update_ratio"`` or ``"grad_norm"``.
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
    rows: list[list[float | None]] = []
    for name in names:
        row: list[float | None] = []
        for stretch in stretches:
            found = [number((by_step[step].get(name) or {}).get(quantity)) for step in stretch]
            row.append(max((value for value in found if value is not None), default=None))
        rows.append(row)
    kept = [i for i, row in enumerate(rows) if any(value is not None for value in row)]
    return [stretch[0] for stretch in stretches], [names[i] for i in kept], [rows[i] for i in kept]


def layer_figure(history: Sequence[Record], quantity: str) -> go.Figure | None:
    """Return a quantity of every layer over the steps: lines for a few layers, a heat map for many.

    Args:
        history: records of a run.
        quantity: ``"update_ratio"`` or ``"grad_norm"``.

    Returns:
        The figure, its values on a logarithmic scale, or None where the quantity was not recorded.
    """
    steps, names, rows = layer_values(history, quantity)
    if not names:
        return None
    if len(names) > MAX_LINES:
        return _layer_map(steps, names, rows)
    figure = new_figure(height=300)
    for place, (name, row) in enumerate(zip(short_names(names, 40), rows, strict=True)):
        line = Curve(steps, row, [None] * len(row))
        figure.add_trace(trace_of(line, name, COLORWAY[place % len(COLORWAY)]))
    add_power_ticks(figure)
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
    figure.add_heatmap(
        x=steps,
        y=distinct([figure_text(name, 60) for name in names]),
        z=powers,
        customdata=[[value and float(f"{value:.4g}") for value in row] for row in rows],
        coloraxis="coloraxis",
        hovertemplate="%{y}<br>%{customdata:.3~g} at step %{x:,}<extra></extra>",
    )
    figure.update_layout(
        margin={"t": 4, "r": 24},
        coloraxis={"colorbar": colorbar(tickvals=ticks, ticktext=[format_value(10.0**tick) for tick in ticks])},
    )
    every = 1 if row_height >= 12 else 2
    shown = list(range(0, len(names), every))
    figure.update_yaxes(
        type="category",
        autorange="reversed",
        tickvals=shown,
        ticktext=[figure_text(name) for name in short_names(names, 26)[::every]],
        tickfont={"size": 11 if row_height >= 18 else 9},
        showgrid=False,
        tickcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(showgrid=False)
    return figure
