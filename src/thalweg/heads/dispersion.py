"""Dispersion of unit vectors: measured, and enforced by penalties (great circles, a kernel, nearest neighbors).

Each penalty is a module from vectors `[n, m]` to a mean, so that neither its value nor its weight depends on the number
of vectors. Vectors that are exactly equal attract no force by symmetry, and would stay together forever: here they are
parted by a little noise first.
"""

import dataclasses
import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.errors import require

CLOSE = 1e-3  # two vectors nearer than this count as one
NOISE = 0.05  # how far such a vector is moved before the penalty looks at it
FLOOR = 1e-2  # distances below it push no harder
MAX_ROWS = 2048  # of a table that are compared with each other
LEAST_VARIANCE = 0.1
LEAST_RANK = 0.05  # as a fraction of what is possible
LEAST_ANGLE = 1e-3


@final
class Sliced(nn.Module):
    r"""How far vectors are from an even spacing on random great circles.

    On a circle through two random directions $p \perp q$ the vectors have the angles
    $t_i = \text{atan2}(q \cdot x_i, p \cdot x_i)$. With $k_i$ the rank of $t_i$ among them, evenly spaced ones would
    lie at $t^*_i = \bar t + 2 \pi k_i / n - \pi - \pi / n$, and the penalty is

    $$\frac{1}{2n} \sum_i (t_i - t^*_i)^2 ,$$

    averaged over circles: 0 for even spacing, $\pi^2 / 6$ for vectors that are all alike and many. It costs
    O(n m + n log n), no pairs, so it takes a whole vocabulary.

    Args:
        num_circles: circles drawn each time, at least 1.

    Raises:
        ValueError: for fewer circles.

    Example:
        >>> angles = torch.arange(4) * math.pi / 2
        >>> round(Sliced()(torch.stack([angles.cos(), angles.sin()], 1)).item(), 4)
        0.0

    Source: Tokarchuk et al. (2025), Keep your distance: learning dispersed embeddings on S_m (there a sum).
    """

    def __init__(self, num_circles: int = 1) -> None:
        super().__init__()
        require(num_circles >= 1, "Sliced(num_circles=...) must be at least 1", num_circles)
        self.num_circles = num_circles

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the penalty of unit vectors `[n, m]`; the circles come from PyTorch's random numbers."""
        n, width = vectors.shape
        drawn = torch.randn(2, self.num_circles, width, device=vectors.device, dtype=vectors.dtype)
        p = F.normalize(drawn[0], dim=-1)
        q = F.normalize(drawn[1] - (drawn[1] * p).sum(-1, keepdim=True) * p, dim=-1)
        angles = torch.atan2(vectors @ q.T, vectors @ p.T)
        # A stable sort gives equal angles different ranks, which parts equal vectors.
        ranks = angles.argsort(dim=0, stable=True).argsort(dim=0).to(vectors.dtype) + 1.0
        even = angles.mean(0) + 2.0 * math.pi * ranks / n - math.pi - math.pi / n
        return 0.5 * (angles - even).square().mean()


