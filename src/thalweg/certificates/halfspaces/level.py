"""The level of separability: how many training examples every output layer without a penalty gets wrong."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np
import torch
from torch import nn

from thalweg.certificates.certificate.interval import Certificate
from thalweg.certificates.certificate.proved import proved_certificate
from thalweg.certificates.halfspaces.hyperplane import scaled
from thalweg.certificates.halfspaces.layers import Rows, pairs_of_classes, proved_layer, separating_layer
from thalweg.certificates.halfspaces.separable import PRICE, Separation, conflicts_of
from thalweg.certificates.linear.forms import form_on, join_forms, no_form
from thalweg.certificates.linear.last_layer import split_last_layer
from thalweg.errors import InputError
from thalweg.heads.base import ConvexLoss, LinearForm
from thalweg.objective import Objective

SECONDS: Final = 5.0
MAX_NUMBERS: Final = 20_000_000  # features
PER_SECOND: Final = 2e7  # features that are brought to one scale and looked through in a second, at least


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The training examples with a weight above 0, as the output layer sees them."""

    features: np.ndarray  # [n, d]
    labels: np.ndarray  # the class of each, or the most likely one, int [n]
    num_classes: int
    hard: bool  # whether the loss has no other targets than these classes
    answers: np.ndarray  # of the present layer, int [n]


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """What is proved about the errors of every layer."""

    bound: int
    evidence: dict[str, Any]
    reached: float | None = None
    said: tuple[str, ...] = ()


def separable_level(objective: Objective, *, seconds: float = SECONDS) -> Certificate:
    """Bound the errors of every output layer on the features as they are, where it has no penalty.

    Sets of examples are named that no layer is right on together, whatever its weights; each such set costs an error.
    If there are none and a layer is found that is right on all, the level says that, and that the loss has no minimum
    where that follows. Examples whose weight, or whose class's, is 0 do not count. An example is right if its class has
    the highest score (two classes under one logit: if the logit is above 0 or not), and a tie counts as the same one of
    the tied classes throughout.

    Args:
        objective: on all training data, in float64 and evaluation mode.
        seconds: how long it may take; the search for errors ends there.

    Raises:
        InputError: with a penalty on the layer or without a bias, for targets that name no class, for too much data,
            or where neither errors nor a layer without any were proved within the time.
    """
    start = time.perf_counter()
    layer, form = _layer_and_form(objective)
    if form.features.numel() > min(MAX_NUMBERS, PER_SECOND * seconds):
        raise InputError(
            f"Looking through {form.features.numel():,} features takes longer than {seconds:.3g} s, or more than "
            f"{MAX_NUMBERS:,} numbers."
        )
    examples = examples_of(form)
    found = errors_of_layers(examples, layer, start + seconds, penalized=bool(objective.penalized))
    errors = float((examples.answers != examples.labels).sum())
    if found.bound > errors:
        raise InputError(
            f"The layer makes {errors:g} errors in float64 and at least {found.bound} without rounding: its scores are "
            "too close to one another to count errors by them."
        )
    seconds = time.perf_counter() - start
    level = proved_certificate(found.evidence, loss=errors, seconds=seconds, reached=found.reached)
    return dataclasses.replace(level, assumptions=(*level.assumptions, *found.said))


