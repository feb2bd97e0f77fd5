r"""The softmax over some words that stand for all: its value row by row, and its curvature.

$$\log \hat Z = \log\Big( e^{s_y} + \sum_{c \in C,\, c \ne y} e^{e \cdot u_c + o_c} + e^{t(\kappa^2)} \Big),
\qquad \ell = \log \hat Z - s_y$$

The candidates $C$ are shared by all rows. The offset $o_c$ holds the word's prior and how many words it stands for; a
candidate that is the row's own target (an accidental hit, a false negative) is left out of the sum, and the target
itself is exact. The tail $t$ depends on the prediction's length alone.
"""

import abc
import dataclasses
import math
from typing import Unpack, final

import torch
from torch import Tensor, nn

from thalweg import distributed, noise
from thalweg.heads.bessel import log_partition
from thalweg.heads.continuous import AbstractContinuous, ContinuousOptions
from thalweg.heads.targets import Targets

# The logarithm of nothing, finite so that no difference of infinities can occur.
NOTHING = -1e30
MAX_MATRIX = 2**24  # numbers held at once for curvature roots: 64 MB in float32


@final
@dataclasses.dataclass(frozen=True)
class Candidates:
    """Words that all rows compare with."""

    ids: Tensor
    offset: Tensor
    log_tail: Tensor | None = None
    shift: Tensor | float = 0.0


