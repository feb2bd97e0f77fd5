"""Verifies a saved certificate with numpy alone: `python check.py certificate.json`; nothing of thalweg is imported.

A certificate is a JSON file and an .npz beside it. Each level has evidence, and evidence["rule"] says how it is
verified: by a function in one of the files beside this one, each of which lists its arrays. The bound is
computed from a dual point that is feasible by construction, the loss from the weights, and both are compared with what
is claimed. Shared by all rules about losses of predictions z (n examples, K outputs):

  T      class ids [n] or distributions [n,K] (softmax), in [0,1] (logistic), numbers (squared), -1 or 1 (hinges)
  c      weight of each example [n] or number [n,K], divided by the count already: f = sum c phi(z); 1/n where missing
  loss   softmax: log sum exp z - T z | logistic: log(1 + e^z) - T z | squared: factor (z-T)^2 |
         squared_hinge: (1-Tz)+^2 | hinge: (1-Tz)+
  dual   P, rows sum to 1 | q in [0,1] | any a | a >= 0 | a in [0,1]; then for every z
         phi(z) >= value - R z with value = entropy of P | of (q,1-q) | aT - a^2/(4 factor) | a - a^2/4 | a
         and R = T - P | T - q | a | T a | T a
"""

import functools
import hashlib
import json
import runpy
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
    c = e.get("c")
    c = np.full((rows, 1), 1 / rows) if c is None else c.reshape(rows, -1)
    need(c.min() >= 0, "A weight in c is negative.")
    return c


# Rule -> the file beside this one that verifies it.
RULES = {
    "floor": "floors",
    "norm_floor": "floors",
    "separable": "floors",
    "head": "linear",
    "factored": "linear",
    "two_layer": "networks",
    "threshold": "networks",
}


def rule(name):
    """Return what verifies a rule: evidence -> (the loss computed again or None, the bound that is proved)."""
    need(name in RULES, f"There is no rule {name!r} in this version.")
    functions = runpy.run_path(str(Path(__file__).with_name(f"{RULES[name]}.py")))
    return functools.partial(functions[f"check_{name}"], base=sys.modules[__name__])


def check_level(level, evidence):
    """Verify one level; returns a sentence, raises Refused."""
    loss, bound, name = level["loss"], level["bound"], level["name"]
    if bound is None:
        return f"{name}: gives no bound."
    need(bound <= loss, f"{name}: the bound is above the loss.")
    if not evidence:
        return f"{name}: NOT CHECKED, it was saved without evidence."
    for key, value in evidence.items():
        need(not isinstance(value, np.ndarray) or np.isfinite(value).all(), f"{name}: {key} holds NaN or infinity.")
    found, proved = rule(evidence["rule"])(evidence)
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
        with open(path.with_suffix(".npz"), "rb") as raw, np.load(raw, allow_pickle=False) as file:
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
