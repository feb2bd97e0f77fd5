"""Where target vectors come from: random, hypercube, combined, completed where words miss, special ones apart."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def random_table(num: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    """Return `num` vectors drawn uniformly from the unit sphere.

    Two of them meet at a cosine of about 1 / sqrt(width), so that thousands of words keep their distance from 64
    dimensions on.

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
    # `unique` has sorted what it kept: the order is drawn anew, so that near ids are no near corners.
    signs = signs[torch.randperm(num, generator=generator)]
    return (2.0 * signs - 1.0) / width**0.5


def combined_table(pretrained: Tensor, other: Tensor, share: float = 0.5) -> Tensor:
    r"""Return $\text{normalize}(a p_w + (1 - a) r_w)$: meaning from one table, distance from the other.

    Pretrained vectors of rare words are crowded together; a random part keeps them apart.

    Args:
        pretrained: $p$, `[num, width]`, scaled to unit length first.
        other: $r$, the same shape, scaled to unit length first.
        share: $a$ in [0, 1].

    Raises:
        ValueError: for tables of different shapes or a share out of its range.

    Example:
        >>> combined_table(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([[0.7071, 0.7071]])

    Source: Tokarchuk and Niculae (2024), as for `random_table`.
    """
    if pretrained.shape != other.shape:
        raise ValueError(
            f"combined_table needs two tables of one shape; got {list(pretrained.shape)} and {list(other.shape)}."
        )
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"combined_table(share=...) must lie in [0, 1]; got {share!r}.")
    return F.normalize(share * F.normalize(pretrained, dim=-1) + (1 - share) * F.normalize(other, dim=-1), dim=-1)


def completed_table(rows: Tensor, known: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return a table in which the rows that are not known are drawn from the distribution of those that are.

    The drawn rows have the mean and the covariance of the known ones (all at unit length), so that a missing word is
    neither an outlier nor at the center. With fewer than two known rows they come from the whole sphere.

    Args:
        rows: `[num, width]`; what stands in rows that are not known doesn't matter.
        known: bool `[num]`.
        generator: as for `random_table`.

    Returns:
        Unit vectors `[num, width]`, float32.

    Example:
        >>> rows = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> table = completed_table(rows, torch.tensor([True, True, False]))
        >>> table[:2], table.norm(dim=1)
        (tensor([[1., 0.],
                [0., 1.]]), tensor([1., 1., 1.]))
    """
    num, width = rows.shape
    drawn = torch.randn(num, width, generator=generator)
    given = F.normalize(rows[known].double(), dim=-1)
    if len(given) >= 2:
        mean = given.mean(0)
        values, axes = torch.linalg.eigh(torch.cov(given.T, correction=0))
        spread = axes * values.clamp_min(0.0).sqrt() @ axes.T
        drawn = (mean + drawn.double() @ spread).float()
    table = F.normalize(drawn, dim=-1)
    table[known] = given.float()
    return table


def apart(table: Tensor, special: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """Return the table with the special rows at right angles to each other and to all other rows.

    The end of a text, unknown words and padding are no words; next to one, they are written in its place. Each special
    row becomes a random direction, and the others lose what they have in common with those directions.

    Args:
        table: unit vectors `[num, width]`.
        special: ids of the rows that are to be apart, fewer than `width`.
        generator: as for `random_table`.

    Raises:
        ValueError: for ids out of range or as many of them as dimensions.

    Example:
        >>> table = apart(random_table(50, 16), [0, 3])
        >>> cosines = table @ table.T
        >>> bool(cosines[0, 1:].abs().max() < 1e-6), bool(cosines[3, 4:].abs().max() < 1e-6)
        (True, True)
    """
    num, width = table.shape
    ids = sorted(set(special))
    if not ids:
        return table.clone()
    if ids[0] < 0 or ids[-1] >= num:
        raise ValueError(f"apart(special=...) must be rows of the table, in [0, {num}); got {list(special)}.")
    if len(ids) >= width:
        raise ValueError(f"apart: {len(ids)} special rows leave no direction for others in {width} dimensions.")
    drawn = torch.randn(width, len(ids), generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(drawn)[0].to(table.device)
    others = table.double() - (table.double() @ directions) @ directions.T
    # A row inside the span of those directions would vanish: it gets one of the directions that are left.
    lost = others.norm(dim=-1) < 1e-6
    if bool(lost.any()):
        replaced = torch.randn(int(lost.sum()), width, generator=generator, dtype=torch.float64).to(table.device)
        others[lost] = replaced - (replaced @ directions) @ directions.T
    others = F.normalize(others, dim=-1)
    others[torch.tensor(ids, device=table.device)] = directions.T
    return others.to(table.dtype)


def _check_sizes(num: int, width: int) -> None:
    if num < 1 or width < 2:
        raise ValueError(f"A table of targets needs at least 1 row and a width of at least 2; got {num} and {width}.")
