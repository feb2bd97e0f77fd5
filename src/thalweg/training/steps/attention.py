"""What attention looks at: entropy by head, largest score, weight on masked keys; computed again for some queries."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_EXAMPLES = 8
MAX_PAIRS = 64  # of examples and heads, where both are in one dimension
MAX_QUERIES = 64
MASKED = -1e4  # scores of masked keys are this or less; relative positions and the like stay above it


def dot_product_figures(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> dict[str, Tensor]:
    """Return the figures of `F.scaled_dot_product_attention`, from its arguments."""
    del value, dropout_p
    length, size = key.shape[-2], query.shape[-1]
    places = _spread(query.shape[-2], query.device)
    query, key = _some(query), _some(key)
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query.float()[..., places, :] @ key.float().transpose(-1, -2)
    scores = scores * (1.0 / math.sqrt(size) if scale is None else scale)
    if is_causal:
        seen = torch.arange(length, device=scores.device) <= places.unsqueeze(-1)
        scores = scores.masked_fill(~seen, -math.inf)
    if attn_mask is not None:
        mask = _some(attn_mask) if attn_mask.dim() == query.dim() and len(attn_mask) > 1 else attn_mask.detach()
        mask = mask[..., places, :] if mask.shape[-2] > 1 else mask
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask.float()
    return _figures(scores)


def score_figures(scores: Tensor) -> dict[str, Tensor]:
    """Return the figures of a softmax over keys, from its input `[batch, heads, queries, keys]` or with both joined."""
    some = _some(scores)
    return _figures(some[..., _spread(some.shape[-2], some.device), :].float())


def projected_figures(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """Return the figures of `F.multi_head_attention_forward`, from its arguments by name."""
    width, heads = arguments["embed_dim_to_check"], arguments["num_heads"]
    query, key = arguments["query"], arguments["key"]  # [time, batch, width], or [time, width]
    if query.dim() == 2:
        query, key = query.unsqueeze(1), key.unsqueeze(1)
    batch = query.shape[1]
    query, key = query[:, :MAX_EXAMPLES], key[:, :MAX_EXAMPLES]
    if arguments.get("use_separate_proj_weight"):
        weights = (arguments["q_proj_weight"], arguments["k_proj_weight"])
    else:
        weights = tuple(arguments["in_proj_weight"].split(width)[:2])
    bias = arguments.get("in_proj_bias")
    biases = (None, None) if bias is None else bias.split(width)[:2]
    parts = (F.linear(x, w, b) for x, w, b in zip((query, key), weights, biases, strict=True))
    query, key = (x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for x in parts)
    mask = arguments.get("attn_mask")
    if mask is not None:
        mask = _additive(mask)
        mask = mask.view(batch, heads, *mask.shape[1:])[:MAX_EXAMPLES] if mask.dim() == 3 else mask
    padding = arguments.get("key_padding_mask")
    if padding is not None:
        padding = _additive(padding).reshape(-1, padding.shape[-1])[:MAX_EXAMPLES, None, None, :]
        mask = padding if mask is None else mask + padding
    return dot_product_figures(query, key, key, mask)


def _additive(mask: Tensor) -> Tensor:
    """Return a mask whose True leaves a key out as one that is added to the scores."""
    if mask.dtype != torch.bool:
        return mask.float()
    return torch.zeros(mask.shape, device=mask.device).masked_fill(mask, -math.inf)


def _some(x: Tensor) -> Tensor:
    return x.detach()[: MAX_EXAMPLES if x.dim() > 3 else MAX_PAIRS] if x.dim() > 2 else x.detach()


def _spread(length: int, device: torch.device) -> Tensor:
    """Return at most `MAX_QUERIES` places, spread evenly over a length."""
    return torch.arange(0, length, max(1, math.ceil(length / MAX_QUERIES)), device=device)


def _figures(scores: Tensor) -> dict[str, Tensor]:
    """Return the figures of scores `[..., heads, queries, keys]`; of queries that see one key there is no entropy."""
    seen = scores > MASKED
    count = seen.sum(-1)
    weights = torch.softmax(scores, -1)
    entropy = torch.special.entr(weights).sum(-1) / count.clamp(min=2).float().log()
    counts = (count > 1).float()
    entropy = torch.where(count > 1, entropy, 0.0)
    heads = [dim for dim in range(entropy.dim()) if dim != entropy.dim() - 2]
    by_head = entropy.sum(heads) / counts.expand_as(entropy).sum(heads)
    masked = torch.where(seen | (count == 0).unsqueeze(-1), 0.0, weights).sum(-1)
    return {
        "entropy": entropy.sum() / counts.expand_as(entropy).sum(),
        "entropy_min": by_head.min(),
        "max_logit": torch.where(seen, scores, -math.inf).max(),
        "padding": masked.sum() / (count > 0).sum().clamp(min=1),
    }
