"""The networks as they were before the first step: loss, scales, gradients by depth, and the way from there."""

import dataclasses
import math
from typing import Any, Final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.diagnosis.probes.network.activations import by_depth, by_site, matrices, sites_of, weight_figures
from thalweg.diagnosis.probes.network.recurrence import gate_saturated, gates
from thalweg.diagnosis.probes.parts import affordable, mean_loss
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject
from thalweg.objective import Objective
from thalweg.training.steps.gauges import layer_names

_EXAMPLES: Final = 128
_FEWEST: Final = 8  # numbers of a weight whose root mean square says how it was drawn


@probe()
def start(subject: Subject) -> dict[str, Any]:
    r"""Measure the networks before their first step, on training batches, and how far the weights are from there.

    `loss` and what it should be about: `log_classes`, the logarithm of the number of classes, and `prior_entropy`, that
    of their frequencies, in nats. `scale` and `symmetric` by weight: see `activations.weight_figures`; figures by depth
    as of `activations`. `moved` is $\lVert w - w_0 \rVert / \lVert w_0 \rVert$ and `norm_ratio`
    $\lVert w \rVert / \lVert w_0 \rVert$, of all weights and by layer.
    """
    if subject.initial is None:
        return {}
    batches = affordable(subject.train, _EXAMPLES)
    objective = subject.initial_objective(batches)
    assert objective is not None
    model, head = objective.model, objective.head
    model.eval()
    head.eval()
    figures = {name: weight_figures(tensor) for name, tensor in matrices((model, head))}
    tables = _tables(objective)
    sites = sites_of(objective)
    shut = gates(dataclasses.replace(subject, model=model, head=head, base=None), batches[-1])
    result: dict[str, Any] = {
        "loss": mean_loss(objective, batches),
        "log_classes": math.log(subject.facts.num_classes) if subject.facts.num_classes else None,
        "prior_entropy": _prior_entropy(objective),
        "prediction_std": _deviation(objective),
        "sites": sites,
        **by_depth(sites),
        "saturated": by_site(sites, "saturated"),
        "gate_saturated": gate_saturated(shut),
        "scale": {
            name: one["scale"] for name, one in figures.items() if name not in tables and one["numbers"] >= _FEWEST
        },
        "symmetric": {name: one["symmetric"] for name, one in figures.items()},
        "zero": {name: one["zero"] for name, one in figures.items()},
    }
    return result | _distances(subject, objective)


def _tables(objective: Objective) -> set[str]:
    """Return the names of tables of vectors, whose rows are read one at a time: no sum of inputs has a scale there."""
    tables = {
        f"{name}.weight" if name else "weight"
        for name, module in objective.model.named_modules()
        if isinstance(module, torch.nn.Embedding | torch.nn.EmbeddingBag)
    }
    return {*tables, *(name for name, _ in matrices((objective.model, objective.head)) if name.endswith(".table"))}


def _prior_entropy(objective: Objective) -> float | None:
    """Return the entropy of the classes' frequencies among the targets, in nats; None where they are no classes."""
    found = []
    for batch in objective.batches:
        if batch.targets.is_floating_point():
            return None
        real = batch.targets >= 0
        if batch.mask is not None and batch.mask.shape == real.shape:
            real = real & batch.mask
        found.append(batch.targets[real].reshape(-1))
    _, counts = torch.cat(found).unique(return_counts=True)
    share = counts.double() / counts.sum()
    return float(torch.special.entr(share).sum())


def _deviation(objective: Objective) -> float:
    """Return the mean standard deviation of a prediction's entries."""
    found = []
    with torch.no_grad():
        for batch in objective.batches:
            prediction = objective.prediction(batch).float()
            found.append(prediction.reshape(-1, prediction.shape[-1] if prediction.dim() else 1))
    return float(torch.cat(found).std(1, correction=0).mean())


def _distances(subject: Subject, initial: Objective) -> dict[str, Any]:
    now, before = (layer_names(*pair) for pair in ((subject.model, subject.head), (initial.model, initial.head)))
    moved, ratios, pieces = {}, {}, []
    for name, tensors in now.items():
        first = before.get(name)
        if first is None or [t.shape for t in first] != [t.shape for t in tensors]:
            continue
        change = float(vectors.norm([a.detach() - b.detach() for a, b in zip(tensors, first, strict=True)]))
        size, length = _norm(tensors), _norm(first)
        pieces.append((change, size, length))
        if length > 0.0:
            moved[name], ratios[name] = change / length, size / length
    change, size, length = (math.hypot(*column) for column in zip(*pieces, strict=True)) if pieces else (0.0,) * 3
    whole = {"moved": change / length, "norm_ratio": size / length} if length > 0.0 else {}
    return whole | {"moved_by": moved, "norm_ratio_by": ratios}


def _norm(tensors: list[Tensor]) -> float:
    return float(vectors.norm([tensor.detach() for tensor in tensors]))
