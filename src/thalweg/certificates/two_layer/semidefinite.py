"""The best dual point under a semidefinite relaxation of all neurons, found together with its multipliers.

A neuron of outgoing weights a and ingoing weights u of the same length h costs l2 h^2. With w = (h, a, u, b, t, s),
where x_i . u + b = t_i - s_i (t, s >= 0, t_i s_i = 0), the moments Y = sum of w w' over all neurons satisfy

    Y is positive semidefinite on the subspace of t - s = X u + b       Y_hh = tr Y_aa = tr Y_uu
    Y_tt, Y_ts, Y_ss >= 0, the diagonal of Y_ts is zero                 Y_bb <= <M, Y_uu> for a free bias
    |Y_ut| <= Y_ht, |Y_at| <= Y_ht column by column, and so for s
    Y_rt, Y_rs >= 0 for a free bias, with r_i = h max_k |x_i - x_k| - t_i - s_i: the kink lies at an example

and the predictions are linear in them. Forgetting all else leaves a convex problem, whose dual has the residual and
the multipliers as its unknowns. It is solved by Douglas-Rachford splitting; whatever multipliers it ends with give a
valid bound. With one output a = h or a = -h, and there are two such matrices, one for each sign.
"""

import dataclasses
import time
from typing import Any, Final, final

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from thalweg.certificates.two_layer.matrices import Columns, distances, hull, positive_part
from thalweg.certificates.two_layer.neurons import Bias, coordinates
from thalweg.certificates.two_layer.problem import TwoLayerProblem, Weights

MAX_ORDER: Final = 700  # of the semidefinite matrices; above, an iteration takes longer than a second
EVERY, OFTEN = 20, 1.05  # iterations from a look at the bound to the next: so many, or by so much a factor
OVER: Final = 1.9  # over-relaxation
UNIT, FREE_UNIT = 0.25, 1.0  # of t and s, as a share of the largest singular values of the rows; for a free bias
R_UNIT: Final = 0.1  # of r, as a share of h
BETA, FREE_BETA = 20.0, 100.0  # the penalty to start with; for a free bias
CLOSE: Final = 1e-4  # the relative gap at which it ends


@final
@dataclasses.dataclass(frozen=True)
class Case:
    """Multipliers of one semidefinite constraint, as `thalweg.certificates.checker.moments` lists them."""

    sign: float
    products: np.ndarray
    own: np.ndarray
    cone: np.ndarray
    hull: float
    share: np.ndarray
    reach: np.ndarray

    @property
    def top(self) -> float:
        """What the value of a neuron is bounded by, up to rounding."""
        return float(self.share.sum())


@final
@dataclasses.dataclass(frozen=True)
class Found:
    """A dual point (before it is scaled), the multipliers of every case, and the bound that they give."""

    dual: np.ndarray
    multipliers: list[np.ndarray]
    bound: float


