"""Rules about what should hold exactly: finite numbers, masks, evaluation mode, updates that reach the weights."""

from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.symptoms.evidence import Evidence
from thalweg.diagnosis.symptoms.limits import limit
from thalweg.diagnosis.symptoms.repairs import action, usual
from thalweg.errors import counted


def non_finite(evidence: Evidence) -> Finding | None:
    """Steps, weights or gradients that are NaN or infinite; the first module that made them is named."""
    rejected = evidence.trend("rejected", 0.0) or 0.0
    blank = evidence.trend("not_finite", 0.0) or 0.0
    found = evidence.found("gradients", "non_finite") or {}
    bad = [*found.get("parameters", ()), *found.get("gradients", ())]
    lengths = evidence.probes.get("weights")
    if lengths and (lengths.get("norm") is None or (lengths.get("largest") or 0.0) > limit("overflow")):
        bad.append("weights that have run away")
    if not (rejected or blank or bad):
        return None
    first = dict(evidence.trends.get("first_rejected") or evidence.trends.get("first_not_finite") or {})
    where, what = str(first.get("where", "")), str(first.get("what", ""))
    count = int(rejected + blank)
    text = (
        f"{counted(count, 'step')} had a loss or gradient that is not finite"
        if count
        else "Weights or gradients are not finite"
    )
    if first.get("step") is not None:
        text += f", first at step {first['step']:,}"
    if where and what == "input":
        text += f"; the first ones came with the input {where!r}"
    elif where:
        text += f"; the first one arose in the {what or 'output'} of {where}"
    elif bad:
        text += f"; not finite: {', '.join(bad[:3])}"
    lost = evidence.trend("rejected_share", 1.0) or 0.0
    if what == "parameter" or (bad and not evidence.has_steps):
        repair = Repair("The weights themselves are not finite: start anew, and look at any file of word vectors.",
                        {"word_vectors": None, "init": "default"}, "initialize")  # fmt: skip
    elif what == "input":
        repair = action("clean-data", "The inputs hold numbers that are not finite: mend or leave out these rows.")
    else:
        repair = usual("Steps are too long.")
    return Finding(
        "non-finite",
        Severity.ERROR if lost > 0.02 or blank or bad else Severity.WARNING,
        f"{text}.",
        repair,
        {"steps": float(count), "share": lost},
        {"steps": 0.0, "share": 0.0},
        where=[where] if where else bad[:8],
        strength=1.0 + count,
    )


def gradients_accumulate(evidence: Evidence) -> Finding | None:
    """Steps that begin with the gradients of the steps before."""
    looked, left = evidence.trend("looked_at", 0.0) or 0.0, evidence.trend("left_over", 0.0) or 0.0
    few, most = limit("looks"), limit("left over")
    if looked < few or left < most * looked:
        return None
    return Finding(
        "gradients-accumulate",
        Severity.ERROR,
        f"On {left:.0f} of {looked:.0f} steps that were looked at, the new gradient was added to that of the steps "
        "before.",
        action("zero-grad", "Call optimizer.zero_grad() once in every step, before backward()."),
        {"share": left / looked},
        {"share": most},
        strength=left / looked / most,
    )


def loss_driven_up(evidence: Evidence) -> Finding | None:
    """A loss whose negative is minimized."""
    looked, up = evidence.trend("losses_looked_at", 0.0) or 0.0, evidence.trend("driven_up", 0.0) or 0.0
    told, negative = evidence.trend("losses_told", 0.0) or 0.0, evidence.trend("losses_negative", 0.0) or 0.0
    few, most = limit("looks"), limit("left over")
    goes_up = looked >= few and up >= most * looked
    if not goes_up and (told < few or negative < told):
        return None
    return Finding(
        "loss-driven-up",
        Severity.ERROR,
        f"Of the first {looked:.0f} losses told, {up:.0f} are driven up: their gradient has the wrong sign, or the "
        "optimizer maximizes."
        if goes_up
        else f"The first {told:.0f} losses told are a usual loss with a minus sign, which falls as answers get worse.",
        action("sign", "Call backward() on the loss itself, without a minus sign, and without maximize=True."),
        {"share": up / looked if goes_up else 1.0},
        {"share": most},
        strength=1.0 / most,
    )


