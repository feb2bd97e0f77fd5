"""Defaults that lie outside the table of options: an optimizer's own, and the width of vectors in a file or a run."""

import difflib
from typing import Any

import torch

from thalweg import names
from thalweg.errors import InputError
from thalweg.optim import construct
from thalweg.tasks.writing.target_sources import source_of
from thalweg.training.recipe.recipe import Options


def known_defaults(options: Options) -> dict[str, Any]:
    """Return the defaults that lie outside the recipe: the optimizer's own, and the width of vectors in a file or run.

    Raises:
        InputError: if there is no such optimizer, file or run.
    """
    known: dict[str, Any] = dict(optimizer_defaults(options.get("optimizer")))
    targets = options.get("targets", "")
    kind, _, start = targets.partition(":")
    text = start if kind in ("trained", "combined") else targets
    if "target_width" not in options and text not in ("", "embedding", *names.TARGETS):
        known["target_width"] = source_of(text).width()
    return known


def optimizer_defaults(optimizer: str | None) -> dict[str, float]:
    """Return the usual learning rate and weight decay of an optimizer other than the tasks' own AdamW.

    Raises:
        InputError: if there is no such optimizer.
    """
    if optimizer is not None:
        check_optimizer(optimizer)
    if (
        optimizer is None
        or optimizer in {**names.METHODS, **names.SOLVERS}
        or construct.find_optimizer(optimizer) is torch.optim.AdamW
    ):
        return {}
    return {
        "lr": construct.default_learning_rate(optimizer),
        "weight_decay": construct.default_weight_decay(optimizer),
    }


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
