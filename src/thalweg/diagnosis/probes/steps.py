"""What a step of the optimizer would do: how long one may be, and whether the numbers are precise enough for it."""

import math
from typing import Any, Final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.diagnosis.probes.parts import affordable
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject
from thalweg.objective import Objective
from thalweg.optim.muon import RMS
from thalweg.optim.polar import Exact
from thalweg.optim.roles import roles_of

_EXAMPLES: Final = 128
_LOWEST, _HIGHEST = -10, 14  # powers of two times the learning rate
_FAR: Final = 0.1  # of the loss: no longer step is tried
_COARSE: Final = 3  # powers at once, before the edge is looked at closely
_PLAIN: Final = {"sgd", "asgd", "gradient"}
# Optimizers whose steps have about the size of the learning rate in every number, whatever the gradient's.
_SIGNED: Final = {
    *("adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "adagrad", "rprop", "soap", "shampoo", "lion"),
    *("sophia", "adafactor", "schedule-free"),
}
_POLAR: Final = {"polar-muon", "normuon"}  # for matrices inside the model; the rest takes steps like Adam's
_STEPPED: Final = _PLAIN | _SIGNED | _POLAR
_EPSILON: Final = 1e-8
_SMALLEST_HALF: Final = 2.0**-14  # normal number of float16


@probe()
def rate(subject: Subject) -> dict[str, Any]:
    r"""Measure how long a step may be, in units of the learning rate, from the start and from the present weights.

    The loss of held-out training batches is followed along minus the gradient of the others: for optimizers like Adam
    along $g / (\lvert g \rvert + 10^{-8})$, their first step; for SGD along g. `critical_factor_*` is the longest of
    the steps $2^k \cdot$ lr that still lowers that loss, no shorter one having raised it; `best_factor_*` the one that
    lowers it most. 0 where even the shortest raises it; 2^14 says that no step tried is too long. Momentum, which
    makes the steps of a training longer, and weight decay are left out.

    Source: Kalra, Barkeshli et al. (2026), critical sharpness from a forward line search along the update.
    """
    kind = subject.facts.optimizer
    if not subject.facts.lr or kind not in _STEPPED:
        return {}
    result: dict[str, Any] = {"lr": subject.facts.lr}
    objective = subject.objective()
    if not objective.parameters:
        return {}
    start = subject.initial_objective()
    for name, function in (("start", start), ("now", objective)):
        if function is not None:
            function.model.eval()
            function.head.eval()
            found = _search(subject, function)
            result |= {f"{key}_{name}": value for key, value in found.items()}
    return result


def _search(subject: Subject, objective: Objective) -> dict[str, Any]:
    """Return the critical and the best step from where the objective's weights are, which are put back."""
    parameters = objective.parameters
    batches = affordable(subject.train, _EXAMPLES)
    fitted, held_out = (batches[0::2], batches[1::2]) if len(batches) > 1 else (batches, batches)
    direction = _direction(subject.facts.optimizer, objective.on(fitted))
    before = vectors.clone(parameters)
    losses: dict[int, float] = {}

    def loss_at(power: int) -> float:
        if power not in losses:
            with torch.no_grad():
                vectors.copy_(parameters, before)
                vectors.add_([p.detach() for p in parameters], direction, -float(subject.facts.lr or 0.0) * 2.0**power)
                loss = float(objective.on(held_out).value())
            losses[power] = loss if math.isfinite(loss) else math.inf
        return losses[power]

    try:
        present = float(objective.on(held_out).value())
        # What rounding changes is neither lower nor higher.
        least = 4.0 * torch.finfo(torch.float32).eps * abs(present)
        good: int | None = None
        bad: int | None = None
        for power in range(_LOWEST, _HIGHEST + 1, _COARSE):
            loss = loss_at(power)
            if loss < present - least and bad is None:
                good = power
            elif loss > present + least:
                bad = power if bad is None else bad
                if loss > present + _FAR * abs(present):
                    break
        if good is not None and bad is not None:
            for power in range(good + 1, bad):
                if loss_at(power) >= present:
                    break
                good = power
    finally:
        with torch.no_grad():
            vectors.copy_(parameters, before)
    best = min(losses, key=lambda power: losses[power])
    return {
        "critical_factor": 0.0 if good is None else 2.0**good,
        "best_factor": 2.0**best if losses[best] < present - least else 0.0,
        "loss": present,
        "best_loss": min(losses[best], present),
        "losses": [[2.0**power, losses[power]] for power in sorted(losses)],
    }


def _direction(kind: str, objective: Objective) -> list[Tensor]:
    """Return what the optimizer's first step from here subtracts, at a rate of 1."""
    gradient = [g.to_dense() for g in objective.value_and_gradient()[1]]
    if kind in _PLAIN:
        return gradient
    signed = [g / (g.abs() + _EPSILON) for g in gradient]
    if kind in _SIGNED:
        return signed
    roles = roles_of(objective.model, objective.head)
    places = {id(parameter): i for i, parameter in enumerate(objective.parameters)}
    for parameter in roles.matrices:
        i = places[id(parameter)]
        number = roles.pieces.get(id(parameter), 1)
        turned = id(parameter) in roles.transposed
        matrix = gradient[i].reshape(len(parameter), -1)
        pieces = (matrix.T if turned else matrix).chunk(number)
        steps = torch.cat([_orthogonal(piece, equal_rows=kind == "normuon") for piece in pieces])
        signed[i] = (steps.T if turned else steps).reshape(parameter.shape)
    return signed


def _orthogonal(matrix: Tensor, *, equal_rows: bool) -> Tensor:
    """Return the orthogonal factor of a matrix at the scale of Adam's steps, perhaps with rows of one size."""
    factor = Exact()(matrix.float().unsqueeze(0))[0]
    if equal_rows:
        factor = factor / factor.norm(dim=1, keepdim=True).clamp(min=_EPSILON)
        return factor.to(matrix) * (RMS * math.sqrt(factor.numel()) / factor.norm().clamp(min=_EPSILON)).to(matrix)
    return factor.to(matrix) * (RMS * math.sqrt(max(matrix.shape)))


@probe()
def precision(subject: Subject) -> dict[str, Any]:
    """Measure whether weights can take steps of the last size, and whether gradients underflow in half precision.

    `too_small` is the share of weights that a step of the learning rate (for optimizers whose steps have that size in
    every number) or of the learning rate times the gradient (SGD) leaves as they are in their type: less than half the
    distance to the next number. `float16_underflow` is the share of the gradient's numbers that are not zero, but
    smaller than the smallest normal number of float16, at the present loss without a scale.
    """
    objective = subject.objective()
    parameters = objective.parameters
    if not parameters:
        return {}
    batches = affordable(subject.train, _EXAMPLES)
    gradient = [g.to_dense() for g in objective.on(batches).value_and_gradient()[1]]
    nonzero = sum(int(g.count_nonzero()) for g in gradient)
    small = sum(int(((g != 0) & (g.abs() < _SMALLEST_HALF)).sum()) for g in gradient)
    result: dict[str, Any] = {
        "types": sorted({str(p.dtype).removeprefix("torch.") for p in parameters}),
        "autocast": None if subject.autocast is None else str(subject.autocast).removeprefix("torch."),
        "float16_underflow": small / max(1, nonzero),
        "gradient_rms": math.sqrt(sum(float(g.double().square().sum()) for g in gradient) / max(1, nonzero)),
    }
    lr, kind = subject.facts.lr, subject.facts.optimizer
    if lr and kind in _STEPPED:
        lost = total = 0
        for parameter, g in zip(parameters, gradient, strict=True):
            step = torch.full_like(g, lr) if kind not in _PLAIN else lr * g.abs()
            moved = _moves(parameter.detach(), step)
            lost += int(((g != 0) & ~moved).sum())
            total += int((g != 0).sum())
        result["too_small"] = lost / max(1, total)
    return result


def _moves(weight: Tensor, step: Tensor) -> Tensor:
    """Return where adding or subtracting a step gives another number."""
    return (weight + step.to(weight) != weight) | (weight - step.to(weight) != weight)
