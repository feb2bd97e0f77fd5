"""Rules about what was learned: too much by heart, too little, held back by decay or dropout, one answer for all."""

from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.symptoms.evidence import Evidence
from thalweg.diagnosis.symptoms.limits import limit
from thalweg.errors import counted


def over_fitting(evidence: Evidence) -> Finding | None:
    """A validation loss that rose after its best, while the training loss went on falling."""
    rise, best, train = evidence.trend("valid_rise"), evidence.trend("valid_best_at"), evidence.trend("loss_end")
    end, most = evidence.trend("valid_end"), limit("valid rise")
    if rise is None or best is None or train is None or end is None or rise < most:
        return None
    if (evidence.trend("valid_rise_of_start") or 0.0) < limit("valid rise of start"):
        return None
    lowest = evidence.trend("loss_best", train) or train
    if train > end or train > 1.5 * lowest + 1e-3 or (evidence.trend("num_evaluations") or 0) < 3:
        return None
    # Weights are kept by the share of right answers where there is one: what falls then is its certainty.
    share, best_share = evidence.trend("right_end"), evidence.trend("right_best")
    is_as_right = share is not None and best_share is not None and share > best_share - limit("right lost")
    options = {"patience": 3, "dropout": max(0.3, evidence.fact("dropout") or 0.0), "schedule": "cosine",
               "schedule_options": None}  # fmt: skip
    epochs = (evidence.fact("options") or {}).get("epochs")
    if epochs:
        options["epochs"] = float(f"{max(1.0, 1.3 * best * epochs):.2g}")
    else:
        options["steps"] = max(10, int(1.3 * best * (evidence.fact("steps") or 100)))
    words = " ".join(f"--{name} {value:g}" for name, value in options.items() if isinstance(value, int | float))
    return Finding(
        "over-fitting",
        Severity.ERROR if rise > 4.0 * most and not is_as_right else Severity.WARNING,
        f"The validation loss rose by {rise:.0%} after {best:.0%} of the training, and the training loss fell to "
        f"{train:.3g}."
        + (f" As many answers are right, {share:.1%}; the wrong ones are too sure." if is_as_right else ""),
        Repair(f"Stop earlier and regularize: {words}.", options),
        {"rise": rise},
        {"rise": most},
        strength=rise / most,
    )


def capacity_too_small(evidence: Evidence) -> Finding | None:
    """A training loss at rest far above zero in a network whose hidden states are narrower than its answers need."""
    classes, width = evidence.fact("num_classes"), evidence.fact("width")
    loss, chance = evidence.train_loss, evidence.chance
    narrow = evidence.probe("capacity", "narrowest")
    if classes is None or loss is None or chance is None or (width is None and narrow is None):
        return None
    size = min(value for value in (width, narrow) if value is not None)
    most, needed = limit("capacity loss"), max(2, min(classes - 1, 16))
    if size >= needed or loss < most * chance:
        return None
    options = evidence.fact("options") or {}
    changes = {"width": max(64, options.get("width") or 0), "hidden": max(64, options.get("hidden") or 0)}
    if (options.get("layers") or 0) < 1:
        changes.pop("hidden")
    words = " ".join(f"--{name} {value}" for name, value in changes.items())
    return Finding(
        "capacity-too-small",
        Severity.WARNING,
        f"The hidden states have {counted(int(size), 'number')} for {classes} classes, and the training loss ended at "
        f"{loss:.3g}, {loss / chance:.0%} of that of a guess.",
        Repair(f"A wider network: {words}.", changes),
        {"width": float(size), "loss": loss / chance},
        {"width": float(needed), "loss": most},
        strength=needed / max(size, 0.5),
    )


