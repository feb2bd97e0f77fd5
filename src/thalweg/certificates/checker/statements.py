"""What each rule is about, in words made of the evidence itself, so that they cannot say more than what is proved.

Each function is named after its rule and maps evidence to: quantity, unit, whole (whether the bound holds for every
training of the configuration, False where something stays as it is), proof, scope (a sentence that names what is held
fixed) and assumptions (sentences). Fields that are words: `features` says what the rows of X or the inputs are,
`examples` which data they are.
"""

import decimal

import numpy as np

PROOF, WITH_TOLERANCE = "proof", "proof under a stated tolerance"
BIASES = {"NONE": "no bias", "PENALIZED": "a bias under the penalty", "FREE": "a bias without penalty"}
MOMENTS = (
    "The hidden units are bounded by a semidefinite relaxation of their moments; the true best loss may be higher."
)
SIGNS = "The hidden units are bounded by a semidefinite relaxation of their signs, which can be far from tight."
UNITS = {"squared": "squared error", "squared_hinge": "squared hinge", "hinge": "hinge"}


def down(value, digits=5):
    """Return a number with some digits, rounded down: what is said of more is then true of it as well."""
    return f"{float(decimal.Context(prec=digits, rounding=decimal.ROUND_FLOOR).create_decimal(value)):.{digits}g}"


def head(e):
    """The output layer on features that stay as they are."""
    norm = ""
    if e["regularizer"] == "ball":
        norm = f" of norm up to {down(e['radius'])} (the root of the sum of its squared weights)"
    scope = (
        f"No output layer{_bias(e)}{norm} has a lower training loss than this bound on {_examples(e)} with the "
        f"features that the layers below it give them now, in evaluation mode, {_under(e)}; other layers "
        "below it are not covered."
    )
    said = "The loss has no penalty on this layer: layers of a larger norm may have a lower loss."
    return _about(e, whole=False, scope=scope, assumptions=(said,) if norm else ())


def linear(e):
    """The linear model on features of the data."""
    scope = (
        f"No weights of a linear model{_bias(e)}, however they are trained, have a lower training loss than this bound "
        f"on {_examples(e)} with {_features(e)}, {_under(e)}; other features, texts or penalties are not covered."
    )
    return _about(e, scope=scope)


def factored(e):
    """The embedding bag and its output layer, of any width."""
    scope = (
        f"No embeddings and no output layer{_bias(e)}, of any width and however they are trained, have a lower "
        f"training loss than this bound on {_examples(e)} with {_features(e)}, {_under(e)}, in evaluation mode; "
        "other features, texts or penalties are not covered."
    )
    return _about(e, scope=scope)


def two_layer(e):
    """Two layers of (leaky) ReLU units, of any width."""
    leak, frozen = e["leak"], e.get("frozen")
    kind = "linear" if leak == 1.0 else "ReLU" if leak == 0.0 else f"leaky ReLU (slope {float(leak)!r})"
    fixed = "what the earlier layers give them now as input" if frozen else f"{_features(e)} as input"
    biases = " and ".join(f"{BIASES[e[f'{name}_bias']]} in the {name} layer" for name in ("hidden", "output"))
    skip = " and an input skip under the penalty" if e["skip"] else ""
    wiring = ", whatever their wiring," if e.get("masked") else ","
    scope = (
        f"No two layers of {kind} units of any width{wiring} with {biases}{skip}, however they are trained, have a "
        f"lower training loss than this bound on {_examples(e)} with {fixed}, under {_loss(e)} plus an L2 penalty of "
        f"{float(e['l2'])!r} on all weight matrices{_rest(e)}, in evaluation mode."
    )
    said = {"moments": MOMENTS, "signs": SIGNS}.get(e["method"])
    return _about(e, whole=not frozen, scope=scope, assumptions=(said,) if said else ())


def floor(e):
    """Examples that look the same and have different targets."""
    seen, number = e.get("view", "which group an example is in"), int(e["examples"])
    whose = f"No model of any kind that sees only {seen}"
    if e["measure"] == "errors":
        starts, weight = np.flatnonzero(np.diff(e["group"], prepend=-1)), e["weight"]
        wrong = int(weight.sum() - np.maximum.reduceat(weight, starts).sum()) if len(starts) else 0
        counted = f"answers fewer than {wrong:,} of these {number:,} training targets wrong"
        least = counted if weight.dtype.kind == "i" else "answers a smaller share of these training targets wrong"
        said = f"{whose} {least}."
        if not wrong and weight.dtype.kind == "i":
            said = f"A lookup table that sees only {seen} could answer all of these {number:,} training targets right."
        return _result("training errors", "fraction of the targets", said, assumptions=_alone(e))
    reasons = []
    differ = int(np.count_nonzero(np.diff(e["group"], prepend=-1)))
    if differ:
        noun = "group of inputs looks" if differ == 1 else "groups of inputs look"
        soft = e["measure"] == "entropy" and e["weight"].dtype.kind != "i"  # a row of probabilities is a group, too
        targets = "more than one target" if soft else "different targets"
        reasons.append(f"{differ:,} {noun} the same and {'has' if differ == 1 else 'have'} {targets}")
    if e.get("smoothing"):
        reasons.append(f"label smoothing {float(e['smoothing'])!r} has a cost even for a perfect model")
    scope = (
        f"{whose} has a lower training loss than this bound on these {number:,} training targets "
        f"({', and '.join(reasons)})."
        if reasons
        else f"A lookup table that sees only {seen} could have a training loss of 0, or as close to it as you like, on "
        f"these {number:,} training targets: no inputs that look the same have different targets."
    )
    unit = "squared error" if e["measure"] == "squares" else "nats"
    return _result("training loss", unit, scope, assumptions=_alone(e))


