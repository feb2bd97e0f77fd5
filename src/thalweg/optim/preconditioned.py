"""What all optimizers that see weights as matrices share: groups, state, Adam for everything else, and refreshes."""

import abc
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adam import adam
from typing_extensions import override

from thalweg import distributed
from thalweg.optim.layout import Layout

FUSED_DEVICES: Final = frozenset({"cpu", "cuda"})
LARGEST_STACKED: Final = 2**14  # entries of a matrix that is stacked with others on a CPU


@dataclasses.dataclass(frozen=True)
class Matrices:
    """A parameter that is stepped as matrices.

    Args:
        parameter: as given to the optimizer.
        group: the group it is in.
        layout: how it is seen as a stack of matrices.
        state: what is remembered of it, with `step` counting from 1.
        gradient: `[count, rows, columns]`, in single precision at least.
        turn: the step, counted modulo the group's `frequency`, at which it is refreshed.
        first: the step after which it is refreshed for the first time.
    """

    parameter: Tensor
    group: dict[str, Any]
    layout: Layout
    state: dict[str, Any]
    gradient: Tensor
    turn: int = 0
    first: int = 1

    @property
    def is_due(self) -> bool:
        """Whether it is refreshed after this step."""
        step = self.state["step"]
        return step == self.first or (step > self.first and step % self.group["frequency"] == self.turn)


