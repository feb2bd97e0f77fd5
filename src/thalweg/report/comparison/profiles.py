"""The figure of several data sets: on which share of them an entrant is so many times as slow as the best, at most."""

from collections.abc import Mapping
from typing import Any

from thalweg.report.comparison.entries import Look, entries, mapping, values
from thalweg.report.figures import power_ticks
from thalweg.report.panels import Panel
from thalweg.report.text import figure_text, format_value, number
from thalweg.report.theme import new_figure


def profiles_panel(comparison: Mapping[str, Any], found: Mapping[str, Look]) -> list[Panel]:
    """Return the panel of the performance profiles; none where there are none.

    Args:
        comparison: what `compare.json` says.
        found: look of each entrant.
    """
    profiles = comparison.get("profiles")
    if not isinstance(profiles, Mapping):
        return []
    ratios = [ratio for value in values(profiles, "ratios") if (ratio := number(value)) is not None and ratio >= 1.0]
    shares = profiles.get("shares")
    if not ratios or not isinstance(shares, Mapping):
        return []
    end = 1.3 * max(*ratios, 1.6)
    figure = new_figure(
        height=340 + 22 * max(0, len(shares) - 4), x_title="times as slow as the best", y_title="share of the data sets"
    )
    for name in shares:
        look = found.get(str(name))
        if look is None:
            continue
        known = [number(value) or 0.0 for value in values(shares, name)][: len(ratios)]
        label = figure_text(look.label, 32)
        figure.add_scatter(
            x=[*ratios[: len(known)], end],
            y=[*known, known[-1] if known else 0.0],
            name=label,
            mode="lines",
            line={"color": look.color, "width": 2.5, "dash": look.dash, "shape": "hv"},
            hovertemplate=f"%{{y:.0%}} of the data sets within %{{x:.3~g}} times the best<extra>{label}</extra>",
        )
    if not figure.data:
        return []
    ticks = power_ticks(1.0, end)
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[format_value(tick) for tick in ticks], tickangle=0)
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    figure.update_layout(showlegend=True)
    size = sum(not data.get("failed") for data in entries(comparison, "data"))
    by_steps = any("steps" in mapping(data, "budget") for data in entries(comparison, "data"))
    unit = "gradient evaluations" if by_steps else "seconds of training"
    words = (
        "A line at 1 tells on which share of the data sets an entrant reaches the target first; farther right, on "
        "which share it takes at most so many times as long as the fastest one there. A line that ends under 100 % has "
        "not reached the target on the other data sets within its budget. Lines over "
        f"{format_value(size)} data sets tell little about others. Times are medians over the runs, in {unit}. "
        "After Dolan and Moré (2002)."
    )
    return [Panel("Over all data sets", words, figure=figure)]
