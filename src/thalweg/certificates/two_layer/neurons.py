"""Neurons: what a search for the next one is asked, and what it answers."""

import abc
import dataclasses
import enum
from collections.abc import Iterable, Sequence
from typing import final

import numpy as np

from thalweg.certificates.halfspaces.cells import reduced


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


def with_bias(features: np.ndarray, bias: Bias) -> np.ndarray:
    """Return the features, with a column of ones unless there is no bias."""
    return features if bias is Bias.NONE else np.column_stack([features, np.ones(len(features))])


def coordinates(features: np.ndarray, bias: Bias) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates of a neuron's inputs and their axes, as `reduced`; under a free bias of centered ones."""
    return reduced(features - features.mean(0) if bias is Bias.FREE else with_bias(features, bias))


def anchors(features: np.ndarray) -> np.ndarray:
    """Return the indices of the different examples, on one of which the kink of a neuron with a free bias lies."""
    return np.unique(features, axis=0, return_index=True)[1]


def lift_at(axes: np.ndarray, example: np.ndarray) -> np.ndarray:
    """Return what maps a direction to the weights, bias last, of the neuron whose kink lies on an example."""
    return np.vstack([axes, -(example @ axes)])


def families(features: np.ndarray, bias: Bias) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Return the families that hold every neuron that matters, and the axes of their coordinates.

    A family is what is multiplied with a direction, `[n, r]`, and what maps the direction to the neuron's weights, the
    bias last where there is one, `[inputs (+ 1), r]`. A bias under the penalty is one more input that is always 1. A
    free bias may move until the neuron's kink meets an example, because along it the objective is linear between two
    examples: so there is one family for each different example, of what the others differ from it by.
    """
    rows, axes = coordinates(features, bias)
    if bias is not Bias.FREE:
        return [(rows, axes)], axes
    found = []
    for place in anchors(features):
        moved = rows - rows[place]
        moved[(features == features[place]).all(1)] = 0.0
        found.append((moved, lift_at(axes, features[place])))
    return found, axes


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
