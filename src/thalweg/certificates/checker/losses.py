"""Losses of predictions and their duals, with all rounding accounted for; `check.py` beside it lists the arrays.

The sum of the losses is sum w phi(z). For a residual R, one number for each example and output,

    sum w phi(z) >= value(R) - sum R z   for every z,

where value(R) is a sum of the terms below, q = T - R / w:

  softmax        phi = S log sum exp z - T z, S the sum of the row T    w (S log S - sum q log q), q >= 0, sum R = 0
  logistic       phi = log(1 + e^z) - T z                               w (-q log q - (1-q) log(1-q)), 0 <= q <= 1
  squared        phi = factor (z - T)^2                                 R T - R^2 / (4 factor w)
  squared_hinge  phi = max(1 - T z, 0)^2                                |R| - R^2 / (4 w), R T >= 0
  hinge          phi = max(1 - T z, 0)                                  |R|, 0 <= R T <= w
"""

import numpy as np


def terms(e, z):
    """Return the losses phi of the predictions z, [n,1] or [n,K]."""
    kind, target = e["loss"], e["T"]
    if kind == "softmax":
        high = z.max(1, keepdims=True)
        lse = np.log(np.exp(z - high).sum(1, keepdims=True)) + high
        if target.ndim == 1:
            return lse - z[np.arange(len(z)), target][:, None]
        return target.sum(1, keepdims=True) * lse - (target * z).sum(1, keepdims=True)
    if kind == "logistic":
        return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - target * z
    if kind == "squared":
        return e["factor"] * (z - target) ** 2
    return np.maximum(1 - target * z, 0) ** (2 if kind == "squared_hinge" else 1)


def loss_sum(e, z, base, reach=0.0):
    """Return sum w phi(z) / count, and the sum of the absolute values of its terms.

    The terms of z itself are at most `reach` [n,1] together (|z| if that is larger).
    """
    reach, loss, size = reach + np.zeros((len(z), 1)), [], []
    for rows, part in parts(e, len(z), base):
        w, phi, most = each_loss(part, z[rows], reach[rows], base)
        loss.append(np.sum(w * phi))
        size.append(np.sum(w * most))
    return sum(loss) / e["count"], sum(size) / e["count"]


