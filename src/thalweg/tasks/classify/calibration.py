"""Whether a classifier's confidence is right: its answers in bins by the probability of the label they gave."""

from typing import Any

import numpy as np

from thalweg.certificates.new_texts.shares import share_interval

NUM_BINS = 15  # as in Guo, Pleiss, Sun, Weinberger (2017), On Calibration of Modern Neural Networks


def confidence_bins(probability: np.ndarray, right: np.ndarray, num_bins: int = NUM_BINS) -> dict[str, list[Any]]:
    """Return mean `confidence`, `accuracy` with its 95 % `intervals`, and `counts` of bins of equal width over [0, 1].

    Args:
        probability: of the label that each answer gave, `[examples]`; what is not a number counts as 0.
        right: whether it was the true one, `[examples]`.
        num_bins: number of bins; an empty one has no confidence, accuracy and interval (None).

    Returns:
        Lists with an entry for each bin, as `thalweg.report.reliability` takes them.
    """
    probability = np.nan_to_num(probability)
    bins = np.clip((probability * num_bins).astype(np.int64), 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins).tolist()
    hits = np.bincount(bins[right.astype(bool)], minlength=num_bins).tolist()
    sums = np.bincount(bins, weights=probability, minlength=num_bins).tolist()
    sizes = [(hit, total, count) for hit, total, count in zip(hits, sums, counts, strict=True)]
    return {
        "confidence": [total / count if count else None for _, total, count in sizes],
        "accuracy": [hit / count if count else None for hit, _, count in sizes],
        "counts": counts,
        "intervals": [share_interval(hit, count) if count else None for hit, _, count in sizes],
    }
