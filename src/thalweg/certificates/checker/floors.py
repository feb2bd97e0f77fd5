r"""Verifies the rules floor and norm_floor with numpy alone; `check.py` beside it calls these functions.

Rule floor: what every function that is constant on groups of examples pays, which is what a lookup table pays.
  measure      "entropy" (nats), "errors" (share of the targets) or "squares"
  view         in words, where known: what the models see that the floor is about
  group [m]    number of the group, never falling; groups whose examples have one target may be left out
  label [m]    class of the row, each once in a group, rising (entropy, errors); or its number (squares)
  weight [m]   what the row weighs: whole numbers count its examples, others are sums and products of weights
  total        what the loss is divided by; examples: how many there are, which bounds the rounding of sums of weights
  pure         weight of the groups that were left out, for label smoothing
  smoothing, classes         of the entropy;  factor: of the squares
A floor grows with every weight, and in proportion to all of them: weights that are off by a share of rounding put the
floor off by that share at most. Every term is positive, so the relative errors of the terms are that of the sum.

Rule norm_floor: what every network pays whose features are no longer than radius, below a head W with a penalty
l2/2 |W|^2. For class k with n_k of the N targets, target t_k (smoothed) and any distribution P_k
  f >= sum_k (n_k/N) H(P_k) - (radius^2 / 2 l2) |M|^2,   M_k = sqrt(n_k/N) (t_k - P_k),   |M| the largest singular value
  counts [K]   n_k;  residual [rows, K]: t_k - P_k of each class that there is, as whole numbers times 2^exponent
  smoothing, radius, l2;  free_bias: the head has a bias without a penalty, so that sum_k n_k (t_k - P_k) must be zero
"""

import numpy as np

EXACT = 2**53  # whole numbers up to here are float64 numbers
LEAST, MOST = 1e-60, 1e60  # of weights and numbers, so that nothing overflows, and what underflows is below 1e-200


def check_floor(e, base):
    """Rule floor: the best value of a function that is constant on each group."""
    group, label, weight = e["group"], e["label"], e["weight"]
    fits = group.ndim == 1 and group.shape == label.shape == weight.shape and group.dtype == np.int64
    base.need(fits and weight.dtype in (np.int64, np.float64), "Groups, labels and weights do not fit together.")
    base.need(group.min(initial=0) >= 0 and (np.diff(group) >= 0).all(), "The groups are not in their order.")
    exact = weight.dtype == np.int64
    total, examples = float(e["total"]), int(e["examples"])
    limits = weight.min(initial=1) >= LEAST and weight.max(initial=1) <= MOST and LEAST <= total <= MOST
    base.need(limits and 0 <= examples < EXACT, f"Weights and total must lie between {LEAST:g} and {MOST:g}.")
    if exact:
        base.need(weight.astype(np.float64).sum() < EXACT, "The counts are too large.")
    starts = np.flatnonzero(np.r_[True, np.diff(group) > 0][: len(group)])
    sizes = np.diff(np.r_[starts, len(group)])
    longest = int(sizes.max(initial=0))
    rows = Rows(starts, sizes, weight, np.repeat(np.arange(len(sizes)), sizes))
    # Sums within a group of weights that are no counts, and the weights and the total themselves.
    inside = 0 if exact else longest
    share = base.gamma(8 * inside + 40) + (0.0 if exact else 2 * base.gamma(examples + 16))
    if e["measure"] == "squares":
        factor, real = float(e["factor"]), label.dtype == np.float64 and np.abs(label).max(initial=0) <= MOST
        base.need(real and 1e-20 <= factor <= 1e20, "Labels or factor are no numbers, or too large.")
        each, error = squares(rows, label, base.gamma(2 * longest + 32))
    else:
        rising = (np.diff(label) > 0) | (np.diff(group) > 0)
        whole = label.dtype == np.int64 and label.min(initial=0) >= 0
        base.need(whole and rising.all(), "The labels of a group are not whole and rising.")
        factor, error = 1.0, 0.0
        base.need(e["measure"] in ("entropy", "errors"), "There is no measure of this name.")
        share_of = e["measure"] == "entropy" or rows.weight.sum() <= total * (1 + 1e-9)
        base.need(share_of, "The total must not be too small: errors are a share of the targets.")
        each = entropies(e, rows, base) if e["measure"] == "entropy" else rows.others_of_top
        if exact and e["measure"] == "errors":
            share = base.gamma(4)  # a whole number over another
    value, rounding = base.total(each)
    value, error = factor * value / total, factor * (float(np.sum(error)) * 1.001 + rounding) / total
    return not_negative(value, 1.001 * error + share * value + 1e-200, base)


def not_negative(value, error, base):
    """Return what is proved of a loss that is never negative."""
    return base.Proved(None, 0.0, value, error) if value > 4 * error else base.Proved(None, 0.0, 0.0, 0.0)


class Rows:
    """Rows in their groups: `starts` and `sizes` of the groups, `mass`, and what the others of a row's group weigh."""

    def __init__(self, starts, sizes, weight, group):
        self.starts, self.sizes, self.weight, self.group = starts, sizes, weight.astype(np.float64), group
        self.mass = self.sums(weight).astype(np.float64)
        # Above half of the mass a difference would lose digits: there the others are added up without the row.
        top = weight == np.repeat(self.largest(weight), sizes)
        top &= np.r_[0, np.cumsum(top)[:-1]] == np.repeat(np.r_[0, np.cumsum(top)][starts], sizes)  # the first of them
        rest = self.sums(np.where(top, 0, weight))
        self.others = np.where(top, rest[group], self.sums(weight)[group] - weight).astype(np.float64)
        self.others_of_top = rest.astype(np.float64)

    def sums(self, values):
        """Return the sum of each group."""
        return np.add.reduceat(values, self.starts) if len(self.starts) else values[:0]

    def largest(self, values):
        """Return the largest value of each group."""
        return np.maximum.reduceat(values, self.starts) if len(self.starts) else values[:0]


