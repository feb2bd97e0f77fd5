"""The vectors that represent words in continuous outputs: frozen, trained, or following the model's own embedding."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.errors import require

SMOOTHING = 0.5  # added to every count, so that a word that training never saw has a probability


@final
class Targets(nn.Module):
    r"""A table of unit vectors, one for each word, on which a head's predictions are to fall.

    It is frozen by default: the rows are scaled to unit length once. A trainable table is scaled whenever it
    is read, so that only directions are learned. Nothing but the loss keeps trained vectors apart: a loss that only
    pulls predictions to their targets makes them all alike. Devices against this:

    - a loss with contrast (`Contrastive`, `SampledSoftmax`, `AnalyticSoftmax`): others push where one pulls;
    - `stop_gradient`: the table is the model's own token embedding, which learns as an input; targets only follow it;
    - `average`: targets follow it slowly, $s \leftarrow d s + (1 - d) e$ at every step with $d$ = `average`;
    - `dispersion`: a penalty from `thalweg.heads.dispersion`, added to the loss once for each target.

    Args:
        table: `[num, width]`, or the model's `nn.Embedding` to share it. Zero rows and non-finite numbers are refused.
        trainable: whether the table is learned (an embedding that is given is, by the model, in any case).
        special: ids of tokens that are not words (end, unknown, padding); they start out orthogonal to all others,
            unless the table is shared.
        counts: how often each word occurs in the training data, `[num]`, not negative: the source of `log_prior`.
        stop_gradient: no gradient flows through the targets; only for a shared table.
        average: $d$ in [0, 1), how much of the old targets stays at each step; only with `stop_gradient`; 0 is off.
        dispersion: module from vectors `[n, width]` to a 0-dim penalty, for a trainable table.
        dispersion_weight: factor of the penalty, not negative.
        sparse: whether the gradient of a trainable table holds only the rows that were used, as `nn.Embedding` has it,
            so that a step's cost does not grow with the vocabulary; for optimizers that take such gradients
            (`torch.optim.SGD`, `SparseAdam`, `Adagrad`). An embedding that is given decides for itself.
        dispersion_rows: rows of the table that the penalty sees each time, drawn at random; 0: all.

    Attributes:
        num: number of words.
        width: width of a vector.
        special: as given.
        seen: bool `[num]`, which words training has as targets; None without counts.
        log_prior: float32 `[num]`, the logarithm of each word's fraction of the training data,
            $\log (c_w + 1/2) - \log \sum_v (c_v + 1/2)$; None without counts.

    Raises:
        ValueError: a table that is not a matrix, has a zero row or a non-finite number; counts or special ids that
            don't fit it; an option out of range.

    Example:
        >>> targets = Targets(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        >>> targets(torch.tensor([1, 0]))
        tensor([[0.0000, 1.0000],
                [0.6000, 0.8000]])
        >>> targets.add(torch.tensor([[-5.0, 0.0]])), targets.num
        (tensor([2]), 3)

    Sources: Kumar and Tsvetkov (2019), Von Mises-Fisher Loss for Training Sequence to Sequence Models with Continuous
    Outputs; Godey, de la Clergerie and Sagot (2024), Headless Language Models (contrast); Tokarchuk et al. (2025), Keep
    your distance (dispersion).
    """

    log_prior: Tensor | None
    seen: Tensor | None
    fixed: Tensor | None
    slow: Tensor | None

    def __init__(
        self,
        table: Tensor | nn.Embedding,
        *,
        trainable: bool = False,
        special: Sequence[int] = (),
        counts: Tensor | None = None,
        stop_gradient: bool = False,
        average: float = 0.0,
        dispersion: nn.Module | None = None,
        dispersion_weight: float = 1.0,
        dispersion_rows: int = 0,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        shared = isinstance(table, nn.Embedding)
        rows = table.weight.detach() if isinstance(table, nn.Embedding) else table
        padding = table.padding_idx if isinstance(table, nn.Embedding) else None
        check_table(rows, "Targets(table=...)", padding=padding)
        require(0.0 <= average < 1.0, "Targets(average=...) must lie in [0, 1)", average)
        if (stop_gradient or average) and not (shared and stop_gradient):
            raise ValueError(
                "Targets(stop_gradient=..., average=...) need the model's nn.Embedding as table, and average needs "
                "stop_gradient: without a gradient something else must train it."
            )
        if not dispersion_weight >= 0.0 or dispersion_rows < 0:
            raise ValueError(
                "Targets(dispersion_weight=..., dispersion_rows=...) must not be negative; got "
                f"{dispersion_weight!r} and {dispersion_rows!r}."
            )
        self.special = tuple(special)
        self.stop_gradient = stop_gradient
        self.average = average
        self.dispersion = dispersion
        self.dispersion_weight = dispersion_weight
        self.dispersion_rows = dispersion_rows
        if any(not 0 <= token < len(rows) for token in self.special):
            raise ValueError(f"Targets(special=...) must lie in [0, {len(rows)}); got {list(special)}.")
        self.embedding: nn.Embedding | None = table if isinstance(table, nn.Embedding) else None
        if not shared:
            rows = F.normalize(rows.detach().double(), dim=-1).to(rows.dtype)
            # A generator of its own: the same table whatever has been drawn before.
            rows = apart(rows, self.special, torch.Generator().manual_seed(len(rows)))
            if trainable:
                self.embedding = nn.Embedding.from_pretrained(rows, freeze=False, sparse=sparse)
        self.register_buffer("fixed", rows if self.embedding is None else None)
        self.register_buffer("slow", rows.clone() if average else None)
        self.register_buffer("seen", None if counts is None else (counts > 0).to(rows.device))
        self.register_buffer("log_prior", None if counts is None else log_fractions(counts, len(rows)).to(rows.device))

    @property
    def num(self) -> int:
        """Number of words."""
        return len(self._rows())

    @property
    def width(self) -> int:
        """Width of a vector."""
        return self._rows().shape[1]

    @property
    def learns(self) -> bool:
        """Whether a loss can change the vectors: a gradient flows through them."""
        return self.embedding is not None and not self.stop_gradient

    def forward(self, ids: Tensor) -> Tensor:
        """Return unit vectors `[..., width]` for ids `[...]`; a gradient flows where the table is learned.

        None flows to the padding row of a shared embedding: a zero row has no direction that could turn.
        """
        if self.embedding is None:
            return F.embedding(ids, self._rows())
        padding, sparse = self.embedding.padding_idx, self.embedding.sparse
        return F.normalize(F.embedding(ids, self._rows(), padding_idx=padding, sparse=sparse), dim=-1)

    def table(self) -> Tensor:
        """Return all unit vectors `[num, width]`."""
        return self.block(0, self.num)

    def block(self, start: int, stop: int) -> Tensor:
        """Return the unit vectors of the ids from `start` up to `stop`, `[stop - start, width]`."""
        if self.fixed is not None:
            return self.fixed[start:stop]
        return self(torch.arange(start, stop, device=self._rows().device))

    def words(self) -> Tensor:
        """Return the ids of the rows that stand for words of the training data; of all words where too few are known.

        What is never a target (the words of the other language in a shared vocabulary) keeps the vector it began with,
        and says nothing about the others.
        """
        is_word = torch.ones(self.num, dtype=torch.bool, device=self._rows().device)
        is_word[list(self.special)] = False
        known = is_word if self.seen is None else is_word & self.seen
        return (known if int(known.sum()) >= 2 else is_word).nonzero().squeeze(1)

    def penalty(self) -> Tensor | None:
        """Return the weighted dispersion penalty, to be added to the loss of each target; None where there is none."""
        if self.dispersion is None or not self.dispersion_weight or not self.learns or not self.training:
            return None
        device = self._rows().device
        ids = torch.arange(self.num, device=device)
        if 0 < self.dispersion_rows < self.num:
            ids = torch.randint(self.num, (self.dispersion_rows,), device=device)
        return self.dispersion_weight * self.dispersion(self(ids).float())

    @torch.no_grad()
    def after_step(self) -> None:
        """Let slow targets follow the embedding by one step; nothing to do for others."""
        if self.slow is not None and self.embedding is not None:
            self.slow.lerp_(self.embedding.weight.detach().to(self.slow.dtype), 1.0 - self.average)

    @torch.no_grad()
    def add(self, vectors: Tensor, counts: Tensor | None = None) -> Tensor:
        """Append new words and return their ids `[n]`: a head can write them at once.

        An optimizer made before does not know the longer table.

        Args:
            vectors: `[n, width]`, scaled to unit length.
            counts: how often each word is expected, in the unit of the counts that the prior came from, relative to
                their sum: fractions in (0, 1), `[n]`; None: as often as the rarest word so far.

        Raises:
            ValueError: for vectors of another width, zero rows, non-finite numbers.
        """
        check_table(vectors, "Targets.add(vectors=...)", self.width)
        first, rows = self.num, self._rows()
        new = F.normalize(vectors.double(), dim=-1).to(rows)
        if self.embedding is not None:
            # Beside rows that have grown in training a short one would turn too easily.
            scale = self.embedding.weight.norm(dim=-1).median()
            grow_embedding(self.embedding, new * scale)
        if self.fixed is not None:
            self.fixed = torch.cat([self.fixed, new])
        if self.slow is not None:
            self.slow = torch.cat([self.slow, new])
        if self.log_prior is not None:
            prior = self.log_prior
            added = prior.min().expand(len(new)) if counts is None else counts.to(prior).log()
            if added.shape != (len(new),):
                raise ValueError(f"Targets.add(counts=...) must have the shape [{len(new)}]; got {list(added.shape)}.")
            prior = torch.cat([prior, added])
            self.log_prior = prior - prior.logsumexp(0)
        if self.seen is not None:
            self.seen = torch.cat([self.seen, self.seen.new_ones(len(new))])
        return torch.arange(first, self.num, device=rows.device)

    def _rows(self) -> Tensor:
        for table in (self.fixed, self.slow):
            if table is not None:
                return table
        assert self.embedding is not None
        return self.embedding.weight.detach() if self.stop_gradient else self.embedding.weight


def apart(table: Tensor, special: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """Return the table of unit vectors with the special rows orthogonal to each other and to all other rows.

    The end of a text, unknown words and padding are not words; next to one, they are written in its place. Each special
    row becomes a random direction, and the others lose what they have in common with those directions.
    """
    width = table.shape[1]
    ids = sorted(set(special))
    if not ids:
        return table.clone()
    if len(ids) >= width:
        raise ValueError(f"Targets: {len(ids)} special rows leave no direction for others in {width} dimensions.")
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


@torch.no_grad()
def grow_embedding(embedding: nn.Embedding, rows: Tensor) -> None:
    """Append rows `[n, width]` to an embedding, in place: whoever shares the module shares the longer table."""
    weight = embedding.weight
    if rows.ndim != 2 or rows.shape[1] != weight.shape[1]:
        raise ValueError(f"grow_embedding: expected rows of width {weight.shape[1]}; got shape {list(rows.shape)}.")
    embedding.weight = nn.Parameter(torch.cat([weight, rows.to(weight)]), requires_grad=weight.requires_grad)
    embedding.num_embeddings = len(embedding.weight)


def log_fractions(counts: Tensor, num: int) -> Tensor:
    """Return the logarithm of each word's fraction, half a count added to all, float32 `[num]`."""
    if counts.shape != (num,):
        raise ValueError(f"Targets(counts=...) must have one count for each row, [{num}]; got {list(counts.shape)}.")
    smoothed = counts.double() + SMOOTHING
    if not bool((torch.isfinite(smoothed) & (smoothed >= SMOOTHING)).all()):
        raise ValueError("Targets(counts=...) must be finite and not negative.")
    return (smoothed / smoothed.sum()).log().float()


def check_table(table: Tensor, call: str, width: int | None = None, padding: int | None = None) -> None:
    """Raise a ValueError unless the table is a finite matrix (of some width) without zero rows except for `padding`."""
    if table.ndim != 2 or not table.is_floating_point() or table.shape[1] < 2 or not len(table):
        raise ValueError(
            f"{call} must be a matrix of real numbers [num, width >= 2]; got {table.dtype} of shape "
            f"{list(table.shape)}."
        )
    if width is not None and table.shape[1] != width:
        raise ValueError(f"{call} must have vectors of width {width}; got width {table.shape[1]}.")
    sizes = table.detach().double().norm(dim=-1)
    is_bad = ~torch.isfinite(sizes) | (sizes == 0.0)
    if padding is not None:
        is_bad[padding] = ~torch.isfinite(sizes[padding])
    bad = is_bad.nonzero()
    if len(bad):
        row = int(bad[0])
        what = "only zeros" if float(sizes[row]) == 0.0 else "a non-finite number"
        raise ValueError(
            f"{call}: row {row} holds {what} ({len(bad)} of {len(table)} rows do so); a target needs a direction."
        )
