"""Attention against its formula and against PyTorch's own module."""

import math

import pytest
import torch
from torch import nn

from thalweg.models.attention import Attention, attend

MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def naive(queries, keys, values, seen):
    """Attention as loops over texts, heads and times; `seen[b][t]` lists the visible places."""
    result = torch.zeros(*queries.shape[:-1], values.shape[-1], dtype=queries.dtype)
    for b in range(queries.shape[0]):
        for h in range(queries.shape[1]):
            for t in range(queries.shape[2]):
                places = seen(b, t)
                if places:
                    scores = torch.stack([queries[b, h, t] @ keys[b, h, s] for s in places])
                    weights = torch.softmax(scores / math.sqrt(queries.shape[-1]), 0)
                    result[b, h, t] = sum(weight * values[b, h, s] for weight, s in zip(weights, places, strict=True))
    return result


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, MASK, torch.tensor([[False] * 4, [True, False, True, False]])])
def test_attend_is_its_formula(causal, mask):
    queries, keys, values = torch.randn(3, 2, 3, 4, 5, dtype=torch.float64)

    def seen(b, t):
        return [s for s in range(4) if (mask is None or mask[b, s]) and (not causal or s <= t)]

    torch.testing.assert_close(attend(queries, keys, values, mask, causal=causal), naive(queries, keys, values, seen))


def test_nothing_to_attend_to_gives_zeros_and_finite_gradients():
    queries, keys, values = (torch.randn(2, 1, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    result = attend(queries, keys, values, torch.zeros(2, 3, dtype=torch.bool))
    assert torch.count_nonzero(result) == 0
    result.square().sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in (queries, keys, values))


@pytest.mark.parametrize("cross", [False, True])
def test_attention_is_pytorchs_module(cross):
    ours = Attention(8, 2).double()
    reference = nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        reference.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        reference.out_proj.weight.copy_(ours.output.weight)
        reference.out_proj.bias.copy_(ours.output.bias)
    x = torch.randn(2, 3 if cross else 4, 8, dtype=torch.float64)
    memory = torch.randn(2, 4, 8, dtype=torch.float64) if cross else x
    expected, _ = reference(x, memory, memory, key_padding_mask=~MASK)
    torch.testing.assert_close(ours(x, memory if cross else None, MASK), expected)


def test_remembered_keys_and_values_give_the_same_answer():
    attention = Attention(8, 2).double()
    x, memory = torch.randn(2, 3, 8, dtype=torch.float64), torch.randn(2, 4, 8, dtype=torch.float64)
    torch.testing.assert_close(attention.recall(x, *attention.remember(memory), MASK), attention(x, memory, MASK))


def test_attention_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="heads that divide width; got 8, 3"):
        Attention(8, 3)
