"""Clipping of gradients (by value, by norm, per unit, by the norms before) and of updates.

Every clip takes parameters after the backward pass, changes their gradients in place, and returns the norm that the
gradient had, without ever waiting for the device. Where that norm is not finite nothing is changed: an infinite entry
cut down to a limit would look like a healthy gradient, and whoever reads the norm can reject the step.
"""

import abc
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg import vectors
from thalweg.errors import require

_LEAST_DEVIATION: Final = 0.05  # of the logarithm: norms that hardly differ are not taken for noise


@final
class Clipped(NamedTuple):
    """What a clip found.

    Args:
        norm: Euclidean norm of the whole gradient before clipping, 0-dim.
        was_clipped: whether anything was changed, a 0-dim bool.
    """

    norm: Tensor
    was_clipped: Tensor


class AbstractClip(abc.ABC):
    """Limits gradients in place: `clip(parameters) -> Clipped`."""

    @abc.abstractmethod
    def __call__(self, parameters: Iterable[Tensor]) -> Clipped:
        """Clip the gradients of the parameters that have one."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the clip remembers from step to step; nothing, for most."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most remember nothing
        """Restore what `state_dict` returned."""


@final
@dataclasses.dataclass(frozen=True)
class NoClip(AbstractClip):
    """Changes nothing and tells the norm.

    Example:
        >>> w = torch.zeros(2)
        >>> w.grad = torch.tensor([3.0, 4.0])
        >>> NoClip()([w])
        Clipped(norm=tensor(5.), was_clipped=tensor(False))
    """

    @override
    def __call__(self, parameters: Iterable[Tensor]) -> Clipped:
        norm = vectors.norm(_gradients(parameters))
        return Clipped(norm, torch.zeros_like(norm, dtype=torch.bool))


@final
@dataclasses.dataclass(frozen=True)
class ClipValue(AbstractClip):
    """Limits each entry of the gradient: `g` becomes `min(max(g, -limit), limit)`.

    Args:
        limit: largest size of an entry, positive.

    Changes the gradient's direction; `ClipNorm` doesn't.

    Example:
        >>> w = torch.zeros(2)
        >>> w.grad = torch.tensor([3.0, -0.5])
        >>> _ = ClipValue(1.0)([w])
        >>> w.grad
        tensor([ 1.0000, -0.5000])
    """

    limit: float

    def __post_init__(self) -> None:
        require(0 < self.limit < math.inf, "ClipValue(limit=...) must be positive and finite", self.limit)

    @torch.no_grad()
    @override
    def __call__(self, parameters: Iterable[Tensor]) -> Clipped:
        gradients = _gradients(parameters)
        norm = vectors.norm(gradients)
        if not gradients:
            return Clipped(norm, torch.zeros((), dtype=torch.bool))
        limit = _limit_where_finite(norm, self.limit)
        largest = torch.stack(list(torch._foreach_norm(gradients, math.inf))).amax()
        for gradient in gradients:
            gradient.clamp_(-limit, limit)
        return Clipped(norm, largest > limit)


@final
@dataclasses.dataclass(frozen=True)
class ClipNorm(AbstractClip):
    """Shortens the whole gradient to a length: `g` becomes `g min(1, limit / ||g||)`.

    As `torch.nn.utils.clip_grad_norm_`, which adds 1e-6 to the norm when it divides.

    Args:
        limit: largest Euclidean norm over all parameters together, positive.

    Example:
        >>> w = torch.zeros(2)
        >>> w.grad = torch.tensor([3.0, 4.0])
        >>> ClipNorm(1.0)([w]).norm, w.grad
        (tensor(5.), tensor([0.6000, 0.8000]))

    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks" (2013).
    """

    limit: float

    def __post_init__(self) -> None:
        require(0 < self.limit < math.inf, "ClipNorm(limit=...) must be positive and finite", self.limit)

    @torch.no_grad()
    @override
    def __call__(self, parameters: Iterable[Tensor]) -> Clipped:
        gradients = _gradients(parameters)
        norm = vectors.norm(gradients)
        factor = torch.where(norm.isfinite(), self.limit / (norm + 1e-6), 1.0).clamp(max=1.0)
        was_clipped = factor < 1.0
        # A GPU multiplies by one rather than wait for the answer; a CPU knows it, and spares a pass over the gradient.
        if gradients and (not norm.is_cpu or was_clipped):
            torch._foreach_mul_(gradients, factor)
        return Clipped(norm, was_clipped)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class ClipAdaptive(AbstractClip):
    """Limits the gradient of each output unit in proportion to the unit's weights (AGC).

    With the weights `w` and the gradient `g` of one unit, where `||g|| > ratio * max(||w||, eps)`, `g` becomes
    `g * ratio * max(||w||, eps) / ||g||`. A unit is a row of a matrix (all but the first dimension of larger tensors);
    a vector, such as a bias, is one unit.

    Args:
        ratio: largest ratio of the norms, positive.
        eps: floor for the norm of the weights, positive, so that weights that are zero can grow.
        leave_out: parameters that are not clipped; the authors leave out the output layer.

    Example:
        >>> w = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
        >>> w.grad = torch.ones(2, 2)
        >>> _ = ClipAdaptive(0.5)([w])
        >>> w.grad.norm(dim=1)
        tensor([1.4142, 0.2500])

    Source: Brock, De, Smith, Simonyan, "High-Performance Large-Scale Image Recognition Without Normalization" (2021).
    """

    ratio: float = 0.01
    eps: float = 1e-3
    leave_out: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        require(0 < self.ratio < math.inf, "ClipAdaptive(ratio=...) must be positive and finite", self.ratio)
        require(0 < self.eps < math.inf, "ClipAdaptive(eps=...) must be positive and finite", self.eps)

    @torch.no_grad()
    @override
    def __call__(self, parameters: Iterable[Tensor]) -> Clipped:
        parameters = [parameter for parameter in parameters if parameter.grad is not None]
        norm = vectors.norm(_gradients(parameters))
        left_out = {id(parameter) for parameter in self.leave_out}
        changed = []
        for parameter in parameters:
            if id(parameter) not in left_out:
                assert parameter.grad is not None
                largest = self.ratio * _unit_norms(parameter).clamp(min=self.eps)
                size = _unit_norms(parameter.grad)
                too_large = (size > largest) & norm.isfinite()
                parameter.grad.mul_(torch.where(too_large, largest / size, 1.0))
                changed.append(too_large.any())
        was_clipped = torch.stack(changed).any() if changed else torch.zeros_like(norm, dtype=torch.bool)
        return Clipped(norm, was_clipped)


@final
class ClipRunning(AbstractClip):
    r"""Shortens a gradient that is much longer than those before it, so that no limit has to be chosen.

    The logarithms of the norms have a running mean $m$ and variance $s^2$, both with the weight `decay`. A norm above

    $$\exp(m + \mathrm{deviations} \cdot \max(s, 0.05))$$

    is cut down to that, and the limit stands for it in mean and variance, so that a burst of long gradients raises the
    limit slowly. The first `patience` gradients are only measured: norms fall fast at the start.

    Args:
        deviations: standard deviations above the mean, positive; 2.5 is the value of the source.
        decay: weight of the past in mean and variance, in [0, 1).
        patience: steps before anything is clipped, not negative.

    Raises:
        ValueError: for a number out of its range.

    Example:
        >>> clip, w = ClipRunning(patience=5), torch.zeros(1)
        >>> for norm in (1.0, 1.1, 0.9, 1.0, 1.0, 20.0):
        ...     w.grad = torch.tensor([norm])
        ...     clipped = clip([w])
        >>> clipped.norm, clipped.was_clipped, bool(w.grad < 1.3)
        (tensor(20.), tensor(True), True)

    Source: Kumar et al., "ZClip: Adaptive Spike Mitigation for LLM Pre-Training" (2025), on logarithms.

    It remembers: `state_dict` belongs into a checkpoint. One object serves one run.
    """

    def __init__(self, deviations: float = 2.5, *, decay: float = 0.97, patience: int = 10) -> None:
        require(0 < deviations < math.inf, "ClipRunning(deviations=...) must be positive and finite", deviations)
        require(0 <= decay < 1, "ClipRunning(decay=...) must lie in [0, 1)", decay)
        require(patience >= 0, "ClipRunning(patience=...) must not be negative", patience)
        self.deviations, self.decay, self.patience = deviations, decay, patience
        self._moments: Tensor | None = None  # count of finite norms, weighted sums of 1, log and log squared

    @torch.no_grad()
    @override
    def __call__(self, parameters: Iterable[Tensor]) -> Clipped:
        gradients = _gradients(parameters)
        norm = vectors.norm(gradients)
        if self._moments is None or self._moments.device != norm.device:
            start = torch.zeros(4) if self._moments is None else self._moments
            self._moments = start.to(norm.device)
        count, weight, total, squares = self._moments
        mean = total / weight
        deviation = (squares / weight - mean.square()).clamp(min=0.0).sqrt().clamp(min=_LEAST_DEVIATION)
        limit = torch.exp(mean + self.deviations * deviation)
        usable = norm.isfinite() & (norm > 0)
        too_long = usable & (count >= max(1, self.patience)) & (norm > limit)
        seen = torch.where(too_long, limit, norm.float()).log()
        after = torch.stack(
            [
                count + 1.0,
                *(
                    self.decay * old + (1 - self.decay) * new
                    for old, new in ((weight, torch.ones_like(weight)), (total, seen), (squares, seen.square()))
                ),
            ]
        )
        self._moments = torch.where(usable, after, self._moments)
        factor = torch.where(too_long, limit / norm, 1.0).to(norm.dtype)
        if gradients and (not norm.is_cpu or too_long):
            torch._foreach_mul_(gradients, factor)
        return Clipped(norm, too_long)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {} if self._moments is None else {"moments": self._moments.cpu()}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        moments = state.get("moments")
        self._moments = None if moments is None else torch.as_tensor(moments, dtype=torch.float32).clone()


@final
@dataclasses.dataclass(frozen=True)
class ClipSequence(AbstractClip):
    """Several clips one after the other; the norm is the one before the first of them.

    Args:
        clips: at least one.
    """

    clips: tuple[AbstractClip, ...]

    def __post_init__(self) -> None:
        if not self.clips:
            raise ValueError("ClipSequence(clips=...) must hold at least one clip; got none.")

    @override
    def __call__(self, parameters: Iterable[Tensor]) -> Clipped:
        parameters = list(parameters)
        results = [clip(parameters) for clip in self.clips]
        return Clipped(results[0].norm, torch.stack([result.was_clipped for result in results]).any())

    @override
    def state_dict(self) -> dict[str, Any]:
        return {str(place): clip.state_dict() for place, clip in enumerate(self.clips)}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for place, clip in enumerate(self.clips):
            clip.load_state_dict(state.get(str(place), {}))


@final
class ClipUpdate:
    """Limits how far one optimizer step moves each parameter: `|after - before| <= limit` for every entry.

    It compares the parameters before and after the step, so that it works with every optimizer and limits what really
    happens, weight decay and learning rate included. Entries within the limit stay exactly where the optimizer put
    them. The limit holds up to the rounding of `before + limit`. The optimizer's memory (momentum) doesn't know of it.

    Args:
        limit: farthest that an entry moves in one step, positive.

    Example:
        >>> w = torch.zeros(2)
        >>> w.grad = torch.tensor([3.0, -0.5])
        >>> clip = ClipUpdate(0.1)
        >>> clip.before([w])
        >>> _ = torch.optim.SGD([w], lr=0.1).step()
        >>> clip.after([w]).was_clipped, w
        (tensor(True), tensor([-0.1000,  0.0500]))

    Costs a copy of the parameters. Not together with a line search: the step that it found would not be the one taken.
    """

    def __init__(self, limit: float) -> None:
        require(0 < limit < math.inf, "ClipUpdate(limit=...) must be positive and finite", limit)
        self.limit = limit
        self._before: list[Tensor] | None = None

    def before(self, parameters: Iterable[Tensor]) -> None:
        """Remember the parameters; to be called before the optimizer's step."""
        self._before = vectors.clone([parameter.detach() for parameter in parameters])

    @torch.no_grad()
    def after(self, parameters: Iterable[Tensor]) -> Clipped:
        """Limit the step that was taken, and forget the parameters before it.

        Args:
            parameters: the same, in the same order, as for `before`.

        Returns:
            The Euclidean norm of the update before clipping, and whether any entry was limited.

        Raises:
            ValueError: `before` was not called.
        """
        if self._before is None:
            raise ValueError("ClipUpdate.after(...) must follow ClipUpdate.before(...) with the same parameters.")
        parameters, before = [parameter.detach() for parameter in parameters], self._before
        self._before = None
        update = torch._foreach_sub(parameters, before) if parameters else []
        norm = vectors.norm(update)
        if not parameters:
            return Clipped(norm, torch.zeros((), dtype=torch.bool))
        limit = _limit_where_finite(norm, self.limit)
        largest = torch.stack(list(torch._foreach_norm(update, math.inf))).amax()
        for parameter, old in zip(parameters, before, strict=True):
            torch.clamp(parameter, old - limit, old + limit, out=parameter)
        return Clipped(norm, largest > limit)


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    found = [parameter.grad.detach() for parameter in parameters if parameter.grad is not None]
    if any(gradient.is_sparse for gradient in found):
        raise ValueError("Gradients to be clipped must be dense; got a sparse one: use sparse=False in the embedding.")
    return found


def _unit_norms(tensor: Tensor) -> Tensor:
    """Norm of each unit, in a shape that broadcasts against the tensor."""
    if tensor.dim() < 2:
        return torch.linalg.vector_norm(tensor)
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.dim())), keepdim=True)


def _limit_where_finite(norm: Tensor, limit: float) -> Tensor:
    """The limit as a tensor of the norm's type, infinite where the norm is not finite: then nothing is limited."""
    return torch.where(norm.isfinite(), torch.full_like(norm, limit), math.inf)
