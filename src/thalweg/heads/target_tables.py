"""Where target vectors come from: random, hypercube, combined, or completed where words are missing."""

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.errors import require


def random_table(num: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    """Return `num` vectors drawn uniformly from the unit sphere.

    Two of them meet at a cosine of about 1 / sqrt(width), so thousands of words keep their distance from 64 dimensions
    on.

    Args:
        num: number of vectors V, at least 1.
        width: their width m, at least 2.
        generator: of the random numbers, on the CPU; None: PyTorch's own.

    Returns:
        float32 `[num, width]`.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> random_table(3, 8, torch.Generator().manual_seed(0)).norm(dim=1)
        tensor([1.0000, 1.0000, 1.0000])

    Source: Tokarchuk and Niculae (2024), The Unreasonable Effectiveness of Random Target Embeddings for
    Continuous-Output Neural Machine Translation.
    """
    _check_sizes(num, width)
    return F.normalize(torch.randn(num, width, generator=generator), dim=-1)


def hypercube_table(num: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    """Return `num` different corners of a hypercube in the unit sphere, drawn at random.

    Each entry is `1 / sqrt(width)` or its negative, so a table can be kept as bits; two corners differ by a cosine of
    at least 2 / width.

    Args:
        num: number of vectors V, at most `2 ** width`.
        width: their width m, at least 2.
        generator: as for `random_table`.

    Raises:
        ValueError: there are not so many corners, or a number out of its range.

    Example:
        >>> hypercube_table(4, 2, torch.Generator().manual_seed(0)).abs()[0]
        tensor([0.7071, 0.7071])

    Source: Tokarchuk and Niculae (2024), as for `random_table`.
    """
    _check_sizes(num, width)
    if width < 63 and num > 2**width:
        raise ValueError(f"hypercube_table: {width} dimensions have {2**width} corners, fewer than num={num}.")
    signs = torch.randint(2, (num, width), generator=generator, dtype=torch.int8)
    # Corners that came before are drawn again; the loop ends at once unless the table is nearly full.
    while len(kept := torch.unique(signs, dim=0)) < num:
        signs = torch.cat([kept, torch.randint(2, (num - len(kept), width), generator=generator, dtype=torch.int8)])
    # `unique` has sorted what it kept: the order is drawn again, so that near ids are not near corners.
    signs = signs[torch.randperm(num, generator=generator)]
    return (2.0 * signs - 1.0) / width**0.5


def combined_table(pretrained: Tensor, other: Tensor, fraction: float = 0.5) -> Tensor:
    r"""Return $\text{normalize}(a p_w + (1 - a) r_w)$: meaning from one table, distance from the other.

    Pretrained vectors of rare words are crowded together; a random part keeps them apart.

    Args:
        pretrained: $p$, `[num, width]`, scaled to unit length first.
        other: $r$, the same shape, scaled to unit length first.
        fraction: $a$ in [0, 1].

    Raises:
        ValueError: for tables of different shapes or a fraction out of its range.

    Example:
        >>> combined_table(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([[0.7071, 0.7071]])

    Source: Tokarchuk and Niculae (2024), as for `random_table`.
    """
    if pretrained.shape != other.shape:
        raise ValueError(
            f"combined_table needs two tables of one shape; got {list(pretrained.shape)} and {list(other.shape)}."
        )
    require(0.0 <= fraction <= 1.0, "combined_table(fraction=...) must lie in [0, 1]", fraction)
    return F.normalize(fraction * F.normalize(pretrained, dim=-1) + (1 - fraction) * F.normalize(other, dim=-1), dim=-1)


def completed_table(rows: Tensor, known: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return a table in which the rows that are not known are drawn from the distribution of those that are.

    The drawn rows have the mean and the covariance of the known ones (all at unit length), so that a missing word is
    neither an outlier nor at the center. With fewer than two known rows they come from the whole sphere.

    Args:
        rows: `[num, width]`; what rows that are not known hold doesn't matter.
        known: bool `[num]`.
        generator: as for `random_table`.

    Returns:
        Unit vectors `[num, width]`, float32.

    Example:
        >>> rows = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> table = completed_table(rows, torch.tensor([True, True, False]))
        >>> table[:2], torch.allclose(table.norm(dim=1), torch.ones(3))
        (tensor([[1., 0.],
                [0., 1.]]), True)
    """
    num, width = rows.shape
    drawn = torch.randn(num, width, generator=generator)
    given = F.normalize(rows[known].double(), dim=-1)
    if len(given) >= 2:
        mean = given.mean(0)
        values, axes = torch.linalg.eigh(torch.cov(given.T, correction=0))
        root = axes * values.clamp_min(0.0).sqrt() @ axes.T
        drawn = (mean + drawn.double() @ root).float()
    table = F.normalize(drawn, dim=-1)
    table[known] = given.float()
    return table


def _check_sizes(num: int, width: int) -> None:
    if num < 1 or width < 2:
        raise ValueError(f"A table of targets needs at least 1 row and a width of at least 2; got {num} and {width}.")
