"""Which neuron would lower the loss most: exactly, over every way in which a neuron can split the data."""

import abc
import dataclasses
import enum
from collections.abc import Iterable, Sequence
from typing import final

import numpy as np

from thalweg.certificates.halfspaces.cells import Arrangement, arrange, most_cells
from thalweg.certificates.two_layer.projection import project

# Bytes of sign patterns that may be held: about one a cell and example.
MAX_SIGNS = 400_000_000
CHUNK = 4_000_000
RANK_TOLERANCE = 1e-12


class Bias(enum.Enum):
    """What a layer's bias costs; the value of a member is what the user reads."""

    NONE = "no bias"
    PENALIZED = "a bias under the penalty"
    FREE = "a bias without penalty"


@final
@dataclasses.dataclass(frozen=True)
class Neuron:
    r"""A direction in which a new neuron lowers the loss, and the cone in which it may turn without a kink.

    Args:
        basis: maps z to the neuron's weights, the bias last where there is one: `[inputs (+ 1), k]`; weights under the
            penalty have the length of z.
        slopes: the activation's slope at each example: 1 where the neuron is active, else the leak, `[n]`.
        held: whether the neuron's kink stays at this example whatever z is, bool `[n]`.
        z: `[k]`, of length 1.
        output: the neuron's outgoing direction, of length 1, `[K]`.
        value: by how much the loss falls for each unit of its size, before the penalty.
    """

    basis: np.ndarray
    slopes: np.ndarray
    held: np.ndarray
    z: np.ndarray
    output: np.ndarray
    value: float

    @property
    def weights(self) -> np.ndarray:
        """Ingoing weights, the bias last where there is one."""
        return self.basis @ self.z


@final
@dataclasses.dataclass(frozen=True)
class Answer:
    """What a search for neurons found.

    Args:
        bound: no neuron of size 1 has a larger value: an upper bound, rounding included.
        neurons: different ones, best first.
    """

    bound: float
    neurons: Sequence[Neuron]


class AbstractOracle(abc.ABC):
    r"""Bounds $\nu(V) = \max_u \lVert V^\top \sigma(Xu) \rVert$ over neurons u of size 1, and finds good ones."""

    exact: bool

    @abc.abstractmethod
    def search(self, residual: np.ndarray, floor: float) -> Answer:
        """Return a bound on the value of every neuron, and the best ones of a value above `floor`.

        Args:
            residual: V, `[n, K]`; with a free bias its columns must sum to zero.
            floor: values up to this are of no interest.
        """

    def sharpened(self, residual: np.ndarray) -> float:
        """Return the best bound that this oracle can give, if it costs more than that of `search`."""
        return self.search(residual, 0.0).bound


@final
@dataclasses.dataclass(frozen=True)
class Block:
    """One arrangement, and how its directions become neurons.

    Args:
        rows: what is multiplied with z, `[n, r]`.
        lift: maps z to the neuron's weights, the bias last where there is one, `[inputs (+ 1), r]`.
        arrangement: of the rows.
    """

    rows: np.ndarray
    lift: np.ndarray
    arrangement: Arrangement


