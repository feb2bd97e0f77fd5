"""Softmax over few words that stand for all: the batch's own targets, or words that are drawn."""

from collections.abc import Callable
from typing import Self, Unpack, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.errors import require
from thalweg.heads.candidates import (
    NOTHING,
    AbstractCandidateSoftmax,
    Candidates,
    distinct,
    fraction_of,
    log_inclusion,
    num_real,
)
from thalweg.heads.continuous import ContinuousOptions
from thalweg.heads.targets import Targets


@final
class Contrastive(AbstractCandidateSoftmax):
    r"""Contrast with the targets of the same batch (contrastive weight tying), for targets that are learned.

    Each row's target $y$ competes with the batch's other words, each once, and never with itself:

    $$\ell = \log\Big(e^{s_y} + \sum_{c \in B,\, c \ne y} \frac{e^{s_c}}{\pi_c}\Big) - s_y, \qquad
    s_w = e \cdot u_w + \beta \log p_w,$$

    where $\pi_c = 1 - (1 - p_c)^N$ is the probability that a word with the fraction $p_c$ of the training data is among
    $N$ targets. With it the sum is unbiased for that over the whole vocabulary, and the loss an estimate of the
    softmax's. Without counts all words are taken to be equally frequent.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors; trainable, as a rule. With `counts` they know $p$.
        correct: whether to divide by $\pi$; False gives the published loss, without duplicates and false negatives,
            plus log(V / words in the batch) to be readable.
        **options: see `AbstractContinuous`; $\beta$ is `prior`, and label smoothing spreads targets
            over the words that take part, which are frequent ones (see `AbstractCandidateSoftmax`).

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range, shapes that don't fit, ids out of range.

    The candidates are the real targets of one call of `loss`: two halves of a batch are compared with fewer words than
    the whole, so sums over micro-batches are not those over the whole batch. `curvature_product` is the curvature of
    the estimate in the prediction: the covariance of the candidates' vectors under the estimated probabilities.

    Example:
        >>> head = Contrastive(None, Targets(torch.eye(4)))
        >>> total, count = head.loss(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
        >>> round((total / count).exp().item(), 4)
        4.0

    Source: Godey, de la Clergerie, Sagot (2024), Headless Language Models: Learning without Predicting with Contrastive
    Weight Tying. Inclusion probabilities: Horvitz, Thompson (1952).

    Not for batches of few different words: use `SampledSoftmax`, which draws others.
    """

    def __init__(
        self, width: int | None, targets: Targets, *, correct: bool = True, **options: Unpack[ContinuousOptions]
    ) -> None:
        if not correct:
            options["prior"] = 0.0
        super().__init__(width, targets, **options)
        self.correct = correct

    def candidates(self, ids: Tensor, real: Tensor | None = None) -> Candidates:
        """Return the batch's different words, and for how many each stands."""
        words, there = distinct(ids, real, self.targets.num)
        num_words = num_real(words, there)
        log_prior = self.targets.log_prior
        shift: Tensor | float = 0.0
        if not self.correct:
            offset = torch.zeros(len(words), device=words.device)
            shift = self.chance - num_words.clamp_min(1.0).log()
        elif log_prior is None:
            others = torch.log((self.targets.num - 1.0) / (num_words - 1.0).clamp_min(1.0))
            offset = others.expand(len(words))
        else:
            log_p = log_prior[words]
            offset = self.prior * log_p - log_inclusion(log_p, num_real(ids, real))
        if there is not None:
            offset = torch.where(there, offset, NOTHING)
        return Candidates(words, offset, shift=shift)


