"""Thresholds: from which probability on a label is given, chosen on validation data, and measured without self-praise.

Everything here is in log-odds: a label is given where its logit is above its threshold, so that 0 stands for a
probability of 0.5.
"""

from typing import Final

import numpy as np

AUTO: Final = "auto"
# Examples of a label that its own best threshold needs to count as much as that of all labels together. Chosen on
# generated logits (docs/training.md): 1 is worse where labels are rare, 10 where probabilities are too modest.
PRIOR: Final = 3.0
MAX_POOLED: Final = 2_000_000  # answers among which the threshold of all labels together is looked for


def best_threshold(logits: np.ndarray, right: np.ndarray) -> float:
    """Return the threshold with the highest F1 on these texts; of several the one nearest to 0, NaN without examples.

    It is never below the label's mean probability, or 0 where that is more: where the logits tell nothing, giving a
    label to every text would have the highest F1.

    Args:
        logits: of one label, `[num_texts]`.
        right: whether the text has the label, bool `[num_texts]`.

    Example:
        >>> best_threshold(np.array([1.0, 4.0, 3.0, 0.5]), np.array([False, True, True, False]))
        2.0
    """
    total = int(right.sum())
    if not total:
        return float("nan")
    order = np.argsort(-logits, kind="stable")
    z, hits = logits[order], np.cumsum(right[order])
    below = np.append(z[1:], -np.inf)
    mean = float(np.mean(0.5 * (1.0 + np.tanh(0.5 * z))))
    lowest = min(0.0, np.log(max(mean, 1e-300)) - np.log1p(-min(mean, 0.5)))
    cut = np.where((z > 0.0) & (below <= 0.0), 0.0, np.maximum(0.5 * (z + below), lowest))
    allowed = (z > below) & (z > lowest) & (cut < z)
    score = np.where(allowed, 2.0 * hits / (np.arange(1, len(z) + 1) + total), -1.0)
    if not allowed.any():
        return 0.0
    best = np.flatnonzero(score >= score.max() * (1.0 - 1e-12))
    return float(cut[best[np.argmin(np.abs(cut[best]))]])


def choose(logits: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return a threshold for each label, `[num_labels]`.

    A label with `m` examples among these texts has `(m best + p all) / (m + p)`, with the threshold that is best for
    it, the one that is best for the answers of all labels together, and `p` = `PRIOR`: few examples say little. In the
    same way the threshold of all labels together counts against 0.

    Args:
        logits: `[num_texts, num_labels]`.
        right: whether the text has the label, bool `[num_texts, num_labels]`.
    """
    counts = right.sum(0)
    total = int(counts.sum())
    step = -(-logits.size // MAX_POOLED)
    together = best_threshold(logits.ravel()[::step], right.ravel()[::step]) if total and logits.shape[1] > 1 else 0.0
    together = 0.0 if np.isnan(together) else total / (total + PRIOR) * together
    own = np.array([best_threshold(z, y) for z, y in zip(logits.T, right.T, strict=True)])
    return (counts * np.nan_to_num(own) + PRIOR * together) / (counts + PRIOR)


def crossed(logits: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return which labels each text is given by thresholds that the other half of the texts chose, bool, as `right`.

    So no text is measured with a threshold that it helped to choose. The halves are every other text in the order of
    the sums of their logits, and do not depend on the order of the texts.
    """
    given = np.zeros(logits.shape, dtype=bool)
    order = np.argsort(logits.sum(1), kind="stable")
    halves = order[::2], order[1::2]
    for one, other in (halves, halves[::-1]):
        given[one] = logits[one] > choose(logits[other], right[other])
    return given


def probabilities(thresholds: np.ndarray) -> np.ndarray:
    """Return the thresholds as probabilities."""
    return 0.5 * (1.0 + np.tanh(0.5 * thresholds))


def log_odds(probability: float) -> float:
    """Return a probability in (0, 1) as a threshold."""
    return float(np.log(probability) - np.log1p(-probability))
