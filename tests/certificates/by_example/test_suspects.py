"""Labels that are likely wrong: against models trained without the example, and against labels that were changed."""

import numpy as np
import pytest
import torch
from scipy import sparse

from thalweg.certificates.by_example.suspects import suspect_labels
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.polish import polish
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.losses import SoftmaxLoss


def best(x, y, num_classes, l2):
    head = Head(Features(x), SoftmaxLoss.of_labels(torch.from_numpy(y), num_classes), L2(l2), intercept=True)
    return polish(head, tolerance=1e-10).point


def words(rng, num=600, vocabulary=60, classes=3):
    """Rows of counts, each word with a class of its own; labels by majority, some of them changed."""
    x = rng.poisson(0.4, (num, vocabulary)).astype(float)
    sums = np.stack([x[:, k::classes].sum(1) for k in range(classes)], 1)
    y = (sums + 0.01 * rng.random(sums.shape)).argmax(1)
    wrong = rng.choice(num, num // 20, replace=False)
    noisy = y.copy()
    noisy[wrong] = (y[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return x, noisy, y, wrong


def test_the_weights_are_the_residuals_of_the_optimum_and_changed_labels_come_first():
    x, noisy, y, wrong = words(np.random.default_rng(0))
    found = suspect_labels(Features(x), noisy, 3, l2=1e-3)
    p = torch.softmax(best(x, noisy, 3, 1e-3).z, 1).numpy()
    assert np.abs(found.carried - (1.0 - p[np.arange(len(y)), noisy])).max() < 2e-2
    first = found.order[: len(wrong)]
    assert len(set(first) & set(wrong)) >= 0.6 * len(wrong)
    named = [row for row in first if row in wrong]
    assert np.mean(found.likelier[named] == y[named]) > 0.8
    assert found.own[found.order].tolist() == sorted(found.own)
    assert found.probabilities.sum(1) == pytest.approx(np.ones(len(y)))
    given = suspect_labels(Features(x), noisy, 3)
    assert given.carried == pytest.approx(suspect_labels(Features(x), noisy, 3, l2=0.3 / len(y)).carried)


def test_the_correction_is_nearly_the_model_without_the_example():
    # Each example has one word, so that the curvature is diagonal but for the bias, which hundreds of others hold.
    rng = np.random.default_rng(1)
    x, y = np.eye(40)[rng.integers(0, 40, 400)], rng.integers(0, 2, 400)
    l2 = 5e-3
    found = suspect_labels(Features(sparse.csr_array(x)), y, 2, l2=l2)
    distances = []
    for row in range(0, 400, 29):
        rest = np.delete(np.arange(400), row)
        without = best(x[rest], y[rest], 2, l2 * 400 / 399)
        z = x[row] @ without.weight.numpy() + without.bias.numpy()
        exact = torch.softmax(torch.from_numpy(z), 0).numpy()[y[row]]
        assert found.own[row] < 1.0 - found.carried[row], "an example's own label helps itself"
        distances.append((abs(found.own[row] - exact), abs(1.0 - found.carried[row] - exact)))
    corrected, uncorrected = np.array(distances).T
    assert corrected.max() < 0.03
    assert corrected.mean() < 0.4 * uncorrected.mean()


def test_sparse_and_dense_features_agree_and_empty_rows_and_classes_are_fine():
    x, y, _, _ = words(np.random.default_rng(2), num=80)
    x[:3] = 0.0
    dense, packed = (suspect_labels(Features(form), y, 5) for form in (x, sparse.csr_array(x)))
    assert np.abs(dense.probabilities - packed.probabilities).max() < 1e-3
    assert np.isfinite(packed.probabilities).all()
    assert packed.probabilities[:, 3:].max() < 0.05, "nobody has these labels"


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1], r"needs a label for each row; got \(3, 2\)"), ([0, 1, 2], r"must be ids in \[0, 2\); got \[0, 1, 2\]")],
)
def test_labels_must_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        suspect_labels(Features(np.eye(3)), np.array(labels), 2)
