"""Verifies the rules head, linear and factored with numpy alone; `check.py` beside it calls these functions.

Besides what `losses.py` needs:
  X            features: dense [n,d], or packed rows: X_values, X_columns, X_starts [n+1], X_width
  W, b         weights [d,K] and bias [K] of the point whose loss is compared; b only where free_bias is 1
  E            factored: embedding [d,k], and W is [k,K]
  regularizer  l2: l2/2 |W|^2 | l1: l1 sum|W| | elastic: both | ball: none, but |W| <= radius
               nuclear: l2/2 (|E|^2 + |W|^2)
  offset       what is added to loss and bound: the penalty of everything that stays as it is
With G = X' R the bound is (value(R) - conjugate of G / count) + offset. Under "nuclear" it holds for every width,
because l2/2 (|E|^2 + |W|^2) is at least l2 times the nuclear norm of E W.
"""

import math

import numpy as np

MOST_NUMBERS = 30_000_000  # in W: a few arrays of this size fit into a gigabyte


class Matrix:
    """X of the table, dense or packed."""

    def __init__(self, e, base, name="X"):
        self.dense = e.get(name)
        self.terms = 0  # products that are added up for an entry of X' R
        if self.dense is None:
            self.values, self.columns, starts = (e[f"{name}_{part}"] for part in ("values", "columns", "starts"))
            self.shape = len(starts) - 1, e[f"{name}_width"]
            kinds = self.values.dtype == float and self.columns.dtype.kind == starts.dtype.kind == "i"
            ok = kinds and self.values.ndim == self.columns.ndim == starts.ndim == 1 and type(self.shape[1]) is int
            ok = ok and starts[0] == 0 and starts[-1] == len(self.values) == len(self.columns)
            ok = ok and (starts[1:] >= starts[:-1]).all() and self.shape[1] <= MOST_NUMBERS
            low, high = int(self.columns.min(initial=0)), int(self.columns.max(initial=-1))
            base.need(ok and low >= 0 and high < self.shape[1], "The packed rows of X do not fit together.")
            self.rows = np.repeat(np.arange(self.shape[0]), np.diff(starts))
            places = self.rows * self.shape[1] + self.columns
            base.need((np.diff(places) > 0).all(), "The packed rows of X hold a column twice, or not in order.")
            self.terms = int(np.bincount(self.columns, minlength=1).max())
        else:
            base.need(self.dense.ndim == 2 and self.dense.dtype == float, "X must be a matrix, float64.")
            self.shape = self.dense.shape
            self.terms = self.shape[0]

    def row_lengths(self, base):
        """Return the length of each row, rounded up."""
        if self.dense is not None:
            return base.row_lengths(self.dense)
        largest = float(np.abs(self.values).max(initial=0.0)) or 1.0
        squares = np.bincount(self.rows, (self.values / largest) ** 2, self.shape[0])
        return largest * (np.sqrt(squares) * (1 + base.gamma(self.shape[1] + 8)) + 1e-150)

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


def bound(e, base, gradient, reach, terms):
    """Return what a residual proves, and the error.

    `gradient` is X' R without the scale, `reach` the sum over examples of |x| |R|, rounded up, and `terms` how many
    products at most were added up for an entry.
    """
    value, error = base.dual_sum(e)
    count, offset = float(e["count"]), float(e["offset"])
    right = type(e["offset"]) in (int, float) and 0 <= offset < math.inf
    base.need(right, "The penalty of what stays as it is must be a number and not negative.")
    below, wrong = penalized(e, base, gradient, reach, terms)
    result = value / count - below + offset
    sizes = abs(value) / count + abs(below) + offset
    error = (error / count + wrong + 8 * base.U * sizes) * (1 + 8 * base.U) + base.TINY
    return (result, error) if result - error > offset else (offset, 0.0)  # no loss and no penalty is negative


def penalized(e, base, gradient, reach, terms):
    """Return what the penalty takes from the value of a residual, and the error; refuses one that is not feasible."""
    count, scale = float(e["count"]), float(e["scale"])
    off = scale * (reach * base.gamma(terms + 8) + base.TINY) / count
    return conjugate(e, base, scale * gradient / count, off)


