"""The floor of every network whose features have a bounded length, under an L2 penalty on the head."""

import math
from typing import Final, final

import numpy as np
from scipy import optimize

from thalweg.certificates.checker import check
from thalweg.certificates.floors.floor import Floor, proved
from thalweg.errors import InputError

MAX_CLASSES: Final = 100  # up to so many, classes of different sizes get a dual point of their own
MAX_TABLE: Final = 1_000_000  # numbers in the dual point
MAX_ITERATIONS: Final = 300
BITS: Final = 60  # of the whole numbers that the dual point is made of
# Shares of the bound given up so that rounding leaves no probability below zero; the first that does is taken.
SHRUNK: Final = (0.0, 1e-13, 1e-11, 1e-9, 1e-6, 1e-3, 1.0)


def norm_floor(
    counts: np.ndarray, radius: float, l2: float, *, smoothing: float = 0.0, free_bias: bool = True
) -> Floor:
    r"""Return a lower bound of the penalized cross-entropy, for every network below the head.

    Logits are inner products of features of a length of at most $B$ with the head's rows, and those cost
    $\frac\lambda2\lVert W\rVert^2$; so no depth and no training separates the classes for nothing. With the share
    $p_k = n_k / N$ of class $k$, its target $t_k$ and any distributions $P_k$,

    $$f \ge \sum_k p_k H(P_k) - \frac{B^2}{2\lambda}\,
      \sigma_{\max}\bigl(\operatorname{diag}(\sqrt p)\,(t - P)\bigr)^2 .$$

    For classes of one size the best such bound is attained by features at the corners of a simplex.

    Args:
        counts: $n$, how many targets each class has, int `[classes]`.
        radius: $B$. It must be a constant of the configuration (a bounded activation, a normalization whose gain is
            not learned); with a learned gain the statement is about networks with this gain only.
        l2: $\lambda > 0$.
        smoothing: label smoothing in [0, 1).
        free_bias: whether the head has a bias that the penalty leaves alone.

    Raises:
        ValueError: for counts that are not whole or all zero, or a radius or an l2 that is not positive.
        InputError: for classes whose pairs are too many for a table.

    Example:
        >>> f"{norm_floor(np.full(4, 25), 11.3, 1e-2).value:.8f}"
        '0.00658125'

    Source: Fang, He, Long and Su (2021), Exploring Deep Neural Networks via Layer-Peeled Model; the dual is that of
    a squared nuclear norm.

    Not a floor for validation data, and far below what a weak body reaches.
    """
    if not (radius > 0.0 and l2 > 0.0 and math.isfinite(radius) and math.isfinite(l2)):
        raise ValueError(f"norm_floor(radius=..., l2=...) must be positive; got {radius!r}, {l2!r}.")
    counts = np.asarray(counts)
    if counts.dtype.kind not in "iu" or not len(counts) or counts.min() < 0 or not counts.any():
        raise ValueError("norm_floor(counts) needs how many targets each class has: whole numbers, not all of them 0.")
    present = counts > 0
    if int(present.sum()) * len(counts) > MAX_TABLE:
        raise InputError(f"{len(counts):,} classes are too many for the floor of bounded features.")
    problem = _Peeled(counts[present].astype(np.int64), present, radius, l2, smoothing, free_bias)
    points = [problem.toward_mean()]
    if not problem.is_balanced and len(counts) <= MAX_CLASSES:
        points.append(problem.optimized())
    return max((problem.floor(point) for point in points), key=lambda floor: floor.value)


