"""What of a checkpoint may stand in the place of what a run has."""

import math

import pytest
import torch

from thalweg.training.integrity.likeness import require_like

OWN = {
    "lr": 0.1,
    "betas": (0.9, 0.99),
    "params": [0, 1],
    "foreach": None,
    "amsgrad": False,
    "best": math.inf,
    "scores": [],
}
TENSOR = {"moments": torch.zeros(2, 3)}


@pytest.mark.parametrize(
    "saved",
    [
        {**OWN, "lr": 3, "betas": (0.5, 0.5), "foreach": True},
        {**OWN, "best": 0.5, "scores": [0.5, 0.7]},
    ],
)
def test_other_numbers_are_like(saved):
    require_like(saved, OWN, "group")
    require_like({"moments": torch.ones(2, 3)}, TENSOR, "clip")


@pytest.mark.parametrize(
    ("saved", "own", "said"),
    [
        ({**OWN, "lr": "0.1"}, OWN, "expected a number at group.lr"),
        ({**OWN, "lr": True}, OWN, "expected a number at group.lr"),
        ({**OWN, "lr": math.nan}, OWN, "expected a finite number at group.lr"),
        ({**OWN, "betas": (0.9,)}, OWN, r"expected 2 values at group.betas, got \(0.9,\)"),
        ({**OWN, "betas": [0.9, 0.99]}, OWN, "expected 2 values at group.betas"),
        ({**OWN, "scores": ["x"]}, OWN, r"expected a number at group.scores\[0\]"),
        ({**OWN, "foreach": {}}, OWN, "expected a plain value at group.foreach"),
        ({**OWN, "amsgrad": 1}, OWN, "expected bool at group.amsgrad"),
        ({"lr": 0.1}, OWN, "expected the names lr, betas"),
        ({"moments": torch.zeros(3, 2)}, TENSOR, r"shape \[2, 3\] at group.moments, got a tensor of shape \[3, 2\]"),
    ],
)
def test_what_is_not_like_is_named(saved, own, said):
    with pytest.raises(ValueError, match=said):
        require_like(saved, own, "group")
