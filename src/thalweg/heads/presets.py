"""What the head names of the command line stand for: one function a name, all with the same arguments.

Each returns a head for hidden states of some width and a table of targets. Label smoothing has a meaning only where the
loss is a cross-entropy over words; the others refuse it.
"""

from thalweg.heads.analytic import AnalyticSoftmax
from thalweg.heads.base import AbstractHead
from thalweg.heads.contrastive import Contrastive, SampledSoftmax
from thalweg.heads.distance import L2, Cosine, PowerSpherical
from thalweg.heads.margin import MaxMargin, SyntheticMargin, Triplet
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher

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


def vmf(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return the von Mises-Fisher likelihood as it is."""
    return VonMisesFisher(width, targets, label_smoothing=label_smoothing)


def vmf_reg1(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return it with a penalty of 0.02 on the length of predictions."""
    return VonMisesFisher(width, targets, reg1=0.02, label_smoothing=label_smoothing)


def vmf_reg2(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return it with a tenth of the reward for the direction."""
    return VonMisesFisher(width, targets, reg2=0.1, label_smoothing=label_smoothing)


def vmf_log(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return it as its authors' code has it, with log(1 + length) in place of the length."""
    return VonMisesFisher(width, targets, reg1=0.2, logarithmic=True, label_smoothing=label_smoothing)


def l2(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return the squared distance to the target."""
    return L2(width, targets, label_smoothing=label_smoothing)


def cosine(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return the cosine to the target."""
    return Cosine(width, targets, label_smoothing=label_smoothing)


def power_spherical(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return the power spherical likelihood."""
    _refuse_smoothing("power-spherical", label_smoothing)
    return PowerSpherical(width, targets)


def margin(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return the margin between cosines, to the most telling wrong word of the batch."""
    _refuse_smoothing("margin", label_smoothing)
    return MaxMargin(width, targets)


def syn_margin(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return the margin to a made-up negative, by projection."""
    _refuse_smoothing("syn-margin", label_smoothing)
    return SyntheticMargin(width, targets)


def triplet(width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
    """Return the margin between distances, to the nearest wrong word of the batch."""
    _refuse_smoothing("triplet", label_smoothing)
    return Triplet(width, targets)


def _refuse_smoothing(name: str, label_smoothing: float) -> None:
    if label_smoothing:
        raise ValueError(
            f"--head {name} compares with no distribution over words, so there is nothing to smooth; got "
            f"--label-smoothing {label_smoothing:g}, give 0."
        )