@final
class Kernel(nn.Module):
    r"""How near vectors are to each other on average, near ones counting most.

    $$\log \frac{1}{n (n - 1)} \sum_{i \ne j} e^{\gamma (x_i \cdot x_j - 1)}$$

    It lies in $[-2 \gamma, 0]$: 0 where all are alike, near $-\gamma$ where they are spread over many dimensions. A
    vector is never compared with itself.

    Args:
        gamma: sharpness $\gamma$, positive.

    Raises:
        ValueError: for another sharpness.

    Example:
        >>> round(Kernel(gamma=2.0)(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item(), 4)
        -4.0

    It compares all pairs: take some thousand vectors at most.

    Source: Wang and Isola (2020), Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere.
    """

    def __init__(self, gamma: float = 4.0) -> None:
        super().__init__()
        require(0.0 < gamma < math.inf, "Kernel(gamma=...) must be positive", gamma)
        self.gamma = gamma

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the penalty of unit vectors `[n, m]`, n at least 2."""
        vectors = parted(vectors)
        n = _check_pairs(vectors, "Kernel")
        logits = self.gamma * (vectors @ vectors.T - 1.0)
        logits = logits.masked_fill(torch.eye(n, dtype=torch.bool, device=vectors.device), -torch.inf)
        return logits.flatten().logsumexp(0) - math.log(n * (n - 1))


@final
class KoLeo(nn.Module):
    r"""How near each vector's nearest neighbor is.

    $$-\frac{1}{2n} \sum_i \log \big( \min_{j \ne i} \lVert x_i - x_j \rVert^2 + \epsilon^2 \big)$$

    with $\epsilon = 0.01$, so that near pairs push with a bounded force; without it this is the estimate of the
    entropy by Kozachenko and Leonenko (with the sign turned and a constant left out).

    Example:
        >>> round(KoLeo()(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item(), 3)
        -0.693

    It compares all pairs: take some thousand vectors at most.

    Source: Sablayrolles, Douze, Schmid and Jegou (2019), Spreading Vectors for Similarity Search.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the penalty of unit vectors `[n, m]`, n at least 2."""
        vectors = parted(vectors)
        _check_pairs(vectors, "KoLeo")
        with torch.no_grad():
            nearest = (vectors @ vectors.T).fill_diagonal_(-torch.inf).argmax(-1)
        squares = (vectors - vectors[nearest]).square().sum(-1)
        return -0.5 * (squares + FLOOR**2).log().mean()


def parted(vectors: Tensor) -> Tensor:
    """Return the vectors with a little noise on those that (nearly) equal an earlier one; others are as they were."""
    with torch.no_grad():
        earlier = torch.tril(vectors @ vectors.T, diagonal=-1)
        # 1 - cos = d^2 / 2; float32 cosines are only good to about 1e-7, which is below CLOSE^2 / 2.
        again = (earlier > 1.0 - 0.5 * CLOSE**2).any(-1, keepdim=True)
        noise = torch.randn_like(vectors) * (NOISE / vectors.shape[1] ** 0.5)
    return vectors + torch.where(again, noise, 0.0)


def _check_pairs(vectors: Tensor, name: str) -> int:
    if len(vectors) < 2:
        raise ValueError(f"{name} needs at least two vectors; got {len(vectors)}.")
    return len(vectors)


@final
@dataclasses.dataclass(frozen=True)
class Dispersion:
    r"""How widely unit vectors are dispersed: whether learned ones still tell words apart.

    Args:
        smallest_angle: between two of those looked at, in radians, in $[0, \pi]$.
        variance: spherical variance $1 - \lVert \bar x \rVert$ in [0, 1]: 0 where all are alike.
        effective_rank: $\exp(-\sum_i p_i \log p_i)$ with $p$ the eigenvalues of the second moments, divided by their
            sum: from 1 (all on a line) to `most_rank`.
        most_rank: the largest that is possible, the smaller of width and number.

    Source of the effective rank: Roy and Vetterli (2007), The effective rank.
    """

    smallest_angle: float
    variance: float
    effective_rank: float
    most_rank: int

    def figures(self) -> dict[str, float]:
        """Return the figures by name, as a run's history has them."""
        return {"smallest_angle": self.smallest_angle, "variance": self.variance, "effective_rank": self.effective_rank}

    def warnings(self) -> list[str]:
        """Return sentences about what has gone wrong; none where nothing has."""
        found = []
        if self.variance < LEAST_VARIANCE or self.effective_rank < LEAST_RANK * self.most_rank:
            found.append(
                f"The words' vectors have collapsed: their spread is {self.variance:.2f} (1 is even) and they use "
                f"{self.effective_rank:.1f} of {self.most_rank} dimensions, so many words cannot be told apart. Train "
                "against a loss with contrast, add --dispersion sliced, or take --targets random."
            )
        elif self.smallest_angle < LEAST_ANGLE:
            found.append(
                f"At least two words have nearly the same vector (an angle of {self.smallest_angle:.1g}), so that "
                "one is written for the other; --dispersion sliced keeps them apart."
            )
        return found


@torch.no_grad()
def dispersion_of(table: Tensor, limit: int = MAX_ROWS) -> Dispersion:
    """Measure the dispersion of the rows of a table.

    Args:
        table: unit vectors `[num, width]`.
        limit: most rows that are looked at; of more, evenly chosen ones.

    Raises:
        ValueError: if there are fewer than two rows.

    Example:
        >>> found = dispersion_of(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]))
        >>> round(found.smallest_angle, 4), round(found.variance, 4), round(found.effective_rank, 4)
        (1.5708, 1.0, 2.0)
        >>> dispersion_of(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).warnings()[0][:38]
        "The words' vectors have collapsed: the"
    """
    if len(table) < 2:
        raise ValueError(f"dispersion_of needs at least two vectors; got {len(table)}.")
    if len(table) > limit:
        table = table[torch.arange(limit, device=table.device) * len(table) // limit]
    rows = table.double()
    cosines = (rows @ rows.T).fill_diagonal_(-1.0)
    place = int(cosines.argmax())
    first, second = rows[place // len(rows)], rows[place % len(rows)]
    # From the difference: a cosine near 1 has no digits left for a small angle.
    angle = 2.0 * math.asin(min(1.0, 0.5 * float((first - second).norm())))
    variance = 1.0 - float(rows.mean(0).norm())
    values = torch.linalg.eigvalsh(rows.T @ rows).clamp_min(0.0)
    fractions = values / values.sum()
    rank = float(torch.exp(-torch.special.xlogy(fractions, fractions).sum()))
    return Dispersion(angle, max(0.0, variance), rank, min(rows.shape))
