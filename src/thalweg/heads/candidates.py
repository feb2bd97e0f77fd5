r"""The softmax over some words that stand for all: its value row by row, and its curvature.

$$\log \hat Z = \log\Big( e^{s_y} + \sum_{c \in C,\, c \ne y} e^{e \cdot u_c + o_c} + e^{t(\kappa^2)} \Big),
\qquad \ell = \log \hat Z - s_y$$

The candidates $C$ are shared by all rows. The offset $o_c$ holds the word's prior and how many words it stands for; a
candidate that is the row's own target (an accidental hit, a false negative) is left out of the sum, and the target
itself is exact. The tail $t$ depends on the prediction's length alone.
"""

import dataclasses
from typing import final

import torch
from torch import Tensor

from thalweg.heads.bessel import log_partition

MAX_MATRIX = 2**24  # numbers in the matrices of curvature roots held at once: 64 MB in float32


@final
@dataclasses.dataclass(frozen=True)
class Candidates:
    r"""Words that all rows compare with.

    Args:
        ids: int64 `[n]`.
        vectors: unit vectors `[n, m]`; a gradient flows into a learned table.
        offset: $o_c$, `[n]`, minus infinity for a place that is empty.
        log_tail: logarithm of the mass of the words that are no candidates, 0-dim, to which $L_m(\kappa)$ is added;
            None: there is no tail.
        shift: what is added to each row's loss to make it readable; a number or 0-dim.
    """

    ids: Tensor
    vectors: Tensor
    offset: Tensor
    log_tail: Tensor | None = None
    shift: Tensor | float = 0.0


def candidate_losses(
    prediction: Tensor, ids: Tensor, own: Tensor, own_prior: Tensor | None, candidates: Candidates, smoothing: float
) -> Tensor:
    r"""Return the loss of each row, `[n]`.

    Args:
        prediction: $e$, `[n, m]`.
        ids: each row's target $y$, `[n]`.
        own: its unit vector, `[n, m]`.
        own_prior: $s_y - e \cdot u_y$, `[n]`; None: zero.
        candidates: $C$.
        smoothing: $a$ in [0, 1): $s_y$ becomes $(1 - a) s_y + a \bar s$, $\bar s$ the mean score of the candidates,
            each with its offset left out.
    """
    score = (prediction * own).sum(-1)
    if own_prior is not None:
        score = score + own_prior
    logits = torch.addmm(candidates.offset, prediction, candidates.vectors.T)
    logits = logits.masked_fill_(ids.unsqueeze(1) == candidates.ids, -torch.inf)
    extra = [score.unsqueeze(1)]
    if candidates.log_tail is not None:
        tail = log_partition(prediction.square().sum(-1), prediction.shape[1]) + candidates.log_tail
        extra.append(tail.unsqueeze(1))
    losses = torch.cat([*extra, logits], 1).logsumexp(1)
    if smoothing:
        there = candidates.offset > -torch.inf
        middle = (candidates.vectors * there.unsqueeze(1)).sum(0) / there.sum().clamp_min(1)
        mean = prediction @ middle
        if own_prior is not None:
            mean = mean + own_prior  # a word as frequent as the target: the prior has no part in the smoothing
        score = torch.lerp(score, mean, smoothing)
    return losses - score + candidates.shift