def weight_decay_too_strong(evidence: Evidence) -> Finding | None:
    """Weights that shrank to a part of their start under decay, or a penalty that is most of the loss."""
    by_layer = [value for value in evidence.numbers("start", "norm_ratio_by").values() if value > 0.0]
    shrunk, least = min(by_layer, default=None), limit("shrunk")
    share, most = evidence.probe("weights", "penalty_share", 0.0) or 0.0, limit("penalty share")
    decay, penalty = evidence.fact("weight_decay") or 0.0, evidence.fact("l2") or 0.0
    rate, steps = evidence.fact("lr") or 0.0, evidence.trend("num_steps") or 0.0
    pulled = decay * rate * steps * (evidence.trend("lr_average", 1.0) or 1.0)
    if evidence.fact("is_proved"):
        return None
    by_decay = decay > 0.0 and pulled > 1.0 and shrunk is not None and shrunk < least
    by_penalty = penalty > 0.0 and (share > most or (shrunk is not None and shrunk < least / 2.0))
    if not (by_decay or by_penalty):
        return None
    if by_decay:
        text = f"A layer shrank to {shrunk:.1%} of its length; decay alone would have left exp(-{pulled:.1f}) of it."
        weaker = float(f"{min(0.01, decay / 100.0):.1e}")
        repair = Repair(f"Decay less: --weight-decay {weaker:g}.", {"weight_decay": weaker})
        strength = least / max(shrunk or 0.0, 1e-6)
    else:
        text = f"The penalty is {share:.0%} of the training loss; a layer has {shrunk or 0.0:.1%} of its length."
        weaker = float(f"{penalty / 1e4:.1e}")
        repair = Repair(f"A weaker penalty: --l2 {weaker:g}.", {"l2": weaker})
        strength = max(share / most, 1.0)
    return Finding(
        "weight-decay-too-strong", Severity.ERROR, text, repair,
        {"norm_ratio": shrunk or 0.0, "penalty_share": share}, {"norm_ratio": least, "penalty_share": most},
        strength=strength,
    )  # fmt: skip


def dropout_too_strong(evidence: Evidence) -> Finding | None:
    """Much dropout, and a loss with it that is clearly above the loss without."""
    rate, most = evidence.fact("dropout") or 0.0, limit("strong dropout")
    with_it, without = evidence.probe("modes", "train_mode_loss"), evidence.probe("modes", "eval_loss")
    if rate < most or with_it is None or without is None:
        return None
    cost, chance = with_it / max(without, 1e-9), evidence.chance
    has_learned_little = chance is not None and without > limit("dropout left") * chance
    if cost < limit("dropout cost") and not has_learned_little:
        return None
    return Finding(
        "dropout-too-strong",
        Severity.ERROR if rate > 0.85 else Severity.WARNING,
        f"Dropout sets {rate:.0%} of the units to zero; on training data the loss is {with_it:.3g} with it and "
        f"{without:.3g} without.",
        Repair("Less dropout: --dropout 0.1.", {"dropout": 0.1}),
        {"dropout": rate, "cost": cost},
        {"dropout": most, "cost": limit("dropout cost")},
        strength=rate / most * cost,
    )


def majority_class(evidence: Evidence) -> Finding | None:
    """Predictions with far less variety than the labels, which are a few classes."""
    predicted, actual = evidence.probe("predictions", "prediction_entropy"), evidence.chance
    share, least = evidence.probe("predictions", "top_prediction_share"), limit("prediction entropy")
    if predicted is None or actual is None or share is None or actual < 0.1 or predicted >= least * actual:
        return None
    if evidence.fact("num_classes") is None:  # of tokens the frequent ones come first in every training
        return None
    # Weights of classes change little where all are about as frequent.
    most, rarest = (evidence.probe("predictions", name) for name in ("top_label_share", "rarest_share"))
    is_even = most is not None and rarest is not None and most < limit("label range") * rarest
    longer = {"epochs": _more_epochs(evidence)}
    return Finding(
        "majority-class",
        Severity.WARNING,
        f"{share:.0%} of the predictions are one class; their entropy is {predicted:.3f} nats, that of the labels "
        f"{actual:.3f}.",
        Repair(f"The classes are about as frequent as each other, so train longer: --epochs {longer['epochs']:g}.",
               longer)
        if is_even
        else Repair("Let rare classes count as much as frequent ones, and train longer: --class-weights balanced "
                    f"--epochs {longer['epochs']:g}.", {"class_weights": "balanced", **longer}),
        {"entropy": predicted / actual},
        {"entropy": least},
        strength=least * actual / max(predicted, 1e-3),
    )  # fmt: skip


def _more_epochs(evidence: Evidence) -> float:
    return 4.0 * float((evidence.fact("options") or {}).get("epochs") or 5.0)
