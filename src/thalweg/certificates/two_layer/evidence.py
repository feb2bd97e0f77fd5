"""What proves the bound of a two-layer network, as arrays that numpy alone can verify."""

from typing import Any

import numpy as np

from thalweg.certificates.halfspaces.cells import Arrangement
from thalweg.certificates.two_layer.cell_oracle import CellOracle
from thalweg.certificates.two_layer.fan_oracle import FanOracle
from thalweg.certificates.two_layer.neurons import AbstractOracle
from thalweg.certificates.two_layer.problem import TwoLayerProblem, Weights
from thalweg.certificates.two_layer.projection import project
from thalweg.certificates.two_layer.relaxed_oracle import RelaxedOracle


def evidence(
    problem: TwoLayerProblem, weights: Weights, dual: np.ndarray, oracle: AbstractOracle, offset: float
) -> dict[str, Any]:
    """Return the evidence of rule "two_layer"; see the table in `thalweg.certificates.checker.check`.

    The network is the one whose loss is compared, the dual point is feasible, the oracle is what bounded the neurons,
    and `offset` is what the frozen rest adds to loss and bound.
    """
    found: dict[str, Any] = {
        "rule": "two_layer",
        "X": problem.features,
        **problem.loss.evidence(),
        "dual": dual,
        "l2": problem.l2,
        "leak": problem.leak,
        "hidden_bias": problem.hidden_bias.name,
        "output_bias": problem.output_bias.name,
        "skip": int(problem.skip),
        "offset": offset,
        "U": weights.ingoing,
        "u": weights.hidden_bias,
        "A": weights.outgoing,
        "a": weights.output_bias,
        "S": weights.skip,
    }
    residual = problem.array_loss.dual_residual(dual)
    if isinstance(oracle, FanOracle):
        return {**found, "method": "fan", "axes": oracle.axes}
    if isinstance(oracle, CellOracle) and oracle.complete:
        return {**found, "method": "cells", **_cells(oracle, residual[:, 0], problem.l2)}
    if isinstance(oracle, RelaxedOracle):
        packed, top = _leaves(oracle, residual)
        # Computed again for the scaled dual, the relaxation may end a little higher; its multipliers suit every scale.
        scale = min(1.0, problem.l2 / top * (1.0 - 1e-12)) if top > 0.0 else 1.0
        return {
            **found,
            "dual": problem.array_loss.scaled(dual, scale),
            "method": "relaxed",
            "axes": oracle.axes,
            **packed,
        }
    return {}


def _cells(oracle: CellOracle, v: np.ndarray, l2: float) -> dict[str, Any]:
    """A direction inside every cell, and multipliers where the gradient alone is too long."""
    inside, block_of, cells, sides, index, multiplier = [], [], [], [], [], []
    first = 0
    for number, block in enumerate(oracle.blocks):
        gradients = oracle.gradients(block, v)
        long = np.flatnonzero(np.sqrt((gradients**2).sum(1)) > l2 * (1.0 - 1e-9))
        for side in (1, -1):
            _, used, mu = project(
                side * gradients[long], block.arrangement.signs[long], block.arrangement.normals, l2 * (1.0 - 1e-9)
            )
            owners = _owners(block.arrangement)
            index.append(np.where(used < 0, -1, owners[used]))
            multiplier.append(mu)
            cells.append(first + long)
            sides.append(np.full(len(long), side))
        inside.append(block.arrangement.inside)
        block_of.append(np.full(len(block.arrangement.inside), number))
        first += len(block.arrangement.inside)
    return {
        "axes": oracle.axes,
        "inside": np.concatenate(inside),
        "block": np.concatenate(block_of).astype(np.int32),
        "cell": np.concatenate(cells).astype(np.int32),
        "side": np.concatenate(sides).astype(np.int8),
        "row": np.concatenate(index).astype(np.int32),
        "multiplier": np.concatenate(multiplier),
    }


def _owners(arrangement: Arrangement) -> np.ndarray:
    """For each hyperplane the first example on whose side it lies."""
    order = np.flatnonzero(arrangement.owner >= 0)[::-1]
    first = np.zeros(len(arrangement.normals), int)
    first[arrangement.owner[order]] = order
    return first


def _leaves(oracle: RelaxedOracle, residual: np.ndarray) -> tuple[dict[str, Any], float]:
    """Every case of the relaxation with its multipliers, packed one after the other; and the bound that they give."""
    leaves = oracle.leaves(residual)
    parts = {"sides": [leaf.sides for leaf in leaves], "theta": [leaf.theta for leaf in leaves]}
    parts["delta"] = [leaf.delta for leaf in leaves]
    packed: dict[str, Any] = {
        "leaf": np.array([[leaf.output, leaf.anchor, leaf.sign, leaf.used] for leaf in leaves], dtype=np.int32)
    }
    for name, values in parts.items():
        packed[name] = np.concatenate(values)
        packed[f"{name}_count"] = np.array([len(value) for value in values], dtype=np.int32)
    top = [max(leaf.bound for leaf in leaves if leaf.output == k) for k in range(residual.shape[1])]
    return packed, float(np.linalg.norm(top))
