"""What the operations of a forward pass give, and what comes back to them: figures of one pass, in forward order."""

import functools
import inspect
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from thalweg.training.steps import attention
from thalweg.training.steps.operations import ATTENTIVE, kind_of_module, kinds

MAX_SITES = 64
MAX_SEEN = 1024  # in a pass; MAX_SITES of them are measured
MAX_REPEATS = 16  # of one kind in one module, as in a loop over time
MAX_ENTRIES = 2**15  # of an output that are measured, spread over its rows
SATURATED: Final = {"tanh": (-0.97, 0.97), "sigmoid": (0.03, 0.97)}
Site = dict[str, Any]


@final
class Sites:
    """Measures the first forward pass of some networks while it is attached, and the gradients that come back to it.

    Nothing of the pass is changed: outputs are read where they are made, gradients by hooks that return nothing. A pass
    without gradients is not measured, nor is anything that runs during a backward pass, such as the second forward pass
    of checkpointed layers. Compiled networks are left alone, since hooks would compile them again.

    Args:
        networks: with the prefix of their modules' names; the first has "".
    """

    def __init__(self, networks: Iterable[tuple[str, nn.Module]]) -> None:
        self._names = names_of_modules(networks)
        self._is_compiled = any(map(is_compiled, self._names))
        self._handles: list[RemovableHandle] = []
        self._chosen: set[int] | None = None  # places in the pass that are measured, once there were too many
        self.trouble = ""  # why nothing is measured any more
        self._begin()

    def _begin(self) -> None:
        self._found: list[Site] = []
        self._stack: list[nn.Module] = []
        self._outermost: set[nn.Module] = set()
        self._repeats: Counter[tuple[str, str]] = Counter()
        self._named: Counter[str] = Counter()
        self._count = 0
        self._is_over = False
        self._mode: _Calls | None = None
        self._whole: nn.Module | None = None  # a module that is one operation, while it runs

    def attach(self, entered: nn.Module | None = None) -> None:
        """Measure the next forward pass; or the one under way in a module that has just been entered."""
        self._remove_hooks()
        self._begin()
        if (
            not self.trouble and not self._is_compiled
        ):  # hooks for all modules of the process cost less than one for each module
            self._handles = [
                register_module_forward_pre_hook(self._enter),
                register_module_forward_hook(self._leave, always_call=True),
            ]
            if entered is not None:
                self._enter(entered, None)

    def detach(self, flow: float = 1.0) -> list[Site]:
        """Stop, and return what was measured, gradients times `flow` (waits for the device)."""
        self._remove_hooks()
        self._stop()
        found = self._found
        self._begin()
        if self.trouble:
            return []
        try:
            sites = _resolved(found)
        except Exception as error:  # whatever it is, the training goes on
            self._give_up(error)
            return []
        if len(sites) > MAX_SITES:
            sites = [sites[i] for i in evenly(sites, MAX_SITES)]
            self._chosen = {site["place"] for site in sites}
        for site in sites:
            del site["place"]
            if "flow" in site:
                site["flow"] *= flow
        return sites

    def end_forward(self) -> None:
        """Measure no more operations; gradients still come back to those that were seen."""
        self._remove_hooks()

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _enter(self, module: nn.Module, _: Any) -> None:
        if module not in self._names:  # another network's, or a copy
            return
        if not self._stack:
            backward = torch._C._current_graph_task_id() != -1
            if self._is_over or backward or not torch.is_grad_enabled() or module in self._outermost:
                return
            self._outermost.add(module)
            self._mode = _Calls(self.called)
            self._mode.__enter__()
        self._stack.append(module)
        if self._whole is None and kind_of_module(module) is not None:
            self._whole = module

    def _leave(self, module: nn.Module, _: Any, output: Any) -> None:
        if module not in self._stack:
            return
        while self._stack.pop() is not module:
            pass
        if self._whole is module:
            self._whole = None
            kind = kind_of_module(module)
            if isinstance(output, Tensor) and kind is not None:
                self._take(kind, output, module)
        if not self._stack:
            self._stop()

    def _stop(self) -> None:
        self._stack.clear()
        if self._mode is not None:
            mode, self._mode = self._mode, None
            mode.__exit__(None, None, None)

    def called(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Take what a function of PyTorch has returned."""
        kind = kinds().get(function)
        if kind is None or self._whole is not None or not self._stack:
            return
        module = self._stack[-1]
        output = result
        while isinstance(output, tuple | list) and output:
            output = output[0]
        if not isinstance(output, Tensor):
            return
        more: Callable[[], dict[str, Tensor]] | None = None
        if kind == "attention":
            more = functools.partial(_attention, function, args, kwargs)
        elif kind == "softmax" and ATTENTIVE.search(type(module).__name__) and output.dim() > 2:
            kind, more = "attention", lambda: attention.score_figures(args[0] if args else kwargs["input"])
        self._take(kind, output, module, more)

    def _take(
        self, kind: str, output: Tensor, module: nn.Module, more: Callable[[], dict[str, Tensor]] | None = None
    ) -> None:
        if not torch.is_grad_enabled():  # a part of the pass that nothing is learned from
            return
        name = self._names[module]
        self._repeats[name, kind] += 1
        is_number = output.is_floating_point() and output.numel() > 0
        if not is_number or self._repeats[name, kind] > MAX_REPEATS or self._count >= MAX_SEEN or self.trouble:
            return
        place, self._count = self._count, self._count + 1
        if self._chosen is not None and place not in self._chosen:
            return
        self._named[name] += 1
        site: Site = {"name": name if self._named[name] == 1 else f"{name} #{self._named[name]}", "kind": kind}
        site["place"] = place
        try:
            with torch.no_grad(), torch.autocast(output.device.type, enabled=False):
                site |= _figures(kind, output.detach())
                if more is not None:
                    site |= more()
            if output.requires_grad:
                output.register_hook(lambda gradient: self._returned(site, gradient))
        except Exception as error:
            self._give_up(error)
            return
        self._found.append(site)

    def _returned(self, site: Site, gradient: Tensor) -> None:
        if not self._stack:  # else the model differentiates inside its forward pass
            self._is_over = True
            self._remove_hooks()
        try:
            site["flow"] = torch.linalg.vector_norm(gradient.detach().float())
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.trouble = self.trouble or told(error)


@final
class _Calls(TorchFunctionMode):
    """Tells of every call of a function of PyTorch after it has returned."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__()
        self._tell = tell

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._tell(func, args, kwargs, result)
        return result


def told(error: Exception) -> str:
    """Return an error as one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def names_of_modules(networks: Iterable[tuple[str, nn.Module]]) -> dict[nn.Module, str]:
    """Return each module's path; that of a network without a prefix is its class in lower case, as for its layer."""
    names: dict[nn.Module, str] = {}
    for prefix, network in networks:
        for name, module in network.named_modules():
            path = ".".join(filter(None, [prefix, name])) or type(network).__name__.lower()
            names.setdefault(module, path.replace("_orig_mod.", ""))
    return names


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is compiled, by `torch.compile` or its own `compile`."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def evenly(sites: Sequence[Site], number: int) -> list[int]:
    """Return the places of at most so many sites, of each kind its share, spread from its first to its last."""
    by_kind: defaultdict[str, list[int]] = defaultdict(list)
    for i, site in enumerate(sites):
        by_kind[site["kind"]].append(i)
    kept = []
    for places in by_kind.values():
        share = min(len(places), max(1, math.floor(number * len(places) / len(sites))))
        last = len(places) - 1
        kept += [places[round(i * last / max(share - 1, 1))] for i in range(share)]
    return sorted(kept)[:number]


def _figures(kind: str, output: Tensor) -> dict[str, Tensor]:
    """Return mean, standard deviation and share of zeros of an output, and what its kind adds."""
    rows = output.flatten(0, -2) if output.dim() > 1 else output.reshape(1, -1)
    some = rows[:: math.ceil(rows.numel() / MAX_ENTRIES) or 1].float()
    deviation, mean = torch.std_mean(some, correction=0)
    figures = {"mean": mean, "std": deviation, "zero": 1.0 - some.count_nonzero() / some.numel()}
    if kind == "relu":
        figures["dead"] = (rows.amax(0) <= 0.0).float().mean()
    if kind in SATURATED:
        low, high = SATURATED[kind]
        figures["saturated"] = ((some < low) | (some > high)).float().mean()
    return figures


def _attention(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    if function is F.multi_head_attention_forward:
        bound = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
        return attention.projected_figures(bound.arguments)
    return attention.dot_product_figures(*args, **kwargs)


def _resolved(sites: list[Site]) -> list[Site]:
    """Return sites with plain numbers; those of one device are fetched at once."""
    tensors: defaultdict[torch.device, list[tuple[Site, str]]] = defaultdict(list)
    for site in sites:
        for key, value in site.items():
            if isinstance(value, Tensor):
                tensors[value.device].append((site, key))
    for places in tensors.values():
        values = torch.stack([site[key].float() for site, key in places]).tolist()
        for (site, key), value in zip(places, values, strict=True):
            site[key] = float(f"{value:.6g}")
    return sites
