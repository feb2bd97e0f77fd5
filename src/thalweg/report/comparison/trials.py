"""The figures of tuning: the score over the learning rate, and the score to expect after few trials."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from thalweg.errors import counted
from thalweg.report.comparison.curves import translucent
from thalweg.report.comparison.entries import Look, Score, entries, mapping, num_diverged, text
from thalweg.report.comparison.tuning import best_quantile, expected_best, share_near_best
from thalweg.report.figures import power_ticks, spans_magnitudes
from thalweg.report.panels import Panel
from thalweg.report.text import figure_text, format_percentage, format_value, number
from thalweg.report.theme import new_figure

NEAR = 0.05  # above the best score, relative to it
MAX_SHARES = 12  # entrants named in a sentence


def rate_of(trial: Mapping[str, Any]) -> float | None:
    """Return the learning rate of a trial; None where it has none."""
    found = number(trial.get("lr"))
    rate = number(mapping(trial, "settings").get("lr")) if found is None else found
    return rate if rate is not None and rate > 0.0 else None


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as a person types them; "its defaults" where there are none."""
    return ", ".join(f"{name}={_short(value)}" for name, value in settings.items()) or "its defaults"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _vertical(figure: go.Figure, scores: Sequence[float], *, is_higher_better: bool) -> float:
    """Set the vertical axis for scores, and return where diverged trials are drawn, at its worse edge."""
    low, high = min(scores), max(scores)
    if spans_magnitudes(scores):
        margin = (high / low) ** 0.08
        ticks = power_ticks(low, high)
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[format_value(tick) for tick in ticks])
        ends, edge = (math.log10(low / margin), math.log10(high * margin**1.5)), high * margin
        figure.update_yaxes(range=list(ends))
        return edge
    margin = 0.08 * (high - low or abs(high) or 1.0)
    if is_higher_better:
        figure.update_yaxes(range=[low - 1.5 * margin, high + margin])
        return low - margin
    figure.update_yaxes(range=[low - margin, high + 1.5 * margin])
    return high + margin


def rates_panel(data: Mapping[str, Any], found: Mapping[str, Look], score: Score) -> list[Panel]:
    """Return the panel of the score over the learning rate; none where no learning rate was tuned.

    Args:
        data: what `compare.json` says of one data set.
        found: look of each entrant.
        score: what is drawn.
    """
    tuned = []
    for entrant in entries(data, "entrants"):
        trials = [(rate, trial) for trial in entries(entrant, "trials") if (rate := rate_of(trial)) is not None]
        if len({rate for rate, _ in trials}) > 1:
            tuned.append((entrant, sorted(trials, key=lambda pair: pair[0])))
    scores = [score.turned(loss) for _, trials in tuned for _, t in trials if (loss := score.loss_of(t)) is not None]
    if not scores:
        return []
    figure = new_figure(
        height=350 + 22 * max(0, len(tuned) - 4), x_title="learning rate", y_title=figure_text(score.name, 40)
    )
    edge = _vertical(figure, scores, is_higher_better=score.is_higher_better)
    shares, winners = [], []
    for entrant, trials in tuned:
        look = found[text(entrant, "name")]
        name, losses = figure_text(look.label, 32), [score.loss_of(trial) for _, trial in trials]
        kept = _winner(entrant, trials, losses)
        drawn = [edge if loss is None else score.turned(loss) for loss in losses]
        figure.add_scatter(
            x=[rate for rate, _ in trials],
            y=[None if loss is None else value for value, loss in zip(drawn, losses, strict=True)],
            mode="lines",
            line={"color": look.color, "width": 1, "dash": look.dash},
            opacity=0.5,
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=[rate for rate, _ in trials],
            y=drawn,
            customdata=[_trial_text(trial, loss, score) for (_, trial), loss in zip(trials, losses, strict=True)],
            name=name,
            legendgroup=name,
            mode="markers",
            marker={
                "color": look.color,
                "size": [10 if loss is None else 8 for loss in losses],
                "symbol": ["x" if loss is None else "circle" for loss in losses],
            },
            hovertemplate=f"%{{customdata}}<extra>{name}</extra>",
        )
        if kept is not None:
            winners.append((trials[kept][0], drawn[kept], look.color))
        share = share_near_best([rate for rate, _ in trials], losses, NEAR)
        if share is not None:
            shares.append(f"{look.short} {format_percentage(share, 1.0)}")
    figure.add_scatter(
        x=[rate for rate, _, _ in winners],
        y=[value for _, value, _ in winners],
        name="chosen",
        mode="markers",
        marker={
            "symbol": "circle-open",
            "size": 15,
            "color": [color for _, _, color in winners],
            "line": {"width": 2.5},
        },
        hoverinfo="skip",
    )
    rates = [rate for _, trials in tuned for rate, _ in trials]
    ticks = power_ticks(min(rates), max(rates))
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[format_value(tick) for tick in ticks], tickangle=0)
    figure.update_layout(showlegend=True)
    return [Panel("Sensitivity to the learning rate", _rates_reading(data, tuned, shares, score), figure=figure)]


