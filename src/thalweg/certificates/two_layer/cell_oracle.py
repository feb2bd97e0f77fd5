"""Which neuron would lower the loss most: exactly, over every way in which a neuron can split the data."""

import dataclasses
from typing import final

import numpy as np

from thalweg.certificates.halfspaces.cells import Arrangement, arrange, most_cells
from thalweg.certificates.two_layer.neurons import (
    AbstractOracle,
    Answer,
    Bias,
    Neuron,
    anchors,
    coordinates,
    different,
    families,
)
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
        found, self.axes = families(features, bias)
        self.blocks = [Block(rows, lift, arrange(rows)) for rows, lift in found]
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
        # A bound on the size of every number that was added up.
        slack = 1e-14 * max(float(np.abs(v) @ np.sqrt((block.rows**2).sum(1))) for block in self.blocks)
        found.sort(key=lambda one: -one[0])
        neurons = (
            make_neuron(block, cell, moved / value, index, np.array([sign]), float(value), self.leak)
            for value, sign, block, cell, moved, index in found
        )
        return Answer(best + slack, different(neurons, self.at_most))

    def gradients(self, block: Block, v: np.ndarray) -> np.ndarray:
        """Return `sum_i v_i slope_i row_i` in each cell of a block, `[cells, r]`."""
        arrangement, terms = block.arrangement, v[:, None] * block.rows
        num, rank = arrangement.normals.shape
        there = arrangement.owner >= 0
        ahead, behind = np.zeros((num, rank)), np.zeros((num, rank))
        for sums, mine in ((ahead, arrangement.orientation > 0), (behind, arrangement.orientation < 0)):
            np.add.at(sums, arrangement.owner[there & mine], terms[there & mine])
        base = self.leak * terms[there].sum(0) + (1.0 - self.leak) * behind.sum(0)
        weights = (1.0 - self.leak) * (ahead - behind)
        result = np.empty((len(arrangement.signs), rank))
        step = max(1, CHUNK // max(1, num))
        for start in range(0, len(result), step):
            positive = (arrangement.signs[start : start + step] > 0).astype(float)
            result[start : start + step] = base + positive @ weights
        return result


def num_patterns(features: np.ndarray, bias: Bias) -> int:
    """Return how many cells the oracle would list, at most."""
    rank = coordinates(features, bias)[0].shape[1]
    if bias is Bias.FREE:
        num = len(anchors(features))
        return num * most_cells(num - 1, rank)
    return most_cells(len(features), rank)


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
