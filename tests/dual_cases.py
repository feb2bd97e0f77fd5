"""Problems over all scales, and what their dual points prove, once more: with 60 digits and exact fractions."""

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import torch

from thalweg.certificates.factored.problem import Factored
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.regularizers import L1, L2, Ball, ElasticNet
from thalweg.certificates.losses import AbstractLoss, SoftmaxLoss
from thalweg.certificates.number_losses import HingeLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss

mpmath.mp.dps = 60
KINDS = ("labels", "soft", "smoothed", "classes", "logistic", "multi", "squared", "squared_hinge", "hinge")
PENALTIES = ("l2", "l1", "elastic", "ball", "nuclear")
LOWEST = mpmath.mpf("-inf")


# ---- exact values of evidence ----


def exact_bound(e: dict[str, Any]) -> mpmath.mpf:
    """What evidence of a linear problem proves, without rounding; minus infinity where its dual is not feasible."""
    residual = _exact_residual(e)
    x = _dense(e)
    value = _value(e, residual)
    if value == LOWEST:
        return LOWEST
    if e["loss"] == "softmax" and any(sum(row) != 0 for row in residual):
        return LOWEST
    if e["free_bias"] and any(sum(column) != 0 for column in zip(*residual, strict=True)):
        return LOWEST
    count = Fraction(e["count"])
    gradient = [
        [sum((Fraction(float(xi)) * ri for xi, ri in zip(column, out, strict=True) if xi), Fraction(0)) / count
         for out in zip(*residual, strict=True)]
        for column in x.T
    ]  # fmt: skip
    return value / _mp(count) - _conjugate(e, gradient) + mpmath.mpf(e["offset"])


def _exact_residual(e):
    scale = Fraction(e["scale"]) * Fraction(2) ** e["exponent"]
    return [[scale * int(one) for one in row] for row in e["residual"]]


def _dense(e):
    if "X" in e:
        return e["X"]
    x = np.zeros((len(e["X_starts"]) - 1, e["X_width"]))
    for row, (first, last) in enumerate(zip(e["X_starts"][:-1], e["X_starts"][1:], strict=True)):
        for place in range(first, last):
            x[row, e["X_columns"][place]] += e["X_values"][place]
    return x


def _mp(fraction):
    fraction = Fraction(fraction)
    return mpmath.mpf(fraction.numerator) / fraction.denominator


def _plogp(p):
    return _mp(p) * mpmath.log1p(_mp(p - 1)) if p else mpmath.mpf(0)  # all digits of p near 1


def _weights(e, shape):
    w = e.get("weight")
    return np.ones(shape) if w is None else np.broadcast_to(w.reshape(shape[0], -1), shape)


def _value(e, residual):
    """Infimum of sum w phi(z) + sum R z over z, by each loss's definition."""
    shape = e["residual"].shape
    w, total = _weights(e, shape), mpmath.mpf(0)
    for i in range(shape[0]):
        targets = e["T"][i]
        if e["loss"] == "softmax":
            weight = Fraction(float(w[i, 0]))
            t = [Fraction(int(k == targets)) for k in range(shape[1])] if np.ndim(targets) == 0 else [
                Fraction(float(one)) for one in targets
            ]  # fmt: skip
            if weight == 0:
                if any(residual[i]):
                    return LOWEST
                continue
            q = [one - r / weight for one, r in zip(t, residual[i], strict=True)]
            if min(q) < 0:
                return LOWEST
            total += _mp(weight) * (_plogp(sum(q)) - sum(_plogp(one) for one in q))
            continue
        for k in range(shape[1]):
            t, r, weight = Fraction(float(targets[k])), residual[i][k], Fraction(float(w[i, k]))
            if weight == 0:
                if r:
                    return LOWEST
                continue
            if e["loss"] == "logistic":
                q = t - r / weight
                if not 0 <= q <= 1:
                    return LOWEST
                total -= _mp(weight) * (_plogp(q) + _plogp(1 - q))
            elif e["loss"] == "squared":
                total += _mp(r * t - r * r / (4 * Fraction(e["factor"]) * weight))
            else:
                if r * t < 0 or (e["loss"] == "hinge" and r * t > weight):
                    return LOWEST
                total += _mp(abs(r) - (r * r / (4 * weight) if e["loss"] == "squared_hinge" else 0))
    return total


