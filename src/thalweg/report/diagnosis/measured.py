"""Pictures of what probes measured at the weights: spectrum, loss around them, single examples, predictions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.report.comparison.entries import entries, mapping, text, values
from thalweg.report.figures import spans_magnitudes
from thalweg.report.panels import Panel, table
from thalweg.report.text import figure_text, format_value, number, visible
from thalweg.report.theme import BLUE, COLORWAY, GRAY, ORANGE, RED, colorbar, new_figure

GRID = 240  # points of the density
WIDTH = 0.01  # of a bump, relative to the whole spectrum
LOWEST = 1e-6  # density that is still drawn
MAX_EXAMPLES = 20
MAX_LABELS = 30
HIGHEST = 4.0  # how far above the lowest loss a surface goes, in heights of its path
NAMES = {
    "path": "first component of the path",
    "path-2": "second component of the path",
    "random": "random direction",
    "gradient": "gradient",
    "largest": "largest curvature",
    "smallest": "smallest curvature",
}


def spectrum_panel(probes: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Panel]:
    """Return the density of the Hessian's eigenvalues, with both ends."""
    found = mapping(probes, "spectrum")
    nodes = [
        (x, w)
        for pair in values(found, "density")
        if isinstance(pair, list | tuple) and len(pair) == 2
        for x, w in [(number(pair[0]), number(pair[1]))]
        if x is not None and w is not None and w > 0.0
    ]
    high, low = number(found.get("sharpness")), number(found.get("smallest"))
    if not nodes:
        return []
    ends = [x for x, _ in nodes] + [x for x in (high, low) if x is not None]
    reach = (max(ends) - min(ends)) or 1.0
    grid = [min(ends) - 0.05 * reach + 1.1 * reach * i / (GRID - 1) for i in range(GRID)]
    width = WIDTH * reach
    density = [sum(w * math.exp(-0.5 * ((x - node) / width) ** 2) for node, w in nodes) for x in grid]
    figure = new_figure(height=320, x_title="eigenvalue", y_title="share of eigenvalues")
    figure.add_scatter(
        x=grid,
        y=[max(value, LOWEST) for value in density],
        mode="lines",
        line={"color": BLUE, "width": 2},
        name="density",
        hovertemplate="around %{x:.3~g}<extra></extra>",
    )
    figure.update_layout(
        yaxis={"type": "log", "exponentformat": "power", "dtick": 1, "range": [math.log10(LOWEST), 0.3]},
        showlegend=False,
    )
    for end, name, side in ((high, "largest", "right"), (low, "smallest", "left")):
        if end is not None:
            figure.add_vline(x=end, line={"color": RED, "width": 1.5, "dash": "dot"})
            figure.add_annotation(x=end, y=0.98, yref="paper", text=f"{name} {format_value(end)} ", xanchor=side)
    words = "Curvature of the training loss at these weights, over all directions. "
    words += "Eigenvalues below 0 are directions in which the loss curves down."
    rate = number(facts.get("lr"))
    if high is not None and rate:
        words += (
            f" The largest one times the peak learning rate is {format_value(float(f'{high * rate:.3g}'))} (plain "
            "gradient descent is stable below 2; other optimizers scale the curvature first)."
        )
    return [Panel("Spectrum of the Hessian", words, figure=figure)]


def landscape_panels(probes: Mapping[str, Any]) -> list[Panel]:
    """Return the loss around the weights as a surface that can be turned, and along lines."""
    found = mapping(probes, "landscape")
    panels = []
    if plane := mapping(found, "plane"):
        panels += _surface(plane)
    if lines := entries(found, "lines"):
        panels += _lines(lines)
    return panels


def _surface(plane: Mapping[str, Any]) -> list[Panel]:
    places = [[number(value) for value in axis] for axis in values(plane, "places") if isinstance(axis, list | tuple)]
    losses = [[number(value) for value in row] for row in values(plane, "losses") if isinstance(row, list | tuple)]
    known = [value for row in losses for value in row if value is not None]
    if len(places) != 2 or not known:
        return []
    names = [NAMES.get(str(name), figure_text(name, 40)) for name in values(plane, "directions")]
    path = [
        (text(place, "name"), number(at[0]), number(at[1]), number(place.get("loss")), number(place.get("away")))
        for place in entries(plane, "path")
        if len(at := values(place, "at")) == 2
    ]
    here = number(plane.get("loss"))
    path.append(("these weights", 0.0, 0.0, here, 0.0))
    heights = [loss for *_, loss, _ in path if loss is not None]
    low = min(known)
    top = low + HIGHEST * (max([*heights, low]) - low) if len(heights) > 1 else max(known)
    top = max(known) if top <= low else min(max(known), top)
    figure = new_figure(height=460)
    figure.add_surface(
        x=places[0],
        y=places[1],
        z=[[value if value is not None and value <= top else None for value in row] for row in losses],
        coloraxis="coloraxis",
        name="loss",
        contours={"z": {"show": True, "usecolormap": True, "width": 1}},
        hovertemplate="loss %{z:.4~g}<extra></extra>",
    )
    shown = [one for one in path if None not in one[1:4] and (one[3] or 0.0) <= top]
    figure.add_scatter3d(
        x=[one[1] for one in shown],
        y=[one[2] for one in shown],
        z=[one[3] for one in shown],
        customdata=[[figure_text(name, 40), format_value(away)] for name, *_, away in shown],
        mode="lines+markers",
        line={"color": ORANGE, "width": 5},
        marker={"color": ORANGE, "size": 4},
        name="path",
        hovertemplate="%{customdata[0]}: loss %{z:.4~g}, %{customdata[1]} away from the plane<extra></extra>",
        showlegend=False,
    )
    axes = {
        axis: {"title": {"text": name}, "tickfont": {"size": 10}}
        for axis, name in zip(("xaxis", "yaxis"), names, strict=False)
    }
    figure.update_layout(
        scene={**axes, "zaxis": {"title": {"text": "loss"}}, "dragmode": "turntable", "aspectmode": "cube"},
        coloraxis={"colorbar": colorbar(title={"text": ""})},
        margin={"l": 0, "r": 0, "t": 24, "b": 0},
    )
    words = "Drag to turn it, scroll to zoom. The loss on a plane through the weights."
    if len(shown) > 1:
        words += (
            f" The line is the way that training took, from {figure_text(shown[0][0], 40)} to {shown[-1][0]}; its "
            "points lie at their own losses, beside the surface where they are away from the plane."
        )
    words += " A plane is two of very many directions: what it does not show may be steep."
    return [Panel("Loss around the weights", visible(words), figure=figure)]


