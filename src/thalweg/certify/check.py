"""Verifies a saved certificate with numpy alone: `python check.py certificate.json`; nothing else of thalweg is used.

Evidence by rule (arrays in the .npz beside the JSON; numbers and words in the JSON). n examples, d features, K outputs:

rule       what it proves                                       evidence
---------  ---------------------------------------------------  ------------------------------------------------------
floor      no function of the input is better                   measure ("entropy" | "errors" | "squares"); group [m],
                                                                label [m], weight [m] of each pair (group, label);
                                                                pure: weight of groups with one label; smoothing,
                                                                classes; factor
norm_floor no body with |h| <= radius and this head is better   shares [m], targets [m,K], dual [m,K], radius, l2,
                                                                free_bias
head       no W (and b) is better on the features X             X, T, c, loss, W, b, dual, regularizer, offset
factored   no E, W of any width is better on X                  X, T, c, loss, E, W, dual, regularizer "nuclear", l2
two_layer  no two-layer network of any width is better on X     X, T, c, loss, dual, l2, and its own (see its function)
separable  no halfspace is right on all of each set             X [m,d], sign [m], multiplier [m], set [m], tolerance
threshold  no network of threshold nodes makes fewer errors     X, label, rows, errors; the search is not repeated

X          dense [n,d], or rows packed one after the other: X_values, X_columns, X_starts [n+1], X_width
T          class ids [n] or distributions [n,K] (softmax); numbers in [0,1] [n,K] (logistic); numbers [n,K] (squared);
           -1 or 1 [n,K] (squared_hinge, hinge)
c          weight of each example [n] or each number [n,K], already divided by the count: f = sum c * phi(X W + b)
loss       softmax | logistic: log(1+e^z) - T z | squared: factor (z-T)^2 | squared_hinge: (1-Tz)+^2 | hinge: (1-Tz)+
dual       P [n,K], rows sum to 1 (softmax); q in [0,1] (logistic); a real (squared); a >= 0 (squared_hinge); a in [0,1]
           (hinge). Residual R = T - P; T - q; a; T a; T a. Gradient G = X' (c R). It must be feasible by construction.
W, b       [d,K], [K] (b only where there is one; it is not penalized, so columns of c R must sum to zero)
regularizer l2: l2/2 |W|^2 | l1: l1 sum|W| | elastic: both | ball: none, but |W| <= radius | nuclear: l2 |E W|_*
offset     what the frozen rest adds to loss and bound (its penalty)

A bound is sum c*value(dual) - conjugate(G) + offset; value: entropy of P; of (q,1-q); aT - a^2/(4 factor); a-a^2/4; a.
"""

import hashlib
import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import numpy as np

ROUNDING = 1e-9  # sums in float64 may differ by this share of their size


class Refused(Exception):  # noqa: N818
    """The certificate proves less than it says, or has been changed."""


def need(condition, sentence):
    """Raise Refused with the sentence unless the condition holds."""
    if not condition:
        raise Refused(sentence)


def slack(*values):
    """How much two float64 sums of this size may differ."""
    return ROUNDING * max(abs(float(value)) for value in values) + 1e-14


def xlogx(p):
    """Return p log p, 0 at 0."""
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0)


class Matrix:
    """X of the table, dense or packed."""

    def __init__(self, e, name="X"):
        self.dense = e.get(name)
        if self.dense is None:
            self.values, self.columns, starts = (e[f"{name}_{part}"] for part in ("values", "columns", "starts"))
            self.shape = len(starts) - 1, int(e[f"{name}_width"])
            counts = np.diff(starts)
            ok = starts[0] == 0 and starts[-1] == len(self.values) == len(self.columns) and (counts >= 0).all()
            need(ok and (not len(self.columns) or 0 <= self.columns.min() <= self.columns.max() < self.shape[1]),
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
            a.min() >= 0 and np.abs(a.sum(1) - 1).max() <= 1e-12 * a.shape[1] + 1e-9, "Rows of P are no distributions."
        )
        a = a / a.sum(1, keepdims=True)
        if target.ndim == 1:
            need(0 <= target.min() <= target.max() < a.shape[1], "T holds class ids that P has no columns for.")
            residual = -a
            residual[np.arange(len(a)), target] += 1
        else:
            need(target.min() >= 0 and np.abs(target.sum(1) - 1).max() <= 1e-9, "Rows of T are no distributions.")
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
    c = e.get("c")
    c = np.full((rows, 1), 1 / rows) if c is None else c.reshape(rows, -1)
    need(c.min() >= 0, "A weight in c is negative.")
    return c