def _conjugate(e, gradient):
    kind, flat = e["regularizer"], [g for row in gradient for g in row]
    squares = sum(g * g for g in flat)
    if kind == "l2":
        return _mp(squares / (2 * Fraction(e["l2"])))
    if kind == "ball":
        return mpmath.mpf(e["radius"]) * mpmath.sqrt(_mp(squares))
    l1 = Fraction(e.get("l1", 0.0))
    if kind == "l1":
        return mpmath.mpf(0) if max(map(abs, flat)) <= l1 else mpmath.mpf("inf")
    if kind == "elastic":
        return _mp(sum(max(abs(g) - l1, Fraction(0)) ** 2 for g in flat) / (2 * Fraction(e["l2"])))
    matrix = mpmath.matrix([[_mp(g) for g in row] for row in gradient])
    scale = max(abs(one) for one in matrix)
    if scale == 0:
        return mpmath.mpf(0)
    matrix = matrix / scale
    top = scale * mpmath.sqrt(max(mpmath.eigsy(matrix.T * matrix, eigvals_only=True)))
    return mpmath.mpf(0) if top <= mpmath.mpf(e["l2"]) else mpmath.mpf("inf")


# ---- losses with 60 digits, and optima by Newton's method ----


def exact_loss(e: dict[str, Any], w: Any, b: Any) -> mpmath.mpf:
    """The loss with its penalty at weights [d][K] and bias [K], without rounding to speak of."""
    x, shape = _dense(e), e["residual"].shape
    each, total = _weights(e, shape), mpmath.mpf(0)
    for i in range(shape[0]):
        z = [b[k] + mpmath.fsum(mpmath.mpf(float(x[i, j])) * w[j][k] for j in range(x.shape[1]) if x[i, j])
             for k in range(shape[1])]  # fmt: skip
        total += _phi(e, i, z, each[i])
    flat = [mpmath.mpf(w[j][k]) for j in range(x.shape[1]) for k in range(shape[1])]  # squares of floats would round
    kind = e["regularizer"]
    penalty = mpmath.mpf(0)
    if kind in ("l1", "elastic"):
        penalty += mpmath.mpf(e["l1"]) * mpmath.fsum(map(abs, flat))
    if kind in ("l2", "elastic"):
        penalty += mpmath.mpf(e["l2"]) / 2 * mpmath.fsum(one * one for one in flat)
    return total / mpmath.mpf(e["count"]) + penalty + mpmath.mpf(e["offset"])


def _log1p_exp(z):
    return max(z, mpmath.mpf(0)) + mpmath.log1p(mpmath.exp(-abs(z)))


def _phi(e, i, z, weight):
    targets, kind = e["T"][i], e["loss"]
    if kind == "softmax":
        high = max(z)
        lse = high + mpmath.log(mpmath.fsum(mpmath.exp(one - high) for one in z))
        if np.ndim(targets) == 0:
            return mpmath.mpf(float(weight[0])) * (lse - z[int(targets)])
        t = [mpmath.mpf(float(one)) for one in targets]
        return mpmath.mpf(float(weight[0])) * mpmath.fsum(t[k] * (lse - z[k]) for k in range(len(z)))
    total = mpmath.mpf(0)
    for k, one in enumerate(z):
        t, each = mpmath.mpf(float(targets[k])), mpmath.mpf(float(weight[k]))
        if kind == "logistic":
            total += each * (_log1p_exp(one) - t * one)
        elif kind == "squared":
            total += each * mpmath.mpf(e["factor"]) * (one - t) ** 2
        else:
            total += each * max(1 - t * one, mpmath.mpf(0)) ** (2 if kind == "squared_hinge" else 1)
    return total


def optimum(e: dict[str, Any], w: np.ndarray, b: np.ndarray, *, steps: int = 60) -> tuple[mpmath.mpf, mpmath.mpf]:
    """The least loss that damped Newton steps reach from a point (smooth losses, l2), and the last decrement."""
    x, (n, k) = _dense(e), e["residual"].shape
    d, free = x.shape[1], bool(e["free_bias"])
    columns = [[mpmath.mpf(float(one)) for one in row] + ([mpmath.mpf(1)] if free else []) for row in x]
    each = [[mpmath.mpf(float(one)) for one in row] for row in _weights(e, (n, k))]
    theta = [[mpmath.mpf(float(w[j, c])) for c in range(k)] for j in range(d)] + [
        [mpmath.mpf(float(one)) for one in b] for _ in range(int(free))
    ]
    zero = [mpmath.mpf(0)] * k

    def loss(at):
        return exact_loss(e, at, at[d] if free else zero)

    best, decrement = loss(theta), mpmath.mpf("inf")
    for _ in range(steps):
        gradient, hessian = _derivatives(e, columns, each, theta, d)
        size = len(gradient)
        largest = max(abs(hessian[i, i]) for i in range(size))
        for i in range(size):
            hessian[i, i] += largest * mpmath.mpf("1e-45")  # the bias of a softmax may be moved by a constant
        try:
            step = mpmath.lu_solve(hessian, mpmath.matrix(gradient))
        except ZeroDivisionError:  # singular in 60 digits: the point is still no lower than the optimum
            break
        decrement = mpmath.fsum(gradient[i] * step[i] for i in range(size))
        damping = mpmath.mpf(1)
        for _ in range(60):
            moved = [[theta[j][c] - damping * step[j * k + c] for c in range(k)] for j in range(len(theta))]
            value = loss(moved)
            if value < best:
                break
            damping /= 4
        else:
            break
        theta, best = moved, value
        if decrement < abs(best) * mpmath.mpf("1e-40"):
            break
    return best, decrement


