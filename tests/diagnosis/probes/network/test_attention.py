"""Attention by hand: uniform, peaked, on padding; the same figures from every way of writing it."""

import math

import pytest
import torch
from probe_cases import subject_of, tokens_of
from torch import nn
from torch.nn import functional as F

from thalweg.batch import Batch
from thalweg.diagnosis.probes.network.attention import attention
from thalweg.diagnosis.subject import Subject
from thalweg.heads import Softmax
from thalweg.models import Encoder


class Looking(nn.Module):
    """Attention of numbers to themselves, with a factor on the logits, in one of the ways to write it."""

    def __init__(self, way: str, factor: float = 1.0) -> None:
        super().__init__()
        self.way, self.factor = way, factor
        self.both = nn.MultiheadAttention(4, 1, bias=False, batch_first=True)
        eye = torch.eye(4)
        self.both.in_proj_weight.data = torch.cat([math.sqrt(factor) * eye, math.sqrt(factor) * eye, eye])

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.way == "module":
            return self.both(x, x, x, key_padding_mask=~mask)[0].mean(1)
        q = x.unsqueeze(1)
        seen = mask[:, None, None, :]
        if self.way == "function":
            out = F.scaled_dot_product_attention(q, q, q, attn_mask=seen, scale=self.factor / 2.0)
        else:
            logits = (q @ q.transpose(-1, -2)) * self.factor / 2.0
            out = torch.softmax(logits.masked_fill(~seen, torch.finfo(logits.dtype).min), -1) @ q
        return out.squeeze(1).mean(1)


def looked(way: str, factor: float = 1.0):
    x = torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(6) < torch.tensor([6, 5, 3, 2]).unsqueeze(1)
    batch = Batch({"x": x, "mask": mask}, torch.tensor([0, 1, 0, 1]))
    model = Looking(way, factor).eval()
    return attention(Subject(model=model, head=Softmax(4, 2), train=[batch]))["sites"][0], x, mask


@pytest.mark.parametrize("way", ["function", "module", "softmax"])
def test_entropy_is_that_of_the_weights(way):
    found, x, mask = looked(way)
    logits = (x @ x.transpose(1, 2) / 2.0).masked_fill(~mask.unsqueeze(1), -math.inf)
    weights = logits.softmax(-1)
    entropy = -torch.where(weights > 0, weights * weights.clamp(min=1e-30).log(), 0.0).sum(-1)
    expected = entropy / mask.sum(1, keepdim=True).log()
    assert found["entropy"] == pytest.approx([float(expected.mean())], rel=1e-5)
    assert found["peaked"] == pytest.approx([float((weights.amax(-1) > 0.95).float().mean())])
    if way != "module":
        assert found["max_logit"] == pytest.approx([float(logits.max())], rel=1e-5)


def test_similarity_is_the_mean_cosine_of_two_queries():
    found, x, mask = looked("function")
    weights = (x @ x.transpose(1, 2) / 2.0).masked_fill(~mask.unsqueeze(1), -math.inf).softmax(-1)
    cosines = F.cosine_similarity(weights.unsqueeze(1), weights.unsqueeze(2), dim=-1)
    expected = (cosines.sum() - cosines.diagonal(dim1=1, dim2=2).sum()) / (4 * 30)
    assert found["similarity"] == pytest.approx([float(expected)], rel=1e-5)


def test_equal_logits_are_uniform_and_large_ones_peaked():
    assert looked("function", 0.0)[0]["entropy"] == pytest.approx([1.0])
    assert looked("function", 1000.0)[0]["peaked"][0] > 0.9


def test_mass_on_padding_is_measured_where_no_mask_was_given():
    tokens, mask = tokens_of(8)
    model = Encoder(20, 8, hidden=16, layers=1, heads=2).eval()
    head = Softmax(8, 3)
    targets = torch.zeros(8, 7, dtype=torch.int64)
    masked, unmasked = (
        attention(Subject(model=model, head=head, train=[Batch({"tokens": tokens} | more, targets, mask)]))["sites"][0]
        for more in ({"mask": mask}, {})
    )
    assert masked["padding"] == [0.0, 0.0]
    assert min(unmasked["padding"]) > 0.1


def test_each_layer_is_a_site_of_its_own():
    found = attention(subject_of("transformer"))["sites"]
    assert [(site["name"], site["heads"]) for site in found] == [
        ("stack.blocks.0.attention", 2),
        ("stack.blocks.1.attention", 2),
    ]


def test_encoder_of_pytorch_is_seen_in_evaluation():
    # Its fast path would run the whole layer as one operation.
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten())
    batch = Batch({"input": torch.randn(3, 5, 4)}, torch.tensor([0, 1, 0]))
    found = attention(Subject(model=model, head=Softmax(20, 2), train=[batch]))["sites"]
    assert [site["name"] for site in found] == ["0.layers.0.self_attn", "0.layers.1.self_attn"]
    assert all(0.5 < entropy <= 1.0 for site in found for entropy in site["entropy"])


@pytest.mark.parametrize("kind", ["mlp", "lstm", "sequential"])
def test_other_networks_have_no_attention(kind):
    assert attention(subject_of(kind)) == {}