def conjugate(e, base, gradient, off):
    """Return the conjugate of the regularizer, and the error, at a gradient whose length is off by `off` at most."""
    kind = e["regularizer"]
    l1, l2, radius = (
        base.in_range(e.get(name, 0.0), f"{name} must be 0, or 1e-60 to 1e60", zero=True)
        for name in ("l1", "l2", "radius")
    )
    off = off + 4 * base.U * base.length(gradient) + base.TINY
    if kind == "nuclear":
        top = base.largest_singular_value(gradient) + off
        base.need(l2 > 0, "The nuclear norm needs a positive l2.")
        base.need(top <= l2, f"The dual is not feasible: its largest singular value {top:.9g} is above {l2:.9g}.")
        return 0.0, 0.0
    if kind == "ball":
        size = base.length(gradient)
        return radius * size, radius * off * (1 + 8 * base.U) + base.TINY
    if kind == "l1":
        top = float(np.abs(gradient).max(initial=0.0)) * (1 + 4 * base.U) + off
        base.need(top <= l1, f"The dual is not feasible: its largest entry {top:.9g} is above {l1:.9g}.")
        return 0.0, 0.0
    base.need(kind in ("l2", "elastic") and l2 > 0, f"The regularizer {kind!r} needs a positive l2.")
    size = base.length(np.maximum(np.abs(gradient) - l1, 0) if kind == "elastic" else gradient)
    return size**2 / (2 * l2), (off * (2 * size + off) / (2 * l2) + 8 * base.U * size**2 / (2 * l2)) * (1 + 8 * base.U)


def penalty(e):
    """Return what the weights of the point cost."""
    kind, w = e["regularizer"], e["W"]
    l1 = e["l1"] * np.abs(w).sum() if kind in ("l1", "elastic") else 0.0
    l2 = 0.5 * e["l2"] * np.sum(w**2) if kind in ("l2", "elastic", "nuclear") else 0.0
    return l1 + l2 + (0.5 * e["l2"] * np.sum(e["E"] ** 2) if kind == "nuclear" else 0.0)


def point(e, base, shape):
    """Return weights and bias of the point whose loss is compared; refuses those that do not fit [d, K]."""
    inner = [e["E"]] if e["regularizer"] == "nuclear" else []
    every = [*inner, e["W"], *([e["b"][None]] if "b" in e else [])]
    base.need(all(a.dtype == float and a.ndim == 2 for a in every), "Weights must be matrices, float64.")
    rows, width = (inner[0].shape[0], inner[0].shape[1] == len(e["W"])) if inner else (len(e["W"]), True)
    fits = (rows, e["W"].shape[1]) == shape and width and every[-1].shape[1] == shape[1]
    base.need(fits, f"The weights do not fit {shape[0]} features and {shape[1]} outputs.")
    base.need(type(e["free_bias"]) is int and ("b" in e) == (e["free_bias"] == 1) and e["free_bias"] in (0, 1),
              "There is a bias where none should be, or none where one should be.")  # fmt: skip
    return inner[0] @ e["W"] if inner else e["W"], e.get("b", 0.0)


def check_head(e, base):
    """Rule head: weak duality at the dual point, and the loss of the weights."""
    x, plain = Matrix(e, base), base.residual(e)
    base.need(len(plain) == x.shape[0], "X and the residual have different numbers of examples.")
    numbers = x.shape[1] * plain.shape[1]
    base.need(numbers <= MOST_NUMBERS, f"{numbers:,} weights are more than are verified.")
    w, b = point(e, base, (x.shape[1], plain.shape[1]))
    gradient, lengths = x.transposed_times(plain), x.row_lengths(base)
    reach = float(np.sum(lengths * base.row_lengths(plain))) * (1 + base.gamma(len(plain) + 4))
    value, error = bound(e, base, gradient, reach, x.terms)
    if e["regularizer"] == "ball":
        base.need(np.linalg.norm(w) <= e["radius"] * (1 + 1e-9), "The weights lie outside the ball.")
    inner = np.linalg.norm(e["E"]) * np.linalg.norm(e["W"]) if e["regularizer"] == "nuclear" else np.linalg.norm(w)
    loss, size = base.loss_sum(e, x.times(w) + b, lengths[:, None] * inner + np.abs(b))
    more = penalty(e)
    return base.Proved(loss + more + e["offset"], size + more + e["offset"], value, error)


def check_linear(e, base):
    """Rule linear: as head, where the features are the data and nothing lies below the layer."""
    base.need(e["regularizer"] == "l2" and e["offset"] == 0, "A linear model has an L2 penalty and no other.")
    return check_head(e, base)


def check_factored(e, base):
    """Rule factored: as head, with a product of two matrices as weights."""
    base.need(e["regularizer"] == "nuclear", "A factored model is bounded by the nuclear norm.")
    return check_head(e, base)
