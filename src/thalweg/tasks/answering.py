"""Running a network for its answers only, and writing answers as lines."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextmanager
def answering(*networks: "nn.Module") -> "Iterator[Tensor]":
    """Switch networks to evaluation mode and gradients off, and back to the mode that each module had.

    Yields one of the parameters, whose device and type the inputs should have.
    """
    import torch

    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        with torch.inference_mode():
            for network in networks:
                network.eval()
            yield next(parameter for network in networks for parameter in network.parameters())
    finally:
        for module, mode in modes:
            module.training = mode


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return the probabilities of classes that exclude one another, from their scores in the last dimension.

    Example:
        >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    with np.errstate(invalid="ignore", under="ignore"):  # scores that are not finite have no probabilities: NaN
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """Return the probability of each score by itself, as precise where it is small as where it is large.

    Example:
        >>> sigmoid(np.array([0.0, 1000.0, -1000.0])).tolist()
        [0.5, 1.0, 0.0]
    """
    with np.errstate(invalid="ignore", under="ignore"):
        return np.exp(-np.logaddexp(0.0, -scores))


def figure_lines(answer: Mapping[str, Any], inputs: Collection[str] = ()) -> list[str]:
    """Return an answer as one line of its values, without those that only repeat the input."""
    return ["  ".join(figure(value) for name, value in answer.items() if name not in inputs)]


def candidate_lines(answer: Mapping[str, Any], top: int) -> list[str]:
    """Return an answer with candidates (`top`) as lines: the best (or all its `labels`), then the others, indented.

    `top` candidates were asked for; by nobody, 0, there is one line.
    """
    candidates = [f"{entry['label']}  {entry['probability']:.1%}" for entry in answer["top"]]
    if "labels" in answer:
        return [", ".join(answer["labels"]) or "(none)", *(f"    {entry}" for entry in candidates[:top])]
    return [candidates[0], *(f"    {entry}" for entry in candidates[1:top])]


def figure(value: Any) -> str:
    """Return a value as text: four digits of a number, the names and values of a dictionary."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {figure(entry)}" for name, entry in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
