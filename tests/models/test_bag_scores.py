"""Scores without PyTorch against the networks that they stand for."""

import numpy as np
import pytest
import torch

from thalweg.heads.softmax import Softmax
from thalweg.models.bag import Bag, LinearBag
from thalweg.models.bag_scores import BagScores

TOKENS, OFFSETS = [3, 5, 5, 1, 0], [0, 3, 3, 5]  # the second text and the last one are empty
WEIGHTS = [0.5, -1.0, 2.0, 0.25, 1.0]


def networks(kind, dtype):
    model = LinearBag(6, 3) if kind == "linear" else Bag(6, 4, dropout=0.5)
    head = Softmax(None if kind == "linear" else 4, 3)
    for tensor in (*model.parameters(), *head.parameters()):
        torch.nn.init.normal_(tensor)
    return model.to(dtype).eval(), head.to(dtype).eval()


def saved(model, head):
    both = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    both |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    return {name: tensor.numpy() for name, tensor in both.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["linear", "bag"])
def test_scores_are_those_of_the_network(kind, dtype):
    model, head = networks(kind, dtype)
    scores = BagScores.of(saved(model, head), 6, 3)
    assert scores is not None
    weights = torch.tensor(WEIGHTS)
    with torch.no_grad():
        expected = head(model(torch.tensor(TOKENS), torch.tensor(OFFSETS), weights)).numpy()
    found = scores(np.array(TOKENS, dtype=np.int32), np.array([*OFFSETS, 5]), weights.numpy())
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == torch.float32 else 1e-13, atol=1e-6)
    assert scores(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0)).shape == (0, 3)


def changed(change):
    weights = saved(*networks("bag", torch.float64))
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("weights", "sizes"),
    [
        ({}, (6, 3)),
        (saved(*networks("bag", torch.float64)), (7, 3)),
        (saved(*networks("linear", torch.float64)), (6, 4)),
        (saved(*networks("bag", torch.float16)), (6, 3)),
        (changed(lambda weights: weights.pop("head.output.bias")), (6, 3)),
        (changed(lambda weights: weights.update(other=np.zeros(1))), (6, 3)),
        (changed(lambda weights: weights["head.output.bias"].put(0, np.nan)), (6, 3)),
        (changed(lambda weights: weights.update({"head.output.bias": np.zeros(3, np.float32)})), (6, 3)),
    ],
    ids=["none", "features", "outputs", "half", "missing", "more", "not finite", "two types"],
)
def test_other_weights_are_left_to_the_networks(weights, sizes):
    assert BagScores.of(weights, *sizes) is None
