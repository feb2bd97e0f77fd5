"""Running a network for its answers only, and writing answers as lines."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from thalweg.report.text import STEERING

if TYPE_CHECKING:
    from torch import Tensor, nn

LOOKED_AT: Final = 100  # texts among which one is looked for that is easily typed
MOST_TYPED: Final = 60  # characters of it
_MARKS: Final = frozenset("'\"\\`$!")  # that mean something to a shell


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


def typed_example(texts: Iterable[str]) -> str:
    r"""Return the beginning of one of some texts, on one line, as somebody could type it; "" where none has a letter.

    One without marks that a shell reads is preferred.

    Example:
        >>> typed_example(["", "it's", "the river\nruns\x1b to the sea"])
        'the river runs to the sea'
    """
    found = ""
    for text in islice(texts, LOOKED_AT):
        words = STEERING.sub(" ", text[: 20 * MOST_TYPED]).split()
        shown = " ".join(words)
        if len(shown) > MOST_TYPED:
            shown = shown[: MOST_TYPED + 1].rpartition(" ")[0] or shown[:MOST_TYPED]
        if any(map(str.isalpha, shown)):
            if not _MARKS & set(shown):
                return shown
            found = found or shown
    return found
