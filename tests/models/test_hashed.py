import numpy as np
import pytest
import torch

from thalweg.models.hashed import HashedTable, softmax_loss


@pytest.mark.parametrize("num_classes", [1, 2, 7])
def test_gradient_of_the_softmax_loss_matches_autograd(num_classes: int):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 5, num_classes)
    target = int(rng.integers(num_classes))
    probabilities, loss, gradient = softmax_loss(logits, target)
    z = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(z[None], torch.tensor([target]))
    expected.backward()
    assert z.grad is not None
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(probabilities, torch.softmax(z, 0).detach().numpy(), rtol=1e-12)


def test_gradient_of_the_softmax_loss_matches_differences():
    logits, h = np.array([0.3, -1.0, 2.0]), 1e-6
    _, _, gradient = softmax_loss(logits, 1)
    differences = [
        (softmax_loss(logits + h * unit, 1)[1] - softmax_loss(logits - h * unit, 1)[1]) / (2 * h) for unit in np.eye(3)
    ]
    np.testing.assert_allclose(gradient, differences, atol=1e-9)


def test_extreme_logits_stay_finite_and_absent_classes_have_no_share():
    probabilities, loss, gradient = softmax_loss(np.array([3e4, -3e4, -np.inf]), 1)
    assert loss == 6e4
    assert probabilities.tolist() == [1.0, 0.0, 0.0]
    assert gradient.tolist() == [1.0, -1.0, 0.0]


def test_table_step_is_adagrad_with_one_sum_of_squares_for_a_bucket():
    rng = np.random.default_rng(0)
    table = HashedTable(num_buckets=50, width=3)
    dense, sums = np.zeros((50, 3)), np.zeros(50)
    for _ in range(200):
        buckets = rng.choice(50, size=6, replace=False)
        values, gradient = rng.normal(size=6), rng.normal(size=3)
        slots, rows = table.gather(buckets)
        np.testing.assert_allclose(rows, dense[buckets], rtol=1e-4, atol=1e-5)
        table.learn(
            buckets,
            values.astype(np.float32),
            slots,
            rows,
            gradient=gradient.astype(np.float32),
            step=0.3,
            l2=0.1,
        )
        sums[buckets] += values**2 * (gradient @ gradient)
        size = 0.3 / np.sqrt(sums[buckets] + 1e-8)
        dense[buckets] *= 1 - np.minimum(0.1 * size, 1)[:, None]
        dense[buckets] -= (size * values)[:, None] * gradient


def test_saved_table_comes_back_and_another_one_is_refused():
    table, other = HashedTable(num_buckets=20, width=2), HashedTable(num_buckets=20, width=2)
    buckets, values = np.array([3, 7]), np.ones(2, dtype=np.float32)
    table.learn(buckets, values, *table.gather(buckets), gradient=np.ones(2, dtype=np.float32), step=1.0)
    other.restore(table.arrays())
    np.testing.assert_array_equal(other.gather(np.arange(20))[1], table.gather(np.arange(20))[1])
    for name, wrong in (("row_of", np.zeros(21, np.int32)), ("row_of", np.full(20, 9, np.int32))):
        with pytest.raises(ValueError, match=r"HashedTable.restore\(arrays=...\)"):
            other.restore(table.arrays() | {name: wrong})
