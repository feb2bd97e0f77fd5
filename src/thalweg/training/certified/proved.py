"""Which runs train to a proved optimum, with which defaults, and the sentence about it."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from torch import nn

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.certificates.certificate.interval import Certificate
from thalweg.certificates.factored.bags import factored_problem, factors_of
from thalweg.data.arrays.batches import Examples
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.steps.device import choose_device

OPTIMIZER: Final = "factored-newton"
TOLERANCE: Final = 1e-4
DEFAULTS: Final[dict[str, Any]] = {
    "optimizer": OPTIMIZER, "batch_size": 0, "dropout": 0.0, "schedule": "constant", "warmup": 0.0, "clip": 0.0,
    "weight_decay": 0.0, "lr": 1.0, "epochs": 100.0, "precision": "float64", "certify": TOLERANCE, "l2": 1e-4,
}  # fmt: skip
# Who sets one of these wants training on mini-batches, or a method of their own.
_OTHER_METHOD: Final = (
    "optimizer", "line_search", "optimizer_options", "lr", "schedule", "schedule_options", "warmup", "clip",
    "clip_value", "clip_adaptive", "clip_update", "weight_decay", "batch_size", "dropout", "init", "patience",
)  # fmt: skip
_PASSES: Final = ("epochs", "steps", "accumulate")
MAX_BYTES: Final = 3 * 2**30
MAX_SECONDS: Final = 600.0
_PRODUCTS, _SPARSE_RATE, _DENSE_RATE = 400, 1e9, 1.6e10  # products of a usual run; terms a second on one core


def wants_proof(values: dict[str, Any], given: dict[str, Any]) -> bool:
    """Whether a run trains to a proved optimum, unless the data turn out to be too large.

    Args:
        values: the recipe so far, with the defaults of its task and model.
        given: what the user gave of it.
    """
    if given.get("optimizer") == OPTIMIZER:
        return True
    if values["task"] != "classify" or values["model"] != "bag":
        return False
    if any(given.get(key) for key in _OTHER_METHOD) or given.get("precision") == "bfloat16":
        return False
    return bool(given.get("certify")) or not any(given.get(key) for key in _PASSES)


def check(values: dict[str, Any]) -> None:
    """Raise an InputError where a complete recipe asks for a proof that its method cannot give."""
    if values["optimizer"] != OPTIMIZER:
        if values["certify"]:
            raise InputError(
                f"--certify stops training by a gap that only --model bag with --optimizer {OPTIMIZER} knows while it "
                f"trains; got --model {values['model']} with {values['optimizer']}. Leave it out, and ask `thalweg "
                "certify` about the finished run."
            )
        return
    if values["model"] != "bag" or values["task"] not in {"classify", "score"}:
        raise InputError(f"--optimizer {OPTIMIZER} is for --model bag; got --model {values['model']}.")
    for key, wanted in (("batch_size", 0), ("dropout", 0.0), ("weight_decay", 0.0), ("accumulate", 1)):
        if values[key] != wanted:
            option = f"--{key.replace('_', '-')}"
            raise InputError(f"--optimizer {OPTIMIZER} needs {option} {wanted or '0'}; got {values[key]!r}.")
    if not values["l2"] > 0.0 or values["line_search"]:
        raise InputError(f"--optimizer {OPTIMIZER} needs an --l2 above zero, and has its own line search.")
    if values["precision"] == "bfloat16":
        raise InputError(f"--optimizer {OPTIMIZER} needs --precision float64 or float32; got bfloat16.")


def obstacle(recipe: Recipe, task: AbstractTask, prepared: Prepared) -> str:
    """Return a sentence that says why the data cannot be trained on at once, or nothing."""
    if distributed.is_active():
        return "Training runs on several processes."
    if choose_device(recipe.run.device or "auto").type == "mps":
        return "This device has no float64."
    outputs, features = _num_outputs(task), task.shape().vocabulary_size
    terms, rows = _num_entries(prepared.train), len(prepared.train)
    memory = 60 * terms + 80 * features * outputs + 64 * rows * outputs
    each = 2 * terms * outputs / _SPARSE_RATE + 6 * features * outputs * min(outputs, features) / _DENSE_RATE
    if memory > MAX_BYTES or _PRODUCTS * each > MAX_SECONDS:
        return (
            f"{rows:,} texts with {features:,} features and {outputs:,} labels would take about "
            f"{memory / 2**30:.1f} GB and {_PRODUCTS * each / 60:.0f} minutes to train on all at once."
        )
    return ""


def fit_to_data(recipe: Recipe, given: Recipe, task: AbstractTask, prepared: Prepared) -> None:
    """Set width and penalty by the data, where the user has not."""
    outputs = _num_outputs(task)
    if given.model.width is None:
        recipe.model.width = outputs  # the best solution has no higher rank
    if given.training.l2 is None:
        several = bool(getattr(task, "multilabel", False))
        recipe.training.l2 = default_l2(len(prepared.train), outputs, several=several)


def default_l2(num_examples: int, num_outputs: int, *, several: bool) -> float:
    """Return the penalty that is taken when none is given, to two digits.

    It falls with the number of texts, as the noise of their mean does, and with the number of labels; the figures
    were chosen by hand on held-out texts of a few data sets (docs/training.md).

    Example:
        >>> default_l2(1000, 2, several=False), default_l2(3162, 15, several=False)
        (0.0075, 4.2e-05)
    """
    share = 5.0 / num_outputs if several else max(0.05, 30.0 / num_outputs**2)
    return float(f"{share / num_examples:.2g}")


def prove(recipe: Recipe, model: nn.Module, head: AbstractHead, batches: Sequence[Batch]) -> dict[str, Any]:
    """Return what the summary says about the proof for the present weights, as plain values.

    Args:
        recipe: gives the penalty and the tolerance.
        model: with the weights to certify.
        head: likewise.
        batches: all training data.
    """
    objective = Objective(model, head, batches, l2=recipe.training.l2 or 0.0)
    problem = factored_problem(objective)
    certificate = problem.certificate(problem.at(*factors_of(objective)), evidence=False)
    return {
        "loss": certificate.loss,
        "bound": certificate.bound,
        "relative_gap": certificate.relative_gap,
        "scope": certificate.scope,
        "proof": certificate.proof.value,
        "sentence": _sentence(certificate, recipe.training.certify or 0.0),
    }


def _sentence(certificate: Certificate, tolerance: float) -> str:
    """Return the line of a summary about a proof; a tolerance of 0 means that none was asked for."""
    gap = certificate.relative_gap
    text = (
        f"Proved: no bag of any width, however it is trained, has a training loss (with this penalty) below "
        f"{certificate.bound:.7g}; this one has {certificate.loss:.7g} (relative gap {gap:.1e})."
    )
    if tolerance and not gap <= tolerance:
        text += f" That is above the tolerance of {tolerance:g}: more --epochs, a larger --width or --l2 close it."
    return text


def _num_outputs(task: AbstractTask) -> int:
    return len(getattr(task, "labels", ())) or 1


def _num_entries(examples: Examples) -> int:
    """Return how many features all texts have together."""
    return int(np.sum(examples.ragged("tokens").lengths))
