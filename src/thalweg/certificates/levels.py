"""All levels of an objective at once: which bounds apply, each with its certificate, and why the others do not."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Final, final

import numpy as np
import torch
from torch import nn

from thalweg.certificates.certificate.interval import Certificate, Interval, Proof
from thalweg.certificates.certificate.ladder import NAMES
from thalweg.certificates.checker.check import fingerprint
from thalweg.certificates.factored.bags import factored_problem, factors_of
from thalweg.certificates.floors.floor import Floor, error_floor
from thalweg.certificates.floors.norm import norm_floor
from thalweg.certificates.floors.targets import (
    ROW_BY_ROW,
    Targets,
    collect_targets,
    floor_of_groups,
    floors_of_prefixes,
    groups_by_input,
)
from thalweg.certificates.halfspaces.level import separable_level
from thalweg.certificates.linear.forms import form_on
from thalweg.certificates.linear.last_layer import split_last_layer
from thalweg.certificates.linear.level import head_level
from thalweg.certificates.local import local_verdict
from thalweg.certificates.two_layer.level import certify_two_layer, offer_neuron
from thalweg.data.arrays.equal import Prefixes
from thalweg.errors import InputError
from thalweg.objective import Objective

LOSS, ERRORS = "training loss", "training errors"
PRODUCTS: Final = 100  # with the Hessian, where there is time for so many
MIN_PRODUCTS: Final = 20
PRODUCT_COST: Final = 4.0  # gradients that a product with the Hessian costs, about


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Which targets look the same to the model."""

    groups: np.ndarray  # int, one for each target in the order of the batches
    describes: str  # what the model sees, as the end of "a model whose input is ..."


def certify_objective(
    objective: Objective,
    view: Groups | Prefixes | None = None,
    *,
    seconds: float = 20.0,
    radius: float | None = None,
    notes: Sequence[str] = (),
    say: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
) -> Interval:
    """Return the interval for the best possible loss of an objective, from every level that applies.

    Everything is computed in float64 on copies in evaluation mode, so the certified loss has no dropout.

    Args:
        objective: on all training data.
        view: which targets look the same to the model; None: those with equal inputs.
        seconds: for the verdict about the neighborhood, which is the only part that may take long.
        radius: a length that the features below the head never exceed, **whatever the weights** (sqrt(width) for tanh);
            None: there is no such length, and no floor from it.
        notes: sentences about what training did that the certified objective does not have.
        say: takes a sentence about what is being done.

    Raises:
        InputError: if loss or data are not finite.
    """
    objective_64 = objective.copied(torch.float64)
    loss = float(objective_64.value())
    if not np.isfinite(loss):
        raise InputError(f"The loss is {loss:g} at these weights, so there is nothing to certify.")
    levels: list[Certificate] = []
    left_out: dict[str, str] = {}
    unit = "nats"

    def attempt(name: str, make: Callable[[], list[Certificate]]) -> None:
        say(f"Looking for: {NAMES.get(name, name)}.")
        try:
            levels.extend(make())
        except InputError as error:
            left_out[name] = str(error)

    try:
        targets = collect_targets(objective_64)
    except InputError as error:
        left_out["floor"] = str(error)
    else:
        unit = targets.unit
        attempt("floor", lambda: floor_levels(objective_64, loss, targets, view))
        if radius is not None:
            attempt("norm_floor", lambda: [_norm_floor(objective_64, loss, targets, radius)])
    attempt("head", lambda: [head_level(objective_64)])
    attempt("factored", lambda: [_factored(objective_64)])
    attempt("two_layer", lambda: [certify_two_layer(objective_64)])
    attempt("separable", lambda: [separable_level(objective_64)])
    attempt("local", lambda: [_local(objective_64, seconds)])
    hashes = {"data": hash_of_data(objective), "weights": hash_of_weights(objective)}
    return Interval(
        loss=loss,
        levels=tuple(levels),
        quantity=LOSS,
        unit=unit,
        left_out=left_out,
        hashes=hashes,
        notes=(*_dropout(objective), *notes, *_neuron(objective_64, levels)),
    )


