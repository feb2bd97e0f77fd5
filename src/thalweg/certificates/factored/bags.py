"""From an objective on an embedding bag to its factored problem."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from thalweg.certificates.factored.problem import Factored
from thalweg.certificates.linear.forms import join_forms, loss_of, no_form, require_own_form
from thalweg.certificates.linear.matrices import Features, from_bags
from thalweg.certificates.linear.own_layer import require_plain
from thalweg.errors import InputError
from thalweg.models.bag import Bag
from thalweg.objective import Objective


def factored_problem(objective: Objective, about: Mapping[str, str] | None = None) -> Factored:
    """Return the problem of an objective whose model is an embedding bag under a linear head.

    `about` holds words for what is said of it, as for `Factored`. It raises an InputError where the loss is not such a
    problem (another model, dropout, no L2 in the loss ...), which says what is in the way.
    """
    model, head = objective.model, objective.head
    reason = _obstacle(objective)
    if reason:
        raise InputError(f"This loss has no factored form: {reason}.")
    assert isinstance(model, Bag)
    require_own_form(head)
    hidden = [_empty_hidden(model, batch.num_examples) for batch in objective.batches]
    forms = [
        head.linear_form(states, batch.targets, batch.mask, batch.weights)
        for states, batch in zip(hidden, objective.batches, strict=True)
    ]
    found = [form for form in forms if form is not None and form.layer is not None]
    if len(found) < len(forms):
        raise InputError(f"This loss has no factored form: {no_form(objective)}")
    form = join_forms(found)
    if any(one.rows is not None for one in found):
        raise InputError("This loss has no factored form: some targets are masked; leave those texts out.")
    layer = form.layer
    assert layer is not None
    require_plain(objective, [model, model.embedding, layer])
    penalized = {id(tensor) for tensor in objective.penalized}
    if penalized != {id(model.embedding.weight), id(layer.weight)}:
        raise InputError(
            "This loss has no factored form: the penalty must be on embedding and layer, and nothing else."
        )
    return Factored(
        _bag_features(objective), loss_of(form), objective.l2, intercept=layer.bias is not None, about=about
    )


def factors_of(objective: Objective) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return embedding, weight and bias of a bag under a linear head."""
    layer = next(module for module in objective.head.modules() if isinstance(module, nn.Linear))
    assert isinstance(objective.model, Bag)
    return objective.model.embedding.weight, layer.weight, layer.bias


def _obstacle(objective: Objective) -> str:
    """Return why an objective is not a factored problem; nothing where it is one."""
    model = objective.model
    if not isinstance(model, Bag) or model.body is not None:
        return "the model must be a bag without a network on it (--model bag)"
    if model.dropout.p > 0.0 and model.training:
        return f"dropout is {model.dropout.p:g}, so that the loss is random (--dropout 0)"
    if not objective.l2 > 0.0:
        return "there must be an L2 penalty in the loss (--l2)"
    if objective.autocast is not None:
        return "the forward pass must run in the type of the weights (--precision float32 or float64)"
    if len([module for module in objective.head.modules() if isinstance(module, nn.Linear)]) != 1:
        return f"{type(objective.head).__name__} is not a linear layer under a convex loss"
    return ""


def _empty_hidden(model: Bag, num_examples: int) -> Tensor:
    """Return hidden states that nobody reads: the linear form is asked for its targets."""
    return model.embedding.weight.detach().new_zeros(()).expand(num_examples, model.width)


def _bag_features(objective: Objective) -> Features:
    """Return the features of all micro-batches, one below the other."""
    tokens, offsets, weights, start = [], [], [], 0
    for batch in objective.batches:
        inputs = batch.inputs
        tokens.append(inputs["tokens"])
        offsets.append(inputs["offsets"] + start)
        each = inputs.get("weights")
        weights.append(torch.ones_like(inputs["tokens"], dtype=torch.float64) if each is None else each)
        start += len(inputs["tokens"])
    assert isinstance(objective.model, Bag)
    size = objective.model.embedding.num_embeddings
    return from_bags(torch.cat(tokens), torch.cat(offsets), torch.cat(weights), size)
