"""All levels of an objective at once: which bounds apply, each with its certificate, and why the others do not."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.certificates.attempts import COUNTING, LOSS, Attempts, Clock
from thalweg.certificates.certificate.interval import Certificate, Interval
from thalweg.certificates.checker.check import fingerprint
from thalweg.certificates.evaluated import Evaluated, evaluated
from thalweg.certificates.floors.floor import Floor
from thalweg.certificates.floors.norm import norm_floor
from thalweg.certificates.floors.rows import require_own_rows, require_same_answers
from thalweg.certificates.floors.targets import (
    ROW_BY_ROW,
    Targets,
    conflicting,
    floor_of_errors,
    floor_of_groups,
    floors_of_prefixes,
    groups_by_input,
)
from thalweg.certificates.halfspaces.level import separable_level
from thalweg.certificates.linear.forms import form_on
from thalweg.certificates.linear.last_layer import split_last_layer
from thalweg.certificates.linear.level import head_level
from thalweg.certificates.local import local_verdict
from thalweg.certificates.problems import problem_at
from thalweg.certificates.two_layer.level import certify_two_layer, offer_neuron
from thalweg.data.arrays.equal import Prefixes
from thalweg.errors import InputError
from thalweg.heads.base import ConvexLoss
from thalweg.models.bag import Bag, LinearBag
from thalweg.models.mlp import MLP
from thalweg.models.presets import FlatWindow, LinearWindow
from thalweg.objective import Objective

ERRORS: Final = "training errors"
# In which they are shown.
ORDER: Final = ("floor", "norm_floor", "head", "linear", "factored", "two_layer", "separable", "local")
# Products with the Hessian, where there is time for so many, and the vectors of the weights' size that they take.
BASES: Final = ((100, 198), (65, 99), (32, 33))
MAX_BASIS: Final = 1e9  # bytes
MIN_PRODUCTS: Final = 20
PRODUCT: Final = 4.0  # gradients that a product with the Hessian costs, about
TRIALS: Final = 24.0  # evaluations of the loss along the directions that are tried
# Of the time that is left when its turn comes, what a level may take that can go on for as long as it is let.
SHARES: Final = {"head": 0.5, "separable": 0.3, "two_layer": 0.6}
# Passes over all the data that a level takes before its own work.
PASSES: Final = {"norm_floor": 0.1, "head": 0.2, "separable": 1.2, "two_layer": 2.0}
TRIED: Final = 13.0  # passes of a batch, loss and all, that trying its rows alone takes in three batches, measured


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Which targets look the same to the model."""

    groups: np.ndarray  # int, one for each target in the order of the batches
    describes: str  # what the model sees, as the end of "a model that sees only ..."


@torch.inference_mode(mode=False)
@torch.enable_grad()
def certify_objective(
    objective: Objective,
    view: Groups | Prefixes | None = None,
    *,
    seconds: float = 20.0,
    clock: Clock | None = None,
    radius: float | None = None,
    notes: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
) -> Interval:
    """Return the interval for the best possible loss of an objective, from every level that applies.

    Everything is computed in float64 on copies in evaluation mode, so the certified loss has no dropout. Levels come in
    the order of what they tell for their time; each gets what is left of it.

    Args:
        objective: on all training data.
        view: which targets look the same to the model; None: those with equal inputs.
        seconds: for everything. A level that would take longer than what is left is left out, and says how long.
        clock: what is left of a time that began before; in place of `seconds`.
        radius: a length that the features below the head never exceed, **whatever the weights** (sqrt(width) for tanh);
            None: there is no such length, and no floor from it.
        notes: sentences about what training did that the certified objective does not have.
        about: words for what the levels say: "examples" says what these data are, "features" what is known of them.
        say: takes a sentence about what is being done.

    Raises:
        InputError: if loss or data are not finite, or the model cannot be evaluated in float64.
    """
    clock = Clock(seconds) if clock is None else clock
    say("Evaluating the loss.")
    known = evaluated(objective, clock)
    exact, loss, each, targets = known.objective, known.loss, known.seconds, known.targets
    tries = Attempts(loss, clock, say, 0.0 if known.rows is None else known.rows.size())
    wanted = [name for name in ORDER if _could_apply(name, exact, radius)]
    tries.left_out = _hindered(known, wanted)
    for name in wanted:
        if name in tries.left_out or (name == "separable" and not _has_classes(targets)):
            continue
        share = SHARES.get(name, 1.0) * clock.left

        def make(name: str = name, share: float = share) -> list[Certificate]:
            match name:
                case "floor" if targets is not None:
                    trial = each * TRIED / len(exact.batches)

                    def may_try() -> None:
                        clock.require(trial, "Trying whether the model answers each row by itself")

                    return floor_levels(exact, loss, targets, view, may_try)
                case "norm_floor" if targets is not None and radius is not None:
                    return [_norm_floor(exact, loss, targets, radius)]
                case "head":
                    return [head_level(exact, known.rows, seconds=max(share, clock.grace), about=about)]
                case "linear" | "factored":
                    problem, point = problem_at(exact, about)
                    return [problem.certificate(point)]
                case "two_layer":
                    return [certify_two_layer(exact, seconds=max(share, clock.grace), about=about)]
                case "separable":
                    return [separable_level(exact, seconds=max(share, clock.grace))]
            return [_local(exact, clock, each)]

        count = COUNTING * len(targets.targets) if name == "floor" and targets is not None else 0.0
        tries.make(name, make, expected=PASSES.get(name, 0.0) * each + count)
        if name == "head":
            known.rows = None  # as large as the data, and of no more use
    levels = sorted(tries.levels, key=lambda level: ORDER.index(level.name))
    hashes = {"data": hash_of_data(objective), "weights": hash_of_weights(objective)}
    said = (*_dropout(objective), *_frozen(objective), *notes, *_neuron(exact, levels, clock))
    return Interval(
        loss=loss,
        levels=tuple(levels),
        quantity=LOSS,
        unit="nats" if targets is None else targets.unit,
        left_out=tries.left_out,
        hashes=hashes,
        notes=said,
        sample=known.sample,
    )