def _lines(lines: Sequence[Mapping[str, Any]]) -> list[Panel]:
    figure = new_figure(height=300, x_title="steps along the direction", y_title="loss")
    heights = []
    for place, line in enumerate(lines):
        axes, losses, lengths = (values(line, key) for key in ("places", "losses", "lengths"))
        names = [NAMES.get(str(name), figure_text(name, 40)) for name in values(line, "directions")]
        if not (axes and losses and names and lengths) or not isinstance(losses[0], list | tuple):
            continue
        row = [number(value) for value in losses[0]]
        heights += [value for value in row if value is not None]
        figure.add_scatter(
            x=list(axes[0]),
            y=row,
            mode="lines",
            line={"color": COLORWAY[place % len(COLORWAY)], "width": 2},
            name=f"{names[0]} (a step is {format_value(lengths[0])} long)",
            hovertemplate="loss %{y:.4~g}<extra>%{fullData.name}</extra>",
        )
    if not heights:
        return []
    if spans_magnitudes(heights):
        figure.update_yaxes(type="log", exponentformat="power")
    return [Panel("Loss along single directions", "0 is the weights as they are.", figure=figure)]


def between_panel(probes: Mapping[str, Any]) -> list[Panel]:
    """Return the loss on the line to another run."""
    found = mapping(probes, "between")
    places = [number(value) for value in values(found, "places")]
    losses = [number(value) for value in values(found, "losses")]
    if len(places) < 2 or len(places) != len(losses):
        return []
    figure = new_figure(height=280, x_title="from this run (0) to the other (1)", y_title="loss")
    figure.add_scatter(x=places, y=losses, mode="lines+markers", line={"color": BLUE}, name="loss on the line")
    figure.add_scatter(
        x=[places[0], places[-1]],
        y=[losses[0], losses[-1]],
        mode="lines",
        line={"color": GRAY, "dash": "dash", "width": 1},
        name="without a barrier",
    )
    barrier = number(found.get("barrier"))
    height = "not finite: the loss on the way is not" if barrier is None else format_value(float(f"{barrier:.4g}"))
    words = f"To {text(found, 'other', 'the other run')}. Barrier: {height}. None, or a low one, says that both lie in "
    return [Panel("Loss between two runs", f"{words}one valley.", figure=figure)]


def examples_panel(probes: Mapping[str, Any]) -> list[Panel]:
    """Return the training examples with the largest losses, with their texts where these are known."""
    hardest = entries(probes, "hardest")
    keys = [key for key in ("line", "text", "target", "prediction", "loss") if any(key in one for one in hardest)]
    if not keys:
        return []
    rows = [[_said(one.get(key)) for key in keys] for one in hardest[:MAX_EXAMPLES]]
    words = "Where the training loss is largest, of the examples that were looked at. Wrong labels gather here."
    return [Panel("Hardest training examples", words, table=table(keys, rows, stacked=True))]


def _said(value: Any) -> Any:
    return value if number(value) is not None or isinstance(value, str) or value is None else str(value)


def predictions_panel(probes: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Panel]:
    """Return how often each label was given beside how often it is right."""
    found = mapping(probes, "predictions")
    known = [str(name) for name in values(mapping(facts, "data"), "label_names")]
    triples = []
    for place, one in enumerate(entries(found, "by_class")):
        right, given = number(one.get("labels")), number(one.get("predicted"))
        if right is not None and given is not None:
            triples.append((known[place] if place < len(known) else text(one, "class", "?"), right, given))
    triples = sorted(triples, key=lambda one: -one[1])[:MAX_LABELS]
    if not triples:
        return []
    figure = new_figure(height=300, x_title="label", y_title="examples")
    ticks = list(range(len(triples)))
    for place, (name, color) in enumerate((("true", BLUE), ("predicted", ORANGE)), start=1):
        heights = [one[place] for one in triples]
        figure.add_bar(x=ticks, y=heights, name=name, marker={"color": color, "line": {"width": 0}})
    figure.update_xaxes(
        type="linear", showgrid=False, tickvals=ticks, ticktext=[figure_text(one[0], 20) for one in triples]
    )
    figure.update_layout(barmode="group")
    whose = "validation" if text(found, "of") == "valid" else "training"
    words = f"Of {whose} examples. A label that is never predicted has no second bar."
    return [Panel("Predictions and labels", words, figure=figure)]