def parts(e, rows, base):
    """Yield slices of the rows, and evidence of them alone, so that what is computed on the way stays small."""
    names = [name for name in ("T", "weight", "residual") if name in e]
    for name in names:
        base.need(len(e[name]) == rows, f"There is not one {'target' if name == 'T' else name} for each example.")
    step = max(1, 2**18 // max(1, e["residual"].shape[-1]))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        yield part, {**e, **{name: e[name][part] for name in names}}


def each_loss(e, z, reach, base):
    """Return weights, losses, and the sum of the absolute values of their terms."""
    w = weights(e, len(z), base)
    phi, reach = terms(e, z), np.maximum(np.abs(z), reach)
    if e["loss"] == "squared":
        size = phi + 2 * e["factor"] * np.abs(z - e["T"]) * (reach + np.abs(e["T"]))
    elif e["loss"] == "squared_hinge":
        size = phi + 2 * np.sqrt(phi) * (reach + 1)
    else:
        mass = e["T"].sum(1, keepdims=True) if e["loss"] == "softmax" and e["T"].ndim == 2 else 1.0
        size = np.abs(phi) + 2 * mass * reach.max(1, keepdims=True)
    return w, phi, size


def in_range(base, value, sentence, zero=False):
    """Return a number as a float; refuses one that is not positive (or 0), or where rounding cannot be bounded."""
    base.need(isinstance(value, (int, float)) and type(value) is not bool, f"{sentence}; got {value!r:.40}.")
    value = float(value)
    base.need(base.LEAST <= value <= base.MOST or (zero and value == 0.0), f"{sentence}; got {value:.9g}.")
    return value


def weights(e, rows, base):
    """Return the weights w as [n,1] or [n,K]; all one where the evidence has none."""
    in_range(base, e["count"], "The count that losses are divided by must be positive, 1e-60 to 1e60")
    w = e.get("weight")
    if w is None:
        return np.ones((rows, 1))
    shapes = [(rows,), (rows, 1)] + ([e["residual"].shape] if e["loss"] != "softmax" else [])
    base.need(w.dtype == float and w.shape in shapes, "There is not one weight for each example or number.")
    base.need(w.min() >= 0, "A weight is negative.")
    ok = w.min(where=w > 0, initial=1.0) >= base.LEAST and w.max() <= base.MOST
    base.need(ok, "Weights must be 0, or 1e-60 to 1e60.")
    return w.reshape(rows, -1)


def residual(e, base):
    """Return R without its scale, exact in float64; refuses one that is not valid."""
    valid(e, base)
    plain = e["residual"].astype(np.float64)
    return np.ldexp(plain, e["exponent"], out=plain)


def valid(e, base):
    """Refuse a residual whose rows (softmax) or columns (bias) do not sum to 0.

    R = scale residual 2^exponent with integers, so these sums have no rounding at all.
    """
    whole, exponent = e["residual"], e["exponent"]
    base.need(whole.dtype == np.int64 and whole.ndim == 2 and whole.size, "The residual must be int64, [n, K].")
    size = sum(np.abs(whole[i : i + 2**12].astype(np.float64)).sum() for i in range(0, len(whole), 2**12))
    fits = size < 2.0**53 and type(exponent) is int and -600 <= exponent <= 400
    base.need(fits, "The residual or its exponent is out of range.")
    in_range(base, e["scale"], "The scale of the dual must be 0, or 1e-60 to 1e60", zero=True)
    if e["loss"] == "softmax":
        base.need(not whole.sum(1).any(), "The residuals of an example do not sum to 0.")
    if e.get("free_bias"):
        base.need(not whole.sum(0).any(), "A free bias needs residuals that sum to 0 exactly.")


def dual_sum(e, base):
    """Return value(R) and a bound on its error; refuses a residual outside the domain."""
    valid(e, base)
    found = [dual_part(part, base) for _, part in parts(e, len(e["residual"]), base)]
    value, error = base.total([value for value, _ in found])
    return value, error + sum(error for _, error in found) * (1 + base.gamma(len(found) + 8))


def dual_part(e, base):
    """Return the part of value(R) of some rows, and a bound on its error."""
    kind, target, scale = e["loss"], e["T"], float(e["scale"])
    r = scale * np.ldexp(
        e["residual"].astype(np.float64), e["exponent"]
    )  # off by U |r|, and far from underflow, like |r| / w below
    rows, outputs = r.shape
    w = weights(e, rows, base) + np.zeros((1, 1 if kind == "softmax" else outputs))
    labels = kind == "softmax" and target.ndim == 1
    fits = target.shape == (r.shape[:1] if labels else r.shape) and (target.dtype.kind == "i") == labels
    base.need(fits, "Targets and residual do not fit together.")
    there = w > 0
    base.need((r == 0).all(where=~there), "A residual belongs to a weight of 0.")
    m = np.abs(r) / np.where(there, w, 1.0)  # off by 3 U m
    if kind == "squared":
        factor = in_range(base, e["factor"], "The factor of the squares must be positive, 1e-60 to 1e60")
        first, second = r * target, np.abs(r) * m / (4 * factor)
        return with_errors(base, first - second, 16 * base.U * (np.abs(first) + second))
    if kind in ("squared_hinge", "hinge"):
        base.need((np.abs(target) == 1).all() and (r * target >= 0).all(), f"{kind!r}: a label or residual is wrong.")
        base.need(kind == "squared_hinge" or m.max() <= 1 - 2.0**-44, "The residual is above its weight.")
        second = np.abs(r) * m / 4 if kind == "squared_hinge" else 0.0
        return with_errors(base, np.abs(r) - second, 16 * base.U * (np.abs(r) + second))
    base.need(kind in ("softmax", "logistic"), f"There is no loss {kind!r}.")
    if labels:
        base.need(0 <= target.min() <= target.max() < outputs, "T holds class ids without a column.")
        own = np.zeros(r.shape, bool)
        own[np.arange(rows), target] = True
        base.need((np.where(own, -r, r) <= 0).all(), "The dual is no distribution: a probability is negative.")
        value, error = unsure(base, m)
        value[own], error[own] = sure(base, m[own])
        return with_errors(base, w * value, w * (error + 4 * base.U * np.abs(value)))
    base.need(target.min() >= 0 and (kind == "softmax" or target.max() <= 1), "A target is out of its range.")
    off = 8 * base.U * (target + m)
    q = target - np.where(there, r / np.where(there, w, 1.0), 0.0)
    inside = (r <= 0) | ((target > 0) & (q >= off + base.TINY))
    base.need(inside.all(), "The dual is out of its domain: a probability is negative.")
    value, error = base.entropy(q, off)
    if kind == "softmax":
        whole = target.sum(1, keepdims=True)
        rest, wrong = base.entropy(whole, base.gamma(outputs + 4) * whole)
        size = np.c_[np.abs(value), np.abs(rest)]
        return with_errors(base, w * np.c_[value, -rest], w * (np.c_[error, wrong] + 4 * base.U * size))
    hard = (target == 0) | (target == 1)
    base.need((r * (target - 0.5) >= 0).all(where=hard), "The dual is out of its domain: a probability is above 1.")
    base.need((m <= 1 - 2.0**-44).all(where=hard), "The dual is out of its domain: a probability is above 1.")
    base.need((1 - q >= off + 8 * base.U).all(where=~hard), "The dual is out of its domain: a probability is above 1.")
    other, wrong = base.entropy(1 - q, off + 8 * base.U)
    near, far = unsure(base, m), sure(base, np.where(hard, m, 0.0))
    value, error = np.where(hard, near[0], value), np.where(hard, near[1], error)
    other, wrong = np.where(hard, far[0], other), np.where(hard, far[1], wrong)
    both = np.stack([value, other])
    return with_errors(base, w * both, w * (np.stack([error, wrong]) + 4 * base.U * np.abs(both)))


def unsure(base, m):
    """Return -m log m and bounds on the errors, for m >= 0 that are off by 4 U m."""
    value = -base.xlogx(m)
    return value, 32 * base.U * (m + np.abs(value)) + base.TINY


def sure(base, m):
    """Return -(1-m) log(1-m) and bounds on the errors, for m in [0, 1) that are off by 4 U m."""
    base.need((m <= 1 - 2.0**-44).all(), "The dual is out of its domain: a probability is above 1.")
    log = np.log1p(-m)
    value = -(1 - m) * log
    return value, 32 * base.U * (m * (1 + np.abs(log)) + value) + base.TINY


def with_errors(base, values, errors):
    """Return the sum of the values, and a bound on its error."""
    value, error = base.total(values)
    return value, error + float(np.sum(errors)) * (1 + base.gamma(errors.size + 8))
