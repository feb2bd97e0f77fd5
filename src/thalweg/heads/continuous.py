r"""What all continuous outputs have in common: the network predicts a vector, and each word has a target vector.

The output layer costs O(width of the vectors) for each target instead of O(vocabulary). Conventions, beside those of
`thalweg.heads.base`:

=============  ==================  ==========================================================================
prediction     `[..., m]`          $e$, of any length; $\kappa = \lVert e\rVert$, $\theta$ its angle to a target
targets        `[...]`             ids of words $y$; their vectors $u_y$ have length 1
scores         `[..., V]`          unnormalized log-probabilities of all words, from $e\cdot u_w$ and $\kappa$
=============  ==================  ==========================================================================

Losses are readable. Those of a distribution over the vocabulary estimate the cross-entropy in nats: about $\log V$ at
the start. All others are 0 where the prediction says nothing, and negative where it is better than that: the value in
the literature minus the value of a prediction orthogonal to everything.
"""

import abc
import dataclasses
import math
from typing import ClassVar, TypedDict, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from thalweg.errors import require
from thalweg.heads.base import AbstractHead, expand_to, masked, upcast
from thalweg.heads.dispersion import Dispersion, dispersion_of
from thalweg.heads.neighbors import block_size, log_normalizer, rank
from thalweg.heads.targets import Targets

_CALIBRATION_STEPS = 60
_LEAST, _MOST = 1e-6, 1e6  # concentrations
_MAX_SCORES = 2**22  # scores held at once in calibration


@final
@dataclasses.dataclass(frozen=True)
class Rows:
    """Predictions and targets one below the other, ready to be summed."""

    prediction: Tensor
    ids: Tensor
    factor: Tensor
    real: Tensor | None


class ContinuousOptions(TypedDict, total=False):
    """What every head with continuous outputs takes beside width and targets: see `AbstractContinuous`."""

    bias: bool
    ignore_index: int
    concentration: float | None
    prior: float | None
    label_smoothing: float


