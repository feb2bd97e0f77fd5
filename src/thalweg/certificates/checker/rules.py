"""The rules by name, what they prove and what that is about; `check.py` beside it lists the arrays of evidence."""

import importlib
import math
import sys

import numpy as np


def part(name):
    """Return a file beside this one as a module, whether this one is in a package or was copied out of it."""
    return importlib.import_module(f".{name}" if __package__ else name, __package__ or None)


_rounding, _losses, _statements = (part(name) for name in ("rounding", "losses", "statements"))
Refused, Proved, need, U, TINY = (getattr(_rounding, n) for n in ("Refused", "Proved", "need", "U", "TINY"))
LEAST, MOST = _rounding.LEAST, _rounding.MOST
gamma, total, length, row_lengths = (getattr(_rounding, n) for n in ("gamma", "total", "length", "row_lengths"))
xlogx, entropy, largest_eigenvalue = (getattr(_rounding, n) for n in ("xlogx", "entropy", "largest_eigenvalue"))
largest_singular_value, reach = _rounding.largest_singular_value, _rounding.reach


MAX_PRODUCTS, MAX_NUMBERS = 9e10, 3e7  # of a whole file, some seconds; of all arrays at a time, some hundred MB
MICROSECOND = 18_000  # products of matrices
SPENT = [0.0]  # products, since the file or the proof began


def affordable(products, numbers=0.0):
    """Refuse what would take long, by the number of products, or memory, by the numbers that arrays would hold."""
    SPENT[0] += products
    need(SPENT[0] <= MAX_PRODUCTS and numbers <= MAX_NUMBERS, "It is too large to be verified here.")


def price(e):
    """Return about how many products and numbers it takes to verify evidence of the rules that do not say so later."""
    sizes = {key: value.shape for key, value in e.items() if isinstance(value, np.ndarray)}
    entries = {key: math.prod(shape) for key, shape in sizes.items()}
    name, both = e["rule"], sizes.get("residual", (0, 0))
    numbers, longest = sum(entries.values()), max(entries.get(key, 0) for key in ("residual", "X_values", "label", "T"))
    work = MICROSECOND * (0.3 * longest + (0.7 * e["examples"] if name == "held_out" else 0.0))
    outputs = both[1] if len(both) == 2 else 0
    if name in ("head", "linear", "factored"):
        work += 2 * entries.get("X", 110 * entries.get("X_values", 0)) * outputs
        both = sizes["W"][-1:] + sizes.get("E", ())[:1]  # of the matrix whose largest singular value is asked for
    if name in ("norm_floor", "factored"):
        work += 2 * min(both) * math.prod(both) + 100 * min(both) ** 3
    return work, max(numbers, 8 * len(e["group"]) if name == "floor" else 0)


def in_range(value, sentence, *, zero=False):
    """Return a number as a float; refuses one that is not in RANGE (or 0)."""
    return _losses.in_range(sys.modules[__name__], value, sentence, zero)


def loss_sum(e, z, reach=0.0):
    """Return sum w phi(z) / count and the sum of the absolute values of its terms; those of z are up to `reach`."""
    return _losses.loss_sum(e, z, sys.modules[__name__], reach)


def residual(e):
    """Return R without its scale, and refuse one whose sums are not 0 where they must be."""
    return _losses.residual(e, sys.modules[__name__])


def dual_sum(e):
    """Return the value of a dual point, and a bound on its error."""
    return _losses.dual_sum(e, sys.modules[__name__])


# Rule -> the file beside this one that verifies it.
RULES = {
    "floor": "floors",
    "norm_floor": "floors",
    "separable": "halfspaces",
    "head": "linear",
    "linear": "linear",
    "factored": "linear",
    "two_layer": "networks",
    "threshold": "halfspaces",
    "held_out": "held_out",
}
# Short integers and float32 overflow and round as no error bound here says. So integers stand under these names only,
# as int64 or made int64 first (NARROW); float32 where the rule makes float64 of it first (SHORT); all else is float64.
NARROW = frozenset(("T", "X_columns", "X_starts", "label", "answer", "example", "rival", "set", "cell", "side", "row"))
WHOLE = NARROW | {"residual", "group", "weight", "counts"}
SHORT = frozenset(("products", "cone", "reach"))


def rule(name):
    """Return what maps evidence of a rule to the loss computed again or None, and the bound that is proved."""

    def verify(evidence):
        found = prove({**evidence, "rule": name})
        return found.loss, proved(found)

    return verify


