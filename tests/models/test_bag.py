"""Bags against a loop over texts."""

import pytest
import torch
from torch import nn

from thalweg.models.bag import Bag, LinearBag
from thalweg.models.mlp import MLP

TOKENS = torch.tensor([3, 5, 3, 7, 1])
OFFSETS = torch.tensor([0, 3, 3])  # the second text is empty
WEIGHTS = torch.tensor([0.5, -1.0, 2.0, 1.0, 0.25], dtype=torch.float64)


def test_bag_is_the_weighted_sum_of_its_features():
    model = Bag(10, 4).double()
    table = model.embedding.weight
    expected = torch.stack([0.5 * table[3] - table[5] + 2 * table[3], torch.zeros(4).double(), table[7] + table[1] / 4])
    torch.testing.assert_close(model(TOKENS, OFFSETS, WEIGHTS), expected)


def test_bag_without_weights_counts_each_feature_once():
    model = Bag(10, 4).double()
    torch.testing.assert_close(model(TOKENS, OFFSETS), model(TOKENS, OFFSETS, torch.ones(5)))


def test_bag_takes_single_precision_weights_into_a_double_model():
    model = Bag(10, 4).double()
    torch.testing.assert_close(model(TOKENS, OFFSETS, WEIGHTS.float()), model(TOKENS, OFFSETS, WEIGHTS))


def test_body_works_on_the_sum():
    body = MLP([4, 6, 3], activation=nn.Tanh)
    model = Bag(10, 4, body=body)
    assert model.width == 3
    plain = nn.functional.embedding_bag(TOKENS, model.embedding.weight, OFFSETS, mode="sum")
    torch.testing.assert_close(model(TOKENS, OFFSETS), body(plain))


def test_hidden_states_start_with_length_about_one():
    torch.manual_seed(0)
    model = Bag(5000, 64)
    hidden = model(torch.randint(5000, (3000,)), torch.arange(0, 3000, 30), torch.full((3000,), 30**-0.5))
    assert hidden.norm(dim=1).mean().item() == pytest.approx(1.0, abs=0.1)


def test_order_does_not_matter():
    model = Bag(10, 4).double()
    turned = torch.tensor([2, 1, 0, 4, 3])
    torch.testing.assert_close(model(TOKENS[turned], OFFSETS, WEIGHTS[turned]), model(TOKENS, OFFSETS, WEIGHTS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 0.0), "at least 1; got 0, 4"),
        ((4, 0, 0.0), "at least 1"),
        ((4, 4, 1.5), r"must lie in \[0, 1\); got 1\.5"),
    ],
)
def test_bag_refuses(arguments, message):
    features, width, dropout = arguments
    with pytest.raises(ValueError, match=message):
        Bag(features, width, dropout=dropout)


def test_linear_bag_is_the_weighted_sum_of_its_rows_and_a_bias():
    model = LinearBag(10, 4).double()
    assert not bool(model(TOKENS, OFFSETS, WEIGHTS).any())
    nn.init.normal_(model.table.weight)
    nn.init.normal_(model.bias)
    table, none = model.table.weight, torch.zeros(4).double()
    expected = torch.stack([0.5 * table[3] - table[5] + 2 * table[3], none, table[7] + table[1] / 4]) + model.bias
    torch.testing.assert_close(model(TOKENS, OFFSETS, WEIGHTS.float()), expected)
    with pytest.raises(ValueError, match="at least 1; got 0, 4"):
        LinearBag(0, 4)