@final
class _Peeled:
    """The problem in which the features are free: one row for each class that there is, one column for each class."""

    def __init__(
        self, counts: np.ndarray, present: np.ndarray, radius: float, l2: float, smoothing: float, free_bias: bool
    ) -> None:
        num_classes = len(present)
        self.counts, self.present, self.radius, self.l2, self.smoothing = counts, present, radius, l2, smoothing
        self.shares = shares = counts / counts.sum()
        self.targets = (1.0 - smoothing) * np.eye(num_classes)[present] + smoothing / num_classes
        self.strength = l2 / radius**2
        self.free_bias = free_bias
        self.is_balanced = bool(np.ptp(counts) == 0)
        self._root = np.sqrt(shares)[:, None]

    def floor(self, probabilities: np.ndarray) -> Floor:
        """Return what a dual point proves once it is made of whole numbers, so that its sums are exactly zero."""
        mean = self.targets - self.shares @ self.targets
        for shrunk in SHRUNK:
            evidence = {
                "rule": "norm_floor",
                "counts": self._of_all_classes(),
                "residual": self._whole((1.0 - shrunk) * (self.targets - probabilities) + shrunk * mean),
                "exponent": -BITS,
                "smoothing": self.smoothing,
                "radius": self.radius,
                "l2": self.l2,
                "free_bias": int(self.free_bias),
            }
            try:
                return Floor(proved(evidence), evidence, 0)
            except check.Refused:  # a probability below zero
                continue
        raise AssertionError("The mean of the targets has no probability of zero or below.")

    def _of_all_classes(self) -> np.ndarray:
        counts = np.zeros(len(self.present), dtype=np.int64)
        counts[self.present] = self.counts
        return counts

    def _whole(self, residual: np.ndarray) -> np.ndarray:
        """Round to whole numbers whose rows sum to zero, and with a free bias the rows times their counts as well.

        All rows but that of the largest class are multiples of its count, so that its own row is whole, too.
        """
        last = int(np.argmax(self.counts))
        unit = int(self.counts[last]) if self.free_bias else 1
        scaled = residual * (2.0**BITS / unit)
        # Toward minus infinity off the diagonal, where minus the residual is a probability if nothing is smoothed.
        whole = np.floor(scaled).astype(np.int64)
        rows, own = np.arange(len(whole)), np.flatnonzero(self.present)
        whole[rows, own] -= whole.sum(1)
        if self.free_bias:
            others = rows != last
            final_row = -(self.counts[others, None] * whole[others]).sum(0)
            whole *= unit
            whole[last] = final_row
        return whole

    def along(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the best point between the targets and a dual point."""
        top = float(np.linalg.norm(self._root * (self.targets - probabilities), 2))

        def loss(s: float) -> float:
            mixed = (1.0 - s) * self.targets + s * probabilities
            return s**2 * top**2 / (2.0 * self.strength) - float(self.shares @ _entropies(mixed))

        best = optimize.minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-13})
        s = float(best.x)  # type: ignore[union-attr]
        return (1.0 - s) * self.targets + s * probabilities

    def toward_mean(self) -> np.ndarray:
        """Return the best point toward the mean target: the optimum where all classes have one size."""
        mean = self.shares @ self.targets
        return self.along(np.broadcast_to(mean, self.targets.shape))

    def optimized(self) -> np.ndarray:
        """Return the dual point that belongs to the best features and head, found by L-BFGS."""
        rows, columns = self.targets.shape
        rank = min(rows, columns)
        u, _, vt = np.linalg.svd(self._root * (self.targets - self.shares @ self.targets), full_matrices=False)
        start = np.concatenate([u[:, :rank].reshape(-1), vt[:rank].T.reshape(-1), np.zeros(columns)])

        def unpacked(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            a, b, bias = np.split(x, [rows * rank, (rows + columns) * rank])
            return a.reshape(rows, rank), b.reshape(columns, rank), bias * self.free_bias

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            a, b, bias = unpacked(x)
            logits = (a @ b.T) / self._root + bias
            log_p = logits - _log_sum_exp(logits)
            cost = -float(self.shares @ (self.targets * log_p).sum(1))
            slope = self._root * (np.exp(log_p) - self.targets)
            bias_gradient = (self._root * slope).sum(0) * self.free_bias
            norms = float((a**2).sum()), float((b**2).sum())
            gradients = slope @ b + self.strength * norms[1] * a, slope.T @ a + self.strength * norms[0] * b
            flat = np.concatenate([*(gradient.reshape(-1) for gradient in gradients), bias_gradient])
            return cost + 0.5 * self.strength * norms[0] * norms[1], flat

        found = optimize.minimize(
            loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS, "ftol": 0.0, "gtol": 1e-12}
        )
        a, b, bias = unpacked(found.x)
        logits = (a @ b.T) / self._root + bias
        probabilities = np.exp(logits - _log_sum_exp(logits))
        if self.free_bias:
            probabilities = self._balanced(probabilities)
        return self.along(probabilities)

    def _balanced(self, probabilities: np.ndarray) -> np.ndarray:
        """Mix in one distribution so that the mean over classes becomes that of the targets, as a free bias asks."""
        wanted, sums = self.shares @ self.targets, self.shares @ probabilities
        share = float(np.clip(1.0 - (wanted / sums).min(), 0.0, 1.0))
        if share == 0.0:
            return probabilities
        rest = np.maximum(wanted - (1.0 - share) * sums, 0.0)
        return (1.0 - share) * probabilities + share * rest / rest.sum()


def _entropies(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0.0, p, 1.0))).sum(1)


def _log_sum_exp(z: np.ndarray) -> np.ndarray:
    high = z.max(1, keepdims=True)
    return high + np.log(np.exp(z - high).sum(1, keepdims=True))
