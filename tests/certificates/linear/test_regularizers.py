"""Regularizers: the bound of a dual point against the infimum of the whole problem, found by search."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from thalweg.certificates.linear.regularizers import L1, L2, Ball, ElasticNet
from thalweg.certificates.number_losses import SquaredLoss

REGULARIZERS = [L2(0.3), L1(0.1), ElasticNet(0.05, 0.3), Ball(0.2)]


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda one: one.name)
def test_the_bound_is_the_infimum_at_the_optimal_dual_and_below_it_elsewhere(regularizer):
    rng = np.random.default_rng(0)
    x, t = torch.from_numpy(rng.normal(size=(20, 3))), torch.from_numpy(rng.normal(size=(20, 1)))
    loss = SquaredLoss(t)

    def weight(flat):
        w = torch.from_numpy(flat[:3] - flat[3:])[:, None]
        size = float(w.norm())
        return w * min(1.0, regularizer.radius / max(size, 1e-12)) if isinstance(regularizer, Ball) else w

    def total(flat):
        return float(loss.value(x @ weight(flat)) + regularizer.penalty(weight(flat)))

    found = minimize(total, np.full(6, 0.1), bounds=[(0, None)] * 6, method="L-BFGS-B",
                     options={"ftol": 1e-15, "gtol": 1e-10, "maxfun": 100_000, "maxiter": 3000})  # fmt: skip

    def bound(w):
        dual = loss.dual_point(x @ w, balanced=False)
        return regularizer.bound(loss, dual, x.T @ loss.dual_residual(dual), 0.0)[0]

    assert bound(weight(found.x)) == pytest.approx(found.fun, rel=1e-4)
    for scale in (0.0, 0.1, 1.0):
        assert bound(scale * torch.from_numpy(rng.normal(size=(3, 1)))) <= found.fun + 1e-10


@pytest.mark.parametrize("make", [L2, L1, lambda value: ElasticNet(0.1, value), lambda value: ElasticNet(value, 0.1)])
def test_strengths_are_positive(make):
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="above zero"):
            make(value)
    with pytest.raises(ValueError, match="zero or positive"):
        Ball(-1.0)