@final
class SampledSoftmax(AbstractCandidateSoftmax):
    r"""The softmax over drawn words, whose sum is unbiased for the whole vocabulary; its logarithm is not.

    $$\ell = \log\Big(e^{s_y} + \sum_{c \in S,\, c \ne y} \frac{e^{s_c}}{\pi_c}\Big) - s_y, \qquad
    s_w = e \cdot u_w + \beta \log p_w$$

    The words $S$ are shared by all rows, all different, and drawn with inclusion probabilities
    $\pi_w = \min(1, c\, p_w^a)$: the most frequent words always. They depend on the batch's targets, so the loss
    is a function of the batch and yet the words are others in each. A word that is a row's own target is left out of
    its sum (accidental hit).

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors, frozen or trainable. With `counts` they know $p$; else all are alike.
        num_samples: words that are drawn, from 1 to V; V makes the sum exact.
        power: $a$ in [0, 1]: 1 draws words as often as they occur.
        with_batch: whether the batch's own targets are candidates as well, with the inclusion probability
            $1 - (1 - \pi_w)(1 - p_w)^N$.
        seed: other words for the same batch.
        **options: see `AbstractContinuous`; $\beta$ is `prior`, and label smoothing spreads targets
            over the words that take part, which are frequent ones (see `AbstractCandidateSoftmax`).

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range (more samples than words), shapes that don't fit, ids out of range.

    Example:
        >>> head = SampledSoftmax(None, Targets(torch.eye(4)), num_samples=2)
        >>> total, count = head.loss(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
        >>> head.candidates(torch.tensor([0, 1, 2])).ids.shape
        torch.Size([2])

    Source: Bengio, Senécal (2008), Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic
    Language Model; Jean, Cho, Memisevic, Bengio (2015), On Using Very Large Target Vocabulary for Neural Machine
    Translation. Inclusion probabilities: Horvitz, Thompson (1952).

    Not where all words cost little: use `Softmax`.
    """

    sampler: "InclusionSampler"

    def __init__(
        self,
        width: int | None,
        targets: Targets,
        *,
        num_samples: int = 1024,
        power: float = 1.0,
        with_batch: bool = False,
        seed: int = 0,
        **options: Unpack[ContinuousOptions],
    ) -> None:
        super().__init__(width, targets, **options)
        self.num_samples = num_samples
        self.power = power
        self.with_batch = with_batch
        self.seed = seed
        self._keep_up()

    def candidates(self, ids: Tensor, real: Tensor | None = None) -> Candidates:
        """Return the words drawn for this batch, and for how many each stands."""
        self._keep_up()
        words = self.sampler(fraction_of(ids, real, self.seed))
        there: Tensor | None = None
        log_p = self._log_frequencies()
        log_weights = self.sampler.log_weights.to(ids.device)
        if self.with_batch:
            present = None if real is None else torch.cat([torch.ones_like(words, dtype=torch.bool), real])
            words, there = distinct(torch.cat([words, ids]), present, self.targets.num)
            drawn = log_weights[words].neg().exp().clamp(max=1.0)
            missed = (1.0 - drawn) * torch.exp(num_real(ids, real) * torch.log1p(-log_p[words].exp()))
            log_weights = -torch.log1p(-missed)
        else:
            log_weights = log_weights[words]
        offset = log_weights if self.targets.log_prior is None else log_weights + self.prior * log_p[words]
        if there is not None:
            offset = torch.where(there, offset, NOTHING)
        return Candidates(words, offset)

    def _log_frequencies(self) -> Tensor:
        """The logarithm of each word's fraction of the training data, `[V]`."""
        log_prior = self.targets.log_prior
        if log_prior is not None:
            return log_prior
        return torch.full((self.targets.num,), -self.chance, device=self.concentration.device)

    def _choose(self) -> None:
        frequencies = self._log_frequencies().double().exp()
        sampler = InclusionSampler(frequencies, self.num_samples, power=self.power)
        self.sampler = sampler.to(frequencies.device)


