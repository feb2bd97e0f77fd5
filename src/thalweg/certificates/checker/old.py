"""What rule two_layer still uses of the earlier form of duals."""

import numpy as np


def need(condition, sentence):
    """Raise a ValueError with the sentence unless the condition holds."""
    if not condition:
        raise ValueError(sentence)


def xlogx(p):
    """Return p log p, 0 at 0."""
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0)


def terms(e, z):
    """Return the losses phi of the predictions z, [n,1] or [n,K]."""
    kind, target = e["loss"], e["T"]
    if kind == "softmax":
        high = z.max(1, keepdims=True)
        total = np.log(np.exp(z - high).sum(1, keepdims=True)) + high
        return total - (
            z[np.arange(len(z)), target][:, None] if target.ndim == 1 else (target * z).sum(1, keepdims=True)
        )
    if kind == "logistic":
        return np.logaddexp(0, z) - target * z
    if kind == "squared":
        return e.get("factor", 0.5) * (z - target) ** 2
    need(kind in ("squared_hinge", "hinge"), f"There is no loss {kind!r}.")
    return np.maximum(1 - target * z, 0) ** (2 if kind == "squared_hinge" else 1)


def dual_terms(e):
    """Return the dual values of the examples and the residual R [n,K]; refuses a dual outside its domain."""
    kind, target, a = e["loss"], e["T"], e["dual"]
    if kind == "softmax":
        need(
            a.min() >= 0 and np.abs(a.sum(1) - 1).max() <= 1e-12 * a.shape[1] + 1e-9, "Rows of P are not distributions."
        )
        a = a / a.sum(1, keepdims=True)
        if target.ndim == 1:
            need(0 <= target.min() <= target.max() < a.shape[1], "T holds class ids that P has no columns for.")
            residual = -a
            residual[np.arange(len(a)), target] += 1
        else:
            need(target.min() >= 0 and np.abs(target.sum(1) - 1).max() <= 1e-9, "Rows of T are not distributions.")
            residual = target - a
        return -xlogx(a).sum(1, keepdims=True), residual
    need(a.shape == target.shape, "T and the dual have different shapes.")
    if kind == "squared":
        return a * target - a**2 / (4 * e.get("factor", 0.5)), a
    if kind == "logistic":
        need(min(a.min(), target.min()) >= 0 and max(a.max(), target.max()) <= 1, "q or T lies outside [0, 1].")
        return -xlogx(a) - xlogx(1 - a), target - a
    need(kind in ("squared_hinge", "hinge") and (np.abs(target) == 1).all(), f"{kind!r} needs labels -1 and 1.")
    need(a.min() >= 0 and (kind == "squared_hinge" or a.max() <= 1), "The dual lies outside its range.")
    return (a - a**2 / 4 if kind == "squared_hinge" else a), target * a


def weights(e, rows):
    """Return c as [n,1] or [n,K]."""
    c = e.get("weight", np.ones(rows)).reshape(rows, -1) / e["count"]
    need(c.min() >= 0, "A weight in c is negative.")
    return c
