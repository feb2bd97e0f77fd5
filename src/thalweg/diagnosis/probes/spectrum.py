"""The curvature at the present weights: both ends of the Hessian's spectrum, its trace and its density."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any, Final, final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.batch import Batch
from thalweg.curvature.culprit import UncheckedWarning
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.lanczos import random_vector, tridiagonalize
from thalweg.curvature.operators import AbstractOperator, Diagonal
from thalweg.diagnosis.probes.parts import affordable
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject
from thalweg.objective import Objective

_EXAMPLES: Final = 128
_TOKENS: Final = 2048
_TOKENS_OF_RECURRENT: Final = 1536  # whose second derivatives take kernels of their own, step by step
_STEPS: Final = (10, 3)  # products of the runs from one start each; the first finds the ends
_FEWER: Final = 5  # products with the other matrices
_EPSILON: Final = 1e-8  # of Adam
# Optimizers that divide by the root of a second moment of each number.
_DIVIDING: Final = {
    *("adam", "adamw", "nadam", "radam", "amsgrad", "rmsprop", "adagrad", "adadelta", "adamax"),
    *("adam-schedule-free", "adamw-schedule-free", "schedule-free-adamw"),
}


@probe()
def spectrum(subject: Subject) -> dict[str, Any]:
    r"""Measure the Hessian of the training loss on some examples, in evaluation mode.

    `sharpness` is the largest eigenvalue found and `smallest` the least one; within the error beside each lies an
    eigenvalue, and there may be one farther out. `certified_negative` says that a negative eigenvalue is proven up to
    rounding, `relative_negative` is the least over the largest one. `trace` has the standard error of two draws,
    `density` holds points and weights that add up to 1. `gauss_newton` is the
    largest eigenvalue without the curvature of the network itself. For optimizers that divide by the root of a second
    moment, `preconditioned_sharpness` is the largest eigenvalue of $P^{-1/2} H P^{-1/2}$,
    $P = \operatorname{diag}(\sqrt{\operatorname{mean} g_b^2} + 10^{-8})$ with the gradients of single batches.

    Source: Lanczos (1950); Cohen, Kaur, Li, Kolter and Talwalkar (2021), Gradient Descent on Neural Networks Typically
    Occurs at the Edge of Stability; Cohen et al. (2022), Adaptive Gradient Methods at the Edge of Stability.
    """
    if not subject.objective().parameters:
        return {}
    tokens = _TOKENS_OF_RECURRENT if subject.facts.family == "recurrent" else _TOKENS
    batches = affordable(subject.train, _EXAMPLES, tokens)
    objective = subject.objective(batches)
    result: dict[str, Any] = {"examples": sum(batch.num_examples for batch in batches)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncheckedWarning)
        hessian = Hessian(objective)
        runs = [_run(hessian, seed, steps) for seed, steps in enumerate(_STEPS)]
        top, top_error = max(run.top for run in runs)
        bottom, bottom_error = min(run.bottom for run in runs)
        result |= {
            "sharpness": top,
            "sharpness_error": top_error,
            "smallest": bottom,
            "smallest_error": bottom_error,
            "certified_negative": bottom + bottom_error < 0.0,
            "relative_negative": max(0.0, -bottom) / max(abs(top), abs(bottom), 1e-300),
            "size": hessian.size,
        }
        traces = [hessian.size * sum(value * weight for value, weight in run.points) for run in runs]
        result["trace"], result["trace_error"] = sum(traces) / len(traces), _error(traces)
        result["density"] = sorted([value, weight / len(runs)] for run in runs for value, weight in run.points)
        result["gauss_newton"] = _of_gauss_newton(objective)
        divides = subject.facts.optimizer in _DIVIDING
        if divides:
            root = _root_of_preconditioner(subject, objective)
            scaled = Diagonal(root, objective.parameters)
            found = _run(scaled @ hessian @ scaled, 0, _STEPS[0]).top
            result["preconditioned_sharpness"], result["preconditioned_error"] = found
    for name, lr in (("lr", subject.facts.lr), ("last_lr", _last_lr(subject))):
        if lr is not None:
            result[f"{name}_times_sharpness"] = lr * top
            if divides:
                result[f"{name}_times_preconditioned"] = lr * result["preconditioned_sharpness"]
    return result


@final
@dataclasses.dataclass(frozen=True)
class _Run:
    """What a run of Lanczos found: both ends with bounds, and points with weights of the spectrum's density."""

    top: tuple[float, float]
    bottom: tuple[float, float]
    points: Sequence[tuple[float, float]]


def _run(operator: AbstractOperator, seed: int, steps: int) -> _Run:
    """Run Lanczos from random signs, which make the first entry of T an estimate of the mean eigenvalue."""
    run = tridiagonalize(operator, torch.sign(random_vector(operator, seed)), steps, lambda _: False)
    values, vectors_, errors = run.ritz()
    errors = errors + 10.0 * torch.finfo(operator.dtype).eps * values.abs().max()
    return _Run(
        (float(values[-1]), float(errors[-1])),
        (float(values[0]), float(errors[0])),
        list(zip(values.tolist(), vectors_[0].square().tolist(), strict=True)),
    )


def _error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of some values."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def _of_gauss_newton(objective: Objective) -> float | None:
    try:
        return _run(GaussNewton(objective, check=False), 0, _FEWER).top[0]
    except (ValueError, RuntimeError, NotImplementedError):  # a head of one's own without this curvature
        return None


def _root_of_preconditioner(subject: Subject, objective: Objective) -> Tensor:
    """Return the entries of the inverse root of what an optimizer divides by, flat."""
    squares: Tensor | None = None
    batches: Sequence[Batch] = [*subject.train[:8], *objective.batches[-1:]]
    for batch in batches:
        gradient = vectors.flatten(objective.on(batch).value_and_gradient()[1]).square()
        squares = gradient if squares is None else squares + gradient
    assert squares is not None
    return ((squares / len(batches)).sqrt() + _EPSILON).rsqrt()


def _last_lr(subject: Subject) -> float | None:
    rates = [entry["lr"] for entry in subject.history if entry.get("event") == "step" and "lr" in entry]
    return float(rates[-1]) if rates and math.isfinite(float(rates[-1])) else None
