"""The expected calibration error of bins of answers."""

from collections.abc import Sequence

from thalweg.report.text import number


def calibration_error(
    confidence: Sequence[float | None], accuracy: Sequence[float | None], counts: Sequence[int]
) -> float | None:
    """Return the expected calibration error, or None where nothing was counted.

    sum_b (n_b / n) |a_b - c_b| over the bins b, where c_b = confidence[b] is the mean probability of the answers in
    the bin, a_b = accuracy[b] the fraction of them that is right, and n_b = counts[b] their number.

    Source: Naeini, Cooper, Hauskrecht (2015), Obtaining Well Calibrated Probabilities Using Bayesian Binning.
    """
    total = sum(counts)
    known = zip(map(number, confidence), map(number, accuracy), counts, strict=True)
    error = sum(count * abs(right - mean) for mean, right, count in known if mean is not None and right is not None)
    return error / total if total else None
