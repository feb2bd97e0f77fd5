"""Rules about the data: columns, equal texts, answers that contradict each other, and how examples come."""

import math

from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.symptoms.evidence import Evidence
from thalweg.diagnosis.symptoms.limits import limit
from thalweg.diagnosis.symptoms.repairs import action, options_of


def unnormalized_inputs(evidence: Evidence) -> Finding | None:
    """Numeric inputs far from zero, or of very different sizes."""
    offset, spread = evidence.probe("inputs", "offset"), evidence.probe("inputs", "column_range")
    largest = evidence.probe("inputs", "largest_deviation")
    far, wide = limit("offset"), limit("column range")
    is_far, is_wide = offset is not None and offset > far, spread is not None and spread > wide
    is_large = largest is not None and not 0.01 < largest < 30.0
    if not (is_far or is_wide or is_large):
        return None
    text = (
        f"the mean is {offset:.0f} deviations from zero" if is_far else f"deviations differ by a factor of {spread:.0f}"
        if is_wide else f"the deviation is {largest:.3g}"
    )  # fmt: skip
    return Finding(
        "unnormalized-inputs",
        Severity.WARNING if not (is_far or is_wide) else Severity.ERROR,
        f"Of the numeric inputs, {text}.",
        options_of("Scale them: --scaling standard.", scaling="standard"),
        {"offset": offset or 0.0, "range": spread or 1.0},
        {"offset": far, "range": wide},
        strength=max((offset or 0.0) / far, (spread or 1.0) / wide, 1.0),
    )


def constant_columns(evidence: Evidence) -> Finding | None:
    """Numeric columns with one value only."""
    names = list(evidence.found("inputs", "constant_columns") or ())
    if not names:
        return None
    return Finding(
        "constant-columns",
        Severity.WARNING,
        f"{len(names)} numeric input columns never change: {', '.join(map(str, names[:5]))}.",
        action("drop-columns", "Leave them out (--columns names those to keep)."),
        {"columns": float(len(names))},
        {"columns": 0.0},
        where=[str(name) for name in names[:8]],
        strength=float(len(names)),
    )


def skewed_columns(evidence: Evidence) -> Finding | None:
    """Numeric columns whose variance is in a few values."""
    found, most = evidence.numbers("inputs", "skewness"), limit("skewness")
    skewed = [name for name, value in found.items() if abs(value) > most]
    if not skewed:
        return None
    worst = max(skewed, key=lambda name: abs(found[name]))
    return Finding(
        "skewed-columns",
        Severity.WARNING,
        f"Column {worst} has skewness {found[worst]:.1f}.",
        action("clean-data", "Take the logarithm of such columns, or cap their largest values."),
        {"skewness": found[worst]},
        {"skewness": most},
        where=skewed[:8],
        strength=abs(found[worst]) / most,
    )


def label_noise(evidence: Evidence) -> Finding | None:
    """Training labels that all other examples speak against, and many of them."""
    share, most = evidence.probe("labels", "noise_share"), limit("noise share")
    if share is None or share < most:
        return None
    return Finding(
        "label-noise",
        Severity.WARNING,
        f"About {share:.0%} of the training labels contradict what a linear model of all other examples says.",
        action("clean-labels", "Look through the listed examples, the most doubtful first."),
        {"share": share},
        {"share": most},
        where=[str(line) for line in (evidence.found("labels", "lines") or [])[:8]],
        strength=share / most,
    )


def never_predicted(evidence: Evidence) -> Finding | None:
    """Labels with a share of the data of which not one is ever predicted."""
    missing, least = evidence.numbers("predictions", "never_predicted"), limit("label share")
    named = {name: share for name, share in missing.items() if share > least}
    if not named:
        return None
    worst = max(named, key=lambda name: named[name])
    return Finding(
        "never-predicted",
        Severity.WARNING,
        f"{len(named)} labels are never predicted; {worst} is the answer of {named[worst]:.0%} of the examples.",
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
        f"{share:.1%} of the validation texts are trained on.",
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
    points = 100.0 * 1.96 * math.sqrt(2.0 * 0.25 / number)
    return Finding(
        "validation-too-small",
        Severity.NOTE,
        f"On {number} validation examples, accuracies that differ by less than {points:.0f} points may differ by chance.",
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
    is_clumped = clumping is not None and clumping > most
    repeats = same is not None and same > high and same > 4.0 * error
    if not (is_clumped or repeats):
        return None
    text = (
        f"the labels of single batches differ from those of all data {clumping:.0f} times as much as chance would have it"
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
