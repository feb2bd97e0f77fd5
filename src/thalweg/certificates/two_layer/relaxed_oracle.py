"""A bound on the next neuron for features of any rank, from a semidefinite relaxation, and a search by ascent."""

import dataclasses
import time
from typing import final

import numpy as np

from thalweg.certificates.two_layer.neurons import (
    AbstractOracle,
    Answer,
    Bias,
    Neuron,
    anchors,
    coordinates,
    different,
    lift_at,
)

FACTOR_RANK = 12
MAX_ANCHORS = 400
EARLY = 0.25  # of the work for an anchor, where another one has a larger value: a sixth was measured
TRIALS = 20  # of a search, each from other directions, before it says that no neuron helps


@final
@dataclasses.dataclass(frozen=True)
class Signs:
    """The multipliers that prove a bound: no direction has a larger value."""

    bound: float
    theta: np.ndarray  # of the examples with v < 0, in [0, 1]; zero elsewhere, [n]
    delta: np.ndarray  # positive: first of the sum, then of each example with v > 0; 1 elsewhere, [1 + n]


@final
class RelaxedOracle(AbstractOracle):
    r"""Bounds the value of every neuron without listing cells; the bound is valid and may be far from tight.

    For a residual v, an active example with $v_i > 0$ adds $\tfrac12 (1 + s_i) v_i x_i$ with a sign $s_i$, and one with
    $v_i < 0$ at most $-\theta_i |v_i| x_i$ for any $\theta_i \in [0, 1]$. What is left, the longest sum over signs, is
    a binary quadratic program, bounded by $\sqrt{\sum \delta \cdot \lambda_{\max}(C \Delta^{-1} C^\top)}$ for **any**
    $\delta > 0$. Good $\delta$ and $\theta$ come from a low-rank ascent of `steps` rounds. For K outputs the bounds of
    the columns are added as squares, which is looser still. With a free bias there is a problem for each different
    example, at most `MAX_ANCHORS`. The search for neurons starts from `starts` directions and keeps `at_most`.

    Much tighter, and slower, is `thalweg.certificates.two_layer.semidefinite`.

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
        starts: int = 64,
    ) -> None:
        self.free = bias is Bias.FREE
        self.leak, self.at_most, self.steps, self.starts = leak, at_most, steps, starts
        self.rows, self.axes = coordinates(features, bias)
        self.anchors = anchors(features) if self.free else np.array([-1])
        self.features = features
        self.asked = 0  # how many searches there were: each starts from other directions

    def search(self, residual: np.ndarray, floor: float) -> Answer:
        """Return neurons from ascent; there is no bound on the others, see `signs`."""
        found: list[Neuron] = []
        for _ in range(TRIALS):
            self.asked += 1
            found = self._ascend_free(residual, floor) if self.free else self._ascend(residual, floor)
            if found:
                break
        return Answer(np.inf, found)

    def signs(self, residual: np.ndarray) -> tuple[float, list[Signs]]:
        """Return a bound on the value of every neuron, and what proves it for each anchor, output and sign in turn."""
        found: list[Signs] = []
        tops = np.zeros(residual.shape[1])
        for anchor in self.anchors:
            rows = self._rows_at(int(anchor))
            for place, column in enumerate(residual.T):
                for sign in (1.0, -1.0):
                    found.append(self._relax(rows, sign * column, tops[place]))
                    tops[place] = max(tops[place], found[-1].bound)
        return float(np.linalg.norm(tops)), found

    def trial(self, width: int) -> float:
        """Return how many seconds `signs` takes about, from trying one anchor; most of the others end early."""
        start = time.perf_counter()
        self._relax(self._rows_at(int(self.anchors[-1])), np.where(np.arange(len(self.rows)) % 2, 1.0, -1.0))
        return (2.0 + EARLY * 2.0 * (len(self.anchors) - 1)) * width * (time.perf_counter() - start)

    def _rows_at(self, anchor: int) -> np.ndarray:
        """What is multiplied with a neuron's direction: the features, or what they differ by from an anchor."""
        if not self.free:
            return self.rows
        same = (self.features == self.features[anchor]).all(1)
        return np.where(same[:, None], 0.0, self.rows - self.rows[anchor])

    def _relax(self, rows: np.ndarray, v: np.ndarray, enough: float = 0.0) -> Signs:
        """Bound `sum v_i sigma(x_i . u)` over directions u; a bound up to `enough` need not be the best."""
        tail = self.leak * (v @ rows)
        v = (1.0 - self.leak) * v
        ahead, behind = (rows * v[:, None])[v > 0.0], -(rows * v[:, None])[v < 0.0]
        theta = np.full(len(behind), 0.5)
        lead = tail + 0.5 * ahead.sum(0)
        columns = np.vstack([lead - theta @ behind, 0.5 * ahead])  # C transposed
        generator = np.random.default_rng(0)
        factor = generator.normal(size=(len(columns), min(FACTOR_RANK, rows.shape[1] + 1)))
        factor /= np.sqrt((factor * factor).sum(1, keepdims=True))
        scale = float(np.linalg.norm(behind, 2) ** 2) if len(behind) else 0.0
        mean, best = np.zeros_like(theta), _certified(columns, np.ones(len(columns)), theta, v)
        for step in range(self.steps):
            image = columns.T @ factor  # C S
            moved = columns @ image
            delta = np.sqrt((moved * moved).sum(1))
            if step % 10 == 9 or step == self.steps - 1:
                best = min(best, _certified(columns, delta, theta, v), key=lambda one: one.bound)
                if best.bound <= enough:
                    return best
            factor = moved / np.where(delta > 0.0, delta, 1.0)[:, None]
            if scale > 0.0:
                # The slope of the longest sum by theta: minus the row's share of C S along the first row of S.
                slope = -(behind @ (columns.T @ factor) @ factor[0])
                theta = np.clip(theta - 0.5 * slope / (scale * np.sqrt(1.0 + step)), 0.0, 1.0)
                mean += (theta - mean) / (1.0 + step / 3.0)
                columns[0] = lead - theta @ behind
        if scale > 0.0:
            mean = np.clip(mean, 0.0, 1.0)
            columns[0] = lead - mean @ behind
            delta = np.ones(len(columns))
            for _ in range(10):
                moved = columns @ (columns.T @ factor)
                delta = np.sqrt((moved * moved).sum(1))
                factor = moved / np.where(delta > 0.0, delta, 1.0)[:, None]
            best = min(best, _certified(columns, delta, mean, v), key=lambda one: one.bound)
        return best

    def _ascend(self, residual: np.ndarray, floor: float) -> list[Neuron]:
        """Follow the gradient of the value from many directions at once, and keep the best that each met."""
        rank = self.rows.shape[1]
        u = _starts(self.rows, self.starts, rank, self.asked)
        best, kept = np.full(len(u), -np.inf), u.copy()
        for _ in range(40):
            slopes = np.where(u @ self.rows.T > 0.0, 1.0, self.leak)
            value = (slopes * (u @ self.rows.T)) @ residual  # [starts, K]
            length = np.sqrt((value * value).sum(1))
            better = length > best
            best, kept = np.where(better, length, best), np.where(better[:, None], u, kept)
            output = value / np.where(length > 0.0, length, 1.0)[:, None]
            u = _unit(u + _unit((slopes * (output @ residual.T)) @ self.rows))
        return self._neurons(residual, floor, best, kept, np.full(len(u), -1))

    def _ascend_free(self, residual: np.ndarray, floor: float) -> list[Neuron]:
        """The same with the best bias at every step: one that puts the kink on an example."""
        u = _starts(self.rows, self.starts // 4, self.rows.shape[1], self.asked)[: self.starts // 2]
        best, kept, place = np.full(len(u), -np.inf), u.copy(), np.zeros(len(u), int)
        for number in range(len(u)):
            direction = u[number]
            for _ in range(12):
                t = self.rows @ direction
                apart = t[:, None] - t[None, self.anchors]
                values = residual.T @ np.where(apart > 0.0, apart, self.leak * apart)  # [K, anchors]
                length = np.sqrt((values * values).sum(0))
                top = int(length.argmax())
                if length[top] <= best[number]:
                    break
                best[number], kept[number], place[number] = length[top], direction, self.anchors[top]
                slopes = np.where(apart[:, top] > 0.0, 1.0, self.leak)
                weight = slopes * (residual @ (values[:, top] / max(length[top], 1e-300)))
                gradient = weight @ (self.rows - self.rows[self.anchors[top]])
                direction = _unit((direction + _unit(gradient[None])[0])[None])[0]
        return self._neurons(residual, floor, best, kept, place)

    def _neurons(
        self, residual: np.ndarray, floor: float, best: np.ndarray, kept: np.ndarray, anchor: np.ndarray
    ) -> list[Neuron]:
        found = []
        for number in np.argsort(-best):
            if best[number] <= floor + 0.3 * max(0.0, best.max() - floor) or best[number] <= 0.0:
                break
            rows = self._rows_at(int(anchor[number]))
            lift = lift_at(self.axes, self.features[anchor[number]]) if self.free else self.axes
            hidden = rows @ kept[number]
            slopes = np.where(hidden > 0.0, 1.0, self.leak)
            image = residual.T @ (slopes * hidden)
            held = np.abs(rows).max(1) == 0.0
            length = float(np.linalg.norm(image))
            found.append(Neuron(lift, slopes, held, kept[number], image / length, length))
        return different(found, self.at_most)


def _starts(rows: np.ndarray, num: int, rank: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    own = rows[generator.integers(0, len(rows), num)]
    u = np.concatenate([generator.normal(size=(num, rank)), own, -own])
    size = np.sqrt((u * u).sum(1))
    return u[size > 0.0] / size[size > 0.0, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(1, keepdims=True)), 1e-300)


def _certified(columns: np.ndarray, delta: np.ndarray, theta: np.ndarray, v: np.ndarray) -> Signs:
    """Return `sqrt(sum delta * lambda_max(C Delta^-1 C'))`, a bound for any positive delta, with its multipliers."""
    largest = delta.max(initial=0.0)
    delta = np.maximum(delta / largest if largest > 0.0 else delta, 1e-9)
    top = np.linalg.eigvalsh((columns / delta[:, None]).T @ columns)[-1]
    whole, wide = np.zeros(len(v)), np.ones(1 + len(v))
    whole[v < 0.0] = theta
    wide[0], wide[1:][v > 0.0] = delta[0], delta[1:]
    return Signs(float(np.sqrt(delta.sum() * max(0.0, top))), whole, wide)
