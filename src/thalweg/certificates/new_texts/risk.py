"""PAC-Bayes: how often a linear classifier whose weights are drawn around some mean is wrong on new examples."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final, final

import numpy as np
from scipy.special import ndtr, ndtri

from thalweg.certificates.new_texts.shares import kl_inverse
from thalweg.errors import require

CELLS: Final = 400  # of equal chance, into which the noise of the true class is cut
ROWS: Final = 256  # examples looked at together
STEPS: Final = (0.125, 0.25, 0.5, 1.0)  # from the prior's mean to the weights that were trained on everything
LEAST: Final = 8  # examples that Maurer's bound needs


@final
@dataclasses.dataclass(frozen=True)
class PacBayes:
    """A bound on the error of a classifier whose weights are drawn anew for every example.

    Args:
        bound: of its error on new examples.
        gibbs: its error on the examples of the bound.
        divergence: of the weights' distribution from the prior, in nats.
        noise: standard deviation of each weight.
        step: how far its mean is from that of the prior (0) to the weights trained on everything (1).
    """

    bound: float
    gibbs: float
    divergence: float
    noise: float
    step: float


def gibbs_errors(predictions: np.ndarray, labels: np.ndarray, noise: np.ndarray) -> np.ndarray:
    r"""Return how often a noisy prediction is wrong, rounded up: an upper bound for each example, `[examples]`.

    An example is right when $z_y + \sigma g_y$ is above all other $z_k + \sigma g_k$, with independent standard
    normal $g$:

    $$P(\text{right}) = E_g \prod_{k \ne y} \Phi\Bigl(\frac{z_y - z_k}{\sigma} + g\Bigr)$$

    For two classes that is $\Phi((z_y - z_k) / (\sqrt 2 \sigma))$. For more, $g$ is cut into cells of equal chance; the
    product rises with $g$, so its values at their left ends add up to a lower bound, at most one cell's chance too low.
    No random numbers are drawn.

    Args:
        predictions: $z$, `[examples, classes]`.
        labels: int `[examples]`.
        noise: $\sigma$ > 0 of each example, `[examples]`.
    """
    size, num_classes = predictions.shape
    lead = (predictions[np.arange(size), labels][:, None] - predictions) / noise[:, None]
    if num_classes == 2:
        return ndtr(-lead[np.arange(size), 1 - labels] / math.sqrt(2.0))
    ends = ndtri(np.arange(1, CELLS) / CELLS)  # the first cell begins at minus infinity, where nothing is right
    right = np.zeros(size)
    for start in range(0, size, ROWS):
        part = slice(start, start + ROWS)
        product = np.ones((len(labels[part]), CELLS - 1))
        for k in range(num_classes):
            other = labels[part] != k
            product[other] *= ndtr(lead[part][other, k][:, None] + ends)
        right[part] = product.sum(1) / CELLS
    return 1.0 - right


def pac_bayes_bound(gibbs: float, divergence: float, examples: int, chance: float) -> float:
    r"""Return the largest error that the PAC-Bayes-kl inequality leaves, in [gibbs, 1].

    $$\mathrm{kl}(\hat e \,\|\, e) \le \frac{\mathrm{KL}(Q \,\|\, P) + \ln (2 \sqrt m / \delta)}{m}$$

    holds with probability at least $1 - \delta$ over $m$ independent examples, at once for all distributions $Q$ of the
    weights, where the prior $P$ was fixed without these examples. $\hat e$ and $e$ are the errors of weights drawn from
    $Q$, on the examples and on new ones.

    Args:
        gibbs: $\hat e$, in [0, 1].
        divergence: $\mathrm{KL}(Q \,\|\, P)$, at least 0.
        examples: $m$, at least 8.
        chance: $\delta$, in (0, 1).

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> round(pac_bayes_bound(0.1, 5.0, 2000, 0.05), 4)
        0.1368

    Source: Maurer (2004), A Note on the PAC Bayesian Theorem; Seeger (2002).
    """
    require(examples >= LEAST, f"pac_bayes_bound(examples=...) must be at least {LEAST}", examples)
    require(divergence >= 0.0, "pac_bayes_bound(divergence=...) must be at least 0", divergence)
    require(0.0 < chance < 1.0, "pac_bayes_bound(chance=...) must lie in (0, 1)", chance)
    return kl_inverse(gibbs, (divergence + math.log(2.0 * math.sqrt(examples) / chance)) / examples)


def gaussian_bound(
    prior: np.ndarray,
    trained: np.ndarray,
    labels: np.ndarray,
    lengths: np.ndarray,
    distance: float,
    noises: Sequence[float],
    *,
    unseen: int = 0,
    chance: float = 0.05,
    steps: Sequence[float] = STEPS,
) -> PacBayes:
    r"""Return the best PAC-Bayes bound for normally distributed weights of a linear classifier.

    The prior is $N(W_0, \sigma^2 I)$ around weights that were trained without the examples of the bound, the posterior
    $N(W_0 + s (W_1 - W_0), \sigma^2 I)$ with weights $W_1$ that may have seen them. So a prediction has the noise
    $\sigma \lVert x \rVert$, and

    $$\mathrm{KL} = \frac{s^2 \lVert W_1 - W_0 \rVert^2}{2 \sigma^2}$$

    The chance is divided by the number of $\sigma$ that are tried; the inequality holds for all steps $s$ at once.

    Args:
        prior: predictions with $W_0$, `[examples, classes]`.
        trained: predictions with $W_1$.
        labels: int `[examples]`.
        lengths: $\lVert x \rVert$ > 0 of the features, `[examples]`.
        distance: $\lVert W_1 - W_0 \rVert^2$.
        noises: the $\sigma$ to try, chosen without the examples of the bound.
        unseen: further examples of the bound whose class the classifier does not know: always wrong.
        chance: that the bound does not hold, at most.
        steps: the $s$ to try.

    Example:
        >>> z = np.array([[2.0, 0.0], [0.0, 2.0]] * 50)
        >>> found = gaussian_bound(z, z, np.array([0, 1] * 50), np.ones(100), 0.0, [0.1, 0.5])
        >>> round(found.bound, 3), found.noise
        (0.065, 0.1)

    Source: Ambroladze, Parrado-Hernandez and Shawe-Taylor (2007), Tighter PAC-Bayes Bounds (a prior from part of the
    data). When not to use it: to say how good the weights in the middle are; their error is at most twice the bound.
    """
    found: list[PacBayes] = []
    size = len(labels) + unseen
    for noise in noises:
        for step in steps:
            each = gibbs_errors(prior + step * (trained - prior), labels, noise * lengths)
            gibbs = min(1.0, (float(each.sum()) + unseen) / size)
            divergence = step**2 * distance / (2.0 * noise**2)
            bound = pac_bayes_bound(gibbs, divergence, size, chance / len(noises))
            found.append(PacBayes(bound, gibbs, divergence, noise, step))
    return min(found, key=lambda one: one.bound)
