"""Whether learned vectors still tell words apart: smallest angle, spread, effective rank."""

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

MAX_ROWS = 2048  # of a table that are compared with each other
LEAST_VARIANCE = 0.1
LEAST_RANK = 0.05  # as a share of what is possible
LEAST_ANGLE = 1e-3


@final
@dataclasses.dataclass(frozen=True)
class Spread:
    r"""How widely unit vectors are spread.

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
        return {
            "smallest_angle": self.smallest_angle,
            "variance": self.variance,
            "effective_rank": self.effective_rank,
        }

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
def spread_of(table: Tensor, limit: int = MAX_ROWS) -> Spread:
    """Measure the spread of the rows of a table.

    Args:
        table: unit vectors `[num, width]`.
        limit: most rows that are looked at; of more, evenly chosen ones.

    Raises:
        ValueError: if there are fewer than two rows.

    Example:
        >>> spread = spread_of(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]))
        >>> round(spread.smallest_angle, 4), round(spread.variance, 4), round(spread.effective_rank, 4)
        (1.5708, 1.0, 2.0)
        >>> spread_of(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).warnings()[0][:38]
        "The words' vectors have collapsed: the"
    """
    if len(table) < 2:
        raise ValueError(f"spread_of needs at least two vectors; got {len(table)}.")
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
    shares = values / values.sum()
    rank = float(torch.exp(-torch.special.xlogy(shares, shares).sum()))
    return Spread(angle, max(0.0, variance), rank, min(rows.shape))
