"""Objectives whose global optimum can be bounded: one small protocol, and the problem of an objective."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from thalweg.certificates.certificate.interval import Certificate
from thalweg.certificates.factored.bags import factored_problem, factors_of
from thalweg.certificates.factored.path import factored_path
from thalweg.certificates.linear.last_layer import head_problem
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.losses import AbstractLoss
from thalweg.certificates.path_point import PathPoint
from thalweg.certificates.ridge.path import ridge_path
from thalweg.certificates.ridge.problem import linear_problem, weights_of
from thalweg.models.bag import LinearBag
from thalweg.models.presets import LinearWindow
from thalweg.objective import Objective


class Point(Protocol):
    """A point of such a problem."""

    @property
    def total(self) -> float:
        """Loss and penalty."""
        ...


class Problem(Protocol):
    """A training loss whose global optimum is bounded from below; `Head` and `Factored` are."""

    features: Features
    loss: AbstractLoss

    def relative_gap(self, point: Any) -> float:
        """Return how far a point may be above the optimum, as a fraction of its loss; 0 for a loss of 0."""
        ...

    def certificate(self, point: Any, *, evidence: bool = True) -> Certificate:
        """Return the certificate of a point; its evidence, which can be left out, is as large as the data."""
        ...


def problem_at(objective: Objective, about: Mapping[str, str] | None = None) -> tuple[Problem, Point]:
    """Return the problem of an objective, and the point of its present weights.

    A linear model has a convex problem (so has a layer on a window of numbers as it is), an embedding bag a factored
    one. `about` holds words for what is said of it. An InputError says what is in the way of both.
    """
    if isinstance(objective.model, LinearBag):
        convex = linear_problem(objective, about)
        return convex, convex.at(*weights_of(objective))
    if isinstance(objective.model, LinearWindow):
        layer, at, _ = head_problem(objective, about=about)
        layer.whole = True  # nothing lies below it that could be trained
        return layer, at
    factored = factored_problem(objective, about)
    return factored, factored.at(*factors_of(objective))


def follow(objective: Objective, penalties: Iterable[float]) -> Iterator[PathPoint]:
    """Yield the optima of an objective under one penalty after the other, each put into the networks.

    The objective's own penalty is not looked at, but must be above zero. Arguments and errors as for `problem_at` and
    `thalweg.certificates.ridge_path`.
    """
    tensors: tuple[Tensor | None, ...]
    if isinstance(objective.model, LinearBag):
        convex, tensors = linear_problem(objective), weights_of(objective)
        points = ridge_path(convex.features, convex.loss, penalties, intercept=convex.intercept)
    elif isinstance(objective.model, LinearWindow):
        convex, _, _ = head_problem(objective)
        (layer,) = (module for module in objective.head.modules() if isinstance(module, nn.Linear))
        tensors = layer.weight.T, layer.bias
        points = ridge_path(convex.features, convex.loss, penalties, intercept=convex.intercept)
    else:
        factored, tensors = factored_problem(objective), factors_of(objective)
        width = tensors[0].shape[1]
        points = factored_path(factored.features, factored.loss, penalties, width=width, intercept=factored.intercept)
    for point in points:
        with torch.no_grad():
            for tensor, weight in zip(tensors, point.weights, strict=True):
                if tensor is not None:
                    tensor.copy_(weight)
        yield point
