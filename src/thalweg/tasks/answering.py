"""Running a network for its answers only, and writing answers as lines."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def answering(*networks: nn.Module) -> Iterator[torch.Tensor]:
    """Switch networks to evaluation mode and gradients off, and back to the mode that each module had.

    Yields one of the parameters, whose device and type the inputs should have.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        with torch.inference_mode():
            for network in networks:
                network.eval()
            yield next(parameter for network in networks for parameter in network.parameters())
    finally:
        for module, mode in modes:
            module.training = mode


def figure_lines(answer: Mapping[str, Any], inputs: Collection[str] = ()) -> list[str]:
    """Return an answer as one line of its values, without those that only repeat the input."""
    return ["  ".join(figure(value) for name, value in answer.items() if name not in inputs)]


def candidate_lines(answer: Mapping[str, Any]) -> list[str]:
    """Return an answer with candidates (`top`) as lines: the best (or all its `labels`), then the others, indented."""
    candidates = [f"{entry['label']}  {entry['probability']:.1%}" for entry in answer["top"]]
    if "labels" in answer:
        return [", ".join(answer["labels"]) or "(none)", *(f"    {entry}" for entry in candidates)]
    return [candidates[0], *(f"    {entry}" for entry in candidates[1:])]


def figure(value: Any) -> str:
    """Return a value as text: four digits of a number, the names and values of a dictionary."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {figure(entry)}" for name, entry in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