def conjugate(e, gradient):
    """Return the conjugate of the regularizer at the gradient G, and the regularizer at the weights."""
    kind, w = e["regularizer"], e["W"]
    l1, l2, radius = (float(e.get(name, 0.0)) for name in ("l1", "l2", "radius"))
    need(l1 >= 0 and l2 >= 0 and radius >= 0, "A regularizer is negative.")
    if kind == "nuclear":
        top = np.linalg.norm(gradient, 2)
        need(
            top <= l2 * (1 + 1e-12),
            f"The dual is not feasible: its largest singular value {top:.9g} is above {l2:.9g}.",
        )
        return 0.0, 0.5 * l2 * (np.sum(e["E"] ** 2) + np.sum(w**2))
    if kind == "ball":
        need(np.linalg.norm(w) <= radius * (1 + 1e-12), "The weights lie outside the ball.")
        return radius * np.linalg.norm(gradient), 0.0
    if kind == "l1":
        top = np.abs(gradient).max()
        need(top <= l1 * (1 + 1e-12), f"The dual is not feasible: its largest entry {top:.9g} is above {l1:.9g}.")
        return 0.0, l1 * np.abs(w).sum()
    need(kind in ("l2", "elastic") and l2 > 0, f"The regularizer {kind!r} needs a positive l2.")
    excess = np.maximum(np.abs(gradient) - l1, 0)
    return np.sum(excess**2) / (2 * l2), l1 * np.abs(w).sum() + 0.5 * l2 * np.sum(w**2)


def check_linear(e):
    """Rules head and factored: weak duality."""
    x = Matrix(e)
    c = weights(e, x.shape[0])
    value, residual = dual_terms(e)
    residual = c * residual
    gradient = x.transposed_times(residual)
    bias = e.get("b", 0.0)
    if "b" in e:
        off = np.abs(residual.sum(0)).max()
        need(
            off <= 1e-12 * np.abs(residual).sum() + 1e-15,
            f"A free intercept needs residuals that sum to 0, got {off:.3g}.",
        )
    below, penalty = conjugate(e, gradient)
    w = e["E"] @ e["W"] if e["regularizer"] == "nuclear" else e["W"]
    loss = np.sum(c * terms(e, x.times(w) + bias)) + penalty
    return loss + e.get("offset", 0.0), np.sum(c * value) - below + e.get("offset", 0.0)


def check_floor(e):
    """Rule floor: the best value of a function that is constant on each group (pairs are in order of their groups)."""
    group, label, weight = e["group"], e["label"], e["weight"]
    need(len(group) == len(label) == len(weight) and (weight >= 0).all(), "Groups, labels and weights do not fit.")
    need((np.diff(group) >= 0).all(), "The pairs are not in the order of their groups.")
    starts = np.flatnonzero(np.r_[True, np.diff(group) > 0][: len(group)])
    sizes = np.diff(np.r_[starts, len(group)])
    mass = np.add.reduceat(weight, starts) if len(starts) else weight
    if e["measure"] == "squares":
        mean = np.add.reduceat(weight * label, starts) / np.where(mass > 0, mass, 1) if len(starts) else mass
        return None, e["factor"] * np.sum(weight * (label - np.repeat(mean, sizes)) ** 2)
    new = np.r_[True, (np.diff(label) != 0) | (np.diff(group) != 0)][: len(group)]
    need(new.all() and e["pure"] >= 0, "A pair of group and label comes twice.")
    if e["measure"] == "errors":
        return None, mass.sum() - (np.maximum.reduceat(weight, starts).sum() if len(starts) else 0.0)
    rest = e["smoothing"] / e["classes"]
    need(0 <= e["smoothing"] < 1 and sizes.max(initial=0) <= e["classes"], "Smoothing or classes do not fit.")
    whole = np.repeat(mass, sizes)
    inside = -np.sum(whole * xlogx((1 - e["smoothing"]) * weight / np.where(whole > 0, whole, 1) + rest))
    alone = -xlogx(1 - e["smoothing"] + rest) - (e["classes"] - 1) * xlogx(rest)
    return None, inside - np.sum((e["classes"] - sizes) * mass) * xlogx(rest) + e["pure"] * alone


