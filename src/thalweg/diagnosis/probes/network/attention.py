"""Where attention looks: entropies, largest logits, mass on padding and on single positions, by head."""

import functools
import math
from collections.abc import Callable
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from thalweg.diagnosis.probes.parts import affordable, real_tokens, token_names
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject

_EXAMPLES: Final = 32
_AT_ONCE: Final = 8  # examples of a batch whose weights are computed
_PEAKED: Final = 0.95
_HIDDEN: Final = -1e4  # an additive mask of this much hides a key


@probe()
def attention(subject: Subject) -> dict[str, Any]:
    r"""Measure the attention weights a of each operation and head, over the queries at real tokens.

    Entropy $-\sum_k a_k \log a_k / \log n$ over the n keys that a query may see (queries that see more than one),
    the largest logit, the share of queries with a weight above 0.95, the mass on padding, and the mean cosine of the
    weights of two queries of an example. Operations are seen wherever they run: `scaled_dot_product_attention`,
    `nn.MultiheadAttention`, and a softmax over `[batch, heads, queries, keys]`.

    Source: Zhai et al. (2023), Stabilizing Transformer Training by Preventing Attention Entropy Collapse; Wortsman et
    al. (2023), Small-Scale Proxies for Large-Scale Transformer Training Instabilities, for the logits.
    """
    objective = subject.objective()
    looks = _Looks()
    handles = []
    for name, module in subject.model.named_modules():
        handles.append(module.register_forward_pre_hook(functools.partial(looks.enter, name)))
        handles.append(module.register_forward_hook(looks.leave, always_call=True))
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for batch in affordable(subject.train, _EXAMPLES):
            looks.start(
                [real for name in token_names(batch) if (real := real_tokens(batch, name, subject)) is not None]
            )
            with torch.no_grad(), looks:
                objective.hidden(batch)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()
    return {"sites": looks.result()} if looks.sums else {}


@final
class _Looks(TorchFunctionMode):
    """Sums over queries, by operation in the order in which they run, and head."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[str, dict[str, Tensor]] = {}
        self._inside: list[str] = []
        self._real: list[Tensor] = []
        self._seen: dict[str, int] = {}

    def start(self, real: list[Tensor]) -> None:
        """A batch begins, with tokens that are real at these places."""
        self._real, self._seen = real, {}

    def enter(self, name: str, module: nn.Module, args: object) -> None:
        del module, args
        self._inside.append(name)

    def leave(self, module: nn.Module, args: object, output: object) -> None:
        del module, args, output
        self._inside.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, and measure it if it is attention."""
        del types
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._of_product(*args, **kwargs)
        elif func is F.multi_head_attention_forward:
            weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})[1]
            if weights is not None:
                weights = weights.unsqueeze(0) if weights.dim() == 3 else weights
                self._measure(weights.float(), weights > 0.0, None)
        result = func(*args, **kwargs)
        if func in (F.softmax, torch.softmax, Tensor.softmax) and isinstance(result, Tensor) and result.dim() == 4:
            logits = args[0][:_AT_ONCE].float()
            self._measure(result[:_AT_ONCE].float(), logits > _HIDDEN, logits)
        return result

    def _of_product(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> None:  # fmt: skip
        del value, dropout_p
        if query.dim() != 4:
            return
        query, key = query[:_AT_ONCE].float(), key[:_AT_ONCE].float()
        if enable_gqa:
            key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        logits = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        visible = torch.ones_like(logits, dtype=torch.bool)
        if is_causal:
            visible = visible.tril()
        if attn_mask is not None:
            mask = attn_mask[:_AT_ONCE] if attn_mask.dim() == 4 and len(attn_mask) > 1 else attn_mask
            if mask.dtype == torch.bool:
                visible = visible & mask
            else:
                logits = logits + mask.float()
                visible = visible & (logits > _HIDDEN)
        weights = torch.softmax(logits.masked_fill(~visible, -math.inf), -1).nan_to_num(0.0)
        self._measure(weights, visible, logits)

    def _measure(self, weights: Tensor, visible: Tensor, logits: Tensor | None) -> None:
        """Add one operation's weights `[batch, heads, queries, keys]`."""
        batch, heads, num_queries, num_keys = weights.shape
        module = self._inside[-1] if self._inside else ""
        place = self._seen[module] = self._seen.get(module, 0) + 1
        name = (module or "the model") + (f" #{place}" if place > 1 else "")
        real_keys = next((real[:batch] for real in self._real if real.shape[1] == num_keys), None)
        queries = next((real[:batch] for real in self._real if real.shape[1] == num_queries), None)
        if queries is None or len(queries) != batch:
            queries = torch.ones(batch, num_queries, dtype=torch.bool, device=weights.device)
        numbers = visible.expand_as(weights).sum(-1)
        counted = (queries[:, None, :] & (numbers > 1)).to(weights.dtype)
        entropy = torch.special.entr(weights).sum(-1) / numbers.clamp(min=2).log()
        unit = F.normalize(weights, dim=-1) * queries[:, None, :, None]
        alone = queries.sum(1).to(weights.dtype)
        pairs = (alone * (alone - 1.0)).clamp(min=0.0)
        alike = unit.sum(2).square().sum(-1) - (unit * unit).sum((2, 3))
        found = {
            "queries": counted.sum((0, 2)),
            "entropy": (entropy * counted).sum((0, 2)),
            "peaked": ((weights.amax(-1) > _PEAKED) * counted).sum((0, 2)),
            "keys": (numbers * counted).sum((0, 2)),
            "pairs": pairs.sum().expand(heads),
            "similarity": alike.sum(0),
        }
        if real_keys is not None and len(real_keys) == batch:
            on_padding = (weights * ~real_keys[:, None, None, :]).sum(-1)
            found["padding"] = (on_padding * queries[:, None, :]).sum((0, 2))
            found["real queries"] = queries.sum().expand(heads).to(weights.dtype)
        sums = self.sums.setdefault(name, {key: torch.zeros(heads, dtype=torch.float64) for key in found})
        for key, part in found.items():
            sums[key] = sums.get(key, torch.zeros(heads, dtype=torch.float64)) + part.double().cpu()
        if logits is not None:
            seen = logits.masked_fill(~(visible & queries[:, None, :, None]), -math.inf).amax((0, 2, 3)).double().cpu()
            sums["max_logit"] = torch.maximum(sums.get("max_logit", seen), seen)

    def result(self) -> list[dict[str, Any]]:
        sites = []
        for name, sums in self.sums.items():
            number = sums["queries"].clamp(min=1.0)
            site: dict[str, Any] = {
                "name": name,
                "heads": len(number),
                "queries": float(sums["queries"][0]),
                "keys": float(sums["keys"][0] / number[0]),
                "entropy": sums["entropy"] / number,
                "peaked": sums["peaked"] / number,
                "similarity": sums["similarity"] / sums["pairs"].clamp(min=1.0),
                "max_logit": sums.get("max_logit"),
                "padding": sums["padding"] / sums["real queries"].clamp(min=1.0) if "padding" in sums else None,
            }
            if float(sums["queries"][0]) == 0.0:
                site["entropy"] = site["peaked"] = None
            sites.append(site)
        return sites