def _derivatives(e, columns, each, theta, d):
    n, k, rows = len(columns), len(theta[0]), len(theta)
    gradient, hessian = [mpmath.mpf(0)] * (rows * k), mpmath.zeros(rows * k, rows * k)
    count = mpmath.mpf(e["count"])
    for i in range(n):
        z = [mpmath.fsum(columns[i][j] * theta[j][c] for j in range(rows)) for c in range(k)]
        first, second = _slopes(e, i, z, each[i])
        for j in range(rows):
            for c in range(k):
                gradient[j * k + c] += columns[i][j] * first[c] / count
                for j2 in range(rows):
                    for c2 in range(k):
                        if second[c][c2]:
                            hessian[j * k + c, j2 * k + c2] += columns[i][j] * columns[i][j2] * second[c][c2] / count
    for j in range(d):
        for c in range(k):
            gradient[j * k + c] += mpmath.mpf(e["l2"]) * theta[j][c]
            hessian[j * k + c, j * k + c] += mpmath.mpf(e["l2"])
    return gradient, hessian


def _slopes(e, i, z, weight):
    """First and second derivatives of an example's loss by its predictions."""
    k, targets = len(z), e["T"][i]
    second = [[mpmath.mpf(0)] * k for _ in range(k)]
    if e["loss"] == "softmax":
        high = max(z)
        p = [mpmath.exp(one - high) for one in z]
        whole = mpmath.fsum(p)
        p = [one / whole for one in p]
        t = [mpmath.mpf(float(one)) for one in targets] if np.ndim(targets) else [
            mpmath.mpf(int(c == targets)) for c in range(k)
        ]  # fmt: skip
        mass = mpmath.fsum(t)
        for c in range(k):
            for c2 in range(k):
                second[c][c2] = weight[0] * mass * p[c] * (int(c == c2) - p[c2])
        return [weight[0] * (mass * p[c] - t[c]) for c in range(k)], second
    first = []
    for c in range(k):
        t = mpmath.mpf(float(targets[c]))
        if e["loss"] == "logistic":
            q = 1 / (1 + mpmath.exp(-z[c])) if z[c] > 0 else mpmath.exp(z[c]) / (1 + mpmath.exp(z[c]))
            slope, bend = q - t, q * (1 - q)
        elif e["loss"] == "squared":
            slope, bend = 2 * mpmath.mpf(e["factor"]) * (z[c] - t), 2 * mpmath.mpf(e["factor"])
        else:
            inside = 1 - t * z[c] > 0
            slope, bend = (-2 * t * (1 - t * z[c]) if inside else mpmath.mpf(0)), mpmath.mpf(2 if inside else 0)
        first.append(weight[c] * slope)
        second[c][c] = weight[c] * bend
    return first, second


# ---- problems ----


def wild_loss(rng: np.random.Generator, kind: str, n: int, outputs: int, *, wild: float = 8.0) -> AbstractLoss:
    """A loss whose weights and targets may be of any scale, 10^-wild to 10^wild; some weights are 0."""
    weights = None
    if rng.random() < 0.6:
        weights = 10.0 ** rng.uniform(-wild, wild, n) if rng.random() < 0.5 else rng.uniform(0.1, 2.0, n)
        weights[rng.random(n) < 0.15] = 0.0
        weights[rng.integers(n)] = 10.0 ** rng.uniform(-wild / 2, wild / 2)
    each = None if weights is None else torch.from_numpy(weights)
    if kind in ("labels", "smoothed", "classes"):
        labels = torch.from_numpy(rng.integers(outputs, size=n))
        by_class = torch.from_numpy(10.0 ** rng.uniform(-3, 3, outputs)) if kind == "classes" else None
        smoothing = float(10.0 ** rng.uniform(-12, -0.3)) if kind == "smoothed" else 0.0
        return SoftmaxLoss.of_labels(labels, outputs, label_smoothing=smoothing, class_weights=by_class, weights=each)
    if kind == "soft":
        targets = rng.dirichlet(np.full(outputs, 0.2), n)
        targets[rng.random((n, outputs)) < 0.3] = 0.0
        targets[:, 0] += targets.sum(1) == 0
        return SoftmaxLoss(torch.from_numpy(targets / targets.sum(1, keepdims=True)), each)
    if kind in ("logistic", "multi"):
        soft = rng.random((n, outputs)) ** rng.uniform(0.1, 10)
        hard = rng.integers(2, size=(n, outputs)).astype(float)
        targets = np.where(rng.random((n, outputs)) < 0.5 * (kind == "multi"), soft, hard)
        if kind == "multi" and rng.random() < 0.5:
            each = torch.from_numpy(10.0 ** rng.uniform(-2, 2, (n, outputs)))
        return LogisticLoss(torch.from_numpy(targets), each)
    if kind == "squared":
        targets = rng.normal(size=(n, outputs)) * 10.0 ** rng.uniform(-wild, wild)
        return SquaredLoss(torch.from_numpy(targets), each, scale=float(rng.choice([0.5, 1.0, 0.3])))
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], (n, outputs)))
    return SquaredHingeLoss(signs, each) if kind == "squared_hinge" else HingeLoss(signs, each)


