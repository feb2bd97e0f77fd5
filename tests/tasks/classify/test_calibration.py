"""Bins of confidence, example by example and by hand."""

import numpy as np
import pytest
import torch

from thalweg.certificates.new_texts.shares import share_interval
from thalweg.report.calibration import calibration_error
from thalweg.tasks.classify.calibration import NUM_BINS, confidence_bins


@pytest.mark.parametrize(("num_labels", "size"), [(2, 1), (3, 400), (12, 90)])
def test_the_error_of_the_bins_is_that_of_its_definition(num_labels, size):
    draw = torch.Generator().manual_seed(0)
    logits = 3.0 * torch.randn(size, num_labels, generator=draw, dtype=torch.float64)
    target = torch.randint(num_labels, (size,), generator=draw)
    most = logits.softmax(-1).max(-1)
    bins = confidence_bins(most.values.numpy(), (most.indices == target).numpy())
    confidence, right = most.values.tolist(), (most.indices == target).tolist()
    expected = 0.0  # Naeini et al. (2015): |sum of (right - confidence)| of each bin, over all examples
    for b in range(NUM_BINS):
        inside = [i for i, p in enumerate(confidence) if b / NUM_BINS <= p < (b + 1) / NUM_BINS]
        expected += abs(sum(right[i] - confidence[i] for i in inside)) / size
    error = calibration_error(bins["confidence"], bins["accuracy"], bins["counts"])
    assert error == pytest.approx(expected, abs=1e-12)


def test_bins_by_hand():
    bins = confidence_bins(np.array([0.05, 0.0, 1.0, 0.95, np.nan]), np.array([1, 0, 1, 0, 1]), num_bins=2)
    assert bins["counts"] == [3, 2]
    assert bins["accuracy"] == [2 / 3, 0.5]
    assert bins["confidence"] == pytest.approx([0.05 / 3, 0.975])
    assert bins["intervals"] == [share_interval(2, 3), share_interval(1, 2)]
    assert confidence_bins(np.array([0.9]), np.array([1]), num_bins=2)["accuracy"] == [None, 1.0]
