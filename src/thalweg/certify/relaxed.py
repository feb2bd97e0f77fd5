"""A bound on the next neuron for features of any rank, from a semidefinite relaxation, and a search by ascent."""

import heapq
from typing import final

import numpy as np

from thalweg.certify.neurons import AbstractOracle, Answer, Bias, Neuron, different, reduced, with_bias

FACTOR_RANK = 12


@final
class RelaxedOracle(AbstractOracle):
    r"""Bounds the value of every neuron without listing cells; the bound is valid and may be far from tight.

    For a residual v, an active example with $v_i > 0$ adds $\tfrac12 (1 + s_i) v_i x_i$ with a sign $s_i$, and one with
    $v_i < 0$ at most $-\theta_i |v_i| x_i$ for any $\theta_i \in [0, 1]$. What is left, the longest sum over signs, is a
    binary quadratic program, bounded by $\sqrt{\sum \delta \cdot \lambda_{\max}(C \Delta^{-1} C^\top)}$ for **any**
    $\delta > 0$. Good $\delta$ and $\theta$ come from a low-rank ascent. For K outputs the bounds of the columns are
    added as squares, which is looser still.

    Args:
        features: X, `[n, d]`.
        bias: of the neurons; a free one is refused.
        leak: slope of the activation on the left, 0 for the rectifier.
        at_most: how many neurons an answer holds.
        steps: rounds of the low-rank ascent.
        branches: how often a case is split in two by whether one example is active, the loosest case first.
        starts: directions from which the search for neurons starts.

    Raises:
        ValueError: for a free bias: without a bound on its size the relaxation has no bound.

    Example:
        >>> features, residual = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[3.0], [4.0]])
        >>> 5.0 <= RelaxedOracle(features, Bias.NONE).search(residual, 0.0).bound < 5.01
        True

    Source: Nesterov, "Semidefinite relaxation and nonconvex quadratic optimization" (1998); Burer and Monteiro, "A
    nonlinear programming algorithm for solving semidefinite programs via low-rank factorization" (2003).
    """

    exact = False

    def __init__(
        self,
        features: np.ndarray,
        bias: Bias,
        leak: float = 0.0,
        *,
        at_most: int = 12,
        steps: int = 100,
        branches: int = 32,
        starts: int = 64,
    ) -> None:
        if bias is Bias.FREE:
            raise ValueError("RelaxedOracle needs a bias under the penalty, or none; got a free one.")
        self.rows, self.axes = reduced(with_bias(features, bias))
        self.leak, self.at_most, self.steps, self.branches, self.starts = leak, at_most, steps, branches, starts

    def search(self, residual: np.ndarray, floor: float) -> Answer:
        """Return the relaxation's bound, and neurons from ascent."""
        return Answer(self._all_outputs(residual, 0), self._ascend(residual, floor))

    def sharpened(self, residual: np.ndarray) -> float:
        """Return the bound after branching."""
        return self._all_outputs(residual, self.branches)

    def _all_outputs(self, residual: np.ndarray, branches: int) -> float:
        bounds = [max(self._bound(column, branches), self._bound(-column, branches)) for column in residual.T]
        slack = 1e-14 * float(np.abs(residual).sum(1) @ np.sqrt((self.rows**2).sum(1)))
        return float(np.sqrt(np.square(bounds).sum())) + slack

    def _bound(self, v: np.ndarray, branches: int) -> float:
        """Bound `sum v_i sigma(x_i . u)` over directions u: branch where the relaxation is loosest."""
        weight = np.abs(v) * np.sqrt((self.rows * self.rows).sum(1))
        order = np.argsort(-weight)[: int((weight > 0.0).sum())]
        fixed: dict[int, float] = {}
        heap = [(-self._relax(v, fixed), 0, fixed)]
        for count in range(1, branches + 1):
            bound, _, fixed = heapq.heappop(heap)
            if len(fixed) >= len(order):
                heapq.heappush(heap, (bound, 0, fixed))
                break
            row = int(order[len(fixed)])
            for place, side in enumerate((1.0, -1.0)):
                child = {**fixed, row: side}
                heapq.heappush(heap, (max(bound, -self._relax(v, child)), 2 * count + place, child))
        return -heap[0][0]

    def _relax(self, v: np.ndarray, fixed: dict[int, float]) -> float:
        """Bound the sum over directions for which some examples are known to be active (1.0) or not (-1.0)."""
        tail = self.leak * (v @ self.rows)
        v = (1.0 - self.leak) * v
        known = np.array(list(fixed), dtype=int)
        side = np.array(list(fixed.values()))[:, None]
        tail = tail + (np.maximum(side, 0.0) * v[known, None] * self.rows[known]).sum(0)
        v = v.copy()
        size = np.abs(v[known])[:, None]
        v[known] = 0.0
        ahead = (self.rows * v[:, None])[v > 0.0]
        behind = np.concatenate([-(self.rows * v[:, None])[v < 0.0], -side * size * self.rows[known]])
        most = np.r_[np.ones((v < 0.0).sum()), np.full(len(known), np.inf)]
        theta = np.r_[np.full((v < 0.0).sum(), 0.5), np.zeros(len(known))]
        lead = tail + 0.5 * ahead.sum(0)
        columns = np.vstack([lead - theta @ behind, 0.5 * ahead])  # C transposed
        generator = np.random.default_rng(0)
        factor = generator.normal(size=(len(columns), min(FACTOR_RANK, self.rows.shape[1] + 1)))
        factor /= np.sqrt((factor * factor).sum(1, keepdims=True))
        best = float(np.sqrt((tail * tail).sum())) + np.sqrt((ahead * ahead).sum(1)).sum()  # no row needs a sign
        scale = float(np.linalg.norm(behind, 2) ** 2) if len(behind) else 0.0
        mean = np.zeros_like(theta)
        for step in range(self.steps):
            image = columns.T @ factor  # C S
            moved = columns @ image
            delta = np.sqrt((moved * moved).sum(1))
            if step % 10 == 9 or step == self.steps - 1:
                best = min(best, _certified(columns, delta))
            factor = moved / np.where(delta > 0.0, delta, 1.0)[:, None]
            if scale > 0.0:
                # The slope of the longest sum by theta: minus the row's share of C S along the first row of S.
                slope = -(behind @ (columns.T @ factor) @ factor[0])
                theta = np.clip(theta - 0.5 * slope / (scale * np.sqrt(1.0 + step)), 0.0, most)
                mean += (theta - mean) / (1.0 + step / 3.0)
                columns[0] = lead - theta @ behind
        if scale > 0.0:
            columns[0] = lead - np.clip(mean, 0.0, most) @ behind
            for _ in range(10):
                moved = columns @ (columns.T @ factor)
                delta = np.sqrt((moved * moved).sum(1))
                factor = moved / np.where(delta > 0.0, delta, 1.0)[:, None]
            best = min(best, _certified(columns, delta))
        return best

    def _ascend(self, residual: np.ndarray, floor: float) -> list[Neuron]:
        """Follow the gradient of the value from many directions at once, and keep the best that each met."""
        rank = self.rows.shape[1]
        generator = np.random.default_rng(1)
        own = self.rows[generator.integers(0, len(self.rows), self.starts)]
        u = np.concatenate([generator.normal(size=(self.starts, rank)), own, -own])
        size = np.sqrt((u * u).sum(1))
        u = u[size > 0.0] / size[size > 0.0, None]
        best, kept = np.full(len(u), -np.inf), u.copy()
        for _ in range(40):
            slopes = np.where(u @ self.rows.T > 0.0, 1.0, self.leak)
            value = (slopes * (u @ self.rows.T)) @ residual  # [starts, K]
            length = np.sqrt((value * value).sum(1))
            better = length > best
            best, kept = np.where(better, length, best), np.where(better[:, None], u, kept)
            output = value / np.where(length > 0.0, length, 1.0)[:, None]
            gradient = (slopes * (output @ residual.T)) @ self.rows
            u = u + gradient / np.maximum(np.sqrt((gradient * gradient).sum(1, keepdims=True)), 1e-300)
            u = u / np.maximum(np.sqrt((u * u).sum(1, keepdims=True)), 1e-300)
        found = []
        for place in np.argsort(-best):
            if best[place] <= floor + 0.3 * max(0.0, best.max() - floor) or best[place] <= 0.0:
                break
            hidden = self.rows @ kept[place]
            slopes = np.where(hidden > 0.0, 1.0, self.leak)
            image = residual.T @ (slopes * hidden)
            held = np.abs(self.rows).max(1) == 0.0
            found.append(Neuron(self.axes, slopes, held, kept[place], image / np.linalg.norm(image), float(best[place])))
        return different(found, self.at_most)


def _certified(columns: np.ndarray, delta: np.ndarray) -> float:
    """Return `sqrt(sum delta * lambda_max(C Delta^-1 C'))`, a bound for any positive delta."""
    delta = np.maximum(delta, 1e-12 * delta.max(initial=0.0) + 1e-300)
    top = np.linalg.eigvalsh((columns / delta[:, None]).T @ columns)[-1]
    return float(np.sqrt(delta.sum() * max(0.0, top) * (1.0 + 1e-12)))
