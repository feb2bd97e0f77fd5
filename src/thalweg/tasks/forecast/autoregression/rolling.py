"""Which linear forecast suits a series: candidates are tried on a rolling origin, inside the training part."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Final, final

import numpy as np

from thalweg.certificates.new_texts.resampling import block_length
from thalweg.tasks.forecast.autoregression.candidates import candidates, naive_forms
from thalweg.tasks.forecast.autoregression.equation import Scaled, fit_equation, mean_known, predicted
from thalweg.tasks.forecast.autoregression.form import SMALLEST, Form

PENALTIES: Final = np.array([1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1])
NUM_STRETCHES: Final = 5
SHARE: Final = 0.5  # of the training part, its end, over which the origin rolls
MAX_ROWS: Final = 3000  # the last ones of the training part; older ones choose nothing
MAX_NUMBERS: Final = 300_000  # of them where there are many series
MIN_NUMBERS: Final = 200  # rows of each series, however many there are
NUM_EACH: Final = 3  # candidates of each way of differencing, the best for one step, that are tried on all horizons
LEAST_ROWS: Final = 4
LONGEST: Final = 24  # steps ahead that are measured
NAIVE_L2: Final = 1.0  # where there is nothing to estimate, any penalty gives the same


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Tried:
    """A candidate on the rolling origin.

    Args:
        form: what is forecast from what.
        l2: the penalty.
        errors: in the series' unit, `[steps, origins, columns]`; NaN where the truth is not known.
        levels: in z, likewise.
    """

    form: Form
    l2: float
    errors: np.ndarray
    levels: np.ndarray


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """What was kept, how it did, and what it was chosen from."""

    kept: Tried
    score: float  # see `choose`; below 1: better than the better naive forecast
    num_tried: int
    why: str  # half a sentence
    num_rows: int  # the last ones, which chose


@final
class Rolling:
    """A series with origins that roll over the end of it, in stretches: each is forecast by what is fitted before it.

    Args:
        values: `[rows, columns]`, finite.
        observed: whether a value is a real one, likewise; None: all are.
        start: the first row that is forecast.
        steps: how many steps ahead.
        num_stretches: how often everything is fitted again.
    """

    def __init__(
        self, values: np.ndarray, observed: np.ndarray | None, start: int, steps: int, num_stretches: int
    ) -> None:
        self.values, self.steps = values, steps
        self.truth = values if observed is None else np.where(observed, values, np.nan)
        bounds = np.unique(np.linspace(start, len(values), num_stretches + 1).astype(int))
        self.stretches = list(itertools.pairwise(bounds.tolist()))

    @property
    def start(self) -> int:
        """The first row that is forecast."""
        return self.stretches[0][0]

    def one_step(self, form: Form, penalties: np.ndarray) -> np.ndarray:
        """Return the errors of one step for each penalty, in the series' unit, `[penalties, origins, columns]`."""
        levels, parts = form.levels(self.values), []
        for begin, end in self.stretches:
            scaled = Scaled.fit(form, levels[:begin])
            part = levels[begin - form.context : end]
            base = form.base(_windows(part[:-1], form.context))
            following = predicted(
                scaled.features(scaled.lagged(part[:-1])), *fit_equation(scaled, levels[:begin], penalties)
            )
            parts.append(form.values(base + scaled.inverse(following)) - self.truth[begin:end])
        return np.concatenate(parts, axis=1)

    def all_steps(self, form: Form, l2: float) -> Tried:
        """Return the errors of every step from every origin."""
        levels, parts, wanted = form.levels(self.values), [], []
        for begin, end in self.stretches:
            scaled = Scaled.fit(form, levels[:begin])
            weights, bias = fit_equation(scaled, levels[:begin], np.array([l2]))
            past = _windows(levels[begin - form.context : end - 1], form.context)
            parts.append(
                scaled.ahead(lambda features, w=weights, b=bias: predicted(features, w, b)[0], past, self.steps)
            )
            wanted.append(following(self.truth, begin, end, self.steps))
        ahead, truth = np.concatenate(parts), np.concatenate(wanted)
        errors = form.values(ahead) - truth
        with np.errstate(invalid="ignore", divide="ignore"):
            in_levels = ahead - np.log(truth) if form.log else errors
        return Tried(form, l2, errors.transpose(1, 0, 2), in_levels.transpose(1, 0, 2))