@final
class InclusionSampler(nn.Module):
    r"""Draws `num` different words with prescribed inclusion probabilities, and the weights that make sums unbiased.

    With word frequencies $f_w > 0$ `[V]`, in any unit, the probability that word $w$ is drawn is

    $$\pi_w = \min(1, c f_w^a), \qquad \sum_w \pi_w = n,$$

    so frequent words are drawn every time (a shortlist that nobody has to choose) and the others in proportion to
    $f_w^a$; $a$ is `power` in [0, 1]. The sum of $x_w / \pi_w$ over the drawn words has the mean $\sum_w x_w$; with
    $x_w = \exp(s_w)$ that is the sum under a softmax, from $n$ words instead of all. `log_weights` is $-\log \pi_w$,
    `[V]`.

    The draw is systematic: the words lie in order of frequency on a line, each with a length $\pi_w$, and $n$ points
    one apart fall on it from one random start. So every draw has exactly `num` different words, costs
    $O(n \log V)$, waits for no device, and neighbors in frequency stand for each other, which lowers the variance.

    Sources: Horvitz, Thompson, "A Generalization of Sampling Without Replacement From a Finite Universe" (1952);
    Madow, "On the Theory of Systematic Sampling, II" (1949).
    """

    log_weights: Tensor
    sure: Tensor
    rest: Tensor
    reach: Tensor

    def __init__(self, frequencies: Tensor, num: int, *, power: float = 1.0) -> None:
        super().__init__()
        require(num >= 1, "InclusionSampler(num=...) must be at least 1", num)
        f = frequencies.detach().double().cpu().numpy()
        if f.ndim != 1 or not (np.isfinite(f).all() and (f > 0).all()):
            raise ValueError("InclusionSampler(frequencies=...) must be a vector of positive, finite numbers.")
        if num > len(f):
            raise ValueError(
                f"InclusionSampler(num={num}) draws different words, and there are {len(f)}; give a smaller num."
            )
        require(0.0 <= power <= 1.0, "InclusionSampler(power=...) must lie in [0, 1]", power)
        order = np.argsort(-f, kind="stable")
        probabilities, num_sure = _probabilities(f[order] ** power, num)
        self.num = num
        inclusion = np.empty_like(f)
        inclusion[order] = probabilities
        reach = np.cumsum(probabilities[num_sure:])
        if len(reach):
            reach *= (num - num_sure) / reach[-1]  # ends at a whole number, whatever the sum was rounded to
        # All of them follow from the frequencies, so a run's weights need not carry them.
        self.register_buffer("log_weights", torch.from_numpy(-np.log(inclusion)).float(), persistent=False)
        self.register_buffer("sure", torch.from_numpy(order[:num_sure].copy()), persistent=False)
        self.register_buffer("rest", torch.from_numpy(order[num_sure:].copy()), persistent=False)
        self.register_buffer("reach", torch.from_numpy(reach), persistent=False)

    def forward(self, start: Tensor) -> Tensor:
        """Draw ids `[num]`, all different; `start`, 0-dim in [0, 1), says where the first point falls."""
        num_drawn = self.num - len(self.sure)
        if num_drawn == 0:
            return self.sure
        points = torch.arange(num_drawn, device=self.reach.device) + start
        places = torch.searchsorted(self.reach, points, right=True).clamp_(max=len(self.rest) - 1)
        return torch.cat([self.sure, self.rest[places]])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move with the module, but keep the numbers' own types, whatever type the model takes."""
        exact = self.reach, self.log_weights
        super()._apply(fn, recurse)
        self.reach, self.log_weights = (tensor.to(self.rest.device) for tensor in exact)
        return self


def _probabilities(f: np.ndarray, num: int) -> tuple[np.ndarray, int]:
    """Return min(1, c f) with the sum `num` for falling `f`, and how many of them are 1."""
    tails = f[::-1].cumsum()[::-1]
    sure = np.arange(min(num, len(f)))
    # With the first k taken for sure, c = (num - k) / (sum of the rest); k is right once c f_k <= 1.
    fits = (num - sure) * f[: len(sure)] <= tails[: len(sure)]
    num_sure = int(np.argmax(fits)) if fits.any() else num
    if num_sure >= num:
        return np.where(np.arange(len(f)) < num, 1.0, 0.0), num
    probabilities = np.ones_like(f)
    probabilities[num_sure:] = (num - num_sure) * f[num_sure:] / tails[num_sure]
    return probabilities, num_sure
