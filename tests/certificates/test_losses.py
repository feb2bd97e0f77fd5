"""Convex losses: derivatives against autograd, dual values against infima found by search, for every loss."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_cases import LOSSES, random_loss
from scipy.optimize import minimize

from thalweg.certificates.checker.check import dual_sum
from thalweg.certificates.exact import exact_dual, float_residual
from thalweg.certificates.linear.regularizers import best_scale
from thalweg.certificates.losses import SoftmaxLoss, best_bias
from thalweg.certificates.number_losses import HingeLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss

SMOOTH = tuple(kind for kind in LOSSES if kind not in {"hinge", "squared_hinge"})


def loss_and_predictions(kind, seed=0, n=5, outputs=3):
    rng = np.random.default_rng(seed)
    return random_loss(rng, kind, n, outputs), torch.from_numpy(rng.normal(size=(n, outputs)))


@pytest.mark.parametrize("kind", LOSSES)
def test_residual_and_second_derivative_are_those_of_autograd(kind):
    for seed in range(4):
        loss, z = loss_and_predictions(kind, seed)
        value, residual = loss.value_and_residual(z)
        assert value.item() == pytest.approx(loss.value(z).item(), rel=1e-12)
        gradient = torch.autograd.functional.jacobian(loss.value, z)
        torch.testing.assert_close(residual, -gradient)
        hessian = torch.autograd.functional.hessian(loss.value, z)
        curvature, v = loss.curvature(z), torch.randn_like(z)
        torch.testing.assert_close(curvature.product(v), torch.einsum("ikjl,jl->ik", hessian, v))
        torch.testing.assert_close(curvature.diagonal, torch.einsum("ikik->ik", hessian))
        torch.testing.assert_close(curvature.blocks(), torch.einsum("ikil->ikl", hessian))


@pytest.mark.parametrize("kind", LOSSES)
def test_the_dual_value_is_the_infimum_of_the_loss_and_a_line(kind):
    """value(A) = inf over Z of L(Z) + <R(A), Z>, also for a dual point scaled down, and with balanced residuals."""
    for seed in range(2):
        loss, z = loss_and_predictions(kind, seed, n=3)
        for balanced, scale in ((False, 1.0), (True, 1.0), (False, 0.6)):
            dual = loss.scaled(loss.dual_point(z, balanced=balanced), scale)
            residual = loss.dual_residual(dual)

            def line(flat, loss=loss, residual=residual):
                point = torch.from_numpy(flat).reshape(residual.shape).requires_grad_()
                total = loss.value(point) + (residual * point).sum()
                (slope,) = torch.autograd.grad(total, point)
                return total.item(), slope.numpy().ravel()

            # The infimum of a hinge and a line is at the hinge's kink.
            starts = [one.numpy().ravel() for one in (z, 1e-3 + 0.0 * z, loss.targets)]
            least = min(minimize(line, start, jac=True, method="BFGS", options={"gtol": 1e-9}).fun for start in starts)
            value = loss.dual_value(dual)
            assert value <= least + 1e-9
            assert value == pytest.approx(least, abs=1e-6)


@pytest.mark.parametrize("kind", LOSSES)
def test_arrays_have_the_formulas_of_tensors(kind):
    for seed, outputs in ((0, 1), (1, 3)):
        loss, z = loss_and_predictions(kind, seed, outputs=outputs)
        z = 30.0 * z
        arrays, dual = loss.as_arrays(), loss.dual_point(z, balanced=False)
        array, point = z.numpy(), dual.numpy()
        for ours, expected in [
            (arrays.value(array), loss.value(z)),
            (arrays.residual(array), loss.residual(z)),
            (arrays.curvature(array).blocks(), loss.curvature(z).blocks()),
            (arrays.dual_residual(point), loss.dual_residual(dual)),
            (arrays.dual_value(point), loss.dual_value(dual)),
            (arrays.scaled(point, 0.3), loss.scaled(dual, 0.3)),
        ]:
            assert isinstance(ours, float | np.ndarray)
            np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from(LOSSES), st.booleans(), st.floats(0.0, 1.0))
def test_dual_points_are_feasible_and_their_residuals_scale(seed, kind, balanced, scale):
    loss, z = loss_and_predictions(kind, seed)
    dual = loss.dual_point(10.0 * z, balanced=balanced)
    residual, scaled = loss.dual_residual(dual), loss.scaled(dual, scale)
    torch.testing.assert_close(loss.dual_residual(scaled), scale * residual, rtol=1e-9, atol=1e-12)
    if balanced:
        assert residual.sum(0).abs().max() <= 1e-12 * (1.0 + residual.abs().sum())
    else:
        torch.testing.assert_close(residual, loss.value_and_residual(10.0 * z)[1], rtol=1e-9, atol=1e-12)
    # The checker has formulas of its own, and accepts the dual point on a grid with sums of exactly zero.
    evidence = {**loss.evidence(), **exact_dual(loss, scaled, balanced=balanced)}
    value, error = dual_sum(evidence)
    assert value / loss.count == pytest.approx(loss.dual_value(scaled), rel=1e-9, abs=1e-11)
    assert error <= 1e-13 * (1.0 + abs(value)) * loss.num_examples
    if balanced:
        assert not evidence["residual"].sum(0).any()
    np.testing.assert_allclose(float_residual(evidence) / loss.count, loss.dual_residual(scaled), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["squared", "squared_hinge"])
def test_slopes_may_be_scaled_up(kind):
    loss, z = loss_and_predictions(kind)
    dual = loss.dual_point(z, balanced=False)
    assert loss.largest_scale == math.inf
    torch.testing.assert_close(loss.scaled(dual, 3.0), 3.0 * dual)


def test_a_bias_that_is_best_alone():
    loss = LogisticLoss(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(best_bias(loss), torch.tensor([3.0, 1 / 3], dtype=torch.float64).log())
    assert best_bias(SoftmaxLoss.of_labels(torch.tensor([0, 0]), 2)).tolist() == [0.0, -10.0]


def test_the_best_scale_is_inside_where_the_dual_bends():
    loss = SoftmaxLoss.of_labels(torch.tensor([0, 1]), 2)
    dual = loss.dual_point(torch.tensor([[-9.0, 9.0], [9.0, -9.0]], dtype=torch.float64), balanced=False)

    def value(scale):
        return loss.dual_value(loss.scaled(dual, scale))

    assert best_scale(value)[1] == pytest.approx(0.5, abs=1e-3)
    assert best_scale(value, 0.2) == (value(0.2), 0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftmaxLoss(torch.tensor([[0.5, 0.6]])), "probabilities"),
        (lambda: SoftmaxLoss.of_labels(torch.tensor([2]), 2), r"class ids in \[0, 2\)"),
        (lambda: LogisticLoss(torch.tensor([[1.5]])), r"lie in \[0, 1\]"),
        (lambda: SquaredLoss(torch.tensor([[1.0]]), scale=0.0), "above zero"),
        (lambda: SquaredLoss(torch.tensor([[torch.nan]])), "finite"),
        (lambda: SquaredLoss(torch.tensor([[1.0]]), torch.tensor([-1.0])), "not negative"),
        (lambda: SquaredHingeLoss(torch.tensor([[0.0]])), "-1 or 1"),
        (lambda: HingeLoss(torch.tensor([[1.0]]), duals=torch.tensor([[2.0]])), "divide those of a solver"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
