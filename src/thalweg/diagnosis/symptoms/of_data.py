"""Rules about the data: columns, equal texts, answers that contradict each other, and how examples come."""

import math
from typing import Any

from thalweg.data.columns import problems
from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.symptoms.evidence import Evidence
from thalweg.diagnosis.symptoms.limits import limit
from thalweg.diagnosis.symptoms.repairs import action, options_of
from thalweg.errors import counted


def _numeric(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Return the figures of numeric inputs, by the name of the input."""
    return dict(evidence.found("inputs", "numbers") or {})


def unnormalized_inputs(evidence: Evidence) -> Finding | None:
    """Numeric inputs far from zero, of very different sizes, or large in a training that has not learned from them."""
    far, wide, large = limit("offset"), limit("column range"), limit("column value")
    broad = math.inf if evidence.has_learned or evidence.fact("is_proved") else limit("deviation")
    for name, one in _numeric(evidence).items():
        even = [column for column in one["columns"] if abs(column.get("skew") or 0.0) < limit("skewness")]
        offset = max((column["offset"] for column in even if column.get("offset") is not None), default=0.0)
        spread = one.get("scale_range") or 1.0
        value = one.get("largest_value") or 0.0
        deviation = max((column["std"] for column in one["columns"] if column.get("std") is not None), default=0.0)
        if offset <= far and spread <= wide and value <= large and deviation <= broad:
            continue
        text = (
            f"a mean is {offset:.0f} deviations from zero"
            if offset > far
            else f"deviations differ by a factor of {spread:.0f}"
            if spread > wide
            else f"the largest value is {value:.3g}"
            if value > large
            else f"the largest deviation is {deviation:.3g}"
        )
        return Finding(
            "unnormalized-inputs",
            Severity.ERROR,
            f"Of the numeric inputs, {text}.",
            options_of("Scale them: --scaling standard.", scaling="standard"),
            {"offset": offset, "range": spread, "value": value, "deviation": deviation},
            {"offset": far, "range": wide, "value": large, "deviation": limit("deviation")},
            where=[name],
            strength=max(offset / far, spread / wide, value / large, deviation / broad),
        )
    return None


def unnormalized_targets(evidence: Evidence) -> Finding | None:
    """Numbers as targets that are large, and answers that have not come near them."""
    mean, deviation, explained = (
        evidence.probe("predictions", name) for name in ("target_mean", "target_std", "explained")
    )
    large, least = limit("deviation"), limit("explained")
    if mean is None or deviation is None or explained is None or evidence.fact("is_proved"):
        return None
    size = max(abs(mean), deviation)
    if size <= large or explained >= least:
        return None
    answers = [evidence.probe("predictions", name, 0.0) for name in ("answer_mean", "answer_std")]
    return Finding(
        "unnormalized-targets",
        Severity.ERROR,
        f"Targets have mean {mean:.3g} and deviation {deviation:.3g}, the answers mean {answers[0]:.3g} and deviation "
        f"{answers[1]:.3g}; their squared error is {1.0 - explained:.3g} times that of always answering the mean.",
        options_of("Scale the targets, too, and scale the answers back: --scaling standard.", scaling="standard"),
        {"size": size, "explained": explained},
        {"size": large, "explained": least},
        strength=size / large,
    )


def constant_columns(evidence: Evidence) -> Finding | None:
    """Numeric columns with one value only."""
    names = [f"{name}, column {place + 1}" for name, one in _numeric(evidence).items() for place in one["constant"]]
    if not names:
        return None
    return Finding(
        "constant-columns",
        Severity.WARNING,
        problems.constant_columns(names),
        action("drop-columns", "Leave them out (--columns names those to keep)."),
        {"columns": float(len(names))},
        {"columns": 0.0},
        where=names[:8],
        strength=float(len(names)),
    )


def skewed_columns(evidence: Evidence) -> Finding | None:
    """Numeric columns whose variance is in a few values."""
    most = limit("skewness")
    skews = {
        f"{name}, column {place + 1}": column["skew"]
        for name, one in _numeric(evidence).items()
        for place, column in enumerate(one["columns"])
        if column.get("skew") is not None
    }
    skewed = [name for name, value in skews.items() if abs(value) > most]
    if not skewed:
        return None
    worst = max(skewed, key=lambda name: abs(skews[name]))
    return Finding(
        "skewed-columns",
        Severity.WARNING,
        f"The values of {worst} have skewness {skews[worst]:.1f}.",
        action("clean-data", "Take the logarithm of such columns, or cap their largest values."),
        {"skewness": skews[worst]},
        {"skewness": most},
        where=skewed[:8],
        strength=abs(skews[worst]) / most,
    )


def label_noise(evidence: Evidence) -> Finding | None:
    """Training labels that all other examples speak against, and many of them."""
    share, most = evidence.probe("labels", "noise_share"), limit("noise share")
    wrong, least = evidence.probe("labels", "disagreement", 0.0) or 0.0, limit("disagreement")
    gain = evidence.probe("predictions", "accuracy_over_majority")
    if share is None:
        return None
    # Where a linear model is right about nearly all clean labels, a tenth of the labels is much; where it is not, its
    # own mistakes look the same.
    rarer = evidence.probe("labels", "rarer", 0.0) or 0.0  # what answering the most frequent one gets wrong
    is_clear = (
        limit("some noise") <= share
        and wrong < limit("better than one answer") * rarer
        and limit("noise of all") * wrong <= share
        and wrong < least
    )
    if not is_clear and (share < most or wrong < least):
        return None
    return Finding(
        "label-noise",
        # Labels that nothing can be learned from may have been mixed up with others' texts.
        Severity.NOTE
        if is_clear
        else Severity.ERROR
        if gain is not None and gain < limit("no better than a guess")
        else Severity.WARNING,
        f"Of the training labels about which a linear model of all other examples is sure, {share:.0%} are others than "
        f"it says; in all it disagrees with {wrong:.0%}, its own mistakes included.",
        action(
            "clean-labels",
            "Look through the most doubtful labels: the report of thalweg certify lists them with their lines.",
        ),
        {"share": share, "disagreement": wrong},
        {"share": limit("some noise"), "disagreement": 0.0} if is_clear else {"share": most, "disagreement": least},
        strength=share / (limit("some noise") if is_clear else most),
    )


def never_predicted(evidence: Evidence) -> Finding | None:
    """Labels with a share of the data of which not one is ever predicted."""
    answers, least = evidence.probe("predictions", "answers"), limit("label share")
    labels = evidence.data("label_names") or []
    named = {
        str(labels[place]) if place < len(labels) else f"class {place}": count / answers
        for place, count in evidence.found("predictions", "never_predicted") or ()
        if answers and count > least * answers and count >= limit("label count")
    }
    if not named:
        return None
    worst = max(named, key=lambda name: named[name])
    return Finding(
        "never-predicted",
        Severity.WARNING,
        f"{worst!r}, the answer of {named[worst]:.0%} of the examples, is never predicted"
        + (f", nor are {counted(len(named) - 1, 'more label')}." if len(named) > 1 else "."),
        Repair("Let rare labels count as much as frequent ones: --class-weights balanced.",
               {"class_weights": "balanced"}),
        {"share": named[worst]},
        {"share": least},
        where=list(named)[:8],
        strength=named[worst] / least,
    )  # fmt: skip


def leaking_duplicates(evidence: Evidence) -> Finding | None:
    """Validation texts that are among the training texts."""
    share, most = evidence.data("valid_in_train"), limit("shared")
    if share is None or share <= most:
        return None
    return Finding(
        "leaking-duplicates",
        Severity.ERROR if share > 0.2 else Severity.WARNING,
        f"{problems.trained_on(share)}.",
        action("split-again", "Let thalweg split (without --valid equal texts stay on one side), or take them out."),
        {"share": share},
        {"share": most},
        strength=share / most,
    )


def duplicate_examples(evidence: Evidence) -> Finding | None:
    """Training texts that repeat earlier ones."""
    share, most = evidence.data("duplicates"), limit("duplicates")
    if share is None or share <= most:
        return None
    return Finding(
        "duplicate-examples",
        Severity.NOTE,
        f"{share:.0%} of the training texts repeat an earlier one.",
        action("clean-data", "Keep each text once (thalweg data lists them)."),
        {"share": share},
        {"share": most},
        strength=share / most,
    )


def conflicting_labels(evidence: Evidence) -> Finding | None:
    """Equal texts with different answers."""
    share, most = evidence.data("conflicts"), limit("conflicts")
    if share is None or share <= most:
        return None
    return Finding(
        "conflicting-labels",
        Severity.WARNING,
        f"{share:.0%} of the training examples have a text that comes with another answer, too.",
        action("clean-labels", "Decide on one answer for each text (thalweg data lists the costliest)."),
        {"share": share},
        {"share": most},
        strength=share / most,
    )


def validation_too_small(evidence: Evidence) -> Finding | None:
    """So few validation examples that differences of several points are chance."""
    number, least = evidence.fact("num_valid"), limit("few valid")
    if not number or number >= least or evidence.fact("num_classes") is None:
        return None
    return Finding(
        "validation-too-small",
        Severity.NOTE,
        problems.few_examples(number),
        action("more-validation", "Hold out more examples (--valid-share), or compare by cross-validation."),
        {"examples": float(number)},
        {"examples": least},
        strength=least / number,
    )


def not_shuffled(evidence: Evidence) -> Finding | None:
    """Batches with few kinds of answers each, or losses that repeat from epoch to epoch."""
    clumping, most = evidence.probe("order", "label_clumping"), limit("clumping")
    same, high = evidence.trend("repetition"), limit("repetition")
    error = evidence.trend("repetition_error", 1.0) or 1.0
    single = evidence.probe("order", "one_label_share", 0.0) or 0.0
    is_clumped = clumping is not None and clumping > most and single > limit("one label")
    repeats = same is not None and same > high and same > 4.0 * error
    if not (is_clumped or repeats):
        return None
    text = (
        f"the labels of batches differ from those of all data {clumping:.0f} times as much as by chance"
        if is_clumped
        else f"the losses of an epoch's steps repeat those of the epoch before (correlation {same:.2f})"
    )
    return Finding(
        "not-shuffled",
        Severity.ERROR if is_clumped else Severity.WARNING,
        f"{text[0].upper()}{text[1:]}.",
        action("shuffle", "Shuffle the training data in each epoch (DataLoader(..., shuffle=True))."),
        {"clumping": clumping or 0.0, "repetition": same or 0.0},
        {"clumping": most, "repetition": high},
        strength=max((clumping or 0.0) / most, (same or 0.0) / high),
    )