def check_norm_floor(e):
    """Rule norm_floor: weak duality of the problem in which the features are free."""
    share, target, dual, l2, radius = e["shares"], e["targets"], e["dual"], e["l2"], e["radius"]
    need(share.min() >= 0 and abs(share.sum() - 1) <= 1e-9 and l2 > 0 and radius > 0, "Shares, l2 or radius are wrong.")
    need(dual.min() >= 0 and np.abs(dual.sum(1) - 1).max() <= 1e-9, "Rows of the dual are no distributions.")
    off = np.abs(share @ (target - dual)).max()
    need(not e["free_bias"] or off <= 1e-9, f"A free bias needs residuals that sum to 0, got {off:.3g}.")
    top = np.linalg.norm(np.sqrt(share)[:, None] * (target - dual), 2)
    return None, share @ -xlogx(dual).sum(1) - (top * radius) ** 2 / (2 * l2)


def check_separable(e):
    """Rule separable: each set of Farkas points has a point common to both hulls, so one of its points is wrong."""
    multiplier, owner = e["multiplier"], e["set"]
    need(multiplier.min() >= 0, "A multiplier is negative.")
    points = np.c_[e["X"], np.ones(len(e["X"]))] * (e["sign"] * multiplier)[:, None]
    for one in np.unique(owner):
        mine = owner == one
        need(abs(multiplier[mine].sum() - 1) <= 1e-9, "The multipliers of a set do not sum to 1.")
        off = np.abs(points[mine].sum(0)).max()
        need(off <= e["tolerance"], f"The hulls are {off:.3g} apart, above the stated tolerance.")
    return None, float(len(np.unique(owner)))


def check_two_layer(e):
    """Rule two_layer: see `check_networks.py`, which lies beside this file."""
    return beside("check_networks").check_two_layer(e, sys.modules[__name__])


def beside(name):
    """Return the module in the file beside this one, whether this one runs alone or within thalweg."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RULES = {"two_layer": check_two_layer, 
    "floor": check_floor,
    "norm_floor": check_norm_floor,
    "head": check_linear,
    "factored": check_linear,
    "separable": check_separable,
}


def check_level(level, evidence):
    """Verify one level; returns a sentence, raises Refused."""
    loss, bound, name = level["loss"], level["bound"], level["name"]
    if bound is None:
        return f"{name}: gives no bound."
    need(bound <= loss, f"{name}: the bound is above the loss.")
    if not evidence:
        return f"{name}: NOT CHECKED, it was saved without evidence."
    if evidence["rule"] not in RULES:
        return f"{name}: NOT CHECKED, there is no rule {evidence['rule']!r} here."
    for key, value in evidence.items():
        need(not isinstance(value, np.ndarray) or np.isfinite(value).all(), f"{name}: {key} holds NaN or infinity.")
    found, proved = RULES[evidence["rule"]](evidence)
    need(np.isfinite(proved) and bound <= proved + slack(proved, loss),
         f"{name}: claims the bound {bound:.12g}, but the evidence proves {proved:.12g} only.")  # fmt: skip
    if found is None:
        return f"{name}: the bound {bound:.9g} is proved; the loss was not computed again."
    need(
        abs(found - loss) <= slack(found, loss), f"{name}: claims the loss {loss:.12g}; the weights give {found:.12g}."
    )
    return f"{name}: the bound {bound:.9g} is proved, and the weights have the loss {loss:.9g}."


def fingerprint(arrays):
    """SHA-256 of arrays by name: their types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read(path):
    """Return the content of a certificate file and its arrays; refuses what cannot be read or has been changed."""
    path = Path(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    arrays = {}
    if content["arrays"]:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    for name, expected in content["arrays"].items():
        need(fingerprint({name: arrays[name]}) == expected, f"The array {name} has been changed.")
    return content, arrays


def check(path):
    """Verify a certificate file; returns sentences about what was checked, raises Refused."""
    try:
        content, arrays = read(path)
        sentences = []
        for level in content["levels"]:
            evidence = {k: arrays[v["array"]] if isinstance(v, dict) else v for k, v in level["evidence"].items()}
            sentences.append(check_level(level, evidence))
        mine = [level for level in content["levels"] if level["quantity"] == content["quantity"]]
        bounds = [level["bound"] for level in mine if level["whole"] and level["bound"] is not None]
        need(content["bound"] == max(bounds, default=None), "The bound is not the best one of its levels.")
        need(all(abs(level["loss"] - content["loss"]) <= slack(content["loss"]) for level in mine),
             "The levels are about different losses.")  # fmt: skip
        return sentences
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OSError, zipfile.BadZipFile) as error:
        raise Refused(f"{path} cannot be read as a certificate ({type(error).__name__}: {error}).") from None


def main(arguments):
    """Check each file; returns the exit code."""
    for path in arguments:
        try:
            print(*check(path), sep="\n")
        except Refused as error:
            print(f"REFUSED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
