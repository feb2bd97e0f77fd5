"""Which neuron would lower the loss most: exactly, over every way in which a neuron can split the data."""

import dataclasses
from typing import final

import numpy as np

from thalweg.certificates.checker import cells, check, networks
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

MAX_CELLS = 200_000  # that are listed: tens of thousands take a second
SHARE = 0.6  # of what the checker does for a file
CHUNK = 4_000_000


@final
@dataclasses.dataclass(frozen=True)
class Block:
    """One arrangement, and how its directions become neurons."""

    rows: np.ndarray  # what is multiplied with z, [n, r]
    lift: np.ndarray  # maps z to the neuron's weights, the bias last where there is one, [inputs (+ 1), r]
    arrangement: "Arrangement"  # of the rows


@final
@dataclasses.dataclass(frozen=True)
class Arrangement:
    """The different hyperplanes that rows are normal to, and all their cells."""

    normals: np.ndarray  # of length 1, [m, r]
    owner: np.ndarray  # index of each row's hyperplane, -1 for a row of zeros, [n]
    orientation: np.ndarray  # whether the row points along its normal (1.0), against it (-1.0), or is zero (0.0), [n]
    signs: np.ndarray  # 1 or -1, on which side of each hyperplane each cell lies, int8 [cells, m]
    first: np.ndarray  # a row of each hyperplane, [m]


@final
class CellOracle(AbstractOracle):
    """Looks into every cell: exact for one output, by projections onto cones.

    It raises a ValueError where the cells are too many to list (see `num_patterns`). An answer holds `at_most` neurons.

    Source: Bach, "Breaking the curse of dimensionality with convex neural networks" (2017); Pilanci and Ergen, "Neural
    networks are convex regularizers" (2020).
    """

    exact = True

    def __init__(self, features: np.ndarray, bias: Bias, leak: float = 0.0, *, at_most: int = 12) -> None:
        if not can_be_listed(features, bias):
            raise ValueError(
                f"CellOracle cannot list {num_patterns(features, bias):,} cells of {len(features)} examples."
            )
        found, self.axes = families(features, bias)
        whole = networks.vectors({"hidden_bias": bias.name}, features, cells)
        self.blocks = [
            Block(rows, lift, arrangement(vectors, rows))
            for (rows, lift), (vectors, _) in zip(found, whole, strict=True)
        ]
        self.leak = leak
        self.at_most = at_most

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


def arrangement(vectors: list[tuple[int, ...]], rows: np.ndarray) -> Arrangement:
    """Return all cells of rows, told apart by integers; the rows are their coordinates in float64."""
    signs = networks.signs_of(vectors, cells)
    normals = cells.distinct(vectors)
    zero = (0,) * len(vectors[0])
    place = {normal: number for number, normal in enumerate(normals)}
    owner = np.array([place[cells.primitive(v, zero)] if any(v) else -1 for v in vectors])
    orientation = np.array([0.0 if not any(v) else -1.0 if v < zero else 1.0 for v in vectors])
    first = np.zeros(len(normals), int)
    real = np.flatnonzero(owner >= 0)[::-1]
    first[owner[real]] = real
    unit = rows[first] * orientation[first, None]
    unit = unit / np.maximum(np.sqrt((unit * unit).sum(1, keepdims=True)), 1e-300)
    ahead = signs[:, first] * orientation[first].astype(np.int8)
    return Arrangement(unit, owner, orientation, ahead, first)


def num_patterns(features: np.ndarray, bias: Bias) -> int:
    """Return how many cells the oracle would list, at most."""
    rank = coordinates(features, bias)[0].shape[1]
    if bias is Bias.FREE:
        num = len(anchors(features))
        return num * cells.most_cells(num - 1, rank)
    return cells.most_cells(len(features), rank)


def can_be_listed(features: np.ndarray, bias: Bias) -> bool:
    """Return whether the cells are few enough, for the oracle and for the checker."""
    number, rank = num_patterns(features, bias), coordinates(features, bias)[0].shape[1]
    price = networks.cells_price(number, len(features), rank)
    return number <= MAX_CELLS and price <= SHARE * check.MAX_PRODUCTS


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