@final
class Relaxation:
    """Douglas-Rachford splitting for one problem; `order` is what the time and memory of an iteration depend on."""

    def __init__(self, problem: TwoLayerProblem) -> None:
        self.problem, self.width = problem, problem.loss.num_outputs
        self.rows, self.axes = coordinates(problem.features, problem.hidden_bias)
        self.free = problem.hidden_bias is Bias.FREE
        n, rank = self.rows.shape
        self.single = self.width == 1
        out = 0 if self.single else self.width
        self.head = 1 + out + rank + self.free
        self.a, self.u = slice(0, 1) if self.single else slice(1, 1 + out), slice(1 + out, 1 + out + rank)
        self.t, self.s = slice(self.head, self.head + n), slice(self.head + n, self.head + 2 * n)
        self.r = slice(self.head + 2 * n, self.head + (3 if self.free else 2) * n)
        self.order = self.head + n
        self.signs = (1.0, -1.0) if self.single else (0.0,)
        size = (FREE_UNIT if self.free else UNIT) * np.linalg.norm(self.rows) / np.sqrt(rank) * np.ones(n)
        self.unit = 2.0 ** np.round(np.log2(np.where(size > 0.0, size, 1.0)))
        self.scale = float(self.unit.max())  # of b
        self.hull = hull(self.rows) if self.free else np.zeros((rank, 0))
        self.reach = distances(self.rows) / self.unit if self.free else np.zeros(0)
        self.gain = np.where(self.reach > 0.0, R_UNIT / np.where(self.reach > 0.0, self.reach, 1.0), 1.0)  # of r

    def prepare(self) -> None:
        """Make the matrices that all iterations use."""
        n, head = len(self.rows), self.head
        self.map = np.zeros((self.r.stop, self.order))
        self.map[np.arange(head), np.arange(head)] = 1.0
        self.map[self.t, head:] = self.map[self.s, head:] = np.eye(n)
        self.map[self.s, self.u] = -self.rows / self.unit[:, None]
        if self.free:
            self.map[self.s, head - 1] = -self.scale / self.unit
            self.map[self.r] = -self.map[self.t] - self.map[self.s]
            self.map[self.r, 0] += self.reach
            self.map[self.r] *= self.gain[:, None]
        self.basis, upper = np.linalg.qr(self.map)
        cost = np.zeros((self.order, self.order))
        cost[np.arange(head), np.arange(head)] = 0.5 * self.problem.l2 * self._block(self.a, 1.0)
        cost[np.arange(head), np.arange(head)] += 0.5 * self.problem.l2 * self._block(self.u, 1.0)
        self.inverse = np.linalg.inv(upper)  # of numbers of 1 or more
        self.cost = self.inverse.T @ cost @ self.inverse
        # The block of (h, a, u, b): what sums of its entries are zero, and one that is not positive.
        first = self._block(slice(0, 1), 1.0)
        equal = [first - self._block(part, 1.0) for part in ((self.u,) if self.single else (self.u, self.a))]
        self.equal = [np.diag(row) for row in np.linalg.qr(np.array(equal).T)[0].T]
        self.inside = np.zeros((head, head))
        if self.free:
            self.inside[-1, -1] = self.scale**2
            self.inside[self.u, self.u] = -self.hull @ self.hull.T
            self.inside /= np.abs(self.inside).max()
        self.apart = self.inside - sum(row * (self.inside * row).sum() for row in self.equal)
        self.linear, self.ridge, self.skip_axes = self.problem.linear

    def _block(self, part: slice, value: float) -> np.ndarray:
        found = np.zeros(self.head)
        found[part] = value
        return found

    def start(self, weights: Weights) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the moments of a network, and the coefficients of what bypasses its neurons."""
        weights = self.problem.balanced(weights)
        moments = [np.zeros((self.r.stop, self.r.stop)) for _ in self.signs]
        shift = self.problem.features.mean(0) if self.free else 0.0
        for ingoing, bias, out in zip(weights.ingoing, weights.hidden_bias, weights.outgoing, strict=True):
            whole = np.append(ingoing, bias) if self.problem.hidden_bias is Bias.PENALIZED else ingoing
            u, offset = whole @ self.axes, [bias + ingoing @ shift] if self.free else []
            hidden = (self.rows @ u + sum(offset)) / self.unit
            place = 0 if not self.single or out[0] > 0.0 else 1
            first = [np.linalg.norm(out), *([] if self.single else out)]
            w = np.concatenate([first, u, np.array(offset) / self.scale, np.maximum(hidden, 0), np.maximum(-hidden, 0)])
            w = np.append(w, self.gain * (self.reach * first[0] - np.abs(hidden))) if self.free else w
            moments[place] += np.outer(w, w)
        parts = [self.skip_axes.T @ weights.skip]
        if self.linear.shape[1] > self.skip_axes.shape[1]:
            parts.append(weights.output_bias[None])
        return moments, np.concatenate(parts)

    def solve(self, weights: Weights, seconds: float, most: float, iterations: int = 100_000) -> Found | None:
        """Improve the bound from a network on until the time is over, or the bound is within 1e-4 of `most`."""
        begin = time.perf_counter()
        self.prepare()
        moments, theta = self.start(weights)
        # The moments' size: of the network, and where that is next to nothing, of what would cost a tenth of the loss.
        least = 0.1 * abs(self.problem.objective(weights)) / self.problem.l2 + 1e-290
        scale = max(float(np.mean([np.abs(np.diag(y)).sum() for y in moments])), least)
        beta = (FREE_BETA if self.free else BETA) * self.problem.l2 / scale
        outputs = self.problem.predictions(weights) - self.linear @ theta
        targets = [self._projected(y, beta) for y in moments]
        best, value, look = None, -np.inf, EVERY
        for step in range(1, iterations + 1):
            outputs, theta, now = self._moments(targets, outputs, theta, beta)
            multiplier = [beta * (y - target) for y, target in zip(now, targets, strict=True)]
            other = [self._projected(2.0 * y - target, beta) for y, target in zip(now, targets, strict=True)]
            spent = time.perf_counter() - begin
            if step in (look, iterations) or spent > seconds:
                found = self._bounded(multiplier, outputs + self.linear @ theta)
                if found is not None and found.bound > value:
                    best, value = found, found.bound
                look = max(step + EVERY, int(OFTEN * step))
                if spent * look / step > seconds or most - value <= CLOSE * abs(most):
                    break
            if step % 10 == 0:
                factor = _balance(moments, now, other, multiplier, beta)
                beta *= factor
                targets = [y - (y - target) / factor for y, target in zip(now, targets, strict=True)]
            moments = now
            targets = [target + OVER * (z - y) for target, z, y in zip(targets, other, now, strict=True)]
        return best

    def _projected(self, matrix: np.ndarray, beta: float) -> np.ndarray:
        """Return the nearest moments that are semidefinite on the subspace, at what they cost."""
        inner = self._form(matrix) - self.cost / beta
        values, vectors = positive_part(0.5 * (inner + inner.T))
        root = self.basis @ (vectors * np.sqrt(values))
        return root @ root.T

    def _form(self, matrix: np.ndarray) -> np.ndarray:
        """What the basis makes of a symmetric matrix, by the few numbers of `map` that are not 0 or 1."""
        if self.free:
            matrix = self._folded(matrix)
        head, wide = self.head, matrix[:, self.t] + matrix[:, self.s]
        lower = self.map[self.s, :head]
        whole = np.empty((self.order, self.order))
        whole[head:, head:] = wide[self.t] + wide[self.s]
        across = wide[:head] + lower.T @ wide[self.s]
        whole[:head, head:], whole[head:, :head] = across, across.T
        corner = matrix[:head, self.s] @ lower
        whole[:head, :head] = matrix[:head, :head] + corner + corner.T + lower.T @ matrix[self.s, self.s] @ lower
        return self.inverse.T @ whole @ self.inverse

    def _folded(self, matrix: np.ndarray) -> np.ndarray:
        """The form of (h, a, u, b, t, s) that a form of these and of r = reach h - t - s is."""
        ahead = slice(0, self.s.stop)
        across = matrix[self.r, ahead] * self.gain[:, None]
        corner = matrix[self.r, self.r] * np.outer(self.gain, self.gain)
        for part in (self.t, self.s):
            across[:, part] -= 0.5 * corner
        across[:, 0] += 0.5 * corner @ self.reach
        whole = np.zeros((self.s.stop, self.s.stop))
        whole[0] = self.reach @ across
        whole[self.t] = whole[self.s] = -across
        return matrix[ahead, ahead] + whole + whole.T

    def _moments(
        self, targets: list[np.ndarray], outputs: np.ndarray, theta: np.ndarray, beta: float
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Return predictions, coefficients, and the nearest moments that fit everything but semidefiniteness."""
        loss, k = self.problem.array_loss, self.width
        columns = [Columns(self, y, sign or 1.0, beta) for y, sign in zip(targets, self.signs, strict=True)]

        def entries(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = [one.outputs(v) for one in columns]
            return np.asarray(sum(one[0] for one in found)), np.asarray(sum(one[1] for one in found))

        def solved(outputs: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
            base = self.linear @ theta
            low, high = np.full_like(outputs, -np.inf), np.full_like(outputs, np.inf)
            for _ in range(12):
                z = outputs + base
                aim, rate = entries(loss.residual(z))
                off = outputs - aim
                blocks = loss.curvature(z).blocks()
                if np.abs(off).max() <= 1e-12 * (1.0 + np.abs(outputs).max()):
                    break
                if k == 1:
                    low, high = np.where(off < 0.0, outputs, low), np.where(off < 0.0, high, outputs)
                    after = outputs - off / (1.0 + blocks[:, :, 0] * rate)
                    middle = np.where(np.isfinite(low) & np.isfinite(high), 0.5 * (low + high), after)
                    outputs = np.where((after > low) & (after < high), after, middle)
                else:
                    inner = np.eye(k) + rate[:, :, None] * blocks
                    outputs = outputs - np.linalg.solve(inner, off[:, :, None])[:, :, 0]
            v = loss.residual(outputs + base)
            rate = entries(v)[1]
            return outputs, v, rate, self.linear.T @ v - self.ridge[:, None] * theta

        outputs, v, rate, slope = solved(outputs, theta)
        if len(theta) and slope.any():
            step = self._step(slope, loss.curvature(outputs + self.linear @ theta).diagonal, rate)
            for share in (1.0, 0.25, 0.05, 0.01):
                after = solved(outputs, theta + share * step)
                if np.linalg.norm(after[3]) <= np.linalg.norm(slope):
                    outputs, v, theta = after[0], after[1], theta + share * step
                    break
            entries(v)
        return outputs, theta, [self._fitted(y, one) for y, one in zip(targets, columns, strict=True)]

    def _fitted(self, target: np.ndarray, columns: Columns) -> np.ndarray:
        """The nearest moments, given those of the head with t and s."""
        head, n = self.head, len(self.rows)
        place = np.arange(n)
        new = np.maximum(target, 0.0)
        new[:head], new[:, :head], new[self.r, self.r] = target[:head], target[:, :head], target[self.r, self.r]
        for part, value in zip((self.t, self.s), columns.kept, strict=True):
            new[: self.u.stop, part] = value
        new[head : self.s.stop, :head] = new[:head, head : self.s.stop].T
        new[head + place, head + n + place] = new[head + n + place, head + place] = 0.0
        corner = new[:head, :head]
        for row in self.equal:
            corner -= row * (corner * row).sum()
        above = (corner * self.inside).sum()
        if above > 0.0:
            corner -= self.apart * (above / (self.apart**2).sum())
        return new

    def _step(self, slope: np.ndarray, curvature: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """A step toward the best coefficients of what bypasses the neurons."""
        curvature = np.broadcast_to(curvature, rate.shape)
        effective = curvature / (1.0 + curvature * rate) + 1e-12 * curvature.max(initial=1e-300)
        step = np.empty_like(slope)
        for k in range(slope.shape[1]):
            hessian = (self.linear.T * effective[:, k]) @ self.linear + np.diag(self.ridge)
            hessian += 1e-12 * np.trace(hessian) / len(hessian) * np.eye(len(hessian))
            step[:, k] = np.linalg.solve(hessian, slope[:, k])
        return step

    def _bounded(self, multipliers: list[np.ndarray], predictions: np.ndarray) -> Found | None:
        """Return the dual point of predictions, and the bound that the multipliers prove."""
        dual = self.problem.dual_point(predictions)
        cases = self.cases(multipliers, self.problem.array_loss.dual_residual(dual), 7)
        if cases is None:
            return None
        most = self.problem.l2 / max(max(case.top for case in cases), 1e-300)
        best = self.problem.best_scale(dual, most)
        return Found(dual, multipliers, self.problem.dual_value(self.problem.array_loss.scaled(dual, best)))

    def cases(self, multipliers: list[np.ndarray], residual: np.ndarray, tries: int = 25) -> list[Case] | None:
        """Return multipliers that prove a bound on the value of every neuron for a residual; None if they do not."""
        found = [
            self._case(multiplier, sign, residual, tries)
            for multiplier, sign in zip(multipliers, self.signs, strict=True)
        ]
        return None if any(case is None for case in found) else [case for case in found if case is not None]

    def _case(self, multiplier: np.ndarray, sign: float, residual: np.ndarray, tries: int) -> Case | None:
        """Read the multipliers, and add what it takes to make them a proof with the smallest top."""
        n, head, core = len(self.rows), self.head, self.u.stop
        place, walls = np.arange(n), self.map[head:]
        both = np.maximum(0.5 * (multiplier + multiplier.T)[head:, head:], 0.0).astype(np.float32).astype(float)
        both[2 * n :, 2 * n :] = 0.0
        if self.free:
            both[2 * n :] = (both[2 * n :] * self.gain[:, None]).astype(np.float32)
            both[:, 2 * n :] = both[2 * n :].T
            walls = np.vstack([walls[: 2 * n], walls[2 * n :] / self.gain[:, None]])
        products, reach = both[: 2 * n, : 2 * n], both[2 * n :, : 2 * n]
        own = 2.0 * multiplier[head + place, head + n + place]
        cross = np.zeros((head, 2 * n))
        ends = residual.T * self.unit * (sign or 1.0)
        cross[self.a] = np.hstack([ends, -self.problem.leak * ends])
        cone = (2.0 * multiplier[:core, head : self.s.stop] - cross[:core]).astype(np.float32).astype(float)
        least = np.sqrt((cone[self.u] ** 2).sum(0))
        if not self.single:
            least = least + np.sqrt((cone[self.a] ** 2).sum(0))
        cone[0] = np.maximum(cone[0], least * (1.0 + 1e-6)).astype(np.float32)
        cross[:core] += cone
        products[place, n + place] = products[n + place, place] = 0.5 * own
        form, half = -walls.T @ (both @ walls), 0.5 * cross @ walls[: 2 * n]
        form[:head] -= half
        form[:, :head] -= half.T
        products[place, n + place] = products[n + place, place] = 0.0
        spare = 0.5 * (walls[:n].T @ walls[n : 2 * n])  # of t . s, which is 0
        spare = spare + spare.T
        inside = np.zeros((head, head))
        if self.free:
            inside[-1, -1] = self.scale**2
            inside[self.u, self.u] = -self.hull @ self.hull.T
        held = max(0.0, -float(multiplier[head - 1, head - 1])) / self.scale**2 if self.free else 0.0
        size = float(np.abs(np.diag(form)[head:]).mean()) + 1e-300
        best: tuple[np.ndarray, float, float] | None = None
        for more in size * np.geomspace(1e-6, 1e2, tries):
            for extra in (0.3, 1.0, 3.0) if self.free else (0.0,):
                whole, hold = form + more * spare, held + extra * more * n / self.scale**2
                whole[:head, :head] += hold * inside
                share = self._least(whole)
                if share is not None and (best is None or share.sum() < best[0].sum()):
                    best = (share, more, hold)
        return None if best is None else Case(sign, products, own - best[1], cone, best[2], best[0], reach)

    def _least(self, form: np.ndarray) -> np.ndarray | None:
        """The shares of h^2, |a|^2 and |u|^2 of the smallest sum for which the form is positive."""
        core, rest = np.arange(self.u.stop), np.arange(self.u.stop, self.order)
        try:
            lower = np.linalg.cholesky(form[np.ix_(rest, rest)])
        except np.linalg.LinAlgError:
            return None
        across = np.linalg.solve(lower, form[np.ix_(rest, core)])
        need = across.T @ across - form[np.ix_(core, core)]
        if not np.isfinite(need).all():
            return None
        parts = [slice(0, 1), self.u] if self.single else [slice(0, 1), self.a, self.u]
        turn = np.array([self._block(part, 1.0)[: self.u.stop] for part in parts])

        def largest(moved: Any) -> float:
            wide = np.append(moved, -np.sum(moved))
            return float(np.linalg.eigvalsh(need - np.diag(wide @ turn))[-1])

        reach = float(np.abs(need).max()) + 1e-300
        if self.single:
            options = {"xatol": 1e-7 * reach}
            found = minimize_scalar(largest, bounds=(-reach, reach), method="bounded", options=options)  # type: ignore[call-overload]
            moved = np.array([found.x])  # type: ignore[attr-defined]
        else:
            simplex = 0.3 * reach * np.array([[0.0, 0.0], [-1.0, 0.5], [0.5, -1.0]])
            limits = {"initial_simplex": simplex, "maxfev": 150, "xatol": 1e-6 * reach, "fatol": 1e-7 * reach}
            moved = minimize(largest, np.zeros(2), method="Nelder-Mead", options=limits).x  # type: ignore[attr-defined]
        if largest(0.0 * moved) < largest(moved):
            moved = 0.0 * moved
        return largest(moved) + np.append(moved, -moved.sum())


def _balance(before: Any, now: Any, other: Any, multiplier: Any, beta: float) -> float:
    """By what the penalty is to change so that both residuals shrink alike."""

    def size(arrays: Any) -> float:
        return float(sum(np.linalg.norm(array) for array in arrays)) + 1e-300

    primal = size(y - z for y, z in zip(now, other, strict=True)) / size(now)
    dual = beta * size(y - z for y, z in zip(now, before, strict=True)) / size(multiplier)
    return float(np.clip((primal / dual) ** 0.3, 1.0 / 1.3, 1.3))
