"""The level of separability: whether an output layer without a penalty could classify every training example."""

import time

import numpy as np
import torch

from thalweg.certificates.certificate.interval import Certificate, Proof
from thalweg.certificates.halfspaces.separable import disjoint_conflicts, layer_separable
from thalweg.certificates.linear.forms import form_on, no_form
from thalweg.certificates.linear.last_layer import split_last_layer
from thalweg.errors import InputError
from thalweg.heads.base import ConvexLoss, LinearForm
from thalweg.objective import Objective

MAX_NUMBERS = 2_000_000  # in the linear program
MAX_CONFLICTS = 50


def separable_level(objective: Objective) -> Certificate:
    """Bound the errors of every output layer on the features as they are, where it has no penalty.

    With two classes, examples are named that no hyperplane is right on together; each such set costs an error. With
    more, a linear program says whether any layer is right on all. If one is, the loss without a penalty has the infimum
    0, which no weights attain. It raises an InputError with a penalty on the layer, for targets that are not classes,
    or for too much data; the objective is in evaluation mode, on all training data.
    """
    start = time.perf_counter()
    other = split_last_layer(objective)
    found = [form_on(other, batch)[1] for batch in other.batches]
    layer = found[0].layer
    if layer is None:
        raise no_form(other)
    if any(tensor is layer.weight for tensor in objective.penalized):
        raise InputError("The output layer is under an L2 penalty, so its loss has a minimum: see the best head.")
    if layer.bias is None:
        raise InputError("The output layer has no bias; separability is examined for layers with one.")
    features, labels = _rows(found)
    num_classes = max(2, layer.out_features)
    if features.size * num_classes * (num_classes - 1) > MAX_NUMBERS:
        raise InputError(f"{features.size:,} numbers are too many for the linear program of a separating layer.")
    with torch.no_grad():
        scores = layer(torch.cat([form.features for form in found])).double().cpu().numpy()
    answers = (scores[:, 0] > 0.0).astype(int) if scores.shape[1] == 1 else scores.argmax(1)
    errors = float((answers != labels).sum())
    bound, scope, evidence = _bound(features, labels, num_classes)
    return Certificate(
        name="separable",
        quantity="training errors of the output layer",
        unit="errors",
        loss=errors,
        bound=min(bound, errors),
        scope=scope,
        whole=False,
        proof=Proof.PROOF,
        seconds=time.perf_counter() - start,
        evidence=evidence,
    )


def separable_rows(objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """Return the features `[n, width]` and the classes `[n]` that the level is about; it raises what that does."""
    other = split_last_layer(objective)
    return _rows([form_on(other, batch)[1] for batch in other.batches])


def _rows(forms: list[LinearForm]) -> tuple[np.ndarray, np.ndarray]:
    features = torch.cat([form.features for form in forms]).double().cpu().numpy()
    return features, np.concatenate([_labels(form) for form in forms])


def _bound(features: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[float, str, dict]:
    right = (
        "Some output layer classifies every training example correctly on these features; without a penalty the loss "
        "has the infimum 0, which no weights attain."
    )
    if num_classes > 2:
        if layer_separable(features, labels)[0]:
            return 0.0, right, {}
        return 1.0, "No output layer classifies every training example correctly on these features.", {}
    sign = np.where(labels == 1, 1, -1)
    conflicts = disjoint_conflicts(features, sign, at_most=MAX_CONFLICTS)
    if not conflicts:
        return 0.0, right, {}
    points = np.concatenate([part.points for part in conflicts])
    evidence = {
        "rule": "separable",
        "X": features[points],
        "sign": sign[points],
        "multiplier": np.concatenate([part.multiplier for part in conflicts]),
        "set": np.repeat(np.arange(len(conflicts)), [len(part.points) for part in conflicts]),
        "example": points,
        "tolerance": max(part.residual for part in conflicts) + 1e-12,
    }
    return (
        float(len(conflicts)),
        f"Every output layer on these features makes {len(conflicts)} errors or more.",
        evidence,
    )


def _labels(form: LinearForm) -> np.ndarray:
    targets = form.targets.detach().cpu()
    if form.loss is ConvexLoss.SOFTMAX and not targets.is_floating_point():
        return targets.numpy().astype(int)
    one = form.loss is ConvexLoss.LOGISTIC and targets.shape[1] == 1
    if one and bool(((targets == 0.0) | (targets == 1.0)).all()):
        return targets[:, 0].numpy().astype(int)
    raise InputError("Separability is defined for one class per example; these targets are not of that kind.")
