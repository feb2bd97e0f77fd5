"""Threshold units by a mixed-integer program, where the ways to split the examples are too many to list."""

from typing import Final

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from thalweg.certificates.halfspaces.hyperplane import Scaled

MARGIN: Final = 1e-3
MAX_ENTRIES: Final = 3_000_000


def units_by_program(
    data: Scaled, labels: np.ndarray, num_units: int, seconds: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return weights `[units, d]` and biases for moved rows of units whose AND has few errors; None: none was found.

    HiGHS looks for the fewest errors of units that part the rows, scaled to [-1, 1], with a margin of 0.001 at weights
    of at most 1. Nothing is proved by it.
    """
    # Unknowns, with u units, n examples, p of them negative:
    #
    #     w_1 [d], b_1 | ... | w_u [d], b_u | error [n] | passes_1 [p] | ... | passes_u [p]
    #     real, |w| <= 1                    | binary    | binary
    #
    # Rows of the matrix, each "sum >= least":
    #
    #     u n rows   side_i (w . z_i + b) + big error_i >= margin       for a positive i: every unit must say yes
    #                side_i (w . z_i + b) + big passes_ki >= margin     for a negative i: or unit k lets it pass
    #     p rows     error_i - sum_k passes_ki >= 1 - u                 an error where every unit lets it pass
    z = data.moved.toarray() if sparse.issparse(data.moved) else data.moved
    num, dimension = z.shape
    negatives = np.flatnonzero(~labels)
    if num_units * num * (dimension + 2) > MAX_ENTRIES or seconds <= 0.0:
        return None
    reach = float(np.abs(z).sum(1).max(initial=0.0))
    big = 2.0 * reach + MARGIN
    side = np.where(labels, 1.0, -1.0)[:, None]
    units = [sparse.csr_matrix(side * np.c_[z, np.ones(num)])] * num_units
    paid = sparse.csr_matrix((np.full(num, big)[labels], (np.flatnonzero(labels), np.flatnonzero(labels))), (num, num))
    passed = sparse.csr_matrix(
        (np.full(len(negatives), big), (negatives, np.arange(len(negatives)))), (num, len(negatives))
    )
    one = sparse.csr_matrix((np.ones(len(negatives)), (np.arange(len(negatives)), negatives)), (len(negatives), num))
    matrix = sparse.vstack(
        [
            sparse.hstack(
                [sparse.block_diag(units), sparse.vstack([paid] * num_units), sparse.block_diag([passed] * num_units)]
            ),
            sparse.hstack(
                [
                    sparse.csr_matrix((len(negatives), num_units * (dimension + 1))),
                    one,
                    *[-sparse.identity(len(negatives))] * num_units,
                ]
            ),
        ],
        format="csr",
    )
    low = np.r_[np.full(num_units * num, MARGIN), np.full(len(negatives), 1.0 - num_units)]
    real, binary = num_units * (dimension + 1), num + num_units * len(negatives)
    most = np.tile(np.r_[np.ones(dimension), reach], num_units)
    solved = milp(
        np.r_[np.zeros(real), np.ones(num), np.zeros(binary - num)],
        constraints=LinearConstraint(matrix, low, np.full(len(low), np.inf)),  # type: ignore[arg-type]
        bounds=Bounds(np.r_[-most, np.zeros(binary)], np.r_[most, np.ones(binary)]),
        integrality=np.r_[np.zeros(real), np.ones(binary)],
        options={"time_limit": seconds},
    )
    if solved.x is None:
        return None
    found = solved.x[:real].reshape(num_units, dimension + 1)
    return found[:, :-1], found[:, -1]
