"""Bins of confidence, against torchmetrics and by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from thalweg.certificates.new_texts.shares import share_interval
from thalweg.report.calibration import calibration_error
from thalweg.tasks.classify.calibration import NUM_BINS, confidence_bins


@pytest.mark.parametrize(("num_labels", "size"), [(2, 1), (3, 400), (12, 90)])
def test_the_error_of_the_bins_is_that_of_torchmetrics(num_labels, size):
    draw = torch.Generator().manual_seed(0)
    logits = 3.0 * torch.randn(size, num_labels, generator=draw, dtype=torch.float64)
    target = torch.randint(num_labels, (size,), generator=draw)
    most = logits.softmax(-1).max(-1)
    bins = confidence_bins(most.values.numpy(), (most.indices == target).numpy())
    expected = multiclass_calibration_error(logits.softmax(-1), target, num_labels, n_bins=NUM_BINS, norm="l1")
    error = calibration_error(bins["confidence"], bins["accuracy"], bins["counts"])
    assert error == pytest.approx(float(expected), abs=1e-6)


def test_bins_by_hand():
    bins = confidence_bins(np.array([0.05, 0.0, 1.0, 0.95, np.nan]), np.array([1, 0, 1, 0, 1]), num_bins=2)
    assert bins["counts"] == [3, 2]
    assert bins["accuracy"] == [2 / 3, 0.5]
    assert bins["confidence"] == pytest.approx([0.05 / 3, 0.975])
    assert bins["intervals"] == [share_interval(2, 3), share_interval(1, 2)]
    assert confidence_bins(np.array([0.9]), np.array([1]), num_bins=2)["accuracy"] == [None, 1.0]
