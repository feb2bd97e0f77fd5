"""Objectives on a bag of features, taken apart: the matrix of the features, and the loss of the scores."""

import torch
from torch import Tensor, nn

from thalweg.certificates.linear.forms import join_forms, no_form, require_own_form
from thalweg.certificates.linear.matrices import Features, from_bags
from thalweg.errors import InputError
from thalweg.heads.base import LinearForm
from thalweg.models.bag import Bag, LinearBag
from thalweg.objective import Objective


def obstacle(objective: Objective) -> str:
    """Return why the loss of an objective on a bag is no convex function of its scores; nothing where it is one."""
    if not objective.l2 > 0.0:
        return "there must be an L2 penalty in the loss (--l2)"
    if objective.autocast is not None:
        return "the forward pass must run in the type of the weights (--precision float32 or float64)"
    return ""


def bag_form(objective: Objective, kind: str) -> LinearForm:
    """Return the linear form of all batches together; an InputError says that the loss has no form of this `kind`."""
    model, head = objective.model, objective.head
    assert isinstance(model, Bag | LinearBag)
    require_own_form(head)
    states = [_empty_hidden(table_of(model).weight, model.width, batch.num_examples) for batch in objective.batches]
    forms = [
        head.linear_form(hidden, batch.targets, batch.mask, batch.weights)
        for hidden, batch in zip(states, objective.batches, strict=True)
    ]
    found = [form for form in forms if form is not None]
    if len(found) < len(forms):
        raise InputError(f"This loss has no {kind} form: {no_form(objective)}")
    if any(one.rows is not None for one in found):
        raise InputError(f"This loss has no {kind} form: some targets are masked; leave those texts out.")
    return join_forms(found)


def bag_features(objective: Objective) -> Features:
    """Return the features of all batches, one below the other."""
    tokens, offsets, weights, start = [], [], [], 0
    for batch in objective.batches:
        inputs = batch.inputs
        tokens.append(inputs["tokens"])
        offsets.append(inputs["offsets"] + start)
        each = inputs.get("weights")
        weights.append(torch.ones_like(inputs["tokens"], dtype=torch.float64) if each is None else each)
        start += len(inputs["tokens"])
    assert isinstance(objective.model, Bag | LinearBag)
    size = table_of(objective.model).num_embeddings
    if len(tokens) == 1:  # not copied
        return from_bags(tokens[0], offsets[0], weights[0], size)
    return from_bags(torch.cat(tokens), torch.cat(offsets), torch.cat(weights), size)


def table_of(model: Bag | LinearBag) -> nn.EmbeddingBag:
    """Return the table that the features of a bag choose rows of."""
    return model.table if isinstance(model, LinearBag) else model.embedding


def _empty_hidden(weight: Tensor, width: int, num_examples: int) -> Tensor:
    """Return hidden states that nobody reads: the linear form is asked for its targets."""
    return weight.detach().new_zeros(()).expand(num_examples, width)
