"""What proves the bound of a two-layer network, as arrays that numpy alone can verify."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from thalweg.certificates.checker import check
from thalweg.certificates.exact import exact_dual, float_residual
from thalweg.certificates.two_layer.cell_oracle import CellOracle
from thalweg.certificates.two_layer.fan_oracle import FanOracle
from thalweg.certificates.two_layer.problem import TwoLayerProblem, Weights
from thalweg.certificates.two_layer.projection import project
from thalweg.certificates.two_layer.relaxed_oracle import RelaxedOracle
from thalweg.certificates.two_layer.semidefinite import Found, Relaxation

ATTEMPTS: Final = 14  # each lowers the dual point ten times as much as the one before
FIRST: Final = 1e-13


def problem_evidence(
    problem: TwoLayerProblem, weights: Weights, offset: float, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the evidence of rule "two_layer" says about the problem and the network whose loss is compared.

    `offset` is what the frozen rest adds to loss and bound, `about` what the scope is made of.
    """
    return {
        "rule": "two_layer",
        "X": problem.features,
        **problem.loss.evidence(),
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
        **about,
    }


def exact_proof(
    kept: dict[str, Any], problem: TwoLayerProblem, dual: np.ndarray, oracle: FanOracle | CellOracle
) -> tuple[dict[str, Any], Any] | None:
    """Return evidence of an exact bound for a feasible dual point and what it proves, or None where rounding wins."""
    point = exact_dual(problem.loss, dual, balanced=problem.free_intercept)
    plain, limit = float_residual(point), problem.l2 * problem.loss.count
    proof: dict[str, Any] = {"method": "fan"}
    if isinstance(oracle, CellOracle):
        proof = {"method": "cells", **_cells(oracle, plain[:, 0], limit)}
    elif problem.features.shape[1] + (problem.hidden_bias.name == "PENALIZED") > 2:
        proof["axes"] = oracle.axes
    return _accepted({**kept, **point, **proof}, 1.0)


def signs_proof(
    kept: dict[str, Any], problem: TwoLayerProblem, dual: np.ndarray, oracle: RelaxedOracle
) -> tuple[dict[str, Any], Any] | None:
    """Return evidence from the relaxation over signs, for a dual point that need not be feasible."""
    point = exact_dual(problem.loss, dual, balanced=problem.free_intercept)
    top, found = oracle.signs(float_residual(point))
    scale = problem.best_scale(dual, problem.l2 * problem.loss.count / max(top, 1e-300))
    proof = {
        "method": "signs",
        "axes": oracle.axes,
        "theta": np.array([one.theta for one in found]),
        "delta": np.array([one.delta for one in found]),
    }
    return _accepted({**kept, **point, **proof}, scale)


def moments_proof(
    kept: dict[str, Any], problem: TwoLayerProblem, found: Found, relaxation: Relaxation
) -> tuple[dict[str, Any], Any] | None:
    """Return evidence from the relaxation over moments."""
    point = exact_dual(problem.loss, found.dual, balanced=problem.free_intercept)
    count = problem.loss.count
    cases = relaxation.cases([count * multiplier for multiplier in found.multipliers], float_residual(point))
    if cases is None:
        return None
    most = problem.l2 * count / max(max(case.top for case in cases), 1e-300)
    proof: dict[str, Any] = {
        "method": "moments",
        "axes": relaxation.axes,
        "unit": relaxation.unit,
        "sign": np.array([case.sign for case in cases]),
        "hull": np.array([case.hull for case in cases]),
        "share": np.array([case.share for case in cases]),
        "products": np.array([case.products for case in cases], np.float32),
        "own": np.array([case.own for case in cases]),
        "cone": np.array([case.cone for case in cases], np.float32),
    }
    if relaxation.free:
        proof["H"] = relaxation.hull
        proof["reach"] = np.array([case.reach for case in cases], np.float32)
    return _accepted({**kept, **point, **proof}, problem.best_scale(found.dual, most))


def _accepted(evidence: dict[str, Any], scale: float) -> tuple[dict[str, Any], Any] | None:
    """Return the evidence with a scale that the checker accepts, a little less where rounding asks for it."""
    lowered = 0.0
    for attempt in range(ATTEMPTS):
        evidence["scale"] = scale * (1.0 - lowered)
        try:
            return evidence, check.prove(evidence)
        except check.Refused as refused:
            if "not feasible" not in str(refused):
                return None
        lowered = min(FIRST * 10.0**attempt, 1.0)
    return None


def _cells(oracle: CellOracle, v: np.ndarray, limit: float) -> dict[str, Any]:
    """Multipliers of walls where the gradient alone is too long, of rows of the features."""
    cells, sides, rows, multipliers = [], [], [], []
    first = 0
    for block in oracle.blocks:
        found, enough = block.arrangement, limit * (1.0 - 1e-9)
        gradients = oracle.gradients(block, v)
        long = np.flatnonzero(np.sqrt((gradients**2).sum(1)) > enough)
        length = np.maximum(np.sqrt((block.rows[found.first] ** 2).sum(1)), 1e-300)
        for side in (1, -1):
            _, used, multiplier = project(side * gradients[long], found.signs[long], found.normals, enough)
            there = used >= 0
            rows.append(np.where(there, found.first[used], 0) if len(found.first) else np.zeros_like(used))
            multipliers.append(np.where(there, multiplier / length[used], 0.0) if len(length) else multiplier)
            cells.append(first + long)
            sides.append(np.full(len(long), side))
        first += len(found.signs)
    return {
        "cell": np.concatenate(cells).astype(np.int32),
        "side": np.concatenate(sides).astype(np.int8),
        "row": np.concatenate(rows).astype(np.int32),
        "multiplier": np.concatenate(multipliers),
    }
