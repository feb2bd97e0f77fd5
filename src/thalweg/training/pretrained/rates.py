"""How fast the layers of a pretrained model are trained: rates that fall from the last one down, and when they thaw."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from thalweg.errors import InputError
from thalweg.models.tuning import deepest, pretrained_in, rate_factors, thawed


def grouped(optimizer: torch.optim.Optimizer, model: nn.Module, decay: float) -> None:
    """Divide the groups of an optimizer by the rates that the layers of pretrained networks have; 1: leave them.

    Raises:
        InputError: for an optimizer whose groups have no rates of their own.
    """
    if decay == 1.0:
        return
    factors = rate_factors(model, decay)
    if not factors:
        return
    groups = []
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise InputError(
                f"--layer-decay needs an optimizer whose groups have rates; {type(optimizer).__name__} has not."
            )
        by_factor: dict[float, list[Any]] = {}
        for parameter in group["params"]:
            by_factor.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        groups += [{**group, "params": one, "lr": factor * group["lr"]} for factor, one in by_factor.items()]
    optimizer.param_groups[:] = groups


def thawing(model: nn.Module, every: float) -> Callable[[float], None] | None:
    """Return what sets, at an epoch, which layers are trained: one more after each `every` epochs; 0: None."""
    if not every:
        return None
    parts = [one.model for one in pretrained_in(model)]
    trained = {id(p) for network in parts for p in network.parameters() if p.requires_grad}

    def thaw(epoch: float) -> None:
        number = int(epoch / every + 1e-9)  # none at first: the output layer alone
        for network in parts:
            free = {id(p) for p in thawed(network, number)}
            for parameter in network.parameters():
                parameter.requires_grad_(id(parameter) in trained and id(parameter) in free)
                parameter.grad = parameter.grad if parameter.requires_grad else None

    return thaw if parts and deepest(parts[0]) else None