def floor_levels(
    objective: Objective, loss: float, targets: Targets, view: Groups | Prefixes | None
) -> list[Certificate]:
    """Return the floors of the loss and of the errors; an InputError says that they cannot be counted."""
    start = time.perf_counter()
    errors: Floor | None = None
    if isinstance(view, Prefixes):
        floor, errors = floors_of_prefixes(targets, view)
        describes = view.describes
    else:
        groups = groups_by_input(objective.batches, targets) if view is None else view.groups
        describes = ROW_BY_ROW if view is None else view.describes
        floor = floor_of_groups(targets, groups)
        if targets.errors is not None:
            errors = error_floor(groups, targets.targets, targets.num_outputs)
    seconds = time.perf_counter() - start
    found = [
        floor.certificate(
            loss,
            f"No model whose input is {describes} reaches a lower training loss{_why(floor, targets)}.",
            seconds=seconds,
            quantity=LOSS,
            unit=targets.unit,
        )
    ]
    if errors is not None and targets.errors is not None:
        scope = f"No model whose input is {describes} can exceed {1.0 - errors.value:.2%} training accuracy."
        found.append(
            errors.certificate(targets.errors, scope, seconds=seconds, quantity=ERRORS, unit="fraction of the targets")
        )
    return found


def _why(floor: Floor, targets: Targets) -> str:
    """Return the reason of a floor, as the end of a sentence."""
    reasons = []
    if floor.num_conflicts:
        noun = "inputs look" if floor.num_conflicts > 1 else "input looks"
        reasons.append(f"{floor.num_conflicts:,} {noun} the same with different targets")
    if targets.form.smoothing > 0.0:
        reasons.append(f"label smoothing {targets.form.smoothing:g} has a cost even for a perfect model")
    if not reasons:
        return " (all inputs differ, so a lookup table could memorize them)"
    return f" ({', and '.join(reasons)})"


def _norm_floor(objective: Objective, loss: float, targets: Targets, radius: float) -> Certificate:
    """Return the floor of networks whose features are no longer than the radius, under a penalized softmax."""
    start = time.perf_counter()
    split = split_last_layer(objective)
    layer = form_on(split, split.batches[0])[1].layer
    penalized = layer is not None and any(tensor is layer.weight for tensor in objective.penalized)
    plain = targets.errors is not None and targets.form.class_weights is None
    if not (penalized and plain):
        raise InputError("Requires an unweighted softmax over class ids with an L2 penalty on its layer.")
    assert layer is not None
    shares = np.bincount(targets.targets, minlength=targets.num_outputs) / len(targets.targets)
    floor = norm_floor(shares, radius, objective.l2, smoothing=targets.form.smoothing, free_bias=layer.bias is not None)
    return Certificate(
        name="norm_floor",
        quantity=LOSS,
        unit=targets.unit,
        loss=loss,
        bound=floor.value,
        scope=f"No network of any depth whose features are at most {radius:.4g} long has a lower training loss with "
        "this penalty on its output layer.",
        proof=Proof.PROOF,
        assumptions=(f"The features are never longer than {radius:.4g}, whatever the weights (given, not checked).",),
        seconds=time.perf_counter() - start,
        evidence=floor.evidence,
    )


def _factored(objective: Objective) -> Certificate:
    """Return the certificate of an embedding bag under a linear head, or raise an InputError where there is none."""
    problem = factored_problem(objective)
    return problem.certificate(problem.at(*factors_of(objective)))


def _local(objective: Objective, seconds: float) -> Certificate:
    """Return the verdict about the neighborhood, with as many products as there is time for."""
    start = time.perf_counter()
    objective()
    each = PRODUCT_COST * (time.perf_counter() - start)
    products = int(min(PRODUCTS, seconds / max(each, 1e-9)))
    if products < MIN_PRODUCTS:
        raise InputError(
            f"Examining the neighborhood would take about {MIN_PRODUCTS * each:,.0f} s; allow more time (--seconds)."
        )
    return local_verdict(objective, max_products=products).certificate()


def _neuron(objective: Objective, levels: Sequence[Certificate]) -> list[str]:
    """Return the offer of one more hidden unit, where the two-layer level applies and one helps."""
    if not any(level.name == "two_layer" and level.relative_gap > 1e-6 for level in levels):
        return []
    sentence = offer_neuron(objective)
    return [] if sentence is None else [sentence]


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
        arrays |= {f"{number} {name}": t.detach().cpu().numpy() for name, t in parts.items() if t is not None}
    return fingerprint(arrays)


def hash_of_weights(objective: Objective) -> str:
    """Return the SHA-256 of all parameters and buffers of an objective."""
    parameters, buffers = objective.every_tensor()
    return fingerprint(
        {f"{number:06}": tensor.detach().cpu().numpy() for number, tensor in enumerate([*parameters, *buffers])}
    )
