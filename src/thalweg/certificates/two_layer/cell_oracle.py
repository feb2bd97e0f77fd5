"""Which neuron would lower the loss most: exactly, over every way in which a neuron can split the data."""

import dataclasses
from typing import final

import numpy as np

from thalweg.certificates.halfspaces.cells import Arrangement, arrange, most_cells, reduced
from thalweg.certificates.two_layer.neurons import AbstractOracle, Answer, Bias, Neuron, different, with_bias
from thalweg.certificates.two_layer.projection import project

# Bytes of sign patterns that may be held: about one a cell and example.
MAX_SIGNS = 400_000_000
CHUNK = 4_000_000


@final
@dataclasses.dataclass(frozen=True)
class Block:
    """One arrangement, and how its directions become neurons."""

    rows: np.ndarray  # what is multiplied with z, [n, r]
    lift: np.ndarray  # maps z to the neuron's weights, the bias last where there is one, [inputs (+ 1), r]
    arrangement: Arrangement  # of the rows


@final
class CellOracle(AbstractOracle):
    """Looks into every cell: exact for one output, by projections onto cones.

    It raises a ValueError where the cells are too many to list (see `num_patterns`). An answer holds `at_most` neurons.

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


def num_patterns(features: np.ndarray, bias: Bias) -> int:
    """Return how many cells `blocks` would list, at most."""
    if bias is Bias.FREE:
        num = len(np.unique(features, axis=0))
        return num * most_cells(num - 1, reduced(features - features.mean(0))[0].shape[1])
    return most_cells(len(features), reduced(with_bias(features, bias))[0].shape[1])


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
