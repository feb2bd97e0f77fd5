"""Recurrent layers: how far their gates are shut or open, and how far back a state remembers its inputs."""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.parts import affordable, real_tokens, token_names
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject

_GATES: Final = {nn.LSTM: ("input", "forget", "cell", "output"), nn.GRU: ("reset", "update", "new")}
_SHUT: Final = 4.0  # sigmoid(4) = 0.98
_FLAT: Final = 0.97  # of a candidate's tanh
_EXAMPLES: Final = 32
_SHORTEST: Final = 3  # steps, for a slope

Call = tuple[str, nn.RNNBase, tuple[Any, ...]]


def gates(subject: Subject, batch: Batch) -> list[dict[str, Any]]:
    """Return of each LSTM's and GRU's layer the shares of gates that are shut or open for good, at real tokens.

    A sigmoid counts as saturated where its input is beyond -4 or 4, a candidate where its tanh is beyond -0.97 or 0.97.
    They are computed from the inputs that the layer got and the states that it gave.
    """
    found = []
    for name, module, args in _calls(subject, batch):
        if type(module) not in _GATES:
            continue
        for place, (before, inputs, states, weights) in enumerate(_layers(module, args)):
            found.append({"name": name if module.num_layers == 1 and not module.bidirectional else f"{name} #{place}"})
            parts = _pre_activations(module, inputs, before, weights)
            real = _real(subject, batch, inputs)
            saturated, means = {}, {}
            for gate, part in zip(_GATES[type(module)], parts, strict=True):
                part = part[real]
                bounded = torch.tanh(part) if gate in ("cell", "new") else torch.sigmoid(part)
                shut = bounded.abs() > _FLAT if gate in ("cell", "new") else part.abs() > _SHUT
                saturated[gate], means[gate] = float(shut.float().mean()), float(bounded.mean())
            found[-1] |= {"gate_saturated": saturated, "gate_mean": means, "state_std": float(states[real].std())}
    return found


