"""A bound on the next neuron for features of any rank, from a semidefinite relaxation, and a search by ascent."""

import dataclasses
import heapq
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


@final
class RelaxedOracle(AbstractOracle):
    r"""Bounds the value of every neuron without listing cells; the bound is valid and may be far from tight.

    For a residual v, an active example with $v_i > 0$ adds $\tfrac12 (1 + s_i) v_i x_i$ with a sign $s_i$, and one with
    $v_i < 0$ at most $-\theta_i |v_i| x_i$ for any $\theta_i \in [0, 1]$. What is left, the longest sum over signs, is
    a binary quadratic program, bounded by $\sqrt{\sum \delta \cdot \lambda_{\max}(C \Delta^{-1} C^\top)}$ for **any**
    $\delta > 0$. Good $\delta$ and $\theta$ come from a low-rank ascent of `steps` rounds. A case is split in two by
    whether one example is active, `branches` times, the loosest case first. For K outputs the bounds of the columns are
    added as squares, which is looser still. With a free bias there is a problem for each different example, at most
    `MAX_ANCHORS` (else a ValueError). The search for neurons starts from `starts` directions and keeps `at_most`.

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
        self.free = bias is Bias.FREE
        self.leak, self.at_most, self.steps, self.branches, self.starts = leak, at_most, steps, branches, starts
        self.rows, self.axes = coordinates(features, bias)
        self.anchors = anchors(features) if self.free else np.array([-1])
        if len(self.anchors) > MAX_ANCHORS:
            raise ValueError(
                f"RelaxedOracle with a free bias solves one problem for each different example, at most {MAX_ANCHORS}; "
                f"got {len(self.anchors)}."
            )
        self.features = features

    def search(self, residual: np.ndarray, floor: float) -> Answer:
        """Return the relaxation's bound (none with a free bias: see `sharpened`), and neurons from ascent."""
        bound = np.inf if self.free else self._all_outputs(residual, 0)
        return Answer(bound, self._ascend_free(residual, floor) if self.free else self._ascend(residual, floor))

    def sharpened(self, residual: np.ndarray) -> float:
        """Return the bound after branching (with a free bias: of every anchor, without)."""
        return self._all_outputs(residual, 0 if self.free else self.branches)

    def leaves(self, residual: np.ndarray) -> list["Leaf"]:
        """Return what proves the bound of `sharpened`: every case that it looked at, with its multipliers."""
        branches = 0 if self.free else self.branches
        return [
            leaf
            for output, column in enumerate(residual.T)
            for sign in (1.0, -1.0)
            for anchor in self.anchors
            for leaf in self._cases(sign * column, branches, int(anchor), output, sign)
        ]

    def _all_outputs(self, residual: np.ndarray, branches: int) -> float:
        total = 0.0
        for column in residual.T:
            best = 0.0
            for anchor in self.anchors:
                for sign in (1.0, -1.0):
                    cases = self._cases(sign * column, branches, int(anchor), 0, sign)
                    best = max(best, *(case.bound for case in cases))
            total += best * best
        slack = 1e-14 * float(np.abs(residual).sum(1) @ np.sqrt((self.rows**2).sum(1)))
        return float(np.sqrt(total)) + slack

    def _rows_at(self, anchor: int) -> np.ndarray:
        """What is multiplied with a neuron's direction: the features, or what they differ by from an anchor."""
        return self.rows - self.rows[anchor] if self.free else self.rows

    def _cases(self, v: np.ndarray, branches: int, anchor: int, output: int, sign: float) -> list["Leaf"]:
        """Bound `sum v_i sigma(x_i . u)` over directions u, in cases: branch where the relaxation is loosest."""
        rows = self._rows_at(anchor)
        weight = np.abs(v) * np.sqrt((rows * rows).sum(1))
        order = np.argsort(-weight, kind="stable")[: int((weight > 0.0).sum())]
        first = self._relax(rows, v, order[:0], np.zeros(0))
        heap = [(-first.bound, 0, first)]
        for count in range(1, branches + 1):
            depth = len(heap[0][2].sides)
            if depth >= len(order):
                break
            bound, _, case = heapq.heappop(heap)
            for place, side in enumerate((1.0, -1.0)):
                child = self._relax(rows, v, order[: depth + 1], np.append(case.sides, side))
                child = child if child.bound < -bound else dataclasses.replace(case, sides=np.append(case.sides, side))
                heapq.heappush(heap, (-child.bound, 2 * count + place, child))
        return [dataclasses.replace(case, anchor=anchor, output=output, sign=sign) for _, _, case in heap]

    def _relax(self, rows: np.ndarray, v: np.ndarray, known: np.ndarray, sides: np.ndarray) -> "Leaf":
        """Bound the sum over directions for which some examples are known to be active (1.0) or not (-1.0)."""
        tail = self.leak * (v @ rows)
        v = (1.0 - self.leak) * v
        side = sides[:, None]
        tail = tail + (np.maximum(side, 0.0) * v[known, None] * rows[known]).sum(0)
        v = v.copy()
        size = np.abs(v[known])[:, None]
        v[known] = 0.0
        ahead = (rows * v[:, None])[v > 0.0]
        behind = np.concatenate([-(rows * v[:, None])[v < 0.0], -side * size * rows[known]])
        most = np.r_[np.ones((v < 0.0).sum()), np.full(len(known), np.inf)]
        theta = np.r_[np.full((v < 0.0).sum(), 0.5), np.zeros(len(known))]
        lead = tail + 0.5 * ahead.sum(0)
        columns = np.vstack([lead - theta @ behind, 0.5 * ahead])  # C transposed
        generator = np.random.default_rng(0)
        factor = generator.normal(size=(len(columns), min(FACTOR_RANK, rows.shape[1] + 1)))
        factor /= np.sqrt((factor * factor).sum(1, keepdims=True))
        proof = Leaf(sides=sides, bound=np.inf)
        scale = float(np.linalg.norm(behind, 2) ** 2) if len(behind) else 0.0
        mean, delta = np.zeros_like(theta), np.ones(len(columns))
        for step in range(self.steps):
            image = columns.T @ factor  # C S
            moved = columns @ image
            delta = np.sqrt((moved * moved).sum(1))
            if step % 10 == 9 or step == self.steps - 1:
                proof = min(proof, _certified(columns, delta, theta, sides), key=lambda leaf: leaf.bound)
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
            mean = np.clip(mean, 0.0, most)
            proof = min(proof, _certified(columns, delta, mean, sides), key=lambda leaf: leaf.bound)
        return proof

    def _ascend(self, residual: np.ndarray, floor: float) -> list[Neuron]:
        """Follow the gradient of the value from many directions at once, and keep the best that each met."""
        rank = self.rows.shape[1]
        u = _starts(self.rows, self.starts, rank)
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
        u = _starts(self.rows, self.starts // 4, self.rows.shape[1])[: self.starts // 2]
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


@final
@dataclasses.dataclass(frozen=True)
class Leaf:
    """One case of a relaxed bound, and the multipliers that prove it: no direction of this case has a larger value."""

    sides: np.ndarray  # of the examples of largest weight in turn, whether active (1.0) or not (-1.0)
    bound: float
    theta: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))  # of negative, then of known ones
    delta: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))  # positive, one a column of the program
    used: int = 0  # how many of the sides the multipliers make use of, the first
    anchor: int = -1  # the example on which the kink lies, -1 without a free bias
    output: int = 0  # which column of the residual
    sign: float = 1.0  # which of its two signs


def _starts(rows: np.ndarray, num: int, rank: int) -> np.ndarray:
    generator = np.random.default_rng(1)
    own = rows[generator.integers(0, len(rows), num)]
    u = np.concatenate([generator.normal(size=(num, rank)), own, -own])
    size = np.sqrt((u * u).sum(1))
    return u[size > 0.0] / size[size > 0.0, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(1, keepdims=True)), 1e-300)


def _certified(columns: np.ndarray, delta: np.ndarray, theta: np.ndarray, sides: np.ndarray) -> Leaf:
    """Return the case with `sqrt(sum delta * lambda_max(C Delta^-1 C'))`, a bound for any positive delta."""
    delta = np.maximum(delta, 1e-9 * delta.max(initial=0.0) + 1e-150)
    top = np.linalg.eigvalsh((columns / delta[:, None]).T @ columns)[-1]
    bound = float(np.sqrt(delta.sum() * max(0.0, top) * (1.0 + 1e-12)))
    return Leaf(sides=sides, bound=bound, theta=theta.copy(), delta=delta, used=len(sides))
