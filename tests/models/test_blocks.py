"""Layers of a transformer against PyTorch's own."""

import pytest
import torch
from torch import nn

from thalweg.models import activations
from thalweg.models.attention import Attention
from thalweg.models.blocks import Block, Stack
from thalweg.models.skips import PreNorm, Residual

MASK = torch.tensor([[True] * 5, [True, True, False, False, False], [True] * 4 + [False]])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def copy_linear(ours: nn.Linear, theirs: nn.Linear) -> None:
    theirs.weight.copy_(ours.weight)
    theirs.bias.copy_(ours.bias)


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    maps = [ours.query, ours.key, ours.value]
    theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in maps]))
    theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in maps]))
    copy_linear(ours.output, theirs.out_proj)


def make_block(*, causal: bool, cross: bool) -> Block:
    block = Block(8, 12, 2, dropout=0.0, activation=activations.gelu, skip=PreNorm, causal=causal, cross=cross)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    return block.double().eval()


@torch.no_grad()
def test_encoder_layer_is_pytorchs():
    block = make_block(causal=False, cross=False)
    reference = nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=True).double().eval()
    copy_attention(block.attention, reference.self_attn)
    copy_linear(block.feed_in, reference.linear1)
    copy_linear(block.feed_out, reference.linear2)
    copy_linear(block.attention_skip.norm, reference.norm1)
    copy_linear(block.feed_skip.norm, reference.norm2)
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x, MASK)[MASK], reference(x, src_key_padding_mask=~MASK)[MASK])


@torch.no_grad()
def test_decoder_layer_is_pytorchs():
    block = make_block(causal=True, cross=True)
    reference = nn.TransformerDecoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=True).double().eval()
    copy_attention(block.attention, reference.self_attn)
    copy_attention(block.cross, reference.multihead_attn)
    copy_linear(block.feed_in, reference.linear1)
    copy_linear(block.feed_out, reference.linear2)
    skips = [block.attention_skip, block.cross_skip, block.feed_skip]
    for skip, norm in zip(skips, [reference.norm1, reference.norm2, reference.norm3], strict=True):
        copy_linear(skip.norm, norm)
    x, memory = torch.randn(3, 4, 8, dtype=torch.float64), torch.randn(3, 5, 8, dtype=torch.float64)
    later = torch.ones(4, 4, dtype=torch.bool).triu(1)
    expected = reference(x, memory, tgt_mask=later, memory_key_padding_mask=~MASK)
    torch.testing.assert_close(block(x, None, memory, MASK), expected)


def test_stack_runs_its_layers_in_order_and_normalizes_last():
    options = {"hidden": 12, "layers": 3, "heads": 2, "dropout": 0.0, "activation": nn.ReLU, "causal": False}
    x = torch.randn(3, 5, 8)
    stack = Stack(8, **options, skip=PreNorm)
    expected = x
    for block in stack.blocks:
        expected = block(expected, MASK)
    torch.testing.assert_close(stack(x, MASK), nn.functional.layer_norm(expected, (8,)))
    assert isinstance(Stack(8, **options, skip=Residual).norm, nn.Identity)