def reduced(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates `[n, r]` and orthonormal axes `[d, r]` with features = coordinates @ axes.T, r the rank.

    Example:
        >>> reduced(np.array([[1.0, 1.0], [2.0, 2.0]]))[0].shape
        (2, 1)
    """
    left, size, right = np.linalg.svd(features, full_matrices=False)
    rank = max(1, int((size > RANK_TOLERANCE * size.max(initial=0.0)).sum()))
    return left[:, :rank] * size[:rank], right[:rank].T


def num_patterns(features: np.ndarray, bias: Bias) -> int:
    """Return how many cells `blocks` would list, at most."""
    if bias is Bias.FREE:
        num = len(np.unique(features, axis=0))
        return num * most_cells(num - 1, reduced(features - features.mean(0))[0].shape[1])
    return most_cells(len(features), reduced(with_bias(features, bias))[0].shape[1])


def with_bias(features: np.ndarray, bias: Bias) -> np.ndarray:
    """Return the features, with a column of ones unless there is no bias."""
    return features if bias is Bias.NONE else np.column_stack([features, np.ones(len(features))])


def blocks(features: np.ndarray, bias: Bias) -> tuple[list[Block], np.ndarray]:
    """Return the arrangements that hold every neuron that matters, and the axes of their coordinates.

    A bias under the penalty is one more input that is always 1. A free bias may move until the neuron's kink meets an
    example, because along it the objective is linear between two examples: so there is one arrangement for each
    different example, of what the others differ from it by.
    """
    if bias is not Bias.FREE:
        rows, axes = reduced(with_bias(features, bias))
        return [Block(rows, axes, arrange(rows))], axes
    rows, axes = reduced(features - features.mean(0))
    found = []
    for place in np.unique(features, axis=0, return_index=True)[1]:
        lift = np.vstack([axes, -(features[place] @ axes)])
        moved = rows - rows[place]
        moved[(features == features[place]).all(1)] = 0.0
        found.append(Block(moved, lift, arrange(moved)))
    return found, axes


@final
class CellOracle(AbstractOracle):
    """Looks into every cell: exact for one output, by projections onto cones.

    Args:
        features: X, `[n, d]`.
        bias: of the neurons.
        leak: slope of the activation on the left, 0 for the rectifier.
        at_most: how many neurons an answer holds.

    Raises:
        ValueError: if the cells are too many to list; look at `num_patterns` first.

    Example:
        >>> features, residual = np.array([[1.0], [-2.0]]), np.array([[1.0], [1.0]])
        >>> round(CellOracle(features, Bias.NONE).search(residual, 0.0).bound, 6)
        2.0

    Source: Bach, "Breaking the curse of dimensionality with convex neural networks" (2017); Pilanci and Ergen, "Neural
    networks are convex regularizers" (2020).
    """

    exact = True

    def __init__(self, features: np.ndarray, bias: Bias, leak: float = 0.0, *, at_most: int = 12) -> None:
        if num_patterns(features, bias) * len(features) > MAX_SIGNS:
            raise ValueError(
                f"CellOracle cannot list {num_patterns(features, bias):,} cells of {len(features)} examples."
            )
        self.blocks, self.axes = blocks(features, bias)
        self.leak = leak
        self.at_most = at_most
        self.complete = all(block.arrangement.complete for block in self.blocks)

    def search(self, residual: np.ndarray, floor: float) -> Answer:
        """Return the largest value over all cells, and neurons from the best of them."""
        if residual.shape[1] != 1:
            raise ValueError(f"CellOracle.search(residual) is for one output; got {residual.shape[1]}.")
        v = residual[:, 0]
        best, found = floor, []
        for block in self.blocks:
            gradients = self.gradients(block, v)
            size = np.sqrt((gradients * gradients).sum(1))
            for sign in (1.0, -1.0):
                order = np.flatnonzero(size > floor)
                order = order[np.argsort(-size[order], kind="stable")]
                step = max(256, CHUNK // max(1, len(block.arrangement.normals)))
                for start in range(0, len(order), step):
                    part = order[start : start + step]
                    enough = floor + 0.5 * (best - floor)
                    if size[part[0]] <= enough:
                        break
                    signs = block.arrangement.signs[part]
                    moved, index, _ = project(sign * gradients[part], signs, block.arrangement.normals, enough)
                    value = np.sqrt((moved * moved).sum(1))
                    best = max(best, float(value.max()))
                    for place in np.argsort(-value)[: 4 * self.at_most]:
                        if value[place] > floor + 0.5 * (best - floor):
                            found.append((value[place], sign, block, part[place], moved[place], index[place]))
        slack = 1e-14 * sum_of_sizes(self.blocks, v)
        found.sort(key=lambda one: -one[0])
        neurons = (
            make_neuron(block, cell, moved / value, index, np.array([sign]), float(value), self.leak)
            for value, sign, block, cell, moved, index in found
        )
        return Answer(best + slack, different(neurons, self.at_most))

    def gradients(self, block: Block, v: np.ndarray) -> np.ndarray:
        """Return `sum_i v_i slope_i row_i` in each cell of a block, `[cells, r]`."""
        arrangement = block.arrangement
        return sum_over_active(arrangement, v[:, None] * block.rows, self.leak)


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


def sum_over_active(arrangement: Arrangement, terms: np.ndarray, leak: float) -> np.ndarray:
    """Return the sums over examples of terms `[n, q]` times the activation's slope in each cell, `[cells, q]`."""
    there = arrangement.owner >= 0
    num = len(arrangement.normals)
    ahead, behind = np.zeros((num, terms.shape[1])), np.zeros((num, terms.shape[1]))
    np.add.at(
        ahead, arrangement.owner[there & (arrangement.orientation > 0)], terms[there & (arrangement.orientation > 0)]
    )
    np.add.at(
        behind, arrangement.owner[there & (arrangement.orientation < 0)], terms[there & (arrangement.orientation < 0)]
    )
    base = leak * terms[there].sum(0) + (1.0 - leak) * behind.sum(0)
    weights = (1.0 - leak) * (ahead - behind)
    result = np.empty((len(arrangement.signs), terms.shape[1]))
    step = max(1, CHUNK // max(1, num))
    for start in range(0, len(result), step):
        positive = (arrangement.signs[start : start + step] > 0).astype(float)
        result[start : start + step] = base + positive @ weights
    return result


def make_neuron(
    block: Block, cell: int, z: np.ndarray, index: np.ndarray, output: np.ndarray, value: float, leak: float
) -> Neuron:
    """Return the neuron of direction z in a cell, free to move where it stays on the hyperplanes of the given index."""
    arrangement = block.arrangement
    held = arrangement.normals[index[index >= 0]]
    basis = np.eye(len(z))
    if len(held):
        _, size, right = np.linalg.svd(held, full_matrices=True)
        basis = right[int((size > 1e-9).sum()) :].T
    active = (arrangement.signs[cell][arrangement.owner] * arrangement.orientation) > 0
    on = np.isin(arrangement.owner, index[index >= 0]) | (arrangement.owner < 0)
    inner = basis.T @ z
    return Neuron(block.lift @ basis, np.where(active, 1.0, leak), on, inner / np.linalg.norm(inner), output, value)


def sum_of_sizes(parts: list[Block], v: np.ndarray) -> float:
    """Return a bound on the size of every number that is added up in a search."""
    return max(float(np.abs(v) @ np.sqrt((block.rows * block.rows).sum(1))) for block in parts)
