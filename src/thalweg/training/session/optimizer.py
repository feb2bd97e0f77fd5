"""From a recipe to what moves the weights: the optimizer, its learning-rate schedule, clipping."""

import contextlib
import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from thalweg import names, vectors
from thalweg.errors import InputError
from thalweg.optim import clipping, construct
from thalweg.optim.averaging import AbstractAveraging
from thalweg.optim.damping import Damping
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Update
from thalweg.tasks.writing.target_sources import source_of
from thalweg.training.pretrained.defaults import pretrained_defaults
from thalweg.training.pretrained.rates import grouped
from thalweg.training.recipe.recipe import Options, Recipe

WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a string", types.NoneType: "false"}


def known_defaults(options: Options) -> dict[str, Any]:
    """Return the defaults outside the table of options: an optimizer's own, and the width of vectors in a file or run.

    An InputError tells of an optimizer, a file or a run that does not exist. An optimizer other than AdamW, which the
    tasks' own defaults are for, has its usual learning rate and weight decay.
    """
    known: dict[str, Any] = {}
    optimizer = options.get("optimizer")
    if optimizer is not None:
        _check_optimizer(optimizer)
        own = optimizer in (names.AUTOMATIC, *names.METHODS, *names.SOLVERS)
        if not own and construct.find_optimizer(optimizer) is not torch.optim.AdamW:
            known["lr"] = construct.default_learning_rate(optimizer)
            known["weight_decay"] = construct.default_weight_decay(optimizer)
        if optimizer in names.MINI_BATCH_METHODS:
            known |= {"lr": names.MINI_BATCH_METHODS[optimizer], "weight_decay": 0.0}
    known |= pretrained_defaults(options)
    targets = options.get("targets", "")
    kind, _, start = targets.partition(":")
    text = start if kind in ("trained", "combined") else targets
    if "target_width" not in options and text not in ("", "embedding", *names.TARGETS):
        known["target_width"] = source_of(text).width()
    return known


