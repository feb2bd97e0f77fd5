"""The orthogonal factor of a matrix: exactly, or by polynomials of it."""

import abc
import dataclasses
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.errors import require
from thalweg.optim.decompositions import eigh

# Coefficients (a, b, c) of X (a + b A + c A^2) with A = X' X.
KELLER_JORDAN = ((3.4445, -4.7750, 2.0315),)
# Polynomials that are best one after the other for singular values from 1e-3 to 1, and a margin for rounding.
_BEST = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
_MARGINS = (1.01**2, *([1.01] * 6))
_SAFE = [(a / s, b / s**3, c / s**5) for (a, b, c), s in zip(_BEST, _MARGINS, strict=True)]
POLAR_EXPRESS = (*_SAFE, (1.875, -1.25, 0.375))
MOST_STEPS = 100  # as torch.optim.Muon; a handful is enough


class AbstractPolar(abc.ABC):
    """Makes all singular values of matrices one, or nearly so."""

    @abc.abstractmethod
    def __call__(self, stack: Tensor) -> Tensor:
        """Return `[count, rows, columns]` with the singular vectors of the argument; zeros stay zeros."""


@final
@dataclasses.dataclass(frozen=True)
class Exact(AbstractPolar):
    r"""The polar factor $U V^\top$ of $G = U \Sigma V^\top$, by eigenvectors of the smaller Gram matrix.

    $$G (G^\top G)^{-1/2}$$

    Where a singular value is below `floor` times the largest one it is divided by that instead, so that noise in
    directions that the matrix hardly has is not made as large as what it has. On a CPU without fast products of half
    precision this is cheaper than five steps of Newton-Schulz.

    Args:
        floor: between 0 and 1; the Gram matrix of single precision knows nothing below 3e-4 or so.

    Raises:
        ValueError: for a floor out of its range.

    Example:
        >>> factor = Exact()(torch.tensor([[[3.0, 0.0], [0.0, -0.5]]]))
        >>> torch.allclose(factor[0], torch.tensor([[1.0, 0.0], [0.0, -1.0]]), atol=1e-5)
        True

    Source: Higham (1986), Computing the Polar Decomposition, with Applications.
    """

    floor: float = 1e-3

    def __post_init__(self) -> None:
        require(0.0 < self.floor < 1.0, "Exact(floor=...) must lie between 0 and 1", self.floor)

    @override
    def __call__(self, stack: Tensor) -> Tensor:
        return _on_wide(stack, self._factor)

    def _factor(self, wide: Tensor) -> Tensor:
        values, vectors = eigh(wide @ wide.mT)
        smallest = values[..., -1:] * self.floor**2
        roots = values.clamp(min=smallest.clamp(min=torch.finfo(wide.dtype).tiny)).rsqrt()
        return (vectors * roots.unsqueeze(-2)) @ vectors.mT @ wide


@final
@dataclasses.dataclass(frozen=True)
class Polynomial(AbstractPolar):
    """Five steps of Newton-Schulz, or the polynomials of Polar Express: singular values between about 0.7 and 1.2.

    Args:
        coefficients: three numbers for each step; the last three are used again where there are fewer than `steps`.
        steps: number of steps, from 1 to 100.
        half: whether to compute in bfloat16; None: where that is quicker than single precision.

    Raises:
        ValueError: for less than one step.

    Example:
        >>> singular = torch.linalg.svdvals(Polynomial(half=False)(torch.diag(torch.tensor([2.0, 1.0, 0.1]))[None]))
        >>> bool(((singular > 0.6) & (singular < 1.3)).all())
        True

    Source: Jordan et al. (2024), Muon; Amsel et al. (2025), The Polar Express.
    """

    coefficients: tuple[tuple[float, float, float], ...] = KELLER_JORDAN
    steps: int = 5
    half: bool | None = None

    def __post_init__(self) -> None:
        require(1 <= self.steps <= MOST_STEPS, f"Polynomial(steps=...) must lie in [1, {MOST_STEPS}]", self.steps)

    @override
    def __call__(self, stack: Tensor) -> Tensor:
        half = has_fast_bfloat16(stack.device) if self.half is None else self.half
        return _on_wide(stack.to(torch.bfloat16) if half else stack, self._factor).to(stack.dtype)

    def _factor(self, wide: Tensor) -> Tensor:
        x = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp(min=torch.finfo(wide.dtype).tiny)
        for step in range(self.steps):
            a, b, c = self.coefficients[min(step, len(self.coefficients) - 1)]
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x


def polar_express(steps: int = 5, half: bool | None = None) -> Polynomial:
    """Return the polynomials of Polar Express; arguments as for `Polynomial`."""
    return Polynomial(POLAR_EXPRESS, steps, half)


@final
@dataclasses.dataclass(frozen=True)
class Automatic(AbstractPolar):
    """`Exact` on a CPU, five polynomials of Polar Express elsewhere, where eigenvectors are slow and products fast."""

    @override
    def __call__(self, stack: Tensor) -> Tensor:
        return (Exact() if stack.is_cpu else polar_express())(stack)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are quicker than in single precision: on GPUs, and CPUs built for them."""
    if device.type != "cpu":
        return device.type == "cuda"
    found = [getattr(torch.cpu, name, bool) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")]
    return any(supported() for supported in found)


def _on_wide(stack: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply it to matrices with at most as many rows as columns, scaled so that squares do not underflow."""
    largest = torch.linalg.vector_norm(stack, torch.inf, (-2, -1), keepdim=True)
    stack = stack / largest.clamp(min=torch.finfo(stack.dtype).tiny)
    return factor(stack) if stack.shape[-2] <= stack.shape[-1] else factor(stack.mT).mT
