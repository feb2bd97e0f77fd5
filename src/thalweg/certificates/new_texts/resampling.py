"""Intervals of figures that are no plain shares: the bootstrap over what an evaluation kept of its examples."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import final

import numpy as np
from scipy.special import ndtr, stdtrit

from thalweg.certificates.new_texts.shares import CONFIDENCE, share_interval

DRAWS = 1000
MAX_UNITS = 2000  # more examples are put into so many groups at random, which are drawn in their place
MAX_WORK = 4_000_000  # draws times units, where units cannot be put into groups
MIN_DRAWS = 200
MAX_UNDEFINED = 0.01  # of the draws, such as those without a true answer to correlate with

Figures = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""How often each unit was drawn, `[draws, units]` -> each figure, `[draws]`; NaN where a draw does not define it."""


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """What an evaluation kept of its examples, so that its figures can be computed again for other draws of them.

    Args:
        counts: int `[units]`: how many examples a unit stands for, such as a pair of true and given label.
        figures: see `Figures`.
        shares: figures that are plain shares of independent examples: how many were right, of how many.
        baselines: what a model that ignores its input reaches, by figure.
        unit: what is drawn, in the plural: "examples", "sentences".
        in_time: whether units follow one another in time, so that neighbors are drawn together.
        right: bool `[units]`, which units are right, where `shares` has the "accuracy" of the same examples: intervals
            are then no narrower than its exact one.
        unseen: for a figure that is a mean over labels: over how many its value is one, over how many it would be with
            those that no example has, and how many these are. No draw has one either, and theirs may be 0 or 1.
    """

    counts: np.ndarray
    figures: Figures
    shares: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unit: str = "examples"
    in_time: bool = False
    right: np.ndarray | None = None
    unseen: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """The figures over the examples as they are."""
        return {name: float(value[0]) for name, value in self.figures(self.counts[None].astype(np.float64)).items()}

    def intervals(self, *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0) -> dict[str, "Range"]:
        """Return an interval for each figure that has one.

        Shares have exact (Clopper-Pearson) limits. The others have percentiles of a seeded bootstrap, at levels
        widened for few units as Student's t is (Hesterberg 2015), and always contain the figure itself. A figure that
        came out the same in every draw has no interval: the bootstrap cannot tell how sure that is. Nor has
        any beside an accuracy of 1: no draw has a mistake, and new examples may.
        """
        found: dict[str, Range] = {name: share_interval(*pair, confidence) for name, pair in self.shares.items()}
        size = int(self.counts.sum())
        if size < 2 or (self.right is not None and self.right.all()):
            return found
        draws = max(MIN_DRAWS, min(draws, MAX_WORK // len(self.counts)))
        independent = float(size)
        if self.in_time:
            block = block_length(size)
            independent = size / block
            weights = block_weights(size, block, draws, seed)
        else:
            weights = drawn_weights(self.counts, draws, seed)
        tails = widened_tails(independent, confidence)
        values = self.values
        for name, drawn in self.figures(weights).items():
            defined = drawn[np.isfinite(drawn)]
            if name in found or len(defined) < (1.0 - MAX_UNDEFINED) * draws or not np.isfinite(values[name]):
                continue
            if np.ptp(defined) > 1e-12 * max(1.0, float(np.abs(defined).max())):
                within = [*np.quantile(defined, tails).tolist(), values[name], *self._at_limits(name, confidence)]
                found[name] = self._with_unseen(name, min(within), max(within))
        return found

    def _with_unseen(self, name: str, low: float, high: float) -> "Range":
        """Return an interval that holds a mean over labels whatever it is for those that no example has."""
        if name not in self.unseen:
            return low, high
        present, labels, missing = self.unseen[name]
        seen = min(high * present, labels - missing)  # one that is only given adds nothing to this sum, and is missing
        return min(low, low * present / labels), max(high, (seen + missing) / labels)

    def _at_limits(self, name: str, confidence: float) -> list[float]:
        """Return a figure for the same kinds of mistakes, but as many as the limits of the accuracy allow.

        The bootstrap alone is too sure where mistakes are few: 1 in 40 may well be 1 in 8.
        """
        if self.right is None or self.right.all() or not self.right.any():
            return []
        hits, trials = self.shares["accuracy"]
        weights = [
            np.where(self.right, self.counts * limit / hits, self.counts * (1.0 - limit) / (trials - hits))
            for limit in share_interval(hits, trials, confidence)
        ]
        return self.figures(np.stack(weights) * trials)[name].tolist()


Range = tuple[float, float]


def of_sums(
    sums: np.ndarray,
    figures: Figures,
    *,
    unit: str = "examples",
    in_time: bool = False,
    shares: Mapping[str, tuple[int, int]] | None = None,
    baselines: Mapping[str, float] | None = None,
    unseen: Mapping[str, tuple[int, int, int]] | None = None,
) -> Samples:
    """Return the samples of figures that are functions of sums over examples.

    Args:
        sums: what each example adds, `[examples, statistics]`.
        figures: sums `[draws, statistics]` -> each figure, `[draws]`.
        unit: see `Samples`.
        in_time: see `Samples`; neighbors, not random examples, are then put into one group where there are many.
        shares: see `Samples`.
        baselines: see `Samples`.
        unseen: see `Samples`.
    """
    if len(sums) > MAX_UNITS:
        if in_time:
            groups = np.arange(len(sums)) * MAX_UNITS // len(sums)
        else:
            groups = np.random.default_rng(0).permutation(len(sums)) % MAX_UNITS
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        sums = np.add.reduceat(sums[order], starts, axis=0, dtype=np.float64)
    sums = np.asarray(sums, dtype=np.float64)  # only now: there may be many examples of many labels
    return Samples(
        np.ones(len(sums), dtype=np.int64),
        lambda weights: figures(weights @ sums),
        shares or {},
        baselines or {},
        unit,
        in_time,
        unseen=unseen or {},
    )


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return numerator / denominator, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0.0)


def f1(right: np.ndarray, given: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return 2 right / (given + true), 0 where there is neither a given nor a true one."""
    return np.nan_to_num(ratio(2.0 * right, np.asarray(given + true, dtype=np.float64)))


def sums_by(weights: np.ndarray, groups: np.ndarray, num_groups: int) -> np.ndarray:
    """Return the weights `[draws, units]` added up by the group of each unit, `[draws, groups]`."""
    found = np.zeros((len(weights), num_groups))
    order = np.argsort(groups, kind="stable")
    present = groups[order]
    starts = np.flatnonzero(np.diff(present, prepend=-1))
    if len(starts):
        found[:, present[starts]] = np.add.reduceat(weights[:, order], starts, axis=1)
    return found


def drawn_weights(counts: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return how often each unit comes in `draws` draws of as many examples as there are, with replacement."""
    size = int(counts.sum())
    if size == len(counts):  # every unit is one example
        return _drawn_examples(size, draws, seed)
    if size <= MAX_UNITS and counts.all():  # as the examples of a unit one by one, which the loss has drawn already
        return np.add.reduceat(_drawn_examples(size, draws, seed), np.cumsum(counts) - counts, axis=1)
    return np.random.default_rng(seed).multinomial(size, counts / size, draws).astype(np.float64)


@functools.lru_cache(maxsize=1)  # the loss and the figures of an evaluation have the same
def _drawn_examples(size: int, draws: int, seed: int) -> np.ndarray:
    """Return how often each of `size` examples comes in draws of as many; not to be written to."""
    dtype = np.uint16 if size <= np.iinfo(np.uint16).max else np.int64
    picked = np.random.default_rng(seed).integers(0, size, (draws, size), dtype=dtype)
    found = np.empty((draws, size))
    for row, one in zip(found, picked, strict=True):
        row[:] = np.bincount(one, minlength=size)
    found.flags.writeable = False
    return found


def block_length(size: int) -> int:
    """Return how many neighbors in time are drawn together: the cube root of the length, at least 1 (Künsch 1989)."""
    return max(1, round(size ** (1.0 / 3.0)))


def block_weights(size: int, block: int, draws: int, seed: int) -> np.ndarray:
    """Return how often each of `size` points comes, drawn in blocks of neighbors on a circle (Politis, Romano 1992)."""
    num_blocks = -(-size // block)
    starts = np.random.default_rng(seed).integers(0, size, (draws, num_blocks))
    places = ((starts[:, :, None] + np.arange(block)) % size).reshape(draws, -1)[:, :size]
    places = places + size * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * size).reshape(draws, size).astype(np.float64)


def widened_tails(independent: float, confidence: float) -> tuple[float, float]:
    """Return the two levels of percentiles for so many independent units."""
    tail = 0.5 * (1.0 - confidence)
    degrees = max(independent - 1.0, 1.0)
    low = float(ndtr(np.sqrt((degrees + 1.0) / degrees) * stdtrit(degrees, tail)))
    return low, 1.0 - low
