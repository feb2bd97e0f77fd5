"""Norms of weights and the way from their start, against sums by hand."""

import math

import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.weights import weights
from thalweg.diagnosis.subject import Facts, Subject
from thalweg.heads.adapt import as_head


def test_norms_and_penalty_by_hand():
    model = nn.Linear(2, 2, bias=False)
    head = as_head(nn.MSELoss())
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    start = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        start.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    batch = Batch({"input": torch.zeros(1, 2)}, torch.zeros(1, 2))
    facts = Facts(l2=0.1)
    found = weights(Subject(model=model, head=head, train=[batch], facts=facts, initial=lambda: (start, head)))
    assert found["norm"] == 5.0
    assert found["penalty"] == pytest.approx(0.05 * 25.0)
    assert found["penalty_share"] == pytest.approx(1.0)  # the data's own loss is zero
    assert found["moved"] == pytest.approx(3.0 / math.sqrt(10.0))
    assert found["norm_ratio"] == pytest.approx(5.0 / math.sqrt(10.0))
    assert found["largest"] == 4.0