def gate_saturated(layers: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the largest share of any gate of each layer (see `gates`)."""
    return {one["name"]: max(one["gate_saturated"].values()) for one in layers}


@probe()
def memory(subject: Subject) -> dict[str, Any]:
    """Measure how much a recurrent layer's last state depends on its input at each time before.

    For a random combination of the last state's units, the norm of its derivative by the input, by distance in steps:
    `norms`; `slope`, of its logarithm in nats a step by least squares; `ratio`, the farthest over the nearest.

    Source: Pascanu, Mikolov and Bengio (2013), On the Difficulty of Training Recurrent Neural Networks.
    """
    batch = max(
        subject.train, key=lambda batch: max((t.shape[1] for t in batch.inputs.values() if t.dim() > 1), default=0)
    )
    batch, found = affordable([batch], _EXAMPLES)[-1], []
    for name, module, args in _calls(subject, batch):
        inputs, *rest = args
        if not isinstance(inputs, Tensor) or inputs.dim() != 3:
            continue
        first = inputs if module.batch_first else inputs.transpose(0, 1)
        real = _real(subject, batch, first)
        some = slice(0, _EXAMPLES)
        norms = _norms(module, inputs, rest, real, some)
        if len(norms) < _SHORTEST:
            continue
        entry: dict[str, Any] = {"name": name, "norms": norms, "steps": len(norms)}
        positive = [(i, math.log(value)) for i, value in enumerate(norms) if value > 0.0]
        if len(positive) >= _SHORTEST:
            entry["slope"] = slope_of(positive)
        entry["ratio"] = norms[-1] / norms[0] if norms[0] > 0.0 else None
        found.append(entry)
    return {"layers": found} if found else {}


def _norms(module: nn.RNNBase, inputs: Tensor, rest: Sequence[Any], real: Tensor, some: slice) -> list[float]:
    """Return root mean squares over examples of the derivative by the input, by distance from the last state."""
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        x = inputs.detach().clone().requires_grad_()
        outputs = module(x, *rest)[0]
        outputs = outputs if module.batch_first else outputs.transpose(0, 1)
        lengths = real.sum(1)
        last = (lengths - 1).clamp(min=0)
        ends = outputs[torch.arange(len(last), device=last.device), last]
        width = module.proj_size or module.hidden_size
        # A reversed direction's state at the last token has seen nothing before it.
        direction = torch.randn(width, generator=torch.Generator().manual_seed(0)).to(ends)
        value = (ends[some, :width] @ (direction / direction.norm())).sum()
        (gradient,) = torch.autograd.grad(value, x)
    gradient = gradient if module.batch_first else gradient.transpose(0, 1)
    sizes = gradient[some].norm(dim=-1).double()
    totals, numbers = [0.0] * sizes.shape[1], [0] * sizes.shape[1]
    for row, length in zip(sizes.tolist(), lengths[some].tolist(), strict=True):
        for time in range(length):
            totals[length - 1 - time] += row[time] ** 2
            numbers[length - 1 - time] += 1
    # Distances that few examples have say more about these than about the layer.
    enough = max(1, max(numbers, default=0) // 4)
    return [math.sqrt(t / n) for t, n in zip(totals, numbers, strict=True) if n >= enough]


def slope_of(points: Sequence[tuple[int, float]]) -> float:
    """Return the slope of a line through points, by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def _calls(subject: Subject, batch: Batch) -> Iterator[Call]:
    """Return each recurrent module with the arguments of its first call, from one forward pass."""
    calls: dict[str, Call] = {}

    def record(name: str, module: nn.RNNBase, args: tuple[Any, ...]) -> None:
        calls.setdefault(name, (name, module, args))

    handles = [
        module.register_forward_pre_hook(functools.partial(record, name))
        for name, module in subject.model.named_modules()
        if isinstance(module, nn.RNNBase)
    ]
    if not handles:
        return
    try:
        with torch.no_grad():
            subject.objective().hidden(batch)
    finally:
        for handle in handles:
            handle.remove()
    for call in calls.values():
        if call[2] and isinstance(call[2][0], Tensor) and call[2][0].dim() == 3:  # no packed sequences
            yield call


def _layers(module: nn.RNNBase, args: tuple[Any, ...]) -> Iterator[tuple[Tensor, Tensor, Tensor, list[Tensor]]]:
    """Return by layer and direction the states before each step, inputs, states after it `[batch, time, ...]`, weights.

    A reversed direction is turned around in time.
    """
    inputs = args[0].detach() if module.batch_first else args[0].detach().transpose(0, 1)
    given = args[1] if len(args) > 1 else None
    is_lstm, directions = isinstance(module, nn.LSTM), 2 if module.bidirectional else 1
    width = module.proj_size or module.hidden_size
    run = torch.lstm if is_lstm else torch.gru
    with torch.no_grad():
        for layer in range(module.num_layers):
            outputs = []
            for direction in range(directions):
                place = layer * directions + direction
                weights = [getattr(module, name).detach() for name in module._all_weights[place]]
                x = inputs.flip(1) if direction else inputs
                zeros = [x.new_zeros(1, len(x), width), x.new_zeros(1, len(x), module.hidden_size)][: 1 + is_lstm]
                parts = zeros if given is None else [part.detach() for part in (given if is_lstm else (given,))]
                start = [part[place : place + 1] if given is not None else part for part in parts]
                states = run(x, start if is_lstm else start[0], weights, module.bias, 1, 0.0, False, False, True)[0]
                yield torch.cat([start[0].transpose(0, 1), states[:, :-1]], 1), x, states, weights
                outputs.append(states.flip(1) if direction else states)
            inputs = torch.cat(outputs, -1)


def _pre_activations(module: nn.RNNBase, x: Tensor, before: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return what goes into each gate, `[batch, time, hidden]` each."""
    with_bias = module.bias
    from_input = x @ weights[0].T + (weights[2] if with_bias else 0.0)
    from_state = before @ weights[1].T + (weights[3] if with_bias else 0.0)
    if isinstance(module, nn.LSTM):
        return list((from_input + from_state).chunk(4, -1))
    (reset, update, new), (reset_state, update_state, new_state) = from_input.chunk(3, -1), from_state.chunk(3, -1)
    reset, update = reset + reset_state, update + update_state
    return [reset, update, new + torch.sigmoid(reset) * new_state]


def _real(subject: Subject, batch: Batch, first: Tensor) -> Tensor:
    """Return where the steps of a layer are real tokens, bool `[batch, time]`."""
    for name in token_names(batch):
        real = real_tokens(batch, name, subject)
        if real is not None and real.shape == first.shape[:2]:
            return real
    return torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)