def _winner(
    entrant: Mapping[str, Any], trials: Sequence[tuple[float, Mapping[str, Any]]], losses: Sequence[float | None]
) -> int | None:
    """Return the place of the trial whose settings were chosen; None where it is not among these."""
    chosen = entrant.get("winner")
    places = [i for i, (_, trial) in enumerate(trials) if trial.get("settings") == chosen and losses[i] is not None]
    return min(places, key=lambda i: losses[i] or 0.0, default=None)


def _trial_text(trial: Mapping[str, Any], loss: float | None, score: Score) -> str:
    """Return what a trial says when it is pointed at."""
    what = "diverged" if loss is None else format_value(score.turned(loss))
    return f"{what}<br>{figure_text(settings_text(mapping(trial, 'settings')), 80)}"


def _rates_reading(data: Mapping[str, Any], tuned: Sequence[Any], shares: Sequence[str], score: Score) -> str:
    """Return how to read the figure of the learning rates."""
    count = sum(num_diverged([trial for _, trial in trials]) for _, trials in tuned)
    drawn = {text(entrant, "name") for entrant, _ in tuned}
    other = [entrant for entrant in entries(data, "entrants") if text(entrant, "name") not in drawn]
    words = [
        f"Each point is one trial, in its own place of the range that was searched. {score.better} A ring marks the "
        "settings that were chosen. Trials differ in their other settings too (hover over a point to see them), so a "
        "line is rougher than the learning rate alone would make it."
    ]
    if count:
        edge = "lower" if score.is_higher_better else "upper"
        words.append(
            f"{counted(count, 'trial')} diverged: drawn as a cross at the {edge} edge, whatever the axis says."
        )
    if shares:
        named = ", ".join(shares[:MAX_SHARES])
        words.append(
            f"Share of the tried range, on its logarithmic scale, that is within {100 * NEAR:g} % of the entrant's own "
            f"best: {named}."
        )
    if other:
        words.append(f"{counted(len(other), 'entrant')} without a learning rate that was tuned: not drawn.")
    return " ".join(words)


def tunability_panel(data: Mapping[str, Any], found: Mapping[str, Look], score: Score) -> list[Panel]:
    """Return the panel of the score to expect after k trials; none where nobody had two trials.

    Args:
        data: what `compare.json` says of one data set.
        found: look of each entrant.
        score: what is drawn.
    """
    height = 330 + 22 * max(0, len(entries(data, "entrants")) - 4)
    figure = new_figure(height=height, x_title="number of trials", y_title=figure_text(score.name, 40))
    diverged, scores, longest = [], [], 0
    for entrant in entries(data, "entrants"):
        trials = entries(entrant, "trials")
        losses = [score.loss_of(trial) for trial in trials]
        if len(trials) < 2 or all(loss is None for loss in losses):
            continue
        look, size = found[text(entrant, "name")], len(trials)
        name, counts, longest = figure_text(look.label, 32), list(range(1, size + 1)), max(longest, size)
        middle = [_turned(score, loss) for loss in expected_best(losses)]
        ends = [[_turned(score, loss) for loss in best_quantile(losses, share)] for share in (0.25, 0.75)]
        known = [i for i in range(size) if ends[0][i] is not None and ends[1][i] is not None]
        figure.add_scatter(
            x=[counts[i] for i in (*known, *known[::-1])],
            y=[*(ends[1][i] for i in known), *(ends[0][i] for i in known[::-1])],
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=translucent(look.color),
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=counts,
            y=middle,
            name=name,
            legendgroup=name,
            mode="lines+markers",
            marker={"size": 5},
            line={"color": look.color, "width": 2, "dash": look.dash},
            hovertemplate=f"%{{y:.4~g}} after %{{x}} trials<extra>{name}</extra>",
        )
        scores += [value for value in middle if value is not None]
        count = size - sum(loss is not None for loss in losses)
        if count:
            diverged.append(f"{look.short} {count} of {size}")
    if not scores:
        return []
    if spans_magnitudes(scores):
        ticks = power_ticks(min(scores), max(scores))
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[format_value(tick) for tick in ticks])
    figure.update_xaxes(type="linear", dtick=1 if longest <= 12 else None, rangemode="normal")
    figure.update_layout(showlegend=True)
    words = [
        f"The best {score.name} to expect from so many trials: the mean over all ways to draw them, in random order, "
        "from those that were run; the band holds the middle half of these ways. Who starts low needs little tuning; a "
        "line that still falls at its end had too few trials."
    ]
    if score.is_higher_better:
        words[0] = words[0].replace("starts low", "starts high").replace("still falls", "still rises")
    if diverged:
        words.append(
            f"Trials that diverged count: {', '.join(diverged)}. There is no mean while all drawn trials may be "
            "such, so a line begins where that has become impossible."
        )
    return [Panel("What tuning is worth", " ".join(words), figure=figure)]


def _turned(score: Score, loss: float) -> float | None:
    return score.turned(loss) if math.isfinite(loss) else None
