"""The softmax whose sum over the vocabulary is a formula, up to the words that matter most."""

from typing import Unpack, final

import torch
from torch import Tensor

from thalweg.heads.candidates import NOTHING, AbstractCandidateSoftmax, Candidates, distinct, log_inclusion, num_real
from thalweg.heads.continuous import ContinuousOptions
from thalweg.heads.targets import Targets


@final
class AnalyticSoftmax(AbstractCandidateSoftmax):
    r"""Cross-entropy over unit targets with exact terms for few words and one formula for all others.

    Over vectors spread evenly on the sphere the mean of $e^{e \cdot u}$ is $e^{L_m(\kappa)}$ (`log_partition`), so that

    $$\log Z \approx \log\Big(\sum_{w \in S \cup B \cup \{y\}} p_w^\beta e^{e\cdot u_w} + M\, e^{L_m(\kappa)}\Big),
    \qquad M = \sum_{w \notin S \cup B} p_w^\beta,$$

    with exact terms for a shortlist $S$ of frequent words, for the batch's own targets $B$ and for the row's target
    $y$. The rest costs nothing and has no variance; it is right where the other targets are dispersed, as random ones
    are. Learned targets are not: there the batch's words also stand for the rest, each in proportion to
    $p_w^\beta / \pi_w$ with its inclusion probability $\pi_w$, and `sample_fraction` says how much of it.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors. With `counts` they know $p$; else all words are alike.
        shortlist: number of words that are always exact, the most frequent ones (without counts the first); 0 to V.
        with_batch: whether the batch's own targets are exact in all its rows.
        sample_fraction: in [0, 1], how much of the rest the batch's words stand for (the formula for what remains);
            None: all of it where the table is learned, nothing where it is frozen.
        **options: see `AbstractContinuous`; $\beta$ is `prior`, and label smoothing spreads targets
            over the shortlist and the batch's words (see `AbstractCandidateSoftmax`).

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range (a shortlist longer than the vocabulary), shapes that don't fit, ids out of
            range.

    Example:
        >>> from torch.nn import functional as F
        >>> table = F.normalize(torch.randn(5000, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
        >>> head = AnalyticSoftmax(None, Targets(table), shortlist=0)
        >>> e, y = 8 * table[:2], torch.tensor([0, 1])
        >>> total, _ = head.loss(e, y)
        >>> abs(total.item() - F.cross_entropy(e @ table.T, y, reduction="sum").item()) < 0.05
        True

    Not for widths below about 64, nor for pretrained vectors, which are crowded: use `SampledSoftmax`.
    """

    is_short: Tensor
    short: Tensor

    def __init__(
        self,
        width: int | None,
        targets: Targets,
        *,
        shortlist: int = 512,
        with_batch: bool = True,
        sample_fraction: float | None = None,
        **options: Unpack[ContinuousOptions],
    ) -> None:
        super().__init__(width, targets, **options)
        if not 0 <= shortlist <= targets.num:
            raise ValueError(
                f"AnalyticSoftmax(shortlist=...) must lie in [0, {targets.num}], there are no more words; "
                f"got {shortlist!r}."
            )
        if sample_fraction is not None and not 0.0 <= sample_fraction <= 1.0:
            raise ValueError(f"AnalyticSoftmax(sample_fraction=...) must lie in [0, 1]; got {sample_fraction!r}.")
        self.with_batch = with_batch
        self.sample_fraction = (1.0 if targets.learns else 0.0) if sample_fraction is None else sample_fraction
        self.shortlist = shortlist
        # Both follow from the counts, so a run's weights need not carry them.
        self.register_buffer("short", torch.zeros(0, dtype=torch.long), persistent=False)
        self.register_buffer("is_short", torch.zeros(0, dtype=torch.bool), persistent=False)
        self._keep_up()

    def candidates(self, ids: Tensor, real: Tensor | None = None) -> Candidates:
        """Return the shortlist and the batch's other words, and the mass of all that are neither."""
        self._keep_up()
        words, offset = self.short, self._log_mass(self.short)
        rest = self._total_mass() - offset.exp().sum()
        if self.with_batch:
            own, there = distinct(ids, real, self.targets.num)
            known = self.is_short[own]
            outside = ~known if there is None else ~known & there
            if own.device.type == "cpu":
                own, outside = own[outside], outside[outside]
            mass = self._log_mass(own)
            rest = rest - torch.where(outside, mass.exp(), 0.0).sum()
            if self.sample_fraction:
                mass, rest = self._distribute_rest(own, outside, mass, rest, num_real(ids, real))
            words = torch.cat([words, own])
            offset = torch.cat([offset, torch.where(outside, mass, NOTHING)])
        tiny = torch.finfo(offset.dtype).tiny
        return Candidates(words, offset, rest.clamp_min(tiny).log().to(offset.dtype))

    def _distribute_rest(
        self, own: Tensor, outside: Tensor, mass: Tensor, rest: Tensor, num: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let the batch's words, if any, represent a part of the rest; return their masses and what remains."""
        log_prior = self.targets.log_prior
        weight = mass if log_prior is None else mass - log_inclusion(log_prior[own], num)
        weight = torch.where(outside, weight, NOTHING)
        any_outside = outside.any()
        part = torch.where(any_outside, self.sample_fraction, 0.0) * rest.clamp_min(0.0)
        fractions = torch.softmax(weight, 0) if len(weight) else weight
        return torch.log(mass.exp() + part * fractions), rest - part

    def _choose(self) -> None:
        device, prior = self.concentration.device, self.targets.log_prior
        words = torch.arange(self.targets.num, device=device)
        if prior is not None:
            words = prior.argsort(descending=True, stable=True)
        self.short = words[: self.shortlist].clone()
        self.is_short = torch.zeros(self.targets.num, dtype=torch.bool, device=words.device)
        self.is_short[self.short] = True

    def _log_mass(self, words: Tensor) -> Tensor:
        """The logarithm of the weight of words in the sum, `[n]`."""
        prior = self.targets.log_prior
        if prior is None:
            return torch.zeros(len(words), device=words.device)
        return self.prior * prior[words]

    def _total_mass(self) -> Tensor | float:
        """The sum of all words' weights; a number of its own for each table."""
        prior = self.targets.log_prior
        if prior is None:
            return float(self.targets.num)
        return 1.0 if self.prior == 1.0 else (self.prior * prior).exp().sum()