def _alone(e):
    """Return what a floor of an unknown model's rows assumes, where some of them look the same."""
    if e.get("view") != "a full example" or not np.count_nonzero(np.diff(e["group"], prepend=-1)):
        return ()
    said = "whatever its weights (tried on some rows, with these weights and some close by)."
    return (f"This assumes that the model answers each row from that row alone, {said}",)


def norm_floor(e):
    """Bodies whose features have a bounded length."""
    counts = e["counts"].tolist()
    smoothed = f", label smoothing {float(e['smoothing'])!r}" if e["smoothing"] else ""
    bias = "and a bias without one" if e["free_bias"] else "and no bias"
    long = repr(float(e["radius"]))
    scope = (
        f"No network of any depth whose features are at most {long} long has a lower training loss than this bound on "
        f"{sum(counts):,} targets of {len(counts):,} classes of these sizes{smoothed}, with an L2 penalty "
        f"of {float(e['l2'])!r} on the weights of its output layer {bias}."
    )
    said = f"The features are never longer than {long}, whatever the weights (given, not checked)."
    return _result("training loss", "nats", scope, assumptions=(said,))


def separable(e):
    """Output layers that cannot be right on all examples, or one that is."""
    fixed = "on the features that the layers below it give them now; its weights and bias are all that changes."
    if "W" in e:
        scope = f"Some output layer is right on all of these {len(e['label']):,} training examples, {fixed}"
    else:
        number = len(set(e["set"].tolist()))
        noun = "example" if number == 1 else "examples"
        more = " (the search for more stopped there)" if e["stopped"] else ""
        scope = f"Every output layer is wrong on at least {number:,} {noun}{more} of these {len(e['label']):,}, {fixed}"
    return _result("training errors of the output layer", "errors", scope, whole=False)


def threshold(e):
    """Networks of threshold units."""
    names = {"SINGLE": "one threshold unit", "AND": "the AND of two threshold units"}
    gate = names.get(e["gate"], "the OR of two threshold units")
    scope = (
        f"No weights and biases make {gate} wrong on fewer of these {len(e['label']):,} examples than this bound; "
        "their features and labels are fixed."
    )
    return _result("training errors", "errors", scope)


def _about(e, *, scope, whole=True, assumptions=()):
    unit = UNITS.get(e["loss"], "nats")
    return _result("training loss", unit, scope, whole=whole, assumptions=assumptions)


def _result(quantity, unit, scope, *, whole=True, proof=PROOF, assumptions=()):
    kind = {"quantity": quantity, "unit": unit, "whole": whole, "proof": proof}
    return {**kind, "scope": scope, "assumptions": assumptions}


def _examples(e):
    return f"these {len(e['T']):,} {e.get('examples', 'training examples')}"


def _features(e):
    number = e["X_width"] if "X_width" in e else e["X"].shape[1]
    return f"these {number:,} {e.get('features', 'features')}"


def _loss(e):
    words = {"softmax": "cross-entropy", "logistic": "binary cross-entropy", "squared": "squared error"}
    return f"this {words.get(e['loss'], str(e['loss']).replace('_', ' '))}"


def _bias(e):
    return "" if e["free_bias"] else " without a bias of its own"


def _under(e):
    return f"under {_loss(e)}{_penalty(e)}{_rest(e)}"


def _rest(e):
    return f", plus {float(e['offset'])!r} for the penalty on the weights that stay as they are" if e["offset"] else ""


def _penalty(e):
    kind = e["regularizer"]
    if kind == "nuclear":
        return f" plus an L2 penalty of {e['l2']!r} on both matrices"
    if kind == "ball":
        return " without a penalty on its weights"
    names = {"l2": f"an L2 penalty of {e.get('l2')!r}", "l1": f"an L1 penalty of {e.get('l1')!r}"}
    return f" plus {names.get(kind) or names['l1'] + ' and ' + names['l2']} on its weights"
