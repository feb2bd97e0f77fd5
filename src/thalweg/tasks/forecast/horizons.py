"""How good forecasts of several steps are, step by step, beside the naive ones and an autoregression."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, final

import numpy as np

from thalweg.tasks.forecast.autoregression.equation import mean_known
from thalweg.tasks.forecast.reference import Reference

MAX_ORIGINS: Final = 2000  # rows from which several steps are forecast
SHOWN: Final = (3, 6, 12, 24)  # steps that have metrics of their own, and the last one


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Horizons:
    """Mean squared errors of each step over the same forecasts, `[steps, columns]`; NaN where none is known.

    Args:
        counts: forecasts of each step, `[steps]`.
        mse: errors by the name of the forecast: "model", "last value", "season ago", "AR".
        mae: the model's mean absolute error.
        coverage: share of the true values in the intervals; None: there are none.
    """

    counts: np.ndarray
    mse: dict[str, np.ndarray]
    mae: np.ndarray
    coverage: np.ndarray | None
    columns: tuple[int, ...] | None = None  # of all series; None: all of them

    @property
    def skill(self) -> np.ndarray:
        """1 - MSE / that of the better naive forecast, the mean over the series, `[steps]`."""
        naive = [self.mse[name] for name in ("last value", "season ago") if name in self.mse]
        best = np.fmin.reduce(naive)
        with np.errstate(divide="ignore", invalid="ignore"):
            return mean_known((1.0 - self.mse["model"] / best).T)

    def metrics(self) -> dict[str, float]:
        """Return the skill of some steps, and at least the last one that is known."""
        known = np.flatnonzero(np.isfinite(self.skill)) + 1
        wanted = {step for step in known.tolist() if step in SHOWN or step == known[-1]}
        return {f"skill {step} ahead": float(self.skill[step - 1]) for step in sorted(wanted) if step > 1}


def measure(
    ahead: Callable[[np.ndarray, int], np.ndarray],
    inside: Callable[[np.ndarray, np.ndarray], np.ndarray] | None,
    reference: Reference,
    past: np.ndarray,
    future: np.ndarray,
) -> Horizons:
    """Return the errors of every step from these origins.

    Args:
        ahead: rows before and number of steps -> forecasts `[origins, steps, columns]`.
        inside: forecasts and truth -> whether it lies in the interval; None: there are no intervals.
        reference: what the forecasts are compared with.
        past: the rows before each origin, `[origins, rows, columns]`.
        future: the true values, `[origins, steps, columns]`, NaN where they are not known.
    """
    steps = future.shape[1]
    found = {"model": ahead(past, steps), "last value": reference.last(past, steps)}
    if reference.season > 1:
        found["season ago"] = reference.seasonal(past, steps)
    found["AR"] = reference.autoregressive(past, steps)
    mse = {name: mean_known((forecast - future) ** 2) for name, forecast in found.items()}
    coverage = None
    if inside is not None:
        within = np.where(np.isfinite(future), inside(found["model"], future), np.nan)
        coverage = mean_known(within)
    counts = np.isfinite(future).all(2).sum(0)
    return Horizons(counts, mse, mean_known(np.abs(found["model"] - future)), coverage)


def side_by_side(parts: Sequence[tuple[int, Horizons]]) -> Horizons:
    """Return the errors of several series, each with its number, with a column for each."""
    found = [one for _, one in parts]

    def joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(arrays), axis=1)

    coverage = [one.coverage for one in found if one.coverage is not None]
    return Horizons(
        np.sum([one.counts for one in found], axis=0),
        {name: joined(one.mse[name] for one in found) for name in found[0].mse},
        joined(one.mae for one in found),
        joined(coverage) if len(coverage) == len(found) else None,
        tuple(place for place, _ in parts),
    )


def table(found: Horizons, scale: np.ndarray) -> dict[str, Any]:
    """Return the errors by step as a section of the report."""
    others = [name for name in found.mse if name != "model"]
    columns = ["steps ahead", "forecasts", "skill", "MASE", "RMSE", *(f"RMSE of {name}" for name in others)]
    columns += [] if found.coverage is None else ["in the 95 % interval"]
    rows = []
    scale = scale if found.columns is None else scale[list(found.columns)]
    mase = mean_known((found.mae / np.where(scale > 0.0, scale, np.nan)).T)
    for step in range(len(found.counts)):
        figures = [found.skill[step], mase[step]]
        figures += [np.sqrt(mean_known(found.mse[name][step])) for name in ("model", *others)]
        figures += [] if found.coverage is None else [mean_known(found.coverage[step])]
        shown = [None if not np.isfinite(value) else float(f"{value:.4g}") for value in figures]
        rows.append([step + 1, int(found.counts[step]), *shown])
    return {
        "kind": "table",
        "title": "Errors by steps ahead, out of sample",
        "text": "From every validation row so many steps are forecast, each reading the ones before as if they had "
        "happened; neighboring forecasts share most of their rows. Skill is 1 - mean squared error / that of the "
        "better naive forecast: below 0 is worse than naive.",
        "columns": columns,
        "rows": rows,
    }
