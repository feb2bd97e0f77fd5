"""What the head names of the command line stand for: one function a name, all with the same arguments.

Each returns a head for hidden states of some width and a table of targets. Label smoothing has a meaning only where the
loss is a cross-entropy over words; the others refuse it.
"""

from thalweg.heads.analytic import AnalyticSoftmax
from thalweg.heads.base import AbstractHead
from thalweg.heads.contrastive import Contrastive, SampledSoftmax
from thalweg.heads.targets import Targets

SHORTLIST = 512  # words that the analytic softmax always takes exactly
NUM_SAMPLES = 1024  # words that the sampled softmax draws


def contrastive(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return contrast with the batch's own words."""
    return Contrastive(width, targets, label_smoothing=label_smoothing)


def sampled(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return a softmax over words that are drawn for each batch, at most half of the vocabulary."""
    num = min(NUM_SAMPLES, max(1, targets.num // 2))
    return SampledSoftmax(width, targets, num_samples=num, label_smoothing=label_smoothing)


def analytic(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return a softmax with exact terms for frequent words and those of the batch, and a formula for the rest."""
    shortlist = min(SHORTLIST, targets.num)
    return AnalyticSoftmax(width, targets, shortlist=shortlist, label_smoothing=label_smoothing)