def _check_optimizer(name: str) -> None:
    own = [names.AUTOMATIC, *names.OPTIMIZERS, *names.METHODS, *names.SOLVERS]
    torch_names = [known for known in construct.optimizer_names() if known not in names.OPTIMIZERS]
    if name in own or "." in name or name.lower() in [*torch_names, *names.OPTIMIZERS]:
        return
    close = difflib.get_close_matches(name.lower().replace("_", "-"), [*own, *torch_names], n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise InputError(
        f"There is no optimizer {name!r}; expected one of {', '.join(own)}, one of "
        f"torch.optim's ({', '.join(torch_names)}), or an import path such as pytorch_optimizer.SOAP.{hint}"
    )


def build_optimizer(
    recipe: Recipe, model: nn.Module, head: nn.Module, clip: "Clipping | None" = None
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the parameters of model and head.

    A method of `thalweg.names.METHODS`, or any optimizer with a `line_search`, becomes a `Descent`, which clips by
    itself. Everything else is PyTorch's own optimizer or the one behind an import path.
    """
    training = recipe.training
    for name in ("lr", "weight_decay"):
        if name in training.optimizer_options:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"--optimizer-options.{name}: this is an option of its own; give {flag} instead.")
    if training.optimizer in names.SOLVERS:
        parameters = vectors.trainable([*model.parameters(), *head.parameters()])
        return names.find(names.SOLVERS, training.optimizer, "optimizer")(parameters)
    if training.optimizer in names.METHODS or training.line_search:
        return _compose(recipe, model, head, clip or build_clipping(recipe, head))
    constructor = construct.find_optimizer(training.optimizer)
    options = dict(training.optimizer_options)
    if training.optimizer in names.OPTIMIZERS:
        for key in options.keys() & names.PARTS.keys():
            options[key] = _part(f"--optimizer-options.{key} of {training.optimizer}", key, options[key])
    if training.average == names.SCHEDULE_FREE:
        options = construct.without_momentum(constructor) | options
    rates = {"lr": training.lr, "weight_decay": training.weight_decay}
    optimizer = construct.make_optimizer(constructor, model, head, **rates, options=options)
    grouped(optimizer, model, training.layer_decay)
    if training.average == "none":
        return optimizer
    return names.find(names.AVERAGES, training.average, "average")(optimizer)


def averaged(optimizer: torch.optim.Optimizer) -> contextlib.AbstractContextManager[None]:
    """Return a block in which the parameters hold what is to be evaluated and saved."""
    return optimizer.averaged() if isinstance(optimizer, AbstractAveraging) else contextlib.nullcontext()


def build_schedule(
    recipe: Recipe, optimizer: torch.optim.Optimizer, total_steps: int, mode: str = "min"
) -> LRScheduler:
    """Return the recipe's schedule over `total_steps` steps, by a score that should fall (min) or rise (max)."""
    training = recipe.training
    make = names.find(names.SCHEDULES, training.schedule, "schedule")
    options: dict[str, Any] = dict(training.schedule_options)
    warmup = min(training.warmup, total_steps) if training.warmup >= 1 else training.warmup
    takes = [name for name in inspect.signature(make).parameters if name not in {"optimizer", "total_steps", "warmup"}]
    for name in options:
        if name not in takes:
            listed = f"it takes {', '.join(takes)}" if takes else "it takes none"
            raise InputError(f"--schedule {training.schedule} has no option '{name}'; {listed}.")
    if "mode" in takes:
        options.setdefault("mode", mode)
    construct.check_values(training.schedule, make, options)
    try:
        return make(optimizer, total_steps=total_steps, warmup=warmup, **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"--schedule {training.schedule} is invalid with these options: {error}") from None


def follow(schedule: LRScheduler, total_steps: int, progress: float) -> None:
    """Move a schedule on to where the clock is, in [0, 1] of the run, unless it is there by its steps.

    One that follows a score, or is not of this package, goes by its steps alone.
    """
    step = int(progress * total_steps)
    if isinstance(schedule, LambdaLR) and step > schedule.last_epoch:
        schedule.last_epoch = step - 1
        schedule.step()


@final
@dataclasses.dataclass(frozen=True)
class Clipping:
    """What is clipped: the gradient (in the order value, units, running norms, norm) and the update."""

    gradient: clipping.AbstractClip
    update: clipping.ClipUpdate | None


def build_clipping(recipe: Recipe, head: nn.Module) -> Clipping:
    """Return the recipe's clipping; several kinds are applied one after the other. AGC leaves the head out."""
    training = recipe.training
    parts: list[clipping.AbstractClip] = []
    if training.clip_value:
        parts.append(clipping.ClipValue(training.clip_value))
    if training.clip_adaptive:
        parts.append(clipping.ClipAdaptive(training.clip_adaptive, leave_out=tuple(head.parameters())))
    if training.clip_running:
        parts.append(clipping.ClipRunning(training.clip_running))
    if training.clip:
        parts.append(clipping.ClipNorm(training.clip))
    update = clipping.ClipUpdate(training.clip_update) if training.clip_update else None
    if not parts:
        return Clipping(clipping.NoClip(), update)
    return Clipping(parts[0] if len(parts) == 1 else clipping.ClipSequence(tuple(parts)), update)


def _compose(recipe: Recipe, model: nn.Module, head: nn.Module, clip: Clipping) -> torch.optim.Optimizer:
    """Return a direction with a step size over all parameters, as a complete recipe says.

    An InputError tells of an option that the direction has not, a value that it cannot take, or parts that don't fit.
    """
    training = recipe.training
    name, options = training.optimizer, dict(training.optimizer_options)
    line_search = training.line_search if training.line_search else "none"
    step_size = names.find(names.LINE_SEARCHES, line_search, "line search")
    methods = names.METHODS | {"lbfgs": names.LBFGS}
    if training.weight_decay and name in methods:
        raise InputError(f"{name} does not support --weight-decay; use --l2.")
    if name not in methods:
        constructor = construct.find_optimizer(name)
        construct.check_values(constructor.__name__, constructor, options)
    try:
        if name in methods:
            direction = _direction(name, names.find(methods, name, "method"), options)
        else:
            options |= {"lr": training.lr, "weight_decay": training.weight_decay}
            direction = Update(construct.find_optimizer(name), **options)
        parameters = vectors.trainable([*model.parameters(), *head.parameters()])
        clipped = None if isinstance(clip.gradient, clipping.NoClip) else clip.gradient
        optimizer = Descent(parameters, direction, step_size(), clip=clipped, clip_update=clip.update)
        optimizer.state_dict()  # starts the memory: some optimizers look at the parameters only then
    except (TypeError, ValueError) as error:
        raise InputError(
            f"--optimizer {name} with --line-search {line_search} is invalid with these options: {error}"
        ) from None
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * training.lr if name in methods else training.lr
    return optimizer


def _direction(name: str, constructor: Any, options: Mapping[str, Any]) -> Any:
    """Return a direction of this package, its options made into what its constructor takes."""
    hints = typing.get_type_hints(constructor)
    hints = {key: hint for key, hint in hints.items() if typing.get_origin(hint) is not typing.ClassVar}
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
    if Damping in kinds and not (is_number and float in kinds):
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