class AbstractContinuous(AbstractHead):
    r"""A linear layer whose output is compared with the target vectors of words.

    Subclasses write the loss of single rows, its curvature, and how scores follow from inner products. Every head takes
    the arguments below; one with arguments of its own passes the others on as `**options`.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors `[V, m]`.
        bias: whether the layer has one.
        ignore_index: target that counts as masked.
        concentration: factor $c$ of the scores before they become probabilities, positive (`calibrate` finds the best);
            it has no part in the loss. None: 1 where the loss is a likelihood, else $2 \log V$, with which a word that
            is predicted exactly is likely among the $V$.
        prior: $\beta$ in the scores $s_w = \dots + \beta \log p_w$ with the words' fractions $p_w$ of the training data
            (`targets.log_prior`), not negative; of no effect where the targets know no counts. None: 1 for
            cross-entropies over words, else 0.
        label_smoothing: $a$ in [0, 1), the fraction of a target that is spread over the words that it is compared
            with; only for losses that have a mean over words.

    Raises:
        ValueError: an argument out of its range; in use: shapes that don't fit, ids out of range.
    """

    default_prior: ClassVar[float] = 0.0
    """The prior where none is given."""
    is_likelihood: ClassVar[bool] = True
    r"""Whether the loss says how sure a prediction is; else the concentration begins at $2 \log V$."""
    takes_smoothing: ClassVar[bool] = False
    """Whether label smoothing has a meaning."""

    concentration: Tensor

    def __init__(
        self,
        width: int | None,
        targets: Targets,
        *,
        bias: bool = True,
        ignore_index: int = -100,
        concentration: float | None = None,
        prior: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if concentration is None:
            concentration = 1.0 if self.is_likelihood else 2.0 * math.log(max(targets.num, 2))
        prior = self.default_prior if prior is None else prior
        if not (math.isfinite(concentration) and concentration > 0.0):
            raise ValueError(f"{name}(concentration=...) must be positive and finite; got {concentration!r}.")
        require(math.isfinite(prior) and prior >= 0.0, f"{name}(prior=...) must be zero or positive", prior)
        require(0.0 <= label_smoothing < 1.0, f"{name}(label_smoothing=...) must lie in [0, 1)", label_smoothing)
        if label_smoothing and not self.takes_smoothing:
            raise ValueError(
                f"{name} has no distribution over words, so there is nothing to smooth; got label smoothing "
                f"{label_smoothing:g}, give 0."
            )
        self.targets = targets
        self.ignore_index = ignore_index
        self.prior = prior
        self.label_smoothing = label_smoothing
        self.output = nn.Identity() if width is None else nn.Linear(width, targets.width, bias=bias)
        self.register_buffer("concentration", torch.tensor(concentration))

    @property
    def chance(self) -> float:
        """The loss of a prediction that says nothing: 0, or log V where the loss is a cross-entropy over words."""
        return 0.0

    @abc.abstractmethod
    def _losses(self, prediction: Tensor, ids: Tensor, real: Tensor | None) -> Tensor:
        """Return the loss of each row, `[n]`; rows that are not real are zero and must not influence others."""

    @abc.abstractmethod
    def _curvature(self, prediction: Tensor, ids: Tensor, real: Tensor | None, v: Tensor, root: bool) -> Tensor:
        """Return each row's curvature (its positive semidefinite part), or a root of it, times `v` `[..., n, m]`."""

    def _scores(self, dots: Tensor, square: Tensor) -> Tensor:
        """Return scores before concentration and prior from inner products `[..., words]` and squares `[..., 1]`."""
        del square
        return dots

    @final
    def forward(self, hidden: Tensor) -> Tensor:
        """Return the predicted vectors `[..., m]`."""
        return self.output(hidden)

    @final
    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss and the number of real targets, or the sum of their weights."""
        self._check_width(prediction)
        with torch.autocast(prediction.device.type, enabled=False):
            rows = self._rows(prediction, targets, mask, weights, drop=prediction.device.type == "cpu")
            total = (masked(rows.real, self._losses(rows.prediction, rows.ids, rows.real)) * rows.factor).sum()
            count = rows.factor.sum()
            penalty = self.targets.penalty()
            if penalty is not None:
                total = total + count * penalty
        return total, count

    @final
    def loss_from_hidden(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what `loss(self(hidden), ...)` returns; on the CPU masked rows are left out before the layer."""
        if mask is None or hidden.device.type != "cpu":
            return self.loss(self(hidden), targets, mask, weights)
        self._check_ids(hidden.shape[:-1], targets)
        mask = expand_to(mask, targets.shape, "mask")
        places = mask.reshape(-1).nonzero().squeeze(1)
        weights = None if weights is None else expand_to(weights, targets.shape, "weights").reshape(-1)[places]
        hidden = hidden.reshape(-1, hidden.shape[-1]).index_select(0, places)
        return self.loss(self(hidden), targets.reshape(-1)[places], None, weights)

    @final
    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return `H v`, `H` the positive semidefinite part of the second derivative in the prediction, row by row."""
        return self._curved(prediction, targets, mask, v, weights, root=False)

    @final
    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return `S v` with `S S^T` = `H` of `curvature_product`; `S` is symmetric."""
        return self._curved(prediction, targets, mask, v, weights, root=True)

    @final
    def scores(self, prediction: Tensor, ids: Tensor | None = None) -> Tensor:
        """Return unnormalized log-probabilities.

        Args:
            prediction: `[..., m]`.
            ids: words of each prediction, `[..., n]`; None: all words.

        Returns:
            `[..., n]` or `[..., V]`, float32 at least.
        """
        self._check_width(prediction)
        if ids is None:
            return self._block_scores(prediction, 0, self.targets.num)
        with torch.autocast(prediction.device.type, enabled=False):
            prediction = upcast(prediction)
            vectors = self.targets(ids).to(prediction.dtype)
            dots = (vectors @ prediction.unsqueeze(-1)).squeeze(-1)
            prior = self._log_prior(prediction.dtype)
            return self._scaled(dots, prediction, None if prior is None else prior[ids])

    @final
    def log_probability(self, prediction: Tensor, targets: Tensor) -> Tensor:
        """Return the exact log-probability of each target, normalized over the whole vocabulary, `[...]`.

        The scores of all words never exist at once: blocks of the vocabulary, unless a gradient is wanted.
        """
        self._check_width(prediction)
        self._check_ids(prediction.shape[:-1], targets)
        flat = prediction.reshape(-1, prediction.shape[-1])
        ids = targets.reshape(-1)
        ids = torch.where((ids >= 0) & (ids < self.targets.num), ids, 0)
        own = self.scores(flat, ids.unsqueeze(-1)).squeeze(-1)
        size = block_size(len(flat))
        normalizer = log_normalizer(lambda a, b: self._block_scores(flat, a, b), self.targets.num, size)
        return (own - normalizer).reshape(targets.shape)

    @final
    def decode(self, prediction: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the `k` best words and their exact log-probabilities, best first."""
        self._check_width(prediction)
        flat = prediction.reshape(-1, prediction.shape[-1])
        ids, values = rank(lambda a, b: self._block_scores(flat, a, b), self.targets.num, k, block_size(len(flat)))
        shape = (*prediction.shape[:-1], ids.shape[-1])
        return ids.reshape(shape), values.reshape(shape)

    @final
    @override
    def log_probabilities(self, prediction: Tensor) -> Tensor:
        return torch.log_softmax(self.scores(prediction), -1)

    @final
    def after_step(self) -> None:
        """Let slow targets follow the embedding."""
        self.targets.after_step()

    @final
    def figures(self) -> dict[str, float]:
        """Return how widely the words' vectors are dispersed (`Dispersion`), and the concentration."""
        return {**self._dispersion().figures(), "concentration": float(self.concentration)}

    @final
    def notes(self) -> list[str]:
        """Warn where the words' vectors have collapsed."""
        return self._dispersion().warnings()

    def _dispersion(self) -> Dispersion:
        return dispersion_of(self.targets(self.targets.words()).detach())

    @final
    @torch.no_grad()
    def calibrate(self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None) -> float:
        r"""Set `concentration` to what makes the exact log-probability of held-out targets largest, and return it.

        The log-likelihood is concave in the concentration $c$ for scores $c f_w + \beta \log p_w$. Newton's method
        between bounds finds where its derivative is zero, the mean of $f_y - \sum_w p_w f_w$. The losses of some
        families (cosine, margins) say nothing about it; for those that do it is near 1.

        Args:
            prediction: `[..., m]`, a few thousand predictions.
            targets: ids `[...]`.
            mask: True where a target is real.

        Raises:
            ValueError: there is no real target.
        """
        self._check_width(prediction)
        rows = self._rows(prediction, targets, mask, None, drop=True)
        if not len(rows.ids):
            raise ValueError(f"{type(self).__name__}.calibrate needs at least one real target; got none.")
        low, high = 0.0, math.inf
        here = float(self.concentration)
        for _ in range(_CALIBRATION_STEPS):
            with torch.autocast(prediction.device.type, enabled=False):
                slope, variance = self._slope(rows, here)
            low, high = (here, high) if slope > 0.0 else (low, here)
            new = here + slope / variance if variance > 0.0 else math.inf
            if not low < new < high:
                new = 2.0 * low if math.isinf(high) else 0.5 * (low + high)
            change, here = abs(new - here), min(max(new, _LEAST), _MOST)
            if change <= 1e-4 * here or here in (_LEAST, _MOST):
                break
        self.concentration.fill_(here)
        return float(self.concentration)

    def _slope(self, rows: Rows, concentration: float) -> tuple[float, float]:
        """The first derivative of the mean log-probability with respect to the concentration, and minus the second.

        Minus the second is the variance of the scores under the predicted probabilities.
        """
        prediction, prior = rows.prediction, self._log_prior(rows.prediction.dtype)
        table = self.targets.table().to(prediction.dtype)
        sums = torch.zeros(2, dtype=torch.float64 if prediction.device.type == "cpu" else prediction.dtype)
        sums = sums.to(prediction.device)
        size = max(1, _MAX_SCORES // len(table))
        for start in range(0, len(prediction), size):
            part = prediction[start : start + size]
            bare = self._scores(part @ table.T, part.square().sum(-1, keepdim=True))
            own = bare.gather(-1, rows.ids[start : start + size].unsqueeze(-1)).squeeze(-1)
            p = torch.softmax(concentration * bare if prior is None else concentration * bare + prior, -1)
            mean = (p * bare).sum(-1)
            variance = (p * (bare - mean.unsqueeze(-1)).square()).sum(-1)
            sums += torch.stack([(own - mean).sum(), variance.sum()])
        first, second = (sums / len(prediction)).tolist()
        return first, second

    def _block_scores(self, prediction: Tensor, start: int, stop: int) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            prediction = upcast(prediction)
            dots = prediction @ self.targets.block(start, stop).to(prediction.dtype).T
            prior = self._log_prior(prediction.dtype)
            return self._scaled(dots, prediction, None if prior is None else prior[start:stop])

    def _scaled(self, dots: Tensor, prediction: Tensor, prior: Tensor | None) -> Tensor:
        scores = self._scores(dots, prediction.square().sum(-1, keepdim=True))
        scores = scores * self.concentration.to(scores.dtype)
        return scores if prior is None else scores + prior

    def _log_prior(self, dtype: torch.dtype) -> Tensor | None:
        """The prior as it enters the scores, `[V]`; None where there is none."""
        prior = self.targets.log_prior
        return None if prior is None or self.prior == 0.0 else self.prior * prior.to(dtype)

    def _rows(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor | None, *, drop: bool
    ) -> Rows:
        """Return what counts, flat; with `drop` only the real rows, which needs to look at the device."""
        shape = prediction.shape[:-1]
        self._check_ids(shape, targets)
        prediction = upcast(prediction).reshape(-1, prediction.shape[-1])
        ids = targets.reshape(-1).long()
        real = ids != self.ignore_index
        if mask is not None:
            real = real & expand_to(mask, shape, "mask").reshape(-1)
        factor = None if weights is None else expand_to(weights.to(prediction.dtype), shape, "weights").reshape(-1)
        if drop:
            if not bool(real.all()):
                places = real.nonzero().squeeze(1)
                prediction, ids = prediction.index_select(0, places), ids.index_select(0, places)
                factor = None if factor is None else factor.index_select(0, places)
            if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < self.targets.num):
                raise ValueError(
                    f"{type(self).__name__}: targets must lie in [0, {self.targets.num}) or be {self.ignore_index}; "
                    f"got {int(ids.min())} to {int(ids.max())}."
                )
            return Rows(prediction, ids, torch.ones_like(prediction[:, 0]) if factor is None else factor, None)
        factor = real.to(prediction.dtype) if factor is None else masked(real, factor)
        return Rows(masked(real.unsqueeze(-1), prediction), torch.where(real, ids, 0), factor, real)

    def _curved(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None, *, root: bool
    ) -> Tensor:
        self._check_width(prediction)
        with torch.autocast(prediction.device.type, enabled=False):
            rows = self._rows(prediction.detach(), targets, mask, weights, drop=False)
            many = v.shape[: v.ndim - prediction.ndim]
            flat = v.reshape(*many, -1, prediction.shape[-1]).to(rows.prediction.dtype)
            if rows.real is not None:
                flat = masked(rows.real.unsqueeze(-1), flat)
            factor = rows.factor.sqrt() if root else rows.factor
            result = factor.unsqueeze(-1) * self._curvature(rows.prediction, rows.ids, rows.real, flat, root)
            return masked(None if rows.real is None else rows.real.unsqueeze(-1), result).reshape(v.shape)

    def _check_width(self, prediction: Tensor) -> None:
        if prediction.shape[-1] != self.targets.width:
            raise ValueError(
                f"{type(self).__name__}: predictions must have the width of the target vectors, {self.targets.width}; "
                f"got {prediction.shape[-1]}."
            )

    def _check_ids(self, shape: torch.Size, targets: Tensor) -> None:
        name = type(self).__name__
        if targets.is_floating_point():
            raise ValueError(f"{name}: targets must be ids of words, integers; got {targets.dtype}.")
        if targets.shape != shape:
            raise ValueError(f"{name}: ids must have the shape {list(shape)}; got {list(targets.shape)}.")
