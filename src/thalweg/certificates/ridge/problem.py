"""From an objective on a linear model to its convex problem."""

from collections.abc import Mapping

from torch import Tensor

from thalweg.certificates.linear import bags
from thalweg.certificates.linear.forms import loss_of
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.own_layer import require_plain
from thalweg.certificates.linear.regularizers import L2
from thalweg.errors import InputError
from thalweg.models.bag import LinearBag
from thalweg.objective import Objective


def linear_problem(objective: Objective, about: Mapping[str, str] | None = None) -> Head:
    """Return the problem of an objective whose model is linear in its features, the scores under a convex loss.

    `about` holds words for what is said of it, as for `Head`. It raises an InputError where the loss is not such a
    problem (another model, a layer in the head, no L2 in the loss ...), which says what is in the way.
    """
    model = objective.model
    reason = "the model must be linear (--model linear)" if not isinstance(model, LinearBag) else ""
    reason = reason or bags.obstacle(objective)
    if reason:
        raise InputError(f"This loss has no linear form: {reason}.")
    assert isinstance(model, LinearBag)
    form = bags.bag_form(objective, "linear")
    if form.layer is not None:
        raise InputError(
            f"This loss has no linear form: {type(objective.head).__name__} has a layer of its own; the scores of a "
            "linear model are its predictions already (a head of width None)."
        )
    require_plain(objective, [model, model.table])
    if {id(tensor) for tensor in objective.penalized} != {id(model.table.weight)}:
        raise InputError("This loss has no linear form: the penalty must be on the table, and nothing else.")
    return Head(bags.bag_features(objective), loss_of(form), L2(objective.l2), intercept=True, about=about, whole=True)


def weights_of(objective: Objective) -> tuple[Tensor, Tensor]:
    """Return table and bias of a linear model."""
    assert isinstance(objective.model, LinearBag)
    return objective.model.table.weight, objective.model.bias