def prove(evidence, *, begin=True):
    """Return what evidence proves, as `Proved`; raises Refused. What it takes is counted from here, or from before.

    Its `products` are what that took, besides the `price`.
    """
    SPENT[0] *= not begin
    before = SPENT[0]
    name = evidence.get("rule")
    need(isinstance(name, str) and name in RULES, f"There is no rule {name!r} in this version.")
    for key, value in evidence.items():
        if isinstance(value, np.ndarray):
            kind, full = value.dtype.kind, value.dtype in (np.float64, np.int64)
            fits = full or key in (SHORT if kind == "f" else NARROW)
            need(kind == "f" or (kind == "i" and key in WHOLE), f"{key} holds numbers of another kind, {value.dtype}.")
            need(fits, f"{key} holds numbers of another kind, {value.dtype}.")
            need(kind == "i" or np.isfinite(value).all(), f"{key} holds NaN or infinity.")
        elif isinstance(value, str):
            need(len(value) <= 400 and value.isprintable(), f"{key} is no line of text.")
        else:
            need(isinstance(value, (int, float)) and -1e308 < value < 1e308, f"{key} is no finite number.")
    wide = {key: value.astype(np.int64) for key, value in evidence.items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "i" and value.dtype != np.int64}  # fmt: skip
    evidence = evidence | wide
    with np.errstate(all="ignore"):
        found = getattr(part(RULES[name]), f"check_{name}")(evidence, sys.modules[__name__])
    ok = all(map(math.isfinite, (found.value, found.error, found.size, found.loss or 0.0))) and found.error >= 0
    need(ok, "The evidence proves nothing: its numbers are too large.")
    return found._replace(products=SPENT[0] - before)


def proved(found):
    """Return the bound that is proved, rounded down."""
    return math.nextafter(found.value - found.error, -math.inf) if found.error else found.value


def claim(found):
    """Return the bound to claim: another machine, which adds up in another order, accepts it as well."""
    return math.nextafter(found.value - 4 * found.error, -math.inf) if found.error else found.value


def down(value):
    """Return a bound with 9 digits, rounded down."""
    return _statements.down(value, 9)


def statement(evidence):
    """Return what evidence is about: quantity, unit, whole, proof, scope and assumptions."""
    name = evidence["rule"]
    return part(name).about(evidence) if name == "held_out" else getattr(_statements, name)(evidence)


def check_level(level, evidence, *, same=0.0, begin=True):
    """Verify one level; returns the bound that is proved, raises Refused.

    A claim may lie above what is proved by the fraction `same` of the loss's terms: for features that were computed
    again.
    """
    loss, bound, reached = level["loss"], level["bound"], level.get("reached")
    need(level["name"] == evidence.get("rule"), f"it has the evidence of another rule, {evidence.get('rule')!r}.")
    need(is_number(loss) and is_number(bound), "loss or bound is no finite number.")
    need(bound <= loss, "the bound is above the loss.")
    SPENT[0] *= not begin
    affordable(*price(evidence))
    found = prove(evidence, begin=False)
    most = proved(found) + same * found.size
    need(bound <= most, f"claims the bound {bound:.12g}, but the evidence proves {most:.12g} only.")
    if found.loss is not None:
        off = abs(found.loss - loss)
        need(off <= 1e-10 * found.size + TINY, f"claims the loss {loss:.12g}; the weights give {found.loss:.12g}.")
    about = statement(evidence)
    for key, value in about.items():
        if key == "assumptions":
            need(level[key][: len(value)] == list(value), "leaves out an assumption.")
        else:
            same_words = type(level.get(key)) is type(value) and level[key] == value
            need(same_words, f"claims the {key} {level.get(key)!r:.100}; the evidence is about {value!r}.")
    need(is_gap(level.get("relative_gap"), loss, bound), "the relative gap is wrong.")
    chance = level.get("probability") if "probability" not in about else None
    need(chance is None, "a proof has no chance of being wrong.")
    need("upper" in about or level.get("upper") is None, "has an upper limit; the evidence is about none.")
    fits = reached is None or (is_number(reached) and bound <= reached <= loss)
    need(fits, "what was reached lies outside of bound and loss.")
    return most


def is_number(value):
    """Whether a value of the JSON is a finite number; True and False are none."""
    return type(value) in (int, float) and -1e308 < value < 1e308


def is_gap(claimed, loss, bound):
    """Whether a gap is (loss - bound) / |loss|: 0 where both are 0, None where only the loss is."""
    if bound is None or (loss == 0 and bound != loss):
        return claimed is None
    gap = (loss - bound) / abs(loss) if loss else 0.0
    return is_number(claimed) and abs(claimed - gap) <= 1e-9 * gap
