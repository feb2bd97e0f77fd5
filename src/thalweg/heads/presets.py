"""What the head names of the command line stand for: one builder for each name, called alike.

`builder(width, targets, label_smoothing=...)` returns a head for hidden states of some width and a table of targets.
"""

import functools

from thalweg.heads.analytic import AnalyticSoftmax
from thalweg.heads.contrastive import Contrastive, SampledSoftmax
from thalweg.heads.distance import L2, Cosine, PowerSpherical
from thalweg.heads.margin import MaxMargin, SyntheticMargin, Triplet
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher

SHORTLIST = 512  # words that the analytic softmax always takes exactly
NUM_SAMPLES = 1024  # words that the sampled softmax draws


def sampled(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> SampledSoftmax:
    """Return a softmax over words that are drawn for each batch, at most half of the vocabulary."""
    num = min(NUM_SAMPLES, max(1, targets.num // 2))
    return SampledSoftmax(width, targets, num_samples=num, label_smoothing=label_smoothing)


def analytic(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AnalyticSoftmax:
    """Return a softmax with exact terms for frequent words and those of the batch, and a formula for the rest."""
    shortlist = min(SHORTLIST, targets.num)
    return AnalyticSoftmax(width, targets, shortlist=shortlist, label_smoothing=label_smoothing)


contrastive = Contrastive
vmf = VonMisesFisher
vmf_reg1 = functools.partial(VonMisesFisher, reg1=0.02)
vmf_reg2 = functools.partial(VonMisesFisher, reg2=0.1)
vmf_log = functools.partial(VonMisesFisher, reg1=0.2, logarithmic=True)  # as in its authors' code
l2 = L2
cosine = Cosine
power_spherical = PowerSpherical
margin = MaxMargin
syn_margin = SyntheticMargin
triplet = Triplet