class AbstractCandidateSoftmax(AbstractContinuous):
    r"""A cross-entropy over the vocabulary whose sum is estimated from candidates; a subclass chooses them.

    Label smoothing $a$ spreads a target over the candidates, all of them alike: $-s_y$ becomes
    $-(1 - a) s_y - a \cdot \mathrm{mean}_{c \in C} s_c$. Candidates come as often as they are frequent, so this is
    smoothing towards the words' frequencies rather than towards all words alike, which it is where all take part.
    """

    default_prior = 1.0
    takes_smoothing = True

    def __init__(self, width: int | None, targets: Targets, **options: Unpack[ContinuousOptions]) -> None:
        super().__init__(width, targets, **options)
        self._chosen_for: Tensor | None = None
        self._is_checked = False
        self.register_load_state_dict_post_hook(_forget_check)

    @property
    @final
    def chance(self) -> float:
        """The loss of a prediction of zero length where the targets know no counts: log V."""
        return math.log(self.targets.num)

    @abc.abstractmethod
    def candidates(self, ids: Tensor, real: Tensor | None = None) -> Candidates:
        """Return the words to compare a batch with, a function of its `real` targets `[n]` (None: all are)."""

    def _choose(self) -> None:
        """Choose what follows from the words' frequencies once for all batches."""

    @final
    def _keep_up(self) -> None:
        """Choose again if the frequencies have changed since: weights were loaded, or words were added."""
        prior, known = self.targets.log_prior, self._chosen_for
        if known is not None and len(known) == self.targets.num:
            self._is_checked = self._is_checked or prior is None or torch.equal(prior.detach().cpu(), known)
            if self._is_checked:
                return
        self._choose()
        self._chosen_for = torch.empty(self.targets.num) if prior is None else prior.detach().cpu().clone()
        self._is_checked = known is not None  # weights may be put in after the head is made

    @final
    def row_losses(self, prediction: Tensor, ids: Tensor, candidates: Candidates) -> Tensor:
        """Return the loss `[n]` of predictions `[n, m]` with targets `[n]` and candidates of your own."""
        vectors, _, logits, score = self._compare(prediction, ids, candidates)
        parts = [score]
        if len(vectors):
            parts.append(logits.logsumexp(1))
        if candidates.log_tail is not None:
            square = prediction.square().sum(-1)
            parts.append(log_partition(square, prediction.shape[1]) + candidates.log_tail.to(prediction.dtype))
        log_sum = torch.stack(parts).logsumexp(0)
        if self.label_smoothing:
            there, prior = (candidates.offset > 0.5 * NOTHING).to(vectors.dtype), self._log_prior(prediction.dtype)
            share = there / there.sum().clamp_min(1.0)
            mean = prediction @ (share @ vectors)
            if prior is not None:
                mean = mean + share @ prior[candidates.ids]
            score = torch.lerp(score, mean, self.label_smoothing)
        return log_sum - score + candidates.shift

    @final
    def _losses(self, prediction: Tensor, ids: Tensor, real: Tensor | None) -> Tensor:
        return self.row_losses(prediction, ids, self.candidates(*everyones(ids, real, self)))

    def _compare(
        self, prediction: Tensor, ids: Tensor, candidates: Candidates
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The vectors of candidates and of targets, the candidates' logits `[n, candidates]`, the targets' scores."""
        # In one look: the gradient of a learned table is made once.
        vectors = self.targets(torch.cat([candidates.ids, ids])).to(prediction.dtype)
        vectors, own = vectors[: len(candidates.ids)], vectors[len(candidates.ids) :]
        score, prior = (prediction * own).sum(-1), self._log_prior(prediction.dtype)
        if prior is not None:
            score = score + prior[ids]
        logits = torch.addmm(candidates.offset.to(prediction.dtype), prediction, vectors.T)
        return vectors, own, logits.masked_fill_(ids.unsqueeze(1) == candidates.ids, NOTHING), score

    @torch.no_grad()
    def _curvature(self, prediction: Tensor, ids: Tensor, real: Tensor | None, v: Tensor, root: bool) -> Tensor:
        covariance = self._covariance(prediction, ids, self.candidates(*everyones(ids, real, self)))
        if not root:
            return covariance.product(v)
        size = max(1, MAX_MATRIX // (prediction.shape[1] * (len(covariance.vectors) + 3 * prediction.shape[1])))
        parts = [covariance.rows(i, i + size).root(v[..., i : i + size, :]) for i in range(0, len(ids), size)]
        return torch.cat(parts, -2) if parts else v

    def _covariance(self, prediction: Tensor, ids: Tensor, candidates: Candidates) -> "_Covariance":
        vectors, own, logits, score = self._compare(prediction, ids, candidates)
        square = prediction.square().sum(-1)
        with torch.enable_grad():
            q = square.detach().requires_grad_()
            tail = log_partition(q, prediction.shape[1])
            (slope,) = torch.autograd.grad(tail.sum(), q, create_graph=True)
            (second,) = torch.autograd.grad(slope.sum(), q)
        tail, slope = tail.detach(), slope.detach()
        tail = tail + (NOTHING if candidates.log_tail is None else candidates.log_tail.to(tail.dtype))
        p = torch.softmax(torch.cat([logits, score.unsqueeze(1), tail.unsqueeze(1)], 1), 1)
        return _Covariance(vectors, own, prediction, p[:, :-2], p[:, -2:-1], p[:, -1:], slope, second)


@final
@dataclasses.dataclass(frozen=True)
class _Covariance:
    r"""The curvature of the estimated logarithm of the sum: the covariance of the vectors, and the tail's own.

    $$H = \sum_c p_c u_c u_c^\top + p_y u_y u_y^\top + p_t (g g^\top + T) - \mu \mu^\top,$$

    with $g = 2 t' e$, $T = 2 t' I + 4 t'' e e^\top$ and $\mu = \sum_c p_c u_c + p_y u_y + p_t g$.
    """

    vectors: Tensor  # [n, m]
    own: Tensor  # [rows, m]
    prediction: Tensor  # [rows, m]
    p: Tensor  # [rows, n]
    p_own: Tensor  # [rows, 1]
    p_tail: Tensor  # [rows, 1]
    slope: Tensor  # [rows]
    second: Tensor  # [rows]

    def rows(self, start: int, stop: int) -> "_Covariance":
        """The same for some rows."""
        names = (field.name for field in dataclasses.fields(self) if field.name != "vectors")
        return dataclasses.replace(self, **{name: getattr(self, name)[start:stop] for name in names})

    def mean(self) -> Tensor:
        """The mean of the vectors, `[rows, m]`."""
        pull = 2.0 * self.slope.unsqueeze(1) * self.prediction
        return self.p @ self.vectors + self.p_own * self.own + self.p_tail * pull

    def along(self) -> Tensor:
        """What the tail's part of the curvature has along the prediction, `[rows, 1]`."""
        return self.p_tail * (4.0 * self.slope.square() + 4.0 * self.second).unsqueeze(1)

    def product(self, v: Tensor) -> Tensor:
        """Return `H v`."""
        result = (self.p * (v @ self.vectors.T)) @ self.vectors
        result += self.p_own * (v * self.own).sum(-1, keepdim=True) * self.own
        result += self.along() * (v * self.prediction).sum(-1, keepdim=True) * self.prediction
        result += 2.0 * self.p_tail * self.slope.unsqueeze(1) * v
        mean = self.mean()
        return result - (v * mean).sum(-1, keepdim=True) * mean

    def root(self, v: Tensor) -> Tensor:
        """Return the symmetric root of `H` times `v`, from the eigenvectors of each row's matrix."""
        weighted = self.p.unsqueeze(-1) * self.vectors  # [rows, n, m]
        dense = weighted.transpose(1, 2) @ self.vectors
        dense += _outer(self.own, self.p_own) + _outer(self.prediction, self.along())
        mean = self.mean()
        dense -= _outer(mean, torch.ones_like(self.p_own))
        dense.diagonal(dim1=1, dim2=2).add_(2.0 * self.p_tail * self.slope.unsqueeze(1))
        values, turn = torch.linalg.eigh(dense)
        inside = (v.unsqueeze(-2) @ turn).squeeze(-2) * values.clamp_min(0.0).sqrt()
        return (turn @ inside.unsqueeze(-1)).squeeze(-1)


def _forget_check(head: AbstractCandidateSoftmax, _: object) -> None:
    head._is_checked = False


def _outer(vectors: Tensor, weights: Tensor) -> Tensor:
    return (weights * vectors).unsqueeze(2) * vectors.unsqueeze(1)


def everyones(ids: Tensor, real: Tensor | None, module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return the targets of a batch, those of its rows that other processes train on among them; and which are real."""
    if not (module.training and distributed.is_active()):
        return ids, real
    return distributed.gather_rows(ids if real is None else ids[real]), None


def distinct(ids: Tensor, real: Tensor | None, num: int) -> tuple[Tensor, Tensor | None]:
    """Return the different ids of a batch, and which of them are real (None: all).

    On the CPU each id comes once. Elsewhere the result is as long as the batch, so that nothing waits for the device.
    """
    if ids.device.type == "cpu":
        return torch.unique(ids if real is None else ids[real]), None
    return _first_places(ids, real, num)


def _first_places(ids: Tensor, real: Tensor | None, num: int) -> tuple[Tensor, Tensor]:
    ordered = (ids if real is None else torch.where(real, ids, num)).sort().values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    first &= ordered < num
    return torch.where(first, ordered, 0), first


def fraction_of(ids: Tensor, real: Tensor | None, seed: int) -> Tensor:
    """Return a number in [0, 1) that depends on which targets a batch has, not on their order; float64, 0-dim.

    Draws that start from it are random over batches, and yet the loss is a function of the batch: a line search, a
    curvature product and a resumed run see the same words.
    """
    each = noise.scattered(ids + 1)
    total = (each if real is None else torch.where(real, each, 0)).sum()
    return (noise.scattered(total + seed) & (2**52 - 1)).double() / 2**52


def log_inclusion(log_fraction: Tensor, num: Tensor) -> Tensor:
    r"""Return $\log(1 - (1 - p)^N)$ for $\log p$: the log-probability of being among $N$ draws."""
    return torch.log(-torch.expm1(num * torch.log1p(-log_fraction.exp())))


def num_real(ids: Tensor, real: Tensor | None) -> Tensor:
    """How many are real, a 0-dim float32."""
    if real is None:
        return torch.full((), float(len(ids)), device=ids.device)
    return real.sum().float()
