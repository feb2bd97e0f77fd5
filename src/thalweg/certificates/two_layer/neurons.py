"""Neurons: what a search for the next one is asked, and what it answers."""

import abc
import dataclasses
import enum
from collections.abc import Iterable, Sequence
from typing import final

import numpy as np


class Bias(enum.Enum):
    """What a layer's bias costs; the value of a member is what the user reads."""

    NONE = "no bias"
    PENALIZED = "a bias under the penalty"
    FREE = "a bias without penalty"


@final
@dataclasses.dataclass(frozen=True)
class Neuron:
    """A direction in which a new neuron lowers the loss, and the cone in which it may turn without a kink."""

    # Maps z to the neuron's weights, the bias last where there is one, [inputs (+ 1), k]; those under the penalty have
    # the length of z.
    basis: np.ndarray
    slopes: np.ndarray  # of the activation at each example: 1 where the neuron is active, else the leak, [n]
    held: np.ndarray  # whether the neuron's kink stays at this example whatever z is, bool [n]
    z: np.ndarray  # of length 1, [k]
    output: np.ndarray  # the neuron's outgoing direction, of length 1, [K]
    value: float  # by how much the loss falls for each unit of its size, before the penalty

    @property
    def weights(self) -> np.ndarray:
        """Ingoing weights, the bias last where there is one."""
        return self.basis @ self.z


@final
@dataclasses.dataclass(frozen=True)
class Answer:
    """What a search for neurons found."""

    bound: float  # no neuron of size 1 has a larger value, rounding included
    neurons: Sequence[Neuron]  # different ones, best first


class AbstractOracle(abc.ABC):
    r"""Bounds $\nu(V) = \max_u \lVert V^\top \sigma(Xu) \rVert$ over neurons u of size 1, and finds good ones."""

    exact: bool

    @abc.abstractmethod
    def search(self, residual: np.ndarray, floor: float) -> Answer:
        """Return a bound on the value of every neuron, and the best ones of a value above `floor`.

        The residual is V, `[n, K]`; with a free bias its columns must sum to zero.
        """

    def sharpened(self, residual: np.ndarray) -> float:
        """Return the best bound that this oracle can give, if it costs more than that of `search`."""
        return self.search(residual, 0.0).bound


def with_bias(features: np.ndarray, bias: Bias) -> np.ndarray:
    """Return the features, with a column of ones unless there is no bias."""
    return features if bias is Bias.NONE else np.column_stack([features, np.ones(len(features))])


def different(neurons: Iterable[Neuron], at_most: int) -> list[Neuron]:
    """Return the first neurons of a list, leaving out those close to an earlier one."""
    kept: list[Neuron] = []
    directions: list[np.ndarray] = []
    for neuron in neurons:
        direction = np.outer(neuron.weights / np.linalg.norm(neuron.weights), neuron.output)
        if all((direction * other).sum() < 0.99 for other in directions):
            kept.append(neuron)
            directions.append(direction)
        if len(kept) == at_most:
            break
    return kept
