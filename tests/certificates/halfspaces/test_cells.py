"""Cells of arrangements: counted by Cover, and against linear programs where lines meet in ways they should not."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog, nnls

from thalweg.certificates.halfspaces.cells import arrange, count_cells, distinct, most_cells
from thalweg.certificates.two_layer.projection import project


@pytest.mark.parametrize(
    ("num", "rank"), [(1, 1), (400, 2), (50, 3), (150, 3), (40, 4), (20, 5), (5, 5), (3, 5), (2, 4)]
)
def test_general_position_gives_covers_number(num, rank):
    found = arrange(np.random.default_rng(0).normal(size=(num, rank)))
    assert len(found.signs) == most_cells(num, rank)
    assert found.complete
    assert len(np.unique(found.signs, axis=0)) == len(found.signs)
    assert (np.sign(found.inside @ found.normals.T) == found.signs).all()


def test_the_counts_of_the_literature():
    assert [most_cells(150, 3), most_cells(60, 4), most_cells(30, 5)] == [22_352, 68_560, 55_682]


def by_linear_programs(normals):
    """Every sign pattern that some direction has, built up row by row."""
    patterns = [()]
    for k in range(1, len(normals) + 1):
        longer = []
        for pattern in itertools.product(patterns, (1, -1)):
            signs = np.array([*pattern[0], pattern[1]])
            rows = -(signs[:, None] * normals[:k])
            solved = linprog(
                np.r_[np.zeros(normals.shape[1]), -1.0], A_ub=np.c_[rows, np.ones(k)], b_ub=np.zeros(k),
                bounds=[(-1, 1)] * normals.shape[1] + [(None, 1)],
            )  # fmt: skip
            if -solved.fun > 1e-7:
                longer.append(tuple(signs.tolist()))
        patterns = longer
    return set(patterns)


@pytest.mark.parametrize("seed", range(16))
def test_degenerate_arrangements_against_linear_programs(seed):
    rng = np.random.default_rng(seed)
    rank, num = int(rng.integers(1, 6)), int(rng.integers(1, 8))
    rows = rng.integers(-1, 2, size=(num, rank)).astype(float)
    rows[0, 0] = 1.0
    found = arrange(rows)
    assert {tuple(signs) for signs in found.signs.tolist()} == by_linear_programs(found.normals)
    assert found.complete
    assert count_cells(found.normals) == len(found.signs)


@pytest.mark.parametrize(("num", "rank", "size"), [(60, 3, 3), (20, 4, 1), (12, 5, 1)])
def test_grids_have_fewer_cells_and_all_are_found(num, rank, size):
    rows = np.random.default_rng(1).integers(-size, size + 1, size=(num, rank)).astype(float)
    found = arrange(rows)
    assert found.complete
    assert len(found.signs) < most_cells(len(found.normals), rank)


def test_parallel_rows_are_one_hyperplane_and_zeros_are_none():
    rows = np.array([[1.0, 2.0], [-3.0, -6.0], [0.0, 0.0], [2.0, 1.0]])
    normals, owner, orientation = distinct(rows)
    assert len(normals) == 2
    assert owner[0] == owner[1] != owner[3]
    assert owner[2] == -1
    assert orientation[0] == -orientation[1]
    active = arrange(rows).active()
    assert not active[:, 2].any()
    assert (active[:, 0] != active[:, 1]).all()


def test_bad_rows_are_refused():
    with pytest.raises(ValueError, match="matrix of finite numbers"):
        arrange(np.array([[np.nan, 1.0]]))


@pytest.mark.parametrize(("num", "rank"), [(20, 2), (30, 3), (15, 4), (10, 5)])
def test_projections_equal_scipys(num, rank):
    rng = np.random.default_rng(2)
    found = arrange(rng.normal(size=(num, rank)))
    vectors = rng.normal(size=(len(found.signs), rank))
    moved, index, multiplier = project(vectors, found.signs, found.normals, 0.0)
    assert multiplier.min() >= 0.0
    for cell in rng.integers(0, len(vectors), 40):
        rows = found.signs[cell][:, None] * found.normals
        assert nnls(rows.T, -vectors[cell])[1] == pytest.approx(np.linalg.norm(moved[cell]), abs=1e-12)
        used = index[cell] >= 0
        rebuilt = vectors[cell] + multiplier[cell][used] @ rows[index[cell][used]]
        assert rebuilt == pytest.approx(moved[cell], abs=1e-13)


def test_an_early_end_is_still_a_bound():
    rng = np.random.default_rng(3)
    found = arrange(rng.normal(size=(20, 3)))
    vectors = rng.normal(size=(len(found.signs), 3))
    exact = np.linalg.norm(project(vectors, found.signs, found.normals, 0.0)[0], axis=1)
    early = np.linalg.norm(project(vectors, found.signs, found.normals, 1.0)[0], axis=1)
    assert (early >= exact - 1e-12).all()
    assert early[early > 1.0] == pytest.approx(exact[early > 1.0])