def horizon(num_rows: int) -> int:
    """Return how many steps ahead are measured on so many rows of training: a tenth of them, from 1 to 24."""
    return int(np.clip(num_rows // 10, 1, LONGEST))


def following(values: np.ndarray, begin: int, end: int, steps: int) -> np.ndarray:
    """Return the values of each row from `begin` to `end` and of the rows after it, `[rows, steps, columns]`.

    NaN beyond the last row.
    """
    room = np.full((max(0, end + steps - 1 - len(values)), values.shape[1]), np.nan)
    return _windows(np.concatenate([values[begin : end + steps - 1], room]), steps)


def choose(
    values: np.ndarray,
    observed: np.ndarray | None,
    season: int,
    *,
    lags: int = 0,
    logs: bool = True,
    shared: bool = False,
) -> Choice | None:
    """Return the linear forecast that does best on a rolling origin inside the training part.

    The origin rolls over the second half, in five stretches; a candidate is fitted to all rows before a stretch, and
    forecasts 1 to H steps from every row of it. Its score is the mean of two figures, the error of one step and the
    mean error over all steps, both as mean squared errors over that of the better naive forecast (the mean over the
    series). The lowest score is kept, unless the better naive forecast is within one standard error of it. Candidates
    that are not among the best for one step are not tried further.

    Args:
        values: of the training part, `[rows, columns]`, finite but for the rows before series that begin later.
        observed: see `Rolling`.
        season: in rows; 1: none.
        lags: how many past values to read; 0: chosen.
        logs: whether logarithms may be tried, where all values are positive.
        shared: whether all series have one equation; it then sees half of the shortest one at the most.

    Returns:
        The choice; None where there are too few rows for any candidate.
    """
    shortest = int(np.isfinite(values).sum(0).min())
    if shortest < LEAST_ROWS:
        return None
    most = min(MAX_ROWS, max(MIN_NUMBERS, MAX_NUMBERS // values.shape[1])) if shared else MAX_ROWS
    rows, seen = values[-most:], None if observed is None else observed[-most:]
    rolling = Rolling(rows, seen, len(rows) - int(SHARE * len(rows)), horizon(shortest), NUM_STRETCHES)
    room = min(rolling.start, shortest - int(SHARE * shortest))
    forms = naive_forms(season, shared=shared)
    naive = [rolling.all_steps(form, NAIVE_L2) for form in forms if form.context < room]
    if not naive:
        return None
    exact = (SMALLEST * np.nanmax(np.abs(rows), axis=0)) ** 2  # an error that is nothing but rounding
    scale = np.maximum(np.fmin.reduce([_mse(one.errors) for one in naive]), exact)
    forms = [form for form in candidates(rows, season, lags, logs=logs, shared=shared) if form.context + 3 <= room]
    tried = [rolling.all_steps(form, l2) for form, l2 in _shortlist(rolling, forms, scale[0])]
    best = min(tried if lags and tried else [*naive, *tried], key=lambda one: _score(one, scale).mean())
    plain = min(naive, key=lambda one: _score(one, scale).mean())
    why = f"the best of {len(forms) * len(PENALTIES) + len(naive):,} on a rolling origin in the training part"
    if not best.form.is_naive and not lags:
        gain = _score(plain, scale) - _score(best, scale)
        if gain.mean() < standard_error(gain):
            best, why = plain, f"within one standard error of {why}"
    return Choice(best, float(_score(best, scale).mean()), len(forms), why, len(rows))


def _shortlist(rolling: Rolling, forms: Iterable[Form], scale: np.ndarray) -> list[tuple[Form, float]]:
    """Return the best for one step, with their penalties: a few of each way of differencing, each form once."""
    found: dict[tuple[bool, int, int], list[tuple[float, Form, float]]] = {}
    for form in forms:
        errors = mean_known(rolling.one_step(form, PENALTIES).transpose(1, 0, 2) ** 2)
        scores = mean_known((errors / scale).T)
        place = int(np.argmin(scores))
        group = found.setdefault((form.log, form.difference, form.seasonal), [])
        group.append((float(scores[place]), form, float(PENALTIES[place])))
    best = [sorted(group, key=lambda one: one[0])[:NUM_EACH] for group in found.values()]
    return [(form, l2) for group in best for _, form, l2 in group]


def _score(one: Tried, scale: np.ndarray) -> np.ndarray:
    """Return what each origin adds to the score, `[origins]`."""
    relative = one.errors**2 / scale[:, None]
    known = np.isfinite(relative).any(axis=2)
    each = np.where(known, mean_known(relative.transpose(2, 0, 1)), 0.0)
    # Every step counts alike, though the last ones have fewer origins.
    weights = known / np.maximum(known.sum(1, keepdims=True), 1) * relative.shape[1]
    return 0.5 * each[0] * weights[0] + 0.5 * (each * weights).mean(0)


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of `[rows]` in the order of time.

    Neighbors count as dependent: sqrt(sum_|k| < L (1 - |k| / L) c_k / n), with c_k the autocovariance and L twice the
    cube root of n.

    Source: Newey and West (1987), A Simple, Positive Semi-Definite, Heteroskedasticity and Autocorrelation Consistent
    Covariance Matrix.
    """
    num, centered = len(values), values - values.mean()
    length = min(num, 2 * block_length(num))
    total = float(centered @ centered)
    total += sum(2.0 * (1.0 - k / length) * float(centered[k:] @ centered[:-k]) for k in range(1, length))
    return float(np.sqrt(max(total, 0.0)) / num)


def _mse(errors: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each step and series; infinite where none is known."""
    known = np.isfinite(errors)
    total = np.where(known, errors, 0.0) ** 2
    count = known.sum(1)
    return np.where(count > 0, total.sum(1) / np.maximum(count, 1), np.inf)


def _windows(values: np.ndarray, length: int) -> np.ndarray:
    """Return every stretch of `length` rows, `[stretches, length, columns]`; they share the memory."""
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=0).transpose(0, 2, 1)