def targets_broadcast(evidence: Evidence) -> Finding | None:
    """A loss of each prediction and the targets of all examples."""
    told, pairs = evidence.trend("losses_told", 0.0) or 0.0, evidence.trend("losses_of_all_pairs", 0.0) or 0.0
    if told < limit("looks") or pairs < told:
        return None
    return Finding(
        "targets-broadcast",
        Severity.ERROR,
        f"The first {pairs:.0f} losses told are those of all pairs of a prediction and a target of the batch.",
        action("same-shape", "Give both the same shape before the loss: model(x).squeeze(1), or y.unsqueeze(1)."),
        {"losses": pairs},
        {"losses": limit("looks")},
        strength=pairs / limit("looks"),
    )


def probabilities_as_scores(evidence: Evidence) -> Finding | None:
    """A model that ends in softmax or sigmoid before a loss that begins with it."""
    floor = evidence.probe("capacity", "floor_of_shares")
    if floor is None:
        return None
    return Finding(
        "probabilities-as-scores",
        Severity.WARNING,
        "Outputs are between 0 and 1"
        + (" and add up to 1 for each example" if evidence.found("capacity", "shares_add_up") else "")
        + f", and the loss takes them for scores: it cannot fall below {floor:.3g}.",
        action("scores", "Leave the softmax or sigmoid at the end of the model out; the loss has its own."),
        {"floor": floor},
        {"floor": 0.0},
    )


def precision_underflow(evidence: Evidence) -> Finding | None:
    """Weights with a gradient that most steps leave as they are."""
    unchanged, most = evidence.table("unchanged"), limit("unchanged")
    lost = {name: share for name, share in unchanged.items() if most < share < 1.0}
    flushed, little = evidence.probe("precision", "float16_underflow", 0.0) or 0.0, limit("float16 underflow")
    if len(lost) < max(1, (len(unchanged) + 1) // 2) and not (
        evidence.fact("precision") == "float16" and flushed > little
    ):
        return None
    name = max(lost, key=lambda key: lost[key], default="")
    share = lost.get(name, flushed)
    return Finding(
        "precision-underflow",
        Severity.ERROR if share > 0.8 else Severity.WARNING,
        f"On a usual step {share:.0%} of the weights of {name or 'the network'} keep their value although they have a "
        "gradient.",
        Repair("Keep the weights in float32 (--precision float32; bfloat16 for the forward pass alone), or take larger "
               "steps.", {"precision": "float32"}, "float32-weights"),
        {"unchanged": share},
        {"unchanged": most},
        where=list(lost)[:8],
        strength=share / most,
    )  # fmt: skip


def padding_not_masked(evidence: Evidence) -> Finding | None:
    """Predictions that change with what stands at padding."""
    leak, most = evidence.probe("padding", "padding_leak"), limit("leak")
    if leak is None or leak <= most or _is_random(evidence):
        return None
    return Finding(
        "padding-not-masked",
        Severity.ERROR if leak > 0.05 else Severity.WARNING,
        f"Other tokens at padded positions, or more of them, change the predictions by {leak:.1%} of their size.",
        action(
            "mask-padding", "Pass the mask of real tokens to the model, and leave padding out of attention and pooling."
        ),
        {"leak": leak},
        {"leak": most},
        strength=leak / most,
    )


def future_leak(evidence: Evidence) -> Finding | None:
    """Predictions of a language model that change with later tokens."""
    leak, most = evidence.probe("padding", "future_leak"), limit("leak")
    if leak is None or leak <= most or _is_random(evidence):
        return None
    return Finding(
        "future-leak",
        Severity.ERROR,
        f"Other tokens later in the text change earlier predictions by {leak:.1%} of their size.",
        action("mask-future", "Mask the tokens that are still to be predicted (a causal mask)."),
        {"leak": leak},
        {"leak": most},
        strength=leak / most,
    )


def _is_random(evidence: Evidence) -> bool:
    """Whether predictions change by themselves, so that nothing can be said of what changes them."""
    return (evidence.probe("modes", "random_in_evaluation") or 0.0) > limit("random")


def dropout_in_evaluation(evidence: Evidence) -> Finding | None:
    """Evaluations that differ from each other, or that ran in training mode."""
    change, most = evidence.probe("modes", "random_in_evaluation"), limit("random")
    in_training = bool(evidence.trends.get("in_training_mode"))
    if (change is None or change <= most) and not in_training:
        return None
    text = (
        f"The same batch, evaluated twice, gives predictions that differ by {change:.1%} of their size."
        if change is not None and change > most
        else "Validation losses were measured in training mode, in which dropout and batch norm answer otherwise."
    )
    return Finding(
        "dropout-in-evaluation",
        Severity.ERROR,
        text,
        action("eval-mode", "Call model.eval() before evaluating, and write F.dropout(x, training=self.training)."),
        {"change": change or 0.0},
        {"change": most},
        strength=max(1.0, (change or 0.0) / most),
    )
