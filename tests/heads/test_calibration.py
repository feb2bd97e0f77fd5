"""The concentration that makes held-out targets most likely."""

import pytest
import torch
from torch.nn import functional as F

from thalweg.heads.distance import Cosine
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher


@pytest.mark.parametrize("counts", [None, torch.arange(1.0, 51.0)], ids=["uniform", "counts"])
@pytest.mark.parametrize("family", [Cosine, VonMisesFisher])
def test_calibration_finds_the_concentration_that_made_the_data(family, counts):
    targets = Targets(torch.randn(50, 16, dtype=torch.float64), counts=counts)
    head = family(None, targets, concentration=7.0, prior=1.0)
    prediction = F.normalize(torch.randn(4000, 16, dtype=torch.float64), dim=-1)
    ids = torch.multinomial(head.scores(prediction).softmax(-1), 1).squeeze(-1)
    head.concentration.fill_(1.0)
    before = head.log_probability(prediction, ids).sum()
    ids[:100] = -100
    mask = torch.arange(4000) >= 200
    found = head.calibrate(prediction, ids, mask)
    assert found == pytest.approx(7.0, rel=0.1)
    assert head.concentration.item() == pytest.approx(found)
    ids[:200] = 0
    at = head.log_probability(prediction, ids)[200:].sum()
    assert at > before
    for factor in (0.97, 1.03):
        head.concentration.fill_(found * factor)
        assert head.log_probability(prediction, ids)[200:].sum() < at


def test_calibration_needs_targets():
    head = Cosine(None, Targets(torch.eye(4)))
    with pytest.raises(ValueError, match="at least one real target"):
        head.calibrate(torch.zeros(2, 4), torch.full((2,), -100))