def separable_problem(objective: Objective, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the problem that evidence of the level is about, computed again; raises what the level does."""
    examples = examples_of(_layer_and_form(objective)[1])
    rows = np.arange(len(examples.labels)) if "W" in evidence else np.asarray(evidence["example"])
    if rows.dtype.kind != "i" or not ((rows >= 0) & (rows < len(examples.labels))).all():
        raise InputError("There are no such examples.")
    return _problem(examples, rows)


def _problem(examples: Examples, rows: np.ndarray) -> dict[str, Any]:
    return {
        "rule": "separable",
        "X": examples.features[rows],
        "label": examples.labels,
        "answer": examples.answers,
    }


def _layer_and_form(objective: Objective) -> tuple[nn.Linear, LinearForm]:
    """Return the output layer and the form of all batches, or raise an InputError for one the level is not about."""
    other = split_last_layer(objective)
    (layer,) = (module for module in other.head.modules() if isinstance(module, nn.Linear))
    form = join_forms([form_on(other, batch, layer)[1] for batch in other.batches])
    if form.layer is None:
        raise no_form(other)
    if any(tensor is form.layer.weight or tensor is form.layer.bias for tensor in objective.penalized):
        raise InputError("The output layer is under an L2 penalty, so its loss has a minimum: see the best head.")
    if form.layer.bias is None:
        raise InputError("The output layer has no bias; separability is examined for layers with one.")
    return form.layer, form


def examples_of(form: LinearForm) -> Examples:
    """Return the examples that count, or raise an InputError for targets that name no class."""
    assert form.layer is not None
    labels, hard = _labels(form)
    counts = torch.ones(len(labels), dtype=torch.bool)
    if form.weights is not None:
        counts &= (form.weights.reshape(len(labels), -1) > 0.0).any(1).cpu()
    if form.class_weights is not None:
        counts &= (form.class_weights.cpu() > 0.0)[labels]
    if not bool(counts.any()):
        raise InputError("Every training example has the weight 0, so there is none to be wrong on.")
    with torch.no_grad():
        scores = form.layer(form.features.to(form.layer.weight.dtype)).cpu()
    answers = (scores[:, 0] > 0.0).long() if scores.shape[1] == 1 else scores.argmax(1)
    return Examples(
        form.features.double().cpu().numpy()[counts.numpy()],
        labels.numpy()[counts.numpy()],
        max(2, form.layer.out_features),
        hard and form.smoothing == 0.0,
        answers.numpy()[counts.numpy()],
    )


def errors_of_layers(examples: Examples, layer: nn.Linear, end: float, *, penalized: bool) -> Finding:
    """Return what is proved until a time: errors of every layer, or a layer without any."""
    if (examples.answers == examples.labels).all():
        weights, bias = (tensor.detach().double().cpu().numpy() for tensor in (layer.weight, layer.bias))
        if layer.out_features == 1:
            weights, bias = np.concatenate([0.0 * weights, weights]), np.concatenate([0.0 * bias, bias])
        if proved_layer(scaled(examples.features), examples.labels, weights, bias):
            return _some_layer(examples, weights, bias, penalized=penalized)
    now, share = time.perf_counter(), 1.0 if examples.num_classes == 2 else 0.5
    sets, stopped, rest = _disjoint_sets(examples, now + share * (end - now))
    if not sets and rest is not None and examples.num_classes == 2:
        weights = np.stack([0.0 * rest.weight, rest.weight])
        return _some_layer(examples, weights, np.array([0.0, rest.bias]), penalized=penalized)
    if not sets:
        try:
            found = separating_layer(scaled(examples.features), examples.labels, examples.num_classes, end)
        except InputError as error:
            looked = "in the time that there was" if stopped else "among examples of any two classes"
            raise InputError(
                f"No errors that every output layer makes were found {looked}, and no layer was proved to be right on "
                f"all examples. {error}"
            ) from None
        if not isinstance(found, Rows):
            return _some_layer(examples, *found, penalized=penalized)
        sets = [found]
    points, rival = (np.concatenate([getattr(one, name) for one in sets]) for name in ("points", "rival"))
    evidence = _problem(examples, points) | {
        "example": points,
        "rival": rival,
        "set": np.repeat(np.arange(len(sets)), [len(one.points) for one in sets]),
        "stopped": int(stopped),
    }
    return Finding(len(sets), evidence)


def _disjoint_sets(examples: Examples, end: float) -> tuple[list[Rows], bool, Separation | None]:
    """Return disjoint sets of examples of two classes, in each of which every layer is wrong.

    And whether the search stopped, and what separates the rest of the last pair of classes.
    """
    left = np.arange(len(examples.labels))
    sets: list[Rows] = []
    price, stopped, rest = 0.0, False, None
    pairs = pairs_of_classes(examples.labels, examples.answers)
    for number, (one, two) in enumerate(pairs):
        now = time.perf_counter()
        if now >= end:
            return sets, True, None
        mine = left[np.isin(examples.labels[left], (one, two))]
        sign = np.where(examples.labels[mine] == two, 1.0, -1.0)
        if len(np.unique(sign)) < 2:
            continue
        until = now + max((end - now) / 2.0, (end - now) / (len(pairs) - number))
        found = conflicts_of(scaled(examples.features[mine]), sign, None, until, most=PRICE - price)
        for part in found.sets:
            own = examples.labels[mine[part.points]]
            sets.append(Rows(mine[part.points], own, one + two - own))
            price += part.price
        stopped, rest = stopped or bool(found.stopped), found.rest
        if sets:
            left = np.setdiff1d(left, np.concatenate([part.points for part in sets]))
    return sets, stopped, rest


def _some_layer(examples: Examples, weights: np.ndarray, bias: np.ndarray, *, penalized: bool) -> Finding:
    """Return that a layer is right on all, and what follows for its loss."""
    evidence = _problem(examples, np.arange(len(examples.labels))) | {"W": weights, "b": bias}
    rest = " but for the penalty on the other weights" if penalized else ""
    said = (f"No penalty is on the layer, so multiples of one that is right on all bring the loss as close to 0 as you "
            f"like{rest}, and none to it.",)  # fmt: skip
    return Finding(0, evidence, reached=0.0, said=said if examples.hard else ())


def _labels(form: LinearForm) -> tuple[torch.Tensor, bool]:
    """Return the class of each example, and whether its target is that class and no other."""
    targets = form.targets.detach().cpu()
    if form.loss is ConvexLoss.SOFTMAX:
        if not targets.is_floating_point():
            return targets.long(), True
        first, second = targets.topk(2, dim=1).values.unbind(1)
        if bool((first > second).all()):
            return targets.argmax(1), bool((first == 1.0).all())
    elif form.loss is ConvexLoss.LOGISTIC and targets.shape[1] == 1 and bool((targets != 0.5).all()):
        return (targets[:, 0] > 0.5).long(), bool(((targets == 0.0) | (targets == 1.0)).all())
    raise InputError(
        "Errors are counted for one class per example, the most likely one; these targets name none, or several."
    )
