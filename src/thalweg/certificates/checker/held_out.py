"""The rule "held_out": how often a model is wrong on new data, from how often it was on examples it had not seen.

Evidence:
  wrong     k, how many of the examples were wrong
  examples  n, how many there were, drawn independently
  chance    a, by which the statement may be wrong
  compared  t, of how many models (evaluations on the same examples) this one was chosen; 1: of none
  data      what the examples are: "validation examples", "examples of test.csv"
  file      where there is one: the file of these examples
  repeats   how many of the test or validation file were left out: the model was trained on or chosen by the same
  model     where it is not the one that was certified: which model was right or wrong
  baseline  how many of them always giving the most frequent answer gets wrong; -1: unknown

Proved is the Clopper-Pearson limit at a / t, so that it holds for all t models at once and hence for the chosen one: a
model whose error is p shows k wrong ones or more with the chance P(X >= k), X binomial(n, p). That rises with p, so
with P(X >= k) <= a / (2 t) at p every smaller error is excluded as well. The upper limit is that of the right ones.
"""

import functools
import math

import numpy as np

LARGEST = 2_000_000  # examples; the sums take some seconds
STEPS = 60  # of bisection


def lower_limit(wrong, examples, tail):
    """Return a probability p with P(X >= wrong) <= tail for X binomial(examples, p); all rounding is accounted for."""
    if not wrong:
        return 0.0
    places = np.arange(1.0, examples + 1.0)
    steps = np.log((examples - places + 1.0) / places)
    ways = np.concatenate([[0.0], np.cumsum(steps)])[wrong:]  # log of n choose i, for i = wrong ... n
    size = float(np.abs(steps).sum())
    hits = np.arange(float(wrong), examples + 1.0)
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        p = 0.5 * (low + high)
        log_p, log_rest = math.log(p), math.log1p(-p)
        terms = ways + hits * log_p + (examples - hits) * log_rest
        top = float(terms.max())
        total = top + math.log(float(np.exp(terms - top).sum()))
        # Logarithms are good to 4 ulp, sums of n of them to n ulp of the sum of their sizes.
        error = (examples + 32) * 2.0**-52 * (2.0 + size - examples * (log_p + log_rest))
        low, high = (p, high) if total + error <= math.log(tail) else (low, p)
    return low


def limits(e):
    """Return both limits of the error on new data, from the evidence."""
    return both(e["wrong"], e["examples"], e["chance"] / (2 * e["compared"]))


@functools.lru_cache(maxsize=8)
def both(wrong, examples, tail):
    """Return the lower and the upper limit, each false with a chance of `tail` at most."""
    high = 1.0 - lower_limit(examples - wrong, examples, tail)
    return lower_limit(wrong, examples, tail), min(1.0, high * (1.0 + 2.0**-52))


def check_held_out(e, base):
    """Return what the evidence proves; refuses counts that are none."""
    number = e["examples"] if type(e["examples"]) is int else 0
    for name, least, most in (
        ("examples", 1, LARGEST),
        ("wrong", 0, number),
        ("compared", 1, 10**9),
        ("baseline", -1, number),
        ("repeats", 0, 10**9),
    ):
        value = e.get(name, 0) if name == "repeats" else e[name]
        is_count = type(value) is int and least <= value <= most
        base.need(is_count, f"{name} must be a whole number from {least} to {most}.")
    base.need(isinstance(e["data"], str) and len(e["data"]) <= 200, "data must be a few words.")
    named = e.get("model", "")
    base.need(isinstance(named, str) and len(named) <= 200, "model must be a few words.")
    is_chance = isinstance(e["chance"], float) and 1e-9 <= e["chance"] <= 0.5
    base.need(is_chance, "chance must be a number from 1e-9 to 0.5.")
    return base.Proved(loss=e["wrong"] / e["examples"], size=1.0, value=limits(e)[0], error=0.0)


def about(e):
    """Return what the evidence is about, in words and numbers made of itself."""
    low, high = limits(e)
    number, compared = e["examples"], e["compared"]
    scope = (
        f"On new data of the same kind {e.get('model') or 'this model'} is wrong on {percent(low, math.floor)} to "
        f"{percent(high, math.ceil)}, since it is on {e['wrong']:,} of {number:,} {e['data']} "
        f"(Clopper-Pearson; false with a chance of at most "
        f"{e['chance']:g}"
    )
    scope += f", for the best of {compared:,} evaluations on them)." if compared > 1 else ")."
    said = [
        "This assumes examples drawn independently of one another, as the new data will be, and not trained on.",
        "New data whose answer no training example has are not covered."
        if e.get("file") and not e.get("repeats")
        else "New data that repeat training or validation examples, or whose answer no training example has, are not "
        "covered.",
    ]
    if e.get("repeats"):
        by = "trained on, or chosen by," if e.get("file") else "trained on"
        said.append(f"{e['repeats']:,} more of the file are left out: it was {by} the same ones.")
    if compared > 1:
        said.append(
            "It assumes that nothing else, such as the best of several runs, was chosen by these (else: --test FILE)."
        )
    if e["baseline"] >= 0:
        share = 100.0 * e["baseline"] / number
        said.append(f"Always giving the most frequent answer is wrong on {share:.2f} % of these examples.")
    return {
        "quantity": "error on new data",
        "unit": "1",
        "whole": False,
        "proof": "probabilistic",
        "scope": scope,
        "probability": e["chance"],
        "upper": min(1.0, math.ceil(high * 1e4) / 1e4),
        "assumptions": tuple(said),
    }


def percent(share, rounded):
    """Return a share as a percentage, rounded outward to two decimals."""
    return f"{rounded(share * 1e4) / 100:.2f} %"
