"""Colors and the base layout of every figure: one set of line colors, a light and a dark ground."""

from typing import Any

import plotly.graph_objects as go

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# Middle tones after the color-blind safe set of Okabe and Ito (2008), each with a contrast of at least 3 against both
# grounds, so that the same figure serves the light and the dark page.
BLUE, ORANGE, GREEN, PINK, RED, GRAY = "#3b7dd8", "#d27519", "#17966f", "#b765b5", "#d6403a", "#7b8594"
COLORWAY = [BLUE, ORANGE, GREEN, PINK, "#9a7d12", "#1f93b5", RED, GRAY]
DASHES = ["solid", "dash", "dot", "dashdot"]

# An axis of names: they are the tick texts of whole numbers. On plotly's own axis of categories a tick at 1 is the
# category *called* "1" where there is one, else the second one, and a name may be read as the date it looks like.
NAMED = {"type": "linear", "showgrid": False, "tickcolor": "rgba(0,0,0,0)"}

_LIGHT_SCALE = [[0, "#f3f6fa"], [0.02, "#e3edf8"], [0.25, "#a9cbee"], [0.6, "#4585cf"], [1, "#0b3a78"]]
_DARK_SCALE = [[0, "#1d222b"], [0.02, "#213046"], [0.25, "#25507f"], [0.6, "#4a93dc"], [1, "#d3e9ff"]]


def _template(ink: str, faint_ink: str, grid: str, ground: str, scale: list[list[Any]]) -> dict[str, Any]:
    """Return a plotly template of one ground."""
    axis = {
        "gridcolor": grid,
        "linecolor": grid,
        "tickcolor": grid,
        "zerolinecolor": grid,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickfont": {"color": faint_ink, "size": 11},
        "title": {"font": {"color": faint_ink, "size": 12}, "standoff": 8},
        "automargin": True,
    }
    scene_axis = {
        "gridcolor": grid,
        "linecolor": grid,
        "zerolinecolor": grid,
        "showbackground": False,
        "tickfont": {"color": faint_ink, "size": 10},
        "title": {"font": {"color": faint_ink, "size": 11}},
    }
    return {
        "layout": {
            "scene": {"xaxis": scene_axis, "yaxis": scene_axis, "zaxis": scene_axis},
            "font": {"family": FONT, "size": 12, "color": ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": COLORWAY,
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"font": {"color": ink, "size": 12}, "bgcolor": "rgba(0,0,0,0)"},
            "hoverlabel": {
                "bgcolor": ground,
                "bordercolor": grid,
                "font": {"family": FONT, "size": 12, "color": ink},
                "align": "left",
                "namelength": -1,
            },
            "coloraxis": {
                "colorscale": scale,
                "colorbar": {"tickfont": {"color": faint_ink, "size": 11}, "outlinewidth": 0},
            },
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": faint_ink, "activecolor": BLUE},
            "annotationdefaults": {"font": {"color": faint_ink, "size": 11}, "showarrow": False},
        }
    }


LIGHT = _template("#1b2129", "#5a6472", "#e3e7ec", "#ffffff", _LIGHT_SCALE)
DARK = _template("#e4e8ee", "#9aa5b3", "#2e3540", "#1f242c", _DARK_SCALE)


def new_figure(height: int, x_title: str = "step", y_title: str | None = None) -> go.Figure:
    """Return an empty figure of a height in pixels; the width follows the page, which brings the colors of its ground.

    The titles of the axes must be safe for plotly; no vertical one where the figure's heading says it.
    """
    return go.Figure(
        layout={
            "template": "none",  # plotly checks a template anew for each figure
            "height": height,
            "autosize": True,
            "margin": {"l": 40, "r": 14, "t": 14, "b": 30},
            "xaxis": {"title": {"text": x_title}},
            "yaxis": {"title": {"text": y_title}} if y_title else {},
            "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
            "hovermode": "closest",
        }
    )


def colorbar(**settings: Any) -> dict[str, Any]:
    """Return a thin color bar above the upper right corner, where a narrow screen has room for it."""
    place = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"}
    return {**place, "thickness": 8, "len": 0.5, "xpad": 0, "ypad": 4, "ticklabelposition": "outside top", **settings}
