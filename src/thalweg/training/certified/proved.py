"""The proof that training to a proved optimum ends with, and the sentence about it."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from thalweg.batch import Batch
from thalweg.certificates.certificate.interval import Certificate
from thalweg.certificates.factored.bags import factored_problem, factors_of
from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective
from thalweg.training.recipe.recipe import Recipe


def prove(recipe: Recipe, model: nn.Module, head: AbstractHead, batches: Sequence[Batch]) -> dict[str, Any]:
    """Return what the summary says about the proof for the present weights on all training data, as plain values."""
    objective = Objective(model, head, batches, l2=recipe.training.l2)
    problem = factored_problem(objective)
    certificate = problem.certificate(problem.at(*factors_of(objective)), evidence=False)
    return {
        "loss": certificate.loss,
        "bound": certificate.bound,
        "relative_gap": certificate.relative_gap,
        "scope": certificate.scope,
        "proof": certificate.proof.value,
        "sentence": _sentence(certificate, recipe.training.certify),
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
