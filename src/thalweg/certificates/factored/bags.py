"""From an objective on an embedding bag to its factored problem."""

from collections.abc import Mapping

from torch import Tensor, nn

from thalweg.certificates.factored.problem import Factored
from thalweg.certificates.linear import bags
from thalweg.certificates.linear.forms import loss_of, no_form
from thalweg.certificates.linear.own_layer import require_plain
from thalweg.errors import InputError
from thalweg.models.bag import Bag
from thalweg.objective import Objective


def factored_problem(objective: Objective, about: Mapping[str, str] | None = None) -> Factored:
    """Return the problem of an objective whose model is an embedding bag under a linear head.

    `about` holds words for what is said of it, as for `Factored`. It raises an InputError where the loss is not such a
    problem (another model, dropout, no L2 in the loss ...), which says what is in the way.
    """
    model = objective.model
    reason = _obstacle(objective)
    if reason:
        raise InputError(f"This loss has no factored form: {reason}.")
    assert isinstance(model, Bag)
    form = bags.bag_form(objective, "factored")
    layer = form.layer
    if layer is None:
        raise InputError(f"This loss has no factored form: {no_form(objective)}")
    require_plain(objective, [model, model.embedding, layer])
    penalized = {id(tensor) for tensor in objective.penalized}
    if penalized != {id(model.embedding.weight), id(layer.weight)}:
        raise InputError(
            "This loss has no factored form: the penalty must be on embedding and layer, and nothing else."
        )
    features = bags.bag_features(objective)
    return Factored(features, loss_of(form), objective.l2, intercept=layer.bias is not None, about=about)


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
    if reason := bags.obstacle(objective):
        return reason
    if len([module for module in objective.head.modules() if isinstance(module, nn.Linear)]) != 1:
        return f"{type(objective.head).__name__} is not a linear layer under a convex loss"
    return ""
