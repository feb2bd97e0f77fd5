"""Verifies the rules floor and norm_floor with numpy alone; `check.py` beside it calls these functions.

Evidence of rule floor, about the loss of any function that is constant on each group of examples that look the same:
  measure    "entropy" (nats), "errors" (share) or "squares"
  group, label, weight [m]   the weight of each pair of group and label; pairs in the order of their groups
  pure       weight of the groups with a single label, which are left out
  smoothing, classes         of the entropy;  factor: of the squares
Rule norm_floor, about every body whose features are no longer than radius, below a head with an L2 penalty:
  shares [m]; targets, dual [m,K]: of each class, rows are distributions; radius, l2, free_bias
"""

import numpy as np


def check_floor(e, base):
    """Rule floor: the best value of a function that is constant on each group (pairs are in order of their groups)."""
    group, label, weight = e["group"], e["label"], e["weight"]
    base.need(len(group) == len(label) == len(weight) and (weight >= 0).all(), "Groups, labels and weights do not fit.")
    base.need((np.diff(group) >= 0).all(), "The pairs are not in the order of their groups.")
    starts = np.flatnonzero(np.r_[True, np.diff(group) > 0][: len(group)])
    sizes = np.diff(np.r_[starts, len(group)])
    mass = np.add.reduceat(weight, starts) if len(starts) else weight
    if e["measure"] == "squares":
        mean = np.add.reduceat(weight * label, starts) / np.where(mass > 0, mass, 1) if len(starts) else mass
        return None, e["factor"] * np.sum(weight * (label - np.repeat(mean, sizes)) ** 2)
    new = np.r_[True, (np.diff(label) != 0) | (np.diff(group) != 0)][: len(group)]
    base.need(new.all() and e["pure"] >= 0, "A pair of group and label appears twice.")
    if e["measure"] == "errors":
        return None, mass.sum() - (np.maximum.reduceat(weight, starts).sum() if len(starts) else 0.0)
    rest = e["smoothing"] / e["classes"]
    base.need(0 <= e["smoothing"] < 1 and sizes.max(initial=0) <= e["classes"], "Smoothing or classes do not fit.")
    whole = np.repeat(mass, sizes)
    inside = -np.sum(whole * base.xlogx((1 - e["smoothing"]) * weight / np.where(whole > 0, whole, 1) + rest))
    alone = -base.xlogx(1 - e["smoothing"] + rest) - (e["classes"] - 1) * base.xlogx(rest)
    return None, inside - np.sum((e["classes"] - sizes) * mass) * base.xlogx(rest) + e["pure"] * alone


def check_norm_floor(e, base):
    """Rule norm_floor: weak duality of the problem in which the features are free."""
    share, target, dual, l2, radius = e["shares"], e["targets"], e["dual"], e["l2"], e["radius"]
    base.need(
        share.min() >= 0 and abs(share.sum() - 1) <= 1e-9 and l2 > 0 and radius > 0, "Shares, l2 or radius are wrong."
    )
    base.need(dual.min() >= 0 and np.abs(dual.sum(1) - 1).max() <= 1e-9, "Rows of the dual are not distributions.")
    off = np.abs(share @ (target - dual)).max()
    base.need(not e["free_bias"] or off <= 1e-9, f"A free bias needs residuals that sum to 0, got {off:.3g}.")
    top = np.linalg.norm(np.sqrt(share)[:, None] * (target - dual), 2)
    return None, share @ -base.xlogx(dual).sum(1) - (top * radius) ** 2 / (2 * l2)