def wild_certificate(rng: np.random.Generator, kind: str, penalty: str, *, wild: float = 8.0) -> Any:
    """An honest certificate, and the head that it is of, of a problem with scales 10^-wild to 10^wild; None: left out.

    Its point is 0, drawn, or (for l2) near the optimum.
    """
    n, d, outputs = int(rng.integers(1, 9)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    loss = wild_loss(rng, kind, n, outputs, wild=wild)
    x = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-wild, wild)
    if rng.random() < 0.4:
        x = x * 10.0 ** rng.uniform(-wild / 2, wild / 2, d)
    x[rng.random((n, d)) < 0.2] = 0.0
    if rng.random() < 0.3:
        x = np.round(x / np.abs(x).max() * 2) if x.any() else x
    if rng.random() < 0.3:
        x = x.astype(np.float32)
    features = Features(torch.from_numpy(x).to_sparse() if rng.random() < 0.3 else x)
    strength, other = (float(10.0 ** rng.uniform(-12, 4)) for _ in range(2))
    intercept = bool(rng.integers(2))
    w = torch.from_numpy(rng.normal(size=(d, outputs)) * rng.choice([0.0, 0.01, 1.0, 10.0 ** rng.uniform(-wild, wild)]))
    b = torch.from_numpy(rng.normal(size=outputs)) if intercept else None
    if penalty == "nuclear":
        problem = Factored(features, loss, strength, intercept=intercept)
        width = int(rng.integers(1, 3))
        e = torch.from_numpy(rng.normal(size=(d, width))) * w.abs().max().sqrt()
        right = torch.from_numpy(rng.normal(size=(outputs, width))) * w.abs().max().sqrt()
        return problem.certificate(problem.at(e, right, b)), problem
    regularizer = {"l2": L2(strength), "l1": L1(strength), "elastic": ElasticNet(strength, other),
                   "ball": Ball(float(w.norm()))}[penalty]  # fmt: skip
    head = Head(features, loss, regularizer, intercept=intercept)
    return head.certificate(head.at(w, b), offset=float(rng.choice([0.0, 0.25, 10.0 ** rng.uniform(-8, 8)]))), head


def wild_evidence(rng: np.random.Generator, kind: str, penalty: str) -> dict[str, Any]:
    """Evidence that nobody's problem made: any integers, any scales; most of it is refused, the rest must be true."""
    level, _ = wild_certificate(rng, kind, penalty)
    e = dict(level.evidence)
    whole = e["residual"].copy()
    choice = rng.integers(6)
    if choice == 0:
        e["scale"] = float(
            e["scale"] * rng.choice([0.5, 1 + 2.0**-40, 1 + 2.0**-45, 2.0, 1 - 2.0**-53, 1.0 + 2.0**-52])
        )
    elif choice == 1:
        e["exponent"] = int(e["exponent"] + rng.integers(-2, 3))
    elif choice == 2:
        i, k, m = rng.integers(len(whole)), *rng.integers(whole.shape[1], size=2)
        by = int(2.0 ** rng.uniform(0, 45))
        whole[i, k] += by
        whole[i, m] -= by
    elif choice == 3 and len(whole) > 1:  # the same change in two rows: columns still sum to 0
        i, j = rng.choice(len(whole), 2, replace=False)
        k, m = rng.integers(whole.shape[1], size=2)
        by = int(2.0 ** rng.uniform(0, 45)) * int(rng.choice([-1, 1]))
        whole[i, k] += by
        whole[i, m] -= by
        whole[j, k] -= by
        whole[j, m] += by
    elif choice == 4:
        whole = (whole * float(rng.uniform(0.9, 1.1))).astype(np.int64)
    e["residual"] = whole
    for name in ("l1", "l2", "radius", "count"):
        if name in e and rng.random() < 0.3:
            e[name] = float(e[name] * rng.choice([0.5, 1 - 1e-15, 1 + 1e-15, 2.0, math.nextafter(1.0, 0.0)]))
    return e
