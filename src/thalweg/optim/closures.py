"""What people hand to `step`: an objective, a closure of their own, or a framework's wrapping of either."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thalweg.objective import Objective

Closure = Callable[[], Tensor | float]
ObjectiveSource = Objective | Callable[[], Objective]


# Their wrappers call what they are given, and change nothing in it; what other code does with a closure is its own.
FRAMEWORKS = frozenset({"accelerate", "lightning", "pytorch_lightning", "transformers"})


def objective_in(closure: object) -> Objective | None:
    """Return the objective that a closure is, or that it wraps as training frameworks do; None where there is none."""
    if isinstance(closure, Objective):
        return closure
    if isinstance(closure, functools.partial):
        is_framework = str(getattr(closure.func, "__module__", "")).split(".")[0] in FRAMEWORKS
        bare = not closure.args and not closure.keywords
        inside = [*closure.args, *closure.keywords.values()] if is_framework else [closure.func] if bare else []
        return next((found for found in map(objective_in, inside) if found is not None), None)
    owner = getattr(closure, "__self__", None)
    return owner if isinstance(owner, Objective) and closure == owner.__call__ else None


def resolve(closure: Closure | None, source: ObjectiveSource | None) -> Closure | None:
    """Return what a step is about: the objective, where the closure is one or the optimizer has one, else the closure.

    A framework's own closure runs first, for the frameworks count on it: it may be what makes the batch's objective.
    """
    found = objective_in(closure)
    if found is not None or source is None:
        return found or closure
    if closure is not None:
        with torch.enable_grad():
            closure()
    objective = source if isinstance(source, Objective) else source()
    if not isinstance(objective, Objective):
        raise ValueError(
            "Descent(objective=...) must be a thalweg.Objective, or a function that returns the one of the present "
            f"batch; it returned a {type(objective).__name__}."
        )
    return objective


def evaluated(closure: Closure) -> Tensor:
    """Return the loss of a closure, a 0-dim tensor without a graph.

    Raises:
        ValueError: it returned anything else than one real number.
    """
    with torch.enable_grad():
        returned: Any = closure()
    if isinstance(returned, Tensor) and returned.numel() == 1 and not returned.is_complex():
        return returned.detach().reshape(())
    if isinstance(returned, int | float):
        return torch.as_tensor(float(returned))
    got = "None" if returned is None else f"a {type(returned).__name__}"
    if isinstance(returned, Tensor):
        got = f"a {str(returned.dtype).removeprefix('torch.')} tensor of shape {list(returned.shape)}"
    raise ValueError(
        f"A closure must clear the gradients, call backward and return the loss, one real number; it returned {got}."
    )
