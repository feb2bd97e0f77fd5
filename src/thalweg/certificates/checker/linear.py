"""Verifies the rules head and factored with numpy alone; `check.py` beside it calls these functions.

Besides T, c, loss and dual as in `check.py`:
  X            features: dense [n,d], or packed rows: X_values, X_columns, X_starts [n+1], X_width
  W, b         weights [d,K] and bias [K]; b only where there is one: it is free, so columns of c R must sum to zero
  E            factored: embedding [d,k], and W is [k,K]
  regularizer  l2: l2/2 |W|^2 | l1: l1 sum|W| | elastic: both | ball: none, but |W| <= radius
               nuclear: l2/2 (|E|^2 + |W|^2)
  offset       what is added to loss and bound: the penalty of everything that stays as it is
With G = X' (c R) the bound is sum c value - conjugate(G) + offset. Under "nuclear" it holds for every width, because
l2/2 (|E|^2 + |W|^2) is at least l2 times the nuclear norm of E W.
"""

import numpy as np


class Matrix:
    """X of the table, dense or packed."""

    def __init__(self, e, base, name="X"):
        self.dense = e.get(name)
        if self.dense is None:
            self.values, self.columns, starts = (e[f"{name}_{part}"] for part in ("values", "columns", "starts"))
            self.shape = len(starts) - 1, int(e[f"{name}_width"])
            counts = np.diff(starts)
            ok = starts[0] == 0 and starts[-1] == len(self.values) == len(self.columns) and (counts >= 0).all()
            base.need(ok and (not len(self.columns) or 0 <= self.columns.min() <= self.columns.max() < self.shape[1]),
                 "The packed rows of X do not fit together.")  # fmt: skip
            self.rows = np.repeat(np.arange(self.shape[0]), counts)
        else:
            self.shape = self.dense.shape

    def times(self, right):
        """Return X @ right."""
        if self.dense is not None:
            return self.dense @ right
        return np.stack([np.bincount(self.rows, self.values * column[self.columns], self.shape[0])
                         for column in right.T], 1)  # fmt: skip

    def transposed_times(self, right):
        """Return X.T @ right."""
        if self.dense is not None:
            return self.dense.T @ right
        return np.stack([np.bincount(self.columns, self.values * column[self.rows], self.shape[1])
                         for column in right.T], 1)  # fmt: skip


def conjugate(e, gradient, base):
    """Return the conjugate of the regularizer at the gradient G, and the regularizer at the weights."""
    kind, w = e["regularizer"], e["W"]
    l1, l2, radius = (float(e.get(name, 0.0)) for name in ("l1", "l2", "radius"))
    base.need(l1 >= 0 and l2 >= 0 and radius >= 0, "A regularizer is negative.")
    if kind == "nuclear":
        top = np.linalg.norm(gradient, 2)
        base.need(l2 > 0 and "E" in e, "The nuclear norm needs a positive l2 and an embedding.")
        base.need(
            top <= l2 * (1 + 1e-12),
            f"The dual is not feasible: its largest singular value {top:.9g} is above {l2:.9g}.",
        )
        return 0.0, 0.5 * l2 * (np.sum(e["E"] ** 2) + np.sum(w**2))
    if kind == "ball":
        base.need(np.linalg.norm(w) <= radius * (1 + 1e-12), "The weights lie outside the ball.")
        return radius * np.linalg.norm(gradient), 0.0
    if kind == "l1":
        top = np.abs(gradient).max()
        base.need(top <= l1 * (1 + 1e-12), f"The dual is not feasible: its largest entry {top:.9g} is above {l1:.9g}.")
        return 0.0, l1 * np.abs(w).sum()
    base.need(kind in ("l2", "elastic") and l2 > 0, f"The regularizer {kind!r} needs a positive l2.")
    excess = np.maximum(np.abs(gradient) - l1, 0)
    return np.sum(excess**2) / (2 * l2), l1 * np.abs(w).sum() + 0.5 * l2 * np.sum(w**2)


def check_head(e, base):
    """Rule head: weak duality at the dual point, and the loss of the weights."""
    x = Matrix(e, base)
    c = base.weights(e, x.shape[0])
    value, residual = base.dual_terms(e)
    residual = c * residual
    gradient = x.transposed_times(residual)
    bias = e.get("b", 0.0)
    if "b" in e:
        off = np.abs(residual.sum(0)).max()
        base.need(
            off <= 1e-12 * np.abs(residual).sum() + 1e-15,
            f"A free intercept needs residuals that sum to 0, got {off:.3g}.",
        )
    below, penalty = conjugate(e, gradient, base)
    w = e["E"] @ e["W"] if e["regularizer"] == "nuclear" else e["W"]
    loss = np.sum(c * base.terms(e, x.times(w) + bias)) + penalty
    return loss + e.get("offset", 0.0), np.sum(c * value) - below + e.get("offset", 0.0)


def check_factored(e, base):
    """Rule factored: as head, with a product of two matrices as weights."""
    base.need(e["regularizer"] == "nuclear", "A factored model is bounded by the nuclear norm.")
    return check_head(e, base)