class AbstractPreconditioned(Optimizer, abc.ABC):
    """Steps weight matrices by a method for matrices, everything else by AdamW, in one `torch.optim.Optimizer`.

    A parameter is stepped as matrices if its group's `matrix` is True, or if it is None and the parameter has two axes
    longer than one. `pieces` and `transposed` of a group say how the matrices lie in a parameter: see `Layout`.
    `thalweg.optim.parameter_groups` makes such groups from a model.

    A gradient whose norm is not finite counts as zero for the whole parameter; nothing waits for a GPU to know it.
    """

    refreshes: bool = False
    """Whether there are decompositions that are made every `frequency` steps only."""

    begins_within: int | None = None
    """Steps within which every matrix has its first decomposition; None: `frequency`."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], spread: bool) -> None:
        self.spread = spread
        self._turns: dict[int, tuple[int, int]] = {}
        super().__init__(params, {"matrix": None, "pieces": 1, "transposed": False, "maximize": False} | defaults)

    @abc.abstractmethod
    def _directions(self, matrices: Sequence[Matrices]) -> list[Tensor]:
        """Return the step of each, to be subtracted times the rate; updates the states."""

    def _refresh(self, due: Sequence[Matrices]) -> None:
        """Make the decompositions anew of those whose turn it is; after the step."""

    @override
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as in PyTorch.

        Raises:
            ValueError: for complex parameters, a number out of its range, and what PyTorch refuses.
        """
        super().add_param_group(param_group)
        try:
            self._check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise
        self._turns = {}

    @torch.no_grad()
    @override
    def step(self, closure: Callable[[], Tensor | float] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step with the gradients that are there; a closure is called once, before."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices: list[Matrices] = []
        all_finite = self._are_finite()
        for group in self.param_groups:
            others: list[tuple[Tensor, Tensor]] = []
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = self._gradient(parameter, group, all_finite)
                state = self.state[parameter]
                state["step"] = state.get("step", 0) + 1
                if self._is_matrix(parameter, group):
                    layout = self._layout(parameter, group)
                    stack = layout.split(gradient).contiguous()
                    turn = self._turn(parameter, group)
                    matrices.append(Matrices(parameter, group, layout, state, stack, turn, self._first(turn, group)))
                else:
                    others.append((parameter, gradient))
            self._step_others(others, group)
        merged = [e.layout.merge(way) for e, way in zip(matrices, self._directions(matrices), strict=True)]
        for group in self.param_groups:
            moved = [(e.parameter, way) for e, way in zip(matrices, merged, strict=True) if e.group is group]
            self._move([parameter for parameter, _ in moved], [way for _, way in moved], group)
        if self.refreshes and (due := [entry for entry in matrices if entry.is_due]):
            self._refresh(due)
        return loss

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; states keep their own precision where the parameters have half of it."""
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, Tensor):
                    dtype = _wide(parameter) if value.is_floating_point() else value.dtype
                    self.state[parameter][key] = value.to(parameter.device, dtype, copy=True)
        self._turns = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy keep: what stands in no group, too."""
        kept = {name: vars(self)[name] for name in ("spread", "polar") if name in vars(self)}
        return super().__getstate__() | kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what pickle or copy kept, or a part of it."""
        super().__setstate__(state)
        self._turns = {}

    def _check(self, group: dict[str, Any]) -> None:
        """Refuse, in a sentence, what a group cannot be."""
        name = type(self).__name__
        for key, rule, fits in _RULES:
            if key in group and not fits(group[key]):
                raise ValueError(f"{name}({key}=...) must {rule}; got {group[key]!r}.")
        for parameter in group["params"]:
            shape = [*parameter.shape]
            if parameter.is_complex():
                raise ValueError(f"{name} takes real parameters; got one of {parameter.dtype}. Train its two parts.")
            if group["matrix"] and parameter.dim() < 2:
                raise ValueError(f"{name}: a group with matrix=True has a parameter of shape {shape}.")
            if not self._is_matrix(parameter, group):
                continue
            if hasattr(parameter, "placements"):  # a DTensor
                raise ValueError(
                    f"{name} takes whole matrices, and FSDP or tensor parallelism has divided one of shape {shape}; "
                    "use data parallelism, or torch.optim.AdamW."
                )
            if (parameter[0].numel() if group["transposed"] else len(parameter)) % group["pieces"]:
                raise ValueError(
                    f"{name}(pieces={group['pieces']}) must divide the outputs of every matrix; got the shape {shape}."
                )

    def _is_matrix(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        if group["matrix"] is not None:
            return group["matrix"]
        return parameter.dim() >= 2 and min(len(parameter), parameter[0].numel() if len(parameter) else 0) >= 2

    def _layout(self, parameter: Tensor, group: dict[str, Any]) -> Layout:
        largest = 0 if group["matrix"] else group["largest_axis"]
        return Layout(parameter.shape, group["pieces"], group["transposed"], group.get("block_size", 0), largest)

    def _are_finite(self) -> bool:
        """Whether all gradients are known to be finite: on a CPU one look at them spares one at each."""
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not gradients or not all(gradient.is_cpu and not gradient.is_sparse for gradient in gradients):
            return False
        return math.isfinite(sum(torch.stack([norm.float() for norm in torch._foreach_norm(gradients)]).tolist()))

    def _gradient(self, parameter: Tensor, group: dict[str, Any], is_known_finite: bool) -> Tensor:
        """The gradient, wide and the way down, all zeros where it is not finite."""
        gradient = parameter.grad
        assert gradient is not None
        if gradient.is_sparse:
            raise RuntimeError(
                f"{type(self).__name__} takes dense gradients, and a parameter of shape {[*parameter.shape]} has a "
                "sparse one; make its nn.Embedding with sparse=False."
            )
        gradient = gradient.to(_wide(parameter))
        if not is_known_finite:
            is_finite = torch.isfinite(torch.linalg.vector_norm(gradient))
            gradient = torch.where(is_finite, gradient, torch.zeros((), dtype=gradient.dtype, device=gradient.device))
        return -gradient if group["maximize"] else gradient

    def _turn(self, parameter: Tensor, group: dict[str, Any]) -> int:
        """When it is refreshed: the same work at every step, as far as the sizes allow."""
        if not self.refreshes:
            return 0
        frequency, turn = self._turns.get(id(parameter), (0, 0))
        if frequency != group["frequency"]:  # whoever resumes from here finds these turns, too
            loads: dict[int, list[float]] = {}
            entries = [
                (self._cost(p, g), p, g) for g in self.param_groups for p in g["params"] if self._is_matrix(p, g)
            ]
            self._turns = {}
            for cost, p, own in sorted(entries, key=lambda entry: -entry[0]):
                load = loads.setdefault(own["frequency"], [0.0] * own["frequency"])
                turn = load.index(min(load))
                load[turn] += cost
                self._turns[id(p)] = own["frequency"], turn
            turn = self._turns[id(parameter)][1]
        return turn

    def _first(self, turn: int, group: dict[str, Any]) -> int:
        """The step after which it is refreshed for the first time."""
        frequency = group["frequency"] if self.refreshes else 1
        if self.begins_within is None:
            return turn or frequency
        return 1 + turn * min(self.begins_within, frequency) // frequency

    def _cost(self, parameter: Tensor, group: dict[str, Any]) -> float:
        count, rows, columns = self._layout(parameter, group).stacked
        return count * (float(rows) ** 3 + float(columns) ** 3)

    def _step_others(self, others: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        """AdamW for what is no matrix, fused where the parameters have the precision of their state, and its order."""
        betas = group["adam_betas"] if "adam_betas" in group else group["betas"]
        direct = [(p, g) for p, g in others if p.dtype == g.dtype and p.is_contiguous()]
        _adam([p for p, _ in direct], [g for _, g in direct], self.state, [p for p, _ in direct], group, betas, True)
        apart = [(p, g) for p, g in others if p.dtype != g.dtype or not p.is_contiguous()]
        steps = [torch.zeros_like(g, memory_format=torch.contiguous_format) for _, g in apart]
        _adam(steps, [g for _, g in apart], self.state, [p for p, _ in apart], group, betas, False)
        self._move([parameter for parameter, _ in apart], [-step for step in steps], group)

    def _move(self, parameters: list[Tensor], directions: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        ways = [direction.to(parameter.dtype) for parameter, direction in zip(parameters, directions, strict=True)]
        torch._foreach_add_(parameters, ways, alpha=-group["lr"])

    def _apart(self, function: Callable[..., Tensor], arguments: Sequence[tuple[Tensor | None, ...]]) -> list[Tensor]:
        """Return the function of stacks of matrices, each of the shape of the first argument.

        Equal shapes are done as one stack where that is quicker (on a CPU only if they are small); where the work is
        spread, each process does some of the stacks, the same ones as a process alone, and all know all results.
        """
        batches: dict[Any, list[int]] = {}
        for index, given in enumerate(arguments):
            assert given[0] is not None
            kind = tuple(None if x is None else (x.shape[1:], x.dtype, x.device) for x in given)
            is_large = given[0].is_cpu and given[0][0].numel() > LARGEST_STACKED
            batches.setdefault((kind, index if is_large else None), []).append(index)
        shares = distributed.world_size() if self.spread else 1
        loads, results = [0.0] * shares, [torch.zeros_like(given[0]) for given in arguments if given[0] is not None]
        for indices in sorted(batches.values(), key=lambda indices: -results[indices[0]].numel()):
            owner = loads.index(min(loads))
            loads[owner] += float(results[indices[0]].numel()) * min(results[indices[0]].shape[1:])
            if shares == 1 or owner == distributed.rank():
                stacked = [_cat([arguments[index][place] for index in indices]) for place in range(len(arguments[0]))]
                parts = function(*stacked).split([len(results[index]) for index in indices])
                for index, part in zip(indices, parts, strict=True):
                    results[index] = part
        return results if shares == 1 else _summed(results)


def adam_steps(entries: Sequence[Matrices], gradients: Sequence[Tensor], betas: tuple[float, float]) -> list[Tensor]:
    """Return Adam's step of each, to be subtracted times the rate, with the moments of the entries' states."""
    steps = [torch.zeros_like(gradient, memory_format=torch.contiguous_format) for gradient in gradients]
    if entries:
        states = {entry.parameter: entry.state for entry in entries}
        parameters = [entry.parameter for entry in entries]
        _adam(steps, list(gradients), states, parameters, entries[0].group, betas, False)
    return [step.neg_() for step in steps]


def by_group(entries: Sequence[Matrices]) -> list[list[Matrices]]:
    """Return the entries of each group."""
    groups: dict[int, list[Matrices]] = {}
    for entry in entries:
        groups.setdefault(id(entry.group), []).append(entry)
    return list(groups.values())


def _adam(
    targets: list[Tensor], gradients: list[Tensor], states: Any, owners: list[Tensor], group: dict[str, Any],
    betas: tuple[float, float], moves: bool,
) -> None:  # fmt: skip
    """PyTorch's own Adam on targets with the moments in the owners' states; at a rate of 1 unless it `moves` them.

    The fused kernels take the numbers in the order in which they lie in memory, so all must lie alike.
    """
    if not targets:
        return
    found, gradients = [states[owner] for owner in owners], [gradient.contiguous() for gradient in gradients]
    for state, gradient in zip(found, gradients, strict=True):
        for key in ("exp_avg", "exp_avg_sq"):
            if key not in state:
                state[key] = torch.zeros_like(gradient, memory_format=torch.contiguous_format)
            state[key] = state[key].contiguous()
    devices = {target.device for target in targets}
    counts = [torch.tensor([float(state["step"] - 1) for state in found], device=device) for device in devices]
    counts = [dict(zip(devices, counts, strict=True))[target.device][place] for place, target in enumerate(targets)]
    adam(
        targets,
        gradients,
        [state["exp_avg"] for state in found],
        [state["exp_avg_sq"] for state in found],
        [],
        counts,
        fused=all(target.device.type in FUSED_DEVICES for target in targets),
        decoupled_weight_decay=True,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=group["lr"] if moves else 1.0,
        weight_decay=group["weight_decay"] if moves else 0.0,
        eps=group["eps"],
        maximize=False,
    )


def _cat(stacks: list[Any]) -> Tensor | None:
    return None if stacks[0] is None else stacks[0] if len(stacks) == 1 else torch.cat(stacks)


def _summed(tensors: list[Tensor]) -> list[Tensor]:
    """The sums over all processes, of tensors of any types and devices."""
    results = list(tensors)
    for kind in dict.fromkeys((tensor.dtype, tensor.device) for tensor in tensors):
        places = [place for place, tensor in enumerate(tensors) if (tensor.dtype, tensor.device) == kind]
        for place, total in zip(places, distributed.sum_over_ranks([tensors[p] for p in places]), strict=True):
            results[place] = total
    return results


def _wide(parameter: Tensor) -> torch.dtype:
    """The type of the state: that of the parameter, single precision at least."""
    return torch.promote_types(parameter.dtype, torch.float32)


def _is_decay(value: Any) -> bool:
    return 0.0 <= value < 1.0


_RULES: Final[tuple[tuple[str, str, Callable[[Any], bool]], ...]] = (
    ("lr", "be finite and not negative", lambda lr: 0.0 <= lr < float("inf")),
    ("weight_decay", "not be negative", lambda decay: decay >= 0.0),
    ("eps", "be above 0", lambda eps: eps > 0.0),
    ("momentum", "lie in [0, 1)", _is_decay),
    ("beta2", "lie in [0, 1)", _is_decay),
    ("betas", "be two numbers in [0, 1)", lambda betas: len(betas) == 2 and all(map(_is_decay, betas))),
    ("adam_betas", "be two numbers in [0, 1)", lambda betas: len(betas) == 2 and all(map(_is_decay, betas))),
    ("shampoo_beta", "lie in [0, 1)", _is_decay),
    ("frequency", "be a whole number, at least 1", lambda steps: isinstance(steps, int) and steps >= 1),
    ("block_size", "be 0 or a whole number from 2", lambda size: isinstance(size, int) and size >= 0 and size != 1),
    ("largest_axis", "be a whole number, at least 1", lambda size: isinstance(size, int) and size >= 1),
    ("pieces", "be a whole number, at least 1", lambda pieces: isinstance(pieces, int) and pieces >= 1),
)  # fmt: skip
