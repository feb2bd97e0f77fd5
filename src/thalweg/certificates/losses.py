"""Convex losses of predictions with their duals: value, residual, second derivative, and a feasible dual point."""

import abc
import copy
from collections.abc import Iterator
from typing import Any, ClassVar, final

import numpy as np
import torch
from scipy.special import expit, xlogy
from torch import Tensor
from typing_extensions import override

TINY = 1e-300
AT_A_TIME = 2**18  # predictions that a formula is computed of, where all of them would take more memory


class AbstractLoss(abc.ABC):
    r"""A convex loss of predictions, summed over examples and divided by a count.

    $$L(Z) = \sum_i c_i\, \phi_i(z_i), \qquad R = -\nabla L(Z),$$

    where $Z$ is `[num_examples, outputs]` and $c$ are weights divided by the count. A dual point $A$ has a residual
    $R(A)$ and a value $-L^*(-R(A))$, so that $L(Z') \ge \text{value} - \langle R, Z' \rangle$ for all $Z'$: that is
    what lower bounds are made of. Its variables have the shape of the predictions and are those of the table in
    `thalweg.certificates.checker.check`: probabilities for softmax and logistic, slopes for the others.

    Attributes:
        name: of the loss in a certificate's evidence.
        unit: of the loss.
        largest_scale: the largest number that any dual point may be scaled by.
        targets: `[num_examples, outputs]`.
        weight: of the examples or numbers, `[num_examples, 1]` or `[num_examples, outputs]`.
        count: what their sum is divided by.
        factor: $c$, weight / count.
        scale: of the squares; a half for losses without squares (the "factor" of a certificate's evidence).
        labels: the targets as class ids, where they are hard; else None.
        zero_dual: the dual point whose residual is zero.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    largest_scale: ClassVar[float] = 1.0

    def __init__(self, targets: Tensor, weights: Tensor | None, count: float | None, counted: int) -> None:
        self.targets = targets.detach().double()
        if self.targets.ndim != 2 or not self.targets.numel():
            shape = list(self.targets.shape)
            raise ValueError(f"{type(self).__name__}(targets) must be [num_examples, outputs]; got the shape {shape}.")
        if not bool(torch.isfinite(self.targets).all()):
            raise ValueError(f"{type(self).__name__}(targets) must be finite; there is NaN or infinity among them.")
        self.weight, self.count = _weights(weights, count, self.targets, counted)
        self.factor = self.weight / self.count
        self.scale = 0.5
        self.labels: Tensor | None = None
        self.zero_dual = self.targets.new_zeros(())

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return self.targets.shape[0]

    @property
    def num_outputs(self) -> int:
        """Predictions an example."""
        return self.targets.shape[1]

    @abc.abstractmethod
    def value(self, z: Tensor) -> Tensor:
        """Return the loss, a 0-dim tensor."""

    @abc.abstractmethod
    def residual(self, z: Tensor) -> Tensor:
        """Return minus the gradient, the shape of `z` (at the kink of a hinge, half of what is below)."""

    @abc.abstractmethod
    def value_and_residual(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and minus its gradient."""

    @abc.abstractmethod
    def curvature(self, z: Tensor) -> "AbstractCurvature":
        """Return the second derivative at `z`, in the type of `z` (where a loss has kinks, one of those nearby)."""

    @abc.abstractmethod
    def dual_point(self, z: Tensor, *, balanced: bool) -> Tensor:
        """Return the dual point that belongs to predictions.

        Balanced, it is moved so that the residuals of each output sum to zero, as an unpenalized bias requires.
        """

    @abc.abstractmethod
    def dual_residual(self, dual: Tensor) -> Tensor:
        """Return the residual R of a dual point, with the factors in it."""

    @abc.abstractmethod
    def dual_value(self, dual: Tensor) -> float:
        """Return the value of a dual point."""

    def parts(self) -> Iterator[tuple[slice, "AbstractLoss"]]:
        """Yield rows, and the loss of them alone, so that what is computed on the way stays small.

        The values of the parts add up to that of the whole.
        """
        step = max(1, AT_A_TIME // self.num_outputs)
        if self.num_examples <= step:
            yield slice(None), self
            return
        for start in range(0, self.num_examples, step):
            rows, twin = slice(start, start + step), copy.copy(self)
            long = {k: v for k, v in vars(self).items() if getattr(v, "shape", ())[:1] == self.targets.shape[:1]}
            vars(twin).update({name: values[rows] for name, values in long.items()})
            yield rows, twin

    def scaled(self, dual: Tensor, scale: float) -> Tensor:
        """Return the dual point whose residual is `scale` times as large; `scale` in [0, `largest_scale`]."""
        if scale == 1.0:
            return dual
        if isinstance(dual, Tensor):
            return torch.lerp(self.zero_dual, dual, scale)
        return (1.0 - scale) * self.zero_dual + scale * dual

    def value_of_scaled(self, dual: Tensor, scale: float) -> float:
        """Return the value of the dual point whose residual is `scale` times as large."""
        return sum(part.dual_value(part.scaled(dual[rows], scale)) for rows, part in self.parts())

    def dual_rounding(self, row_norms: Tensor) -> float:
        r"""Return by how much an entry or a norm of $X^\top R$ changes when a dual point is scaled and rounded.

        It takes the lengths of the rows of $X$, `[num_examples]`.
        """
        sizes = self.factor.amax(1) * row_norms * (1.0 + self.targets.abs().amax())
        return 4.0 * torch.finfo(torch.float64).eps * self.num_outputs**0.5 * float(sizes.sum())

    def as_arrays(self) -> Any:
        """Return this loss with NumPy arrays for its tensors.

        All formulas but that of `dual_point` then take and return arrays: for a few hundred numbers NumPy is faster.
        """
        twin = copy.copy(self)
        vars(twin).update({k: v.cpu().numpy() for k, v in vars(self).items() if isinstance(v, Tensor)})
        return twin

    def evidence(self) -> dict[str, "np.ndarray | float | str"]:
        """Return what a certificate says about the loss (see `thalweg.certificates.checker.check`)."""
        targets = (self.targets if self.labels is None else self.labels).cpu().numpy()
        kept = {"loss": self.name, "T": targets, "count": self.count, "factor": self.scale}
        return kept if bool((self.weight == 1.0).all()) else {**kept, "weight": self.weight.cpu().numpy()}


class AbstractCurvature(abc.ABC):
    """The second derivative of a loss by its predictions: one block an example."""

    diagonal: Tensor

    @abc.abstractmethod
    def product(self, v: Tensor) -> Tensor:
        """Return the product with `v`, both the shape of the predictions."""

    @abc.abstractmethod
    def blocks(self) -> Tensor:
        """Return the matrix of each example, `[num_examples, outputs, outputs]`."""

    @abc.abstractmethod
    def summed(self) -> Tensor:
        """Return the sum of those matrices: the second derivative by a bias, `[outputs, outputs]`."""


@final
class SoftmaxLoss(AbstractLoss):
    r"""Cross-entropy of a softmax: $\phi_i(z) = \omega_i (\log\sum_c e^{z_c} - t_i^\top z)$.

    Args:
        targets: probabilities $t$, `[num_examples, classes]`; rows sum to one.
        weights: $\omega \ge 0$, `[num_examples]`; None: all one.
        count: $N$; None: the number of examples.

    Raises:
        ValueError: if a row of the targets is not a distribution, or a weight is negative.

    Example:
        >>> loss = SoftmaxLoss.of_labels(torch.tensor([0, 1]), 2)
        >>> round(loss.value(torch.zeros(2, 2, dtype=torch.float64)).item(), 4)
        0.6931
    """

    name = "softmax"
    unit = "nats"

    def __init__(self, targets: Tensor, weights: Tensor | None = None, count: float | None = None) -> None:
        super().__init__(targets, weights, count, 1)
        total = self.targets.sum(1, keepdim=True)
        if not bool(((total - 1.0).abs() < 1e-6).all()) or bool((self.targets < 0.0).any()):
            raise ValueError("SoftmaxLoss(targets) must be probabilities: not negative, and each row's sum one.")
        if self.factor.shape[1] != 1:
            raise ValueError("SoftmaxLoss(weights) must be one number per example.")
        self.targets = self.zero_dual = self.targets / total

    @classmethod
    def of_labels(
        cls,
        labels: Tensor,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        weights: Tensor | None = None,
        count: float | None = None,
    ) -> "SoftmaxLoss":
        """Return the loss of `thalweg.heads.softmax.Softmax` for class ids, its sum divided by its count.

        Args:
            labels: class ids, int `[num_examples]`.
            num_classes: number of classes.
            label_smoothing: fraction of each target that is spread over all classes, in [0, 1).
            class_weights: `[num_classes]`.
            weights: `[num_examples]`.
            count: what the sum is divided by; None: the head's count, the weights of the examples' classes added up.

        Raises:
            ValueError: for labels out of range, or none.
        """
        labels = labels.detach().long()
        if not len(labels) or not bool(((labels >= 0) & (labels < num_classes)).all()):
            raise ValueError(f"SoftmaxLoss.of_labels(labels) must be class ids in [0, {num_classes}), at least one.")
        each = torch.ones(len(labels), dtype=torch.float64, device=labels.device)
        each = each if weights is None else weights.detach().double().reshape(-1)
        if count is None:
            count = float((each if class_weights is None else each * class_weights.double()[labels]).sum())
        hard = torch.zeros(len(labels), num_classes, dtype=torch.float64, device=labels.device)
        hard.scatter_(1, labels[:, None], 1.0)
        loss = cls.of_distributions(
            hard, label_smoothing=label_smoothing, class_weights=class_weights, weights=each, count=count
        )
        if not label_smoothing and class_weights is None:
            loss.labels = labels
        return loss

    @classmethod
    def of_distributions(
        cls,
        targets: Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        weights: Tensor | None = None,
        count: float | None = None,
    ) -> "SoftmaxLoss":
        """Return the loss of `thalweg.heads.softmax.Softmax` for soft targets; arguments as for `of_labels`.

        A row that does not add up to one counts as often as its sum: its loss is that of its shares, times the sum.
        """
        targets = targets.detach().double()
        mixed = targets
        if label_smoothing:
            mixed = (1.0 - label_smoothing) * targets + label_smoothing / targets.shape[1]
        mixed = mixed if class_weights is None else mixed * class_weights.detach().double()
        total = mixed.sum(1)
        off = float((total - 1.0).abs().amax()) if len(total) else 0.0
        if class_weights is None and off <= 1e-12:
            return cls(mixed, weights, count)
        each = total if weights is None else total * weights.detach().double().reshape(-1)
        mixed = torch.where(
            total.unsqueeze(1) > 0.0, mixed / total.clamp_min(TINY).unsqueeze(1), 1.0 / targets.shape[1]
        )
        count = count if count is not None else float(len(targets) if weights is None else weights.sum())
        return cls(mixed, each, count)

    @override
    def value(self, z: Tensor) -> Tensor:
        each = _logsumexp(z) - (self.targets * z).sum(1)
        return self.factor.squeeze(1) @ each

    @override
    def residual(self, z: Tensor) -> Tensor:
        return self.dual_residual(_softmax(z))

    @override
    def value_and_residual(self, z: Tensor) -> tuple[Tensor, Tensor]:
        log_p = torch.log_softmax(z, dim=1)
        value = -(self.factor.squeeze(1) @ (self.targets * log_p).sum(1))
        return value, (self.targets - log_p.exp_()).mul_(self.factor)

    @override
    def curvature(self, z: Tensor) -> AbstractCurvature:
        return _SoftmaxCurvature(_softmax(z), as_type(z, self.factor))

    @override
    def dual_point(self, z: Tensor, *, balanced: bool) -> Tensor:
        """Return the predicted distributions.

        Balanced: a fraction of each row is replaced by one and the same distribution, so that the weighted sums become
        those of the targets; classes that no target has get probability zero.
        """
        q = torch.softmax(z, dim=1)
        if not balanced:
            return q
        weights = self.factor.squeeze(1)
        wanted = weights @ self.targets
        q.masked_fill_(wanted <= 0.0, 0.0)
        q[q.sum(1) <= 0.0] = wanted.squeeze(0)  # all its classes had underflown
        q.div_(q.sum(1, keepdim=True))
        sums = weights @ q
        mixed = torch.where(sums > 0.0, 1.0 - wanted / sums.clamp_min(TINY), 0.0).amax().clamp(0.0, 1.0)
        rest = (wanted - (1.0 - mixed) * sums).clamp_min(0.0)
        return q.mul_(1.0 - mixed).add_(mixed * rest / rest.sum()) if bool(rest.sum() > 0.0) else q

    @override
    def dual_residual(self, dual: Tensor) -> Tensor:
        residual = self.targets - dual
        residual *= self.factor
        return residual

    @override
    def dual_value(self, dual: Tensor) -> float:
        return float(-(self.factor.squeeze(1) @ times_log(dual).sum(1)))


@final
class _SoftmaxCurvature(AbstractCurvature):
    def __init__(self, p: Tensor, factor: Tensor) -> None:
        self._p, self._factor = p, factor

    @override
    def product(self, v: Tensor) -> Tensor:
        pv = self._p * v
        return pv.addcmul_(self._p, pv.sum(1, keepdim=True), value=-1.0).mul_(self._factor)

    @property
    def diagonal(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The diagonal, the shape of the predictions."""
        return self._factor * self._p * (1.0 - self._p)

    @override
    def blocks(self) -> Tensor:
        weighted = self._factor * self._p
        return diagonal_blocks(weighted) - weighted[:, :, None] * self._p[:, None, :]

    @override
    def summed(self) -> Tensor:
        weighted = self._factor * self._p
        return torch.diag(weighted.sum(0)) - self._p.T @ weighted


def _weights(weights: Tensor | None, count: float | None, targets: Tensor, counted: int) -> tuple[Tensor, float]:
    """Return the weights, `[num_examples, 1]` or `[num_examples, outputs]`, and the count."""
    num = len(targets)
    each = targets.new_ones(num, 1) if weights is None else weights.detach().double().reshape(num, -1)
    if bool((each < 0.0).any()) or not bool(torch.isfinite(each).all()):
        raise ValueError("Weights of examples must be finite and not negative.")
    if count is None:
        count = float(each.sum()) * (1 if each.shape[1] > 1 else counted)
    if not 0.0 < count < float("inf"):
        raise ValueError(f"The weights of the examples must add up to more than zero; got {count!r}.")
    return each, count


# ---- functions of tensors and of NumPy arrays alike (typed as if for tensors) ----


def softplus(z: Tensor) -> Tensor:
    """Return `log(1 + e^z)`."""
    if isinstance(z, Tensor):
        return z.clamp_min(0.0) + torch.log1p(torch.exp(-z.abs()))
    return np.logaddexp(0.0, z)


def sigmoid(z: Tensor) -> Tensor:
    """Return `1 / (1 + e^-z)`."""
    return torch.sigmoid(z) if isinstance(z, Tensor) else expit(z)


def times_log(p: Tensor) -> Tensor:
    """Return `p log p`, 0 at 0."""
    return torch.special.xlogy(p, p) if isinstance(p, Tensor) else xlogy(p, p)


def full_like(z: Tensor, value: float) -> Tensor:
    """Return one value everywhere, in shape and type of `z`."""
    return torch.full_like(z, value) if isinstance(z, Tensor) else np.full_like(z, value)


def as_type(z: Tensor, values: Tensor) -> Tensor:
    """Return the values in the type of `z`; arrays are float64 already."""
    return values.to(z.dtype) if isinstance(z, Tensor) else values


def diagonal_blocks(diagonal: Tensor) -> Tensor:
    """Return diagonal matrices, `[num_examples, outputs, outputs]`."""
    if isinstance(diagonal, Tensor):
        return torch.diag_embed(diagonal)
    width = diagonal.shape[1]
    return diagonal[:, :, None] if width == 1 else diagonal[:, :, None] * np.eye(width)


def _logsumexp(z: Tensor) -> Tensor:
    if isinstance(z, Tensor):
        return torch.logsumexp(z, dim=1)
    largest = z.max(1)
    return largest + np.log(np.exp(z - largest[:, None]).sum(1))


def _softmax(z: Tensor) -> Tensor:
    if isinstance(z, Tensor):
        return torch.softmax(z, dim=1)
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def best_bias(loss: AbstractLoss) -> Tensor:
    """Return the bias that is best without features, `[outputs]`, nearly; one that is never right gets -10."""
    if isinstance(loss, SoftmaxLoss):
        bias = (loss.factor.T @ loss.targets).squeeze(0).clamp_min(TINY).log()
        return (bias - bias.max()).clamp_min(-10.0)
    bias = torch.zeros_like(loss.targets[:1])
    for _ in range(50):
        z = bias.expand_as(loss.targets)
        residual = loss.value_and_residual(z)[1].sum(0)
        second = loss.curvature(z).diagonal.sum(0)
        change = (residual / second.clamp_min(1e-12)).clamp(-2.0, 2.0)
        bias = (bias + change).clamp(-10.0, 10.0)
        if not float(change.abs().max()) > 1e-6:
            break
    return bias[0]
