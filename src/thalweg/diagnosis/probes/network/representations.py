"""How many directions hidden states and token vectors use, how alike they are, and which vectors never moved."""

import functools
import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.parts import affordable
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject
from thalweg.heads.base import expand_to
from thalweg.objective import Objective

_STATES: Final = 512
_EXAMPLES: Final = 256
_ROWS: Final = 1024
_OUTLIER: Final = 4.0  # times the median norm


@probe()
def representations(subject: Subject) -> dict[str, Any]:
    r"""Measure the spread of the states that the last layer reads, and of the vectors of tokens in use.

    With the singular values s of the centered rows: the effective rank $\exp(-\sum_i p_i \log p_i)$,
    $p_i = s_i / \sum_j s_j$; the participation ratio $(\sum_i s_i^2)^2 / \sum_i s_i^4$; the first direction's share of
    the variance. Cosines are means over all pairs of rows.

    Source: Roy and Vetterli (2007), The Effective Rank; Ethayarajh (2019), How Contextual are Contextualized Word
    Representations?, for the cosines.
    """
    if subject.facts.family == "linear":
        return {}
    objective = subject.objective()
    used: dict[str, list[Tensor]] = {}

    def read(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        used.setdefault(name, []).append(args[0].detach())

    handles = [
        module.register_forward_pre_hook(functools.partial(read, name))
        for name, module in subject.model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    ]
    states, source = [], ""
    try:
        for batch in affordable(subject.train, _EXAMPLES):
            found, source = states_of(objective, batch)
            states.append(found)
    finally:
        for handle in handles:
            handle.remove()
    result: dict[str, Any] = {"of": source, "states": spread(_evenly(torch.cat(states), _STATES))}
    result["embeddings"] = _embeddings(
        subject, {name: torch.cat([x.reshape(-1) for x in ids]) for name, ids in used.items()}
    )
    return result


def states_of(objective: Objective, batch: Batch) -> tuple[Tensor, str]:
    """Return what the last linear layer reads at the real targets, rows `[n, width]`, and whose output that is.

    A head with a layer reads the model's output; else the model's last linear layer is taken, where it has one row for
    each row of the output.
    """
    last: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        last.clear()
        last[name] = args[0].detach()

    has_layer = any(True for _ in objective.head.parameters())
    handles = (
        []
        if has_layer
        else [
            module.register_forward_pre_hook(functools.partial(record, name))
            for name, module in objective.model.named_modules()
            if isinstance(module, nn.Linear)
        ]
    )
    try:
        with torch.no_grad():
            hidden = objective.hidden(batch).detach()
    finally:
        for handle in handles:
            handle.remove()
    source = "the model's output"
    for name, tensor in last.items():
        if tensor.shape[:-1] == hidden.shape[:-1]:
            hidden, source = tensor, f"the input of '{name}'"
    rows = hidden.reshape(-1, hidden.shape[-1]).float()
    if batch.mask is not None and batch.mask.shape == hidden.shape[: batch.mask.dim()]:
        rows = rows[expand_to(batch.mask, hidden.shape[:-1], "mask").reshape(-1)]
    return rows, source


def spread(rows: Tensor) -> dict[str, float | int]:
    """Return how the rows `[n, width]` spread: effective rank, participation ratio, cosines, first direction.

    Example:
        >>> found = spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        >>> round(found["effective_rank"], 6), round(found["first_share"], 6)
        (2.0, 0.5)
    """
    rows = rows.double()
    number, width = rows.shape
    centered = rows - rows.mean(0, keepdim=True)
    squares = torch.linalg.svdvals(centered).square() if number > 0 else rows.new_zeros(1)
    total = float(squares.sum())
    result: dict[str, float | int] = {
        "rows": number,
        "dimension": width,
        "cosine": mean_cosine(rows),
        "centered_cosine": mean_cosine(centered),
        "norm": float(rows.norm(dim=1).mean()) if number else math.nan,
    }
    # What is left of equal rows after centering is rounding.
    if total <= 1e-24 * max(float(rows.square().sum()), 1e-300):
        return result | {"effective_rank": 0.0, "relative_rank": 0.0, "participation": 0.0, "first_share": 1.0}
    share = squares.sqrt() / squares.sqrt().sum()
    rank = float(torch.exp(torch.special.entr(share).sum()))
    return result | {
        "effective_rank": rank,
        "relative_rank": rank / max(1, min(number - 1, width)),
        "participation": total**2 / float(squares.square().sum()),
        "first_share": float(squares[0]) / total,
    }


def mean_cosine(rows: Tensor) -> float:
    """Return the mean cosine of all pairs of rows that are not zero; NaN for fewer than two."""
    norms = rows.norm(dim=-1)
    rows = rows[norms > 0] / norms[norms > 0].unsqueeze(-1)
    number = len(rows)
    if number < 2:
        return math.nan
    return float(rows.sum(0).square().sum() - number) / (number * (number - 1))


def _embeddings(subject: Subject, used: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    if not used:
        return {}
    before = None if subject.initial is None else subject.initial()[0]
    found = {}
    for name, ids in used.items():
        module = subject.model.get_submodule(name)
        assert isinstance(module, nn.Embedding | nn.EmbeddingBag)
        ids = ids.long().unique()
        ids = ids[ids != module.padding_idx] if module.padding_idx is not None else ids
        table = module.weight.detach()
        rows = table[ids].float()
        norms = rows.norm(dim=1)
        median = float(norms.median()) if len(norms) else math.nan
        outliers = ids[norms > _OUTLIER * median] if median > 0.0 else ids[:0]
        entry: dict[str, Any] = {
            "used": len(ids),
            "rows": len(table),
            **{
                f"used_{key}": value
                for key, value in spread(_evenly(rows, _ROWS)).items()
                if key not in ("rows", "norm")
            },
            "median_norm": median,
            "largest_norm": float(norms.max()) if len(norms) else math.nan,
            "smallest_norm": float(norms.min()) if len(norms) else math.nan,
            "outliers": outliers[:20].tolist(),
            "outlier_share": len(outliers) / max(1, len(ids)),
        }
        start = _weight(before, name, table.shape)
        if start is not None:
            same = (table[ids] == start.to(table)[ids]).all(1)
            entry["unmoved_share"] = float(same.float().mean()) if len(ids) else math.nan
        found[name] = entry
    return found


def _weight(model: nn.Module | None, name: str, shape: Sequence[int]) -> Tensor | None:
    module = None if model is None else dict(model.named_modules()).get(name)
    if not isinstance(module, nn.Embedding | nn.EmbeddingBag) or module.weight.shape != shape:
        return None
    return module.weight.detach()


def _evenly(rows: Tensor, number: int) -> Tensor:
    """Return at most so many rows, evenly spaced."""
    if len(rows) <= number:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, number, dtype=torch.float64).round().long()]