def entropies(e, rows, base):
    """Return the parts of the sum of mass times entropy of (1 - a) w / mass + a / K."""
    a, classes, pure = float(e["smoothing"]), int(e["classes"]), float(e["pure"])
    base.need(0 <= a < 1 and 1 <= classes < EXACT and 0 <= pure <= MOST, "Smoothing, classes or mass do not fit.")
    base.need(e["label"].max(initial=0) < classes, "A label is not one of the classes.")
    mass = rows.mass[rows.group]
    spread, rest = a / classes, a * (classes - 1) / classes
    seen = mass * surprise((1 - a) * rows.weight / mass + spread, (1 - a) * rows.others / mass + rest)
    unseen = (classes - rows.sizes) * rows.mass * (surprise(spread, 1 - spread) if a > 0 else 0.0)
    alone = surprise(1 - a + spread, rest) + (classes - 1) * (surprise(spread, 1 - spread) if a > 0 else 0.0)
    return np.r_[seen, unseen, pure * alone]


def surprise(share, rest):
    """Return -share log share; `rest` is 1 - share, which near 1 is known to more digits."""
    share, rest = np.asarray(share, dtype=np.float64), np.asarray(rest, dtype=np.float64)
    high = share > 0.5
    return share * np.where(
        high, -np.log1p(-np.where(high, rest, 0.0)), -np.log(np.where(high | (share <= 0), 1.0, share))
    )


def squares(rows, y, share):
    """Return sum w (y - mean)^2 of each group and a bound on its error.

    Around any c this is sum w (y - c)^2 - (sum w (y - c))^2 / mass; with c the mean but for rounding the second part is
    next to nothing, and no digits are lost.
    """
    first = y[rows.starts] if len(rows.starts) else y[:0]
    center = first + rows.sums(rows.weight * (y - first[rows.group])) / rows.mass
    d = y - center[rows.group]
    parts, off, size = rows.sums(rows.weight * d * d), rows.sums(rows.weight * d), rows.sums(rows.weight * np.abs(d))
    less = off**2 / rows.mass
    most = (np.abs(off) + share * size) ** 2 / rows.mass
    value = np.maximum(parts - less, 0.0)
    return value, share * parts + (most - less) + 2 * share * most


def check_norm_floor(e, base):
    """Rule norm_floor: weak duality of the problem in which the features are free."""
    counts, residual, a = e["counts"], e["residual"], float(e["smoothing"])
    radius, l2, exponent = float(e["radius"]), float(e["l2"]), int(e["exponent"])
    whole = counts.ndim == 1 and residual.ndim == 2 and counts.dtype == residual.dtype == np.int64
    base.need(whole and counts.min(initial=0) >= 0 and counts.astype(float).sum() < 2**50, "The counts do not fit.")
    present = np.flatnonzero(counts)
    base.need(residual.shape == (len(present), len(counts)) and len(present) > 0, "Counts and residual do not fit.")
    sizes = 0 <= a < 1 and LEAST < l2 < MOST and LEAST < radius < MOST and -61 <= exponent <= 0
    base.need(sizes, "Smoothing, l2, radius or exponent is out of its range.")
    base.need(residual.min() > -(2**61) and residual.max() < 2**61, "The residual is too large.")
    base.need(all_zero(residual, base), "Rows of P do not sum to 1.")
    n = counts[present]
    if e["free_bias"]:
        base.need(all_zero(residual.T, base, n), "A free bias needs residuals that sum to 0.")
    one, rows = 2**-exponent, np.arange(len(present))
    scaled = residual * 2.0**exponent  # rounded to 53 bits
    if a == 0:  # P and 1 - P are whole, but for their rounding to 53 bits
        whole = -residual
        whole[rows, present] += one
        base.need(whole.min() >= 0, "A probability is negative.")
        entropy = surprise(whole * 2.0**exponent, (one - whole) * 2.0**exponent)
    else:
        target = np.full(residual.shape, a / len(counts))
        target[rows, present] += 1 - a
        p = target - scaled
        off = 8 * base.U * (target + np.abs(scaled))
        base.need((p >= off).all(), "A probability may be negative.")
        # Concave in P, so the least value is at an end.
        entropy = np.minimum(*(surprise(q, 1.0 - q) for q in (np.clip(p - off, 0, 1), np.clip(p + off, 0, 1))))
    share = n / n.sum()
    value, rounding = base.total((share[:, None] * entropy).reshape(-1))
    matrix = np.sqrt(share)[:, None] * scaled  # each number within 16 roundings
    top = base.largest_singular_value(matrix) + 16 * base.U * base.length(matrix)
    cost = top**2 * radius**2 / (2 * l2)
    return not_negative(value - cost, rounding + base.gamma(64) * (value + cost) + 1e-200, base)


def all_zero(values, base, weights=None):
    """Whether rows of whole numbers sum to zero, exactly: modulo 2^64, and by size in float64."""
    weights = np.ones(values.shape[1], dtype=np.int64) if weights is None else weights
    with np.errstate(over="ignore"):
        wrapped = (values * weights).sum(1, dtype=np.int64)
    floats = values.astype(np.float64) * weights
    bound = np.abs(floats.sum(1)) + base.gamma(len(weights) + 8) * np.abs(floats).sum(1)
    return not wrapped.any() and (bound < 2.0**63).all()
