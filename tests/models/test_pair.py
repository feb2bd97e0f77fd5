"""Pairs: the formula, both layouts, and both texts through the same weights."""

import pytest
import torch
from torch import nn

from thalweg.models import pool
from thalweg.models.bag import Bag
from thalweg.models.pair import Pair, UnitPair
from thalweg.models.recurrent import Recurrent


def test_pair_of_bags():
    model = Pair(Bag(10, 4).double())
    first = {"tokens": torch.tensor([1, 2, 3]), "offsets": torch.tensor([0, 1]), "weights": torch.ones(3)}
    second = {"tokens": torch.tensor([4, 5]), "offsets": torch.tensor([0, 1]), "weights": torch.ones(2)}
    u, v = model.encoder(**first), model.encoder(**second)
    hidden = model(**first, **{f"other_{name}": tensor for name, tensor in second.items()})
    torch.testing.assert_close(hidden, torch.cat([u, v, u - v, u * v], -1))
    assert model.width == 16


def test_pair_of_padded_texts_of_different_lengths():
    model = Pair(Recurrent(10, 4, hidden=3, bidirectional=True, pooling=pool.mean).double())
    tokens, mask = torch.tensor([[1, 2, 0], [3, 4, 5]]), torch.tensor([[True, True, False], [True, True, True]])
    other, other_mask = torch.tensor([[6], [7]]), torch.ones(2, 1, dtype=torch.bool)
    u, v = model.encoder(tokens, mask), model.encoder(other, other_mask)
    hidden = model(tokens=tokens, mask=mask, other_tokens=other, other_mask=other_mask)
    torch.testing.assert_close(hidden, torch.cat([u, v, u - v, u * v], -1))


def test_pair_refuses_texts_with_different_inputs():
    model = Pair(Bag(10, 4))
    with pytest.raises(ValueError, match=r"\['offsets', 'tokens'\] for the first and \['tokens'\]"):
        model(tokens=torch.tensor([1]), offsets=torch.tensor([0]), other_tokens=torch.tensor([1]))


def test_pair_refuses_an_encoder_that_hides_its_width():
    with pytest.raises(ValueError, match="attribute `width`"):
        Pair(nn.Linear(2, 2))


def test_the_products_are_scaled_as_asked():
    torch.manual_seed(0)
    encoder = Bag(6, 4)
    inputs = {"tokens": torch.tensor([1, 2]), "offsets": torch.tensor([0, 1]), "weights": torch.ones(2)}
    other = {f"other_{name}": tensor.flip(0) if name == "tokens" else tensor for name, tensor in inputs.items()}
    u = encoder(**inputs)
    v = encoder(**{name.removeprefix("other_"): tensor for name, tensor in other.items()})
    torch.testing.assert_close(Pair(encoder)(**inputs, **other), torch.cat([u, v, u - v, u * v], -1))
    torch.testing.assert_close(Pair(encoder, 3.0)(**inputs, **other), torch.cat([u, v, u - v, 3.0 * u * v], -1))
    with pytest.raises(ValueError, match=r"product_scale=.* above 0; got 0\.0"):
        Pair(encoder, 0.0)


def test_a_unit_pair_has_states_of_length_one_and_their_cosine():
    encoder = nn.Linear(3, 4)
    encoder.width = 4

    class Named(nn.Module):
        width = 4

        def forward(self, tokens):
            return encoder(tokens)

    first, second = torch.randn(5, 3), torch.randn(5, 3)
    hidden = UnitPair(Named())(tokens=first, other_tokens=second)
    u, v, apart, product = hidden.split(4, -1)
    torch.testing.assert_close(u.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(apart, (u - v).abs())
    torch.testing.assert_close(product.sum(-1) / 2, torch.cosine_similarity(encoder(first), encoder(second)))
    assert hidden.shape == (5, UnitPair(Named()).width)
