"""From names and options of a recipe to a direction with a step size: one `Descent` over model and head."""

import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from thalweg import names, vectors
from thalweg.errors import InputError
from thalweg.optim import clipping, construct
from thalweg.optim.damping import Damping
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Update
from thalweg.training.recipe.recipe import Recipe

WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", types.NoneType: "false"}


def check_optimizer(name: str) -> None:
    """Raise an InputError unless an optimizer, or a method of this package, has the name.

    Example:
        >>> check_optimizer("L-BFGS")
        Traceback (most recent call last):
        thalweg.errors.InputError: There is no optimizer 'L-BFGS'; ... Did you mean 'lbfgs'?
    """
    own, torch_names = [*names.METHODS, *names.SOLVERS], list(construct.optimizer_names())
    if name in own or "." in name or name.lower() in torch_names:
        return
    close = difflib.get_close_matches(name.lower().replace("_", "-"), [*own, *torch_names], n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise InputError(
        f"There is no optimizer {name!r}; expected one of {', '.join(own)}, one of "
        f"torch.optim's ({', '.join(torch_names)}), or an import path such as pytorch_optimizer.SOAP.{hint}"
    )


def is_composed(recipe: Recipe) -> bool:
    """Whether the optimizer is a direction with a step size of this package."""
    return recipe.training.optimizer in names.METHODS or bool(recipe.training.line_search)


def compose(
    recipe: Recipe,
    model: nn.Module,
    head: nn.Module,
    clip: clipping.AbstractClip,
    clip_update: clipping.ClipUpdate | None,
) -> torch.optim.Optimizer:
    """Return a direction with a step size over all parameters, as a complete recipe says.

    Raises:
        InputError: an option that the direction has not, or a value that it cannot take; parts that don't fit.
    """
    training = recipe.training
    name, options = training.optimizer or "", dict(training.optimizer_options or {})
    line_search = training.line_search or "none"
    step_size = names.find(names.LINE_SEARCHES, line_search, "line search")
    methods = names.METHODS | {"lbfgs": names.LBFGS}
    if training.weight_decay and name in methods:
        raise InputError(f"--weight-decay is no part of what {name} minimizes; give --l2, which is.")
    try:
        if name in methods:
            direction = _direction(name, names.find(methods, name, "method"), options)
        else:
            options |= {"lr": training.lr, "weight_decay": training.weight_decay}
            direction = Update(construct.find_optimizer(name), **options)
        parameters = vectors.trainable([*model.parameters(), *head.parameters()])
        clipped = None if isinstance(clip, clipping.NoClip) else clip
        optimizer = Descent(parameters, direction, step_size(), clip=clipped, clip_update=clip_update)
        optimizer.state_dict()  # starts the memory: some optimizers look at the parameters only then
    except (TypeError, ValueError) as error:
        raise InputError(f"--optimizer {name} with --line-search {line_search} cannot work so: {error}") from None
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * training.lr if name in methods else training.lr
    return optimizer


def _direction(name: str, constructor: Any, options: Mapping[str, Any]) -> Any:
    """Return a direction of this package, its options made into what its constructor takes."""
    hints = {key: hint for key, hint in typing.get_type_hints(constructor).items() if not _is_constant(hint)}
    for key in options:
        if key not in hints:
            raise InputError(f"--optimizer {name} has no option {key!r}; it has {', '.join(hints)}.")
    return constructor(**{key: _value(name, key, value, hints[key]) for key, value in options.items()})


def _value(name: str, key: str, value: Any, hint: Any) -> Any:
    where = f"--optimizer-options.{key} of {name}"
    if key in names.PARTS:
        return _part(where, key, value)
    kinds = typing.get_args(hint) or (hint,)
    if value is False and types.NoneType in kinds:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if Damping in kinds:
        if not isinstance(value, Mapping) and not is_number:
            raise InputError(f"{where} must be a number, the damping to begin with; got {value!r}.")
        return Damping(**value) if isinstance(value, Mapping) else Damping(initial=value)
    if not isinstance(value, kinds) and not (is_number and float in kinds):
        words = " or ".join(WORDS[kind] for kind in kinds if kind in WORDS)
        raise InputError(f"{where} must be {words}; got {value!r}.")
    return value


def _part(where: str, key: str, value: Any) -> Any:
    """Return a part of a direction, such as `initial`, from its name or from a table with its name and arguments."""
    arguments = dict(value) if isinstance(value, Mapping) else {"name": value}
    part = names.find(names.PARTS[key], str(arguments.pop("name", "")), key)
    if key == "curvature":  # the class itself: a matrix is made from it at every step
        if arguments:
            raise InputError(f"{where} takes a name only; got {value!r}.")
        return part
    try:
        return part(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} cannot be {value!r}: {error}.") from None


def _is_constant(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.ClassVar
