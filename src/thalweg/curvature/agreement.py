"""Whether a derivative and a difference agree, told apart from kinks, rounding and steps that are too long.

A difference of a function at two places is wrong itself where there is a kink between them, where rounding drowns it,
or where the function bends. What it is off by then changes with the step: like one over it, like its square. What a
wrong formula is off by does not. So it takes an error that stays the same from one step to another to call a derivative
wrong, and one step at which both agree to call it right.
"""

import enum
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.vectors import Vector

# Relative to the parameters: the best where nothing is in the way, longer ones against rounding, shorter ones against
# kinks. The longest are for models that compute in float32 inside, whatever they are given.
_STEPS = (1e-7, 1e-8, 1e-6, 1e-5, 1e-9, 1e-4, 1e-3)
_TOLERANCE, _COARSE = 3e-7, 2e-3
_ROUNDED = 1e3  # how much more rounding a derivative may hold than the function itself
_INFINITE = 1e30
_DROWNED = 0.5  # share of a derivative's size beyond which what is uncertain of it leaves nothing to compare
_STEADY = 0.2  # how much of an error may change where the step does, if a formula is to be wrong


@final
class Verdict(enum.Enum):
    """What a comparison came to."""

    RIGHT = enum.auto()
    WRONG = enum.auto()
    UNCLEAR = enum.auto()  # kinks or rounding everywhere


@final
class Agreement(NamedTuple):
    """What came out, and for each tensor that is wrong by how much of its size."""

    verdict: Verdict
    wrong: dict[int, float]


@final
class Precision(NamedTuple):
    """How well differences can be taken: the steps, and what counts as right, relative and for one over the step."""

    steps: Sequence[float]
    tolerance: float
    rounding: float
    coarse: float


DOUBLE = Precision(_STEPS, _TOLERANCE, 1e-14, _COARSE)
SINGLE = Precision((3e-3, 1e-3, 1e-2, 3e-4, 3e-2), 5e-4, 5e-7, 5e-3)


def compare(
    exact: Vector,
    difference: Callable[[float], Vector],
    precision: Precision = DOUBLE,
    noise: Sequence[float] | None = None,
    *,
    alone: int = 0,
) -> Agreement:
    """Compare a derivative with differences at one step after the other, until it is clear whether they agree.

    Args:
        exact: the derivative along a direction.
        difference: from a step to the difference over twice the step, in the same shapes.
        precision: of the differences.
        noise: for each tensor what is uncertain of its difference, times the step.
        alone: tensors at the end that are not parts of the same vector as the others; they are about one in size.
    """
    noise = [0.0] * len(exact) if noise is None else noise
    open_ = dict.fromkeys(range(len(exact)), math.inf)
    gaps: list[dict[int, _Gap]] = []
    for step in precision.steps:
        found = difference(step)
        whole = float(vectors.norm(found[: len(found) - alone]))
        gaps.append({})
        for i in list(open_):
            gap = found[i] - exact[i]
            share = 0.01 * whole if i < len(found) - alone else 0.1
            length = float(found[i].norm())
            size = max(length, float(exact[i].norm()), share)
            error = float(gap.norm())
            allowed, uncertain = (precision.tolerance + precision.rounding / step) * size, noise[i] / step
            if error <= allowed + uncertain + 1e-300:
                # Where rounding is as large as what is compared, as in half precision, agreement says nothing.
                if error <= allowed or uncertain <= _DROWNED * size or i >= len(found) - alone:
                    del open_[i]
                continue
            if not math.isfinite(error) and math.isfinite(length):
                return Agreement(Verdict.WRONG, {i: math.inf})  # no number where there should be one
            gaps[-1][i] = _Gap(step, gap, error, length == 0.0)
            open_[i] = min(open_[i], error / max(size, 1e-300))
        if not open_:
            return Agreement(Verdict.RIGHT, {})
        if len(gaps) >= 3 and any(_is_steady([some[i] for some in gaps if i in some], 0.1 * _STEADY) for i in open_):
            break
    wrong = {i: error for i, error in open_.items() if _is_steady([some[i] for some in gaps if i in some], _STEADY)}
    if wrong:
        return Agreement(Verdict.WRONG, wrong)
    right = all(error <= precision.coarse for error in open_.values())
    return Agreement(Verdict.RIGHT if right else Verdict.UNCLEAR, {})


@final
class _Gap(NamedTuple):
    """What a difference over a step is off by, its size, and whether the step made no difference at all."""

    step: float
    gap: Tensor
    error: float
    still: bool


def _is_steady(gaps: Sequence[_Gap], change: float) -> bool:
    """Whether the smallest of all errors is, to a share, the same at another step, and more than rounding explains."""
    # A step too short for a number's last digit makes no difference, again and again.
    gaps = [gap for gap in gaps if not gap.still] or gaps
    if not gaps:
        return False
    least = min(gaps, key=lambda gap: gap.error)
    shortest = min(gaps, key=lambda gap: gap.step)
    # What rounding adds to a difference it adds to the derivative too, but there it does not change with the step.
    if _ROUNDED * shortest.step * shortest.error > least.error:
        return False
    others = [gap for gap in gaps if gap is not least]
    return any(float((least.gap - gap.gap).norm()) <= change * gap.error for gap in others)


def settled(agreements: Iterator[Agreement]) -> tuple[Verdict, int, float]:
    """Return what comparisons at several places and along several directions come to, and the tensor that is worst.

    One that agrees is enough; a wrong one must be confirmed by a second one, for one of the same tensors.
    """
    seen: dict[int, float] = {}
    for agreement in agreements:
        if agreement.verdict is Verdict.RIGHT:
            return Verdict.RIGHT, -1, 0.0
        again = {i: min(error, seen[i]) for i, error in agreement.wrong.items() if i in seen}
        if again:
            worst = max(again, key=lambda i: again[i])
            return Verdict.WRONG, worst, again[worst]
        seen |= agreement.wrong
    return Verdict.UNCLEAR, -1, 0.0


def directions(
    tensors: Sequence[Tensor], sizes: Sequence[Tensor], frozen: Sequence[Tensor | None], seed: int
) -> list[Tensor]:
    """Return random numbers, each of its own size in the tensors; what is frozen does not move."""
    # A generator of its own: checking must not change what the caller draws next.
    generator = torch.Generator().manual_seed(seed)
    result = []
    for tensor, size, hold in zip(tensors, sizes, frozen, strict=True):
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
        result.append(size * noise if hold is None else (size * noise).masked_fill(hold, 0.0))
    return result


def scales(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the size of each number, float64, by which one step suits all of them.

    A number that is zero has the size of its tensor, a tensor of zeros that of all of them, and what stands for
    infinity, as in the masks of attention, has none.
    """
    values = [tensor.detach().double() for tensor in tensors]
    finite = [value.abs() < _INFINITE for value in values]
    values = [value.abs().where(kept, 0.0) for value, kept in zip(values, finite, strict=True)]
    total = max(sum(value.numel() for value in values), 1)
    every = float(vectors.norm(values)) / total**0.5 or 1.0
    result = []
    for value, kept in zip(values, finite, strict=True):
        own = float(value.norm()) / max(value.numel(), 1) ** 0.5 or every
        result.append(value.where(value > 0.0, own).where(kept, 0.0))
    return result
