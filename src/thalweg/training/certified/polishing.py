"""A better output layer put into a run; the previous weights are kept."""

import torch

from thalweg.certificates.linear.level import polished_layer
from thalweg.data.arrays.batches import Examples
from thalweg.errors import InputError
from thalweg.objective import Objective
from thalweg.tasks.base import AbstractTask
from thalweg.training.folder import build, checkpoint
from thalweg.training.folder.run import BEFORE_POLISH, METRICS, WEIGHTS, Run, write_json, write_manifest
from thalweg.training.steps.evaluate import evaluate


def put_polished_head(run: Run, objective: Objective, task: AbstractTask, valid: Examples) -> str:
    """Write the best output layer for the present features into the run, and say what that does to the scores.

    It raises an InputError if the run's head is not a linear layer of its own under an L2 penalty.
    """
    weight, bias = polished_layer(objective.copied(torch.float64))
    model, head = run.model, run.head
    layers = [module for module in head.modules() if isinstance(module, torch.nn.Linear)]
    if len(layers) != 1 or layers[0].weight.shape != weight.shape:
        raise InputError(f"{run.folder}: there is no single output layer to put the polished one into.")
    before = evaluate(task, model, head, valid)
    checkpoint.save_tensors(run.folder / BEFORE_POLISH, build.get_weights(model, head))
    with torch.no_grad():
        layers[0].weight.copy_(weight)
        if bias is not None and layers[0].bias is not None:
            layers[0].bias.copy_(bias)
    after = evaluate(task, model, head, valid)
    checkpoint.save_tensors(run.folder / WEIGHTS, build.get_weights(model, head))
    write_manifest(run.folder, weights=True)
    result = run.result
    result["loss"], result["metrics"] = after.loss, result["metrics"] | after.metrics
    write_json(run.folder / METRICS, result)
    name = task.selects_by[0]
    return (
        f"The polished output layer is in the run: validation loss {before.loss:.4f} before, {after.loss:.4f} after; "
        f"{name} {before.value(name):.4f} before, {after.value(name):.4f} after. Old weights: {BEFORE_POLISH}."
    )
