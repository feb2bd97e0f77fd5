"""Where fine-tuning starts: the pretrained weights, under an output layer that is at its optimum for them."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg import noise
from thalweg.batch import Batch
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.last_layer import head_problem
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.ridge.newton import solve
from thalweg.errors import InputError, counted
from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder import build
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.steps.device import choose_device

MOST: Final = 2048  # examples that the output layer is fitted to
BATCH: Final = 64
JUDGES: Final = 4  # every fourth batch says which penalty is taken
STRENGTHS: Final = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # over the examples and times the mean square of a state
TOLERANCE: Final = 1e-3


def starting_point(recipe: Recipe, task: AbstractTask, prepared: Prepared) -> tuple[dict[str, Tensor], str]:
    """Return the first weights of a fine-tuning, and a sentence about the output layer; "" where it begins at random.

    A random output layer sends gradients into the network that say nothing, and what they change is lost. So the layer
    is fitted first, to some of the training examples, with a penalty.

    Source: Kumar et al. (2022), Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution.
    """
    device = choose_device(recipe.run.device)
    model, head = build.build_networks(recipe, task)
    said = ""
    if not hasattr(task, "text"):  # those that write begin with the output layer that is pretrained, too
        model.to(device)
        head.to(device)
        with noise.borrowed(noise.accelerators(model.parameters())):
            said = _fit_layer(model.eval(), head.eval(), _batches(recipe, task, prepared, device))
    return build.copied_weights(model, head), said


def _batches(recipe: Recipe, task: AbstractTask, prepared: Prepared, device: torch.device) -> list[Batch]:
    examples = prepared.train
    chosen = np.unique(np.linspace(0, len(examples) - 1, min(MOST, len(examples))).astype(np.int64))
    name = examples.sort_by[0] if examples.sort_by else ""
    if name:
        chosen = chosen[np.argsort(examples.ragged(name).lengths[chosen], kind="stable")]
    dtype = torch.float64 if recipe.run.precision == "float64" else torch.float32
    return [
        task.batch(examples, chosen[start : start + BATCH]).to(device, dtype) for start in range(0, len(chosen), BATCH)
    ]


def _fit_layer(model: nn.Module, head: AbstractHead, batches: Sequence[Batch]) -> str:
    judges = batches[JUDGES - 1 :: JUDGES] or batches
    fitted = [batch for place, batch in enumerate(batches) if place % JUDGES != JUDGES - 1] or batches
    try:
        problem, judging = (head_problem(Objective(model, head, part, l2=1.0))[0] for part in (fitted, judges))
    except InputError:  # a head of another kind
        return ""
    number, square = problem.features.shape[0], float(problem.features.row_norms().square().mean())
    if not square > 0.0:
        return ""
    best, least = None, math.inf
    for strength in STRENGTHS:
        penalized = Head(problem.features, problem.loss, L2(strength * square / number), intercept=True)
        point, _, _ = solve(penalized, tolerance=TOLERANCE)
        value = judging.at(point.weight, point.bias).value
        if not value < least:
            break
        best, least = point, value
    if best is None:
        return ""
    layer = next(module for module in head.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        layer.weight.copy_(best.weight.T)
        if layer.bias is not None:
            layer.bias.copy_(best.bias)
    return f"The output layer begins at its optimum for {counted(number, 'example')}, the pretrained network as it is."