def _hindered(known: Evaluated, wanted: Sequence[str]) -> dict[str, str]:
    """Return the levels that cannot be had of what was evaluated, and why."""
    random = known.too_long or _randomness(known.objective)
    if random:
        return dict.fromkeys(wanted, random)
    left_out = {}
    if known.why:
        left_out |= {name: known.why for name in ("norm_floor", "head", "separable") if name in wanted}
    if known.targets is None:
        left_out |= {name: known.reason for name in ("floor", "norm_floor") if name in wanted}
    return left_out


def _randomness(objective: Objective) -> str:
    """Return a sentence if two evaluations of the loss differ in evaluation mode; else nothing."""
    try:
        objective.require_determinism()
    except InputError as error:
        figures = str(error).partition("gave ")[2].partition(",")[0]
        return (
            f"Two evaluations of the loss differ ({figures}): something in the model draws random numbers even in "
            "evaluation mode (a functional dropout?), so there is no single loss to bound."
        )
    return ""


def _could_apply(name: str, objective: Objective, radius: float | None) -> bool:
    """Whether a level is about this kind of model, so that it is worth saying why it does not apply."""
    model, head = objective.model, objective.head
    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    match name:
        case "norm_floor":
            return radius is not None
        case "head":
            return not isinstance(model, LinearBag | LinearWindow)  # all of it is the level "linear"
        case "linear":
            return isinstance(model, LinearBag | LinearWindow)
        case "factored":
            return isinstance(model, Bag) and model.body is None
        case "two_layer":
            body = model.body if isinstance(model, FlatWindow) else model
            return isinstance(body, MLP) and len(body.layers) + len(layers) > 1
        case "separable":
            layers = layers or [module for module in model.modules() if isinstance(module, nn.Linear)]
            penalized = {id(tensor) for tensor in objective.penalized}
            return not all(id(layer.weight) in penalized for layer in layers)
    return True


def _has_classes(targets: Targets | None) -> bool:
    """Whether the targets are classes, as far as is known."""
    return targets is None or targets.form.loss is not ConvexLoss.SQUARED


def floor_levels(
    objective: Objective,
    loss: float,
    targets: Targets,
    view: Groups | Prefixes | None,
    may_try: Callable[[], None] = lambda: None,
) -> list[Certificate]:
    """Return the floors of the loss and of the errors; an InputError says that they cannot be counted.

    Where inputs that look the same make a floor, the model is tried out: it must answer each by itself. Before that
    `may_try` is called, which may raise an InputError.
    """
    start = time.perf_counter()
    errors: Floor | None = None
    if isinstance(view, Prefixes):
        floor, errors = floors_of_prefixes(targets, view)
        describes = view.describes
        groups = np.arange(len(targets.targets))
        chosen = np.full(len(groups), floor.num_conflicts > 0)
    else:
        groups = groups_by_input(objective.batches, targets) if view is None else view.groups
        describes = ROW_BY_ROW if view is None else view.describes
        floor = floor_of_groups(targets, groups)
        if targets.errors is not None:
            errors = floor_of_errors(targets, groups)
        chosen = conflicting(targets, groups)
    if chosen.any():
        may_try()
        require_own_rows(objective, targets.positions, groups, chosen)
        require_same_answers(targets.answers, groups, chosen)
    seconds = time.perf_counter() - start
    found = [floor.certificate(loss, seconds=seconds, view=describes)]
    if errors is not None and targets.errors is not None:
        found.append(errors.certificate(targets.errors, seconds=seconds, view=describes))
    return found


