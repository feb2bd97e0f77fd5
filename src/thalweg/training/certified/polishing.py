"""A better output layer put into a run; the previous weights are kept."""

import math

import torch

from thalweg.certificates.linear.level import polished_layer
from thalweg.errors import InputError
from thalweg.training.certified.certify import Opened, training_objective
from thalweg.training.folder import build, tensor_files
from thalweg.training.integrity.run_files import (
    BEFORE_POLISH,
    CERTIFICATE,
    CERTIFICATE_ARRAYS,
    HELD_OUT,
    METRICS,
    WEIGHTS,
    json_bytes,
)
from thalweg.training.steps.evaluate import evaluate
from thalweg.training.steps.held_out import to_json


def put_polished_head(opened: Opened, *, seconds: float = math.inf) -> str:
    """Write the best output layer for the present features into the run, and say what that does to the scores.

    Polishing ends after some seconds. It raises an InputError if the run's head is not a linear layer of its own under
    an L2 penalty.
    """
    run, task, valid = opened.run, opened.task, opened.prepared.valid
    ledger = run.ledger
    if BEFORE_POLISH in ledger:  # as if the run had not been polished yet, so that the same command gives the same
        original = tensor_files.load_tensors(ledger.path(BEFORE_POLISH))
        build.put_weights(run.model, run.head, original, run.folder / BEFORE_POLISH)
    objective, _ = training_objective(run.recipe, task, opened.trained, run.model, run.head)
    weight, bias = polished_layer(objective.copied(torch.float64), seconds=seconds)
    model, head = run.model, run.head
    layers = [module for module in head.modules() if isinstance(module, torch.nn.Linear)]
    if len(layers) != 1 or layers[0].weight.shape != weight.shape:
        raise InputError(f"{run.folder}: there is no single output layer to put the polished one into.")
    before = evaluate(task, model, head, valid) if len(valid) else None
    files = {} if BEFORE_POLISH in ledger else {BEFORE_POLISH: ledger.read(WEIGHTS)}  # the weights of the training
    with torch.no_grad():
        layers[0].weight.copy_(weight)
        if bias is not None and layers[0].bias is not None:
            layers[0].bias.copy_(bias)
    files[WEIGHTS] = tensor_files.tensor_bytes(build.get_weights(model, head))
    about = [CERTIFICATE, CERTIFICATE_ARRAYS]  # the weights until now
    if run.is_refitted or before is None:
        with run.changing("polished") as ledger:
            ledger.write(files, removed=about)
    if run.is_refitted:
        return (
            "The polished output layer is in the run; the validation figures stay those of the weights before they "
            f"were trained on the validation examples, too ({HELD_OUT}). Old weights: {BEFORE_POLISH}."
        )
    if before is None:
        return f"The polished output layer is in the run. Old weights: {BEFORE_POLISH}."
    after = evaluate(task, model, head, valid, intervals=True)
    result = run.result
    result["loss"], result["metrics"] = after.loss, result["metrics"] | after.metrics
    result["intervals"] = result.get("intervals", {}) | to_json(after)["intervals"]
    with run.changing("polished") as ledger:
        ledger.write(files | {METRICS: json_bytes(result)}, removed=about)
    name = task.selects_by[0]
    return (
        f"The polished output layer is in the run: validation loss {before.loss:.4f} before, {after.loss:.4f} after; "
        f"{name} {before.value(name):.4f} before, {after.value(name):.4f} after. Old weights: {BEFORE_POLISH}."
    )