def _norm_floor(objective: Objective, loss: float, targets: Targets, radius: float) -> Certificate:
    """Return the floor of networks whose features are no longer than the radius, under a penalized softmax."""
    start = time.perf_counter()
    split = split_last_layer(objective)
    layer = form_on(split, split.batches[0])[1].layer
    penalized = layer is not None and any(tensor is layer.weight for tensor in objective.penalized)
    plain = targets.errors is not None and targets.form.class_weights is None and targets.weights is None
    if not (penalized and plain):
        raise InputError("Requires an unweighted softmax over class ids with an L2 penalty on its layer.")
    assert layer is not None
    counts = np.bincount(targets.targets, minlength=targets.num_outputs)
    floor = norm_floor(counts, radius, objective.l2, smoothing=targets.form.smoothing, free_bias=layer.bias is not None)
    return floor.certificate(loss, seconds=time.perf_counter() - start)


def _local(objective: Objective, clock: Clock, each: float) -> Certificate:
    """Return the verdict about the neighborhood, with as many products as there is time for.

    `each` is how long an evaluation of the loss takes.
    """
    what, size = "Examining the neighborhood", sum(tensor.numel() for tensor in objective.parameters)
    products = next((number for number, rows in BASES if 8 * rows * size <= MAX_BASIS), 0)
    if not products:
        raise InputError(
            f"{what} of {size:,} weights takes a basis of {8 * BASES[-1][1] * size / 1e9:.1f} GB; at most "
            f"{MAX_BASIS / 1e9:.1f} GB are used."
        )
    trials = TRIALS * each
    clock.require(trials + MIN_PRODUCTS * PRODUCT * each, what, grace=0.0)
    start = time.perf_counter()
    objective()
    gradient = time.perf_counter() - start
    clock.require(trials + MIN_PRODUCTS * PRODUCT * gradient, what, grace=0.0)
    return local_verdict(objective, max_products=products, seconds=clock.left - trials).certificate()


def _neuron(objective: Objective, levels: Sequence[Certificate], clock: Clock) -> list[str]:
    """Return the offer of one more hidden unit, where the two-layer level applies and one helps."""
    for level in levels:
        if level.name == "two_layer" and level.relative_gap > 1e-6 and level.seconds <= max(clock.left, clock.grace):
            sentence = offer_neuron(objective)
            return [] if sentence is None else [sentence]
    return []


def _frozen(objective: Objective) -> list[str]:
    """Return a sentence if some weights are not trained."""
    tensors = objective.every_tensor()[0]
    frozen = sum(tensor.numel() for tensor in tensors if not tensor.requires_grad)
    if not frozen:
        return []
    return [
        f"{frozen:,} of {sum(tensor.numel() for tensor in tensors):,} weights are frozen. A bound for every training "
        "of this configuration holds for trainings that keep them, too; it does not use that they are kept."
    ]


def _dropout(objective: Objective) -> list[str]:
    """Return a sentence if training draws dropout masks."""
    shares = [float(m.p) for m in objective.model.modules() if isinstance(m, nn.Dropout) and m.p > 0.0]
    shares += [float(m.dropout) for m in objective.model.modules() if isinstance(m, nn.RNNBase) and m.dropout > 0.0]
    if not shares:
        return []
    return [f"Training used dropout ({max(shares):g}); the certified loss is computed without dropout."]


def hash_of_data(objective: Objective) -> str:
    """Return the SHA-256 of all inputs and targets of an objective, in the order of its batches."""
    arrays = {}
    for number, batch in enumerate(objective.batches):
        parts = {**batch.inputs, "targets": batch.targets, "mask": batch.mask, "weights": batch.weights}
        for name, tensor in parts.items():
            if tensor is not None:
                arrays |= _arrays(f"{number} {name}", tensor)
    return fingerprint(arrays)


def hash_of_weights(objective: Objective) -> str:
    """Return the SHA-256 of all parameters and buffers of an objective."""
    parameters, buffers = objective.every_tensor()
    arrays = {}
    for number, tensor in enumerate([*parameters, *buffers]):
        arrays |= _arrays(f"{number:06}", tensor)
    return fingerprint(arrays)


def _arrays(name: str, tensor: Tensor) -> dict[str, np.ndarray]:
    """Return what a tensor holds as arrays; of a sparse one the places and the values."""
    tensor = tensor.detach().cpu()
    if tensor.layout is not torch.strided:
        entries = tensor.to_sparse_coo().coalesce()
        return {f"{name} places": entries.indices().numpy(), **_arrays(f"{name} values", entries.values())}
    small = tensor.is_floating_point() and tensor.dtype not in (torch.float64, torch.float32, torch.float16)
    return {name: (tensor.float() if small else tensor).resolve_conj().resolve_neg().numpy()}
