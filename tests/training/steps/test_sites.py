"""What is measured in a forward pass: against numbers by hand, and without a trace in the training."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks
from torch.utils.checkpoint import checkpoint

from thalweg.training.steps import attention, sites
from thalweg.training.steps.operations import kind_of_module
from thalweg.training.steps.sites import Sites, evenly, is_compiled

TOKENS = torch.randint(1, 30, (6, 7), generator=torch.Generator().manual_seed(0))
TOKENS[:, 5:] = 0


class Mixed(nn.Module):
    """Modules and functions, in place and not, recurrent, attending and with dropout."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 8)
        self.cells = nn.LSTM(8, 8, batch_first=True, num_layers=2, dropout=0.3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, dropout=0.2)
        self.norm = nn.BatchNorm1d(8)
        self.wide = nn.Linear(8, 16)
        self.act = nn.ReLU(inplace=True)
        self.narrow = nn.Linear(16, 8)
        self.out = nn.Linear(8, 3)

    def block(self, x):
        return self.narrow(F.gelu(self.act(self.wide(x))))

    def forward(self, x):
        h = torch.tanh(self.cells(self.table(x))[0])
        h = h + self.attention(h, h, h, key_padding_mask=x == 0, need_weights=False)[0]
        h = self.norm(h.transpose(1, 2)).transpose(1, 2)
        h = h + checkpoint(self.block, F.dropout(h, 0.1, self.training), use_reentrant=False)
        q = h.unflatten(-1, (2, 4)).transpose(1, 2)
        h = F.scaled_dot_product_attention(q, q, q, is_causal=True, dropout_p=0.1).transpose(1, 2).flatten(2)
        return self.out((torch.sigmoid(h) - 0.4).relu_().mean(1))


def trained(make, watched, steps=3):
    torch.manual_seed(1)
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    looked, found = Sites([("", model)]), []
    for _ in range(steps):
        if watched:
            looked.attach()
        optimizer.zero_grad()
        F.cross_entropy(model(TOKENS), TOKENS[:, 0] % 3).backward()
        optimizer.step()
        if watched:
            found.append(looked.detach())
    assert not looked.trouble
    return model, torch.get_rng_state(), found


def hooks():
    return {**_global_forward_hooks, **_global_forward_pre_hooks}


def layer():
    return nn.Sequential(nn.Embedding(30, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), Last())


class Last(nn.Module):
    def forward(self, x):
        return x[:, 0, :3]


@pytest.mark.parametrize("make", [Mixed, layer])
def test_the_training_is_the_same_to_the_last_bit(make):
    model, state, _ = trained(make, watched=False)
    other, other_state, found = trained(make, watched=True)
    assert torch.equal(state, other_state)
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
    assert len(found[0]) >= 5
    assert not hooks()


def test_operations_are_named_and_counted_in_forward_order():
    _, _, found = trained(Mixed, watched=True)
    assert [(site["name"], site["kind"]) for site in found[-1]] == [
        ("table", "embedding"), ("cells", "recurrent"), ("mixed", "tanh"), ("attention", "attention"),
        ("norm", "norm"), ("wide", "linear"), ("act", "relu"), ("mixed #2", "gelu"), ("narrow", "linear"),
        ("mixed #3", "attention"), ("mixed #4", "sigmoid"), ("mixed #5", "relu"), ("out", "linear"),
    ]  # fmt: skip
    assert all(site["flow"] > 0.0 for site in found[-1])


def test_figures_are_those_counted_by_hand():
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [9.0, 9.0], [0.0, 0.0]])
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Tanh(), nn.Sigmoid())
    with torch.no_grad():
        model[0].weight.copy_(weight)
    x = torch.tensor([[1.0, 1.0], [2.0, 0.0], [3.0, 0.5]])
    looked = Sites([("", model)])
    looked.attach()
    output = model(x)
    output.square().sum().backward()
    linear, relu, tanh, sigmoid = looked.detach()
    values = x @ weight.T
    assert linear["mean"] == pytest.approx(float(values.mean()), rel=1e-5)
    assert linear["std"] == pytest.approx(float(values.std(correction=0)), rel=1e-5)
    assert linear["zero"] == pytest.approx(3 / 12)
    assert relu["dead"] == 2 / 4  # the second unit is never above zero, the fourth never off it
    assert relu["zero"] == pytest.approx(6 / 12)
    assert tanh["saturated"] == pytest.approx(4 / 12, rel=1e-5)  # tanh(3) = 0.995, tanh(2) = 0.964; the third unit's 3
    assert sigmoid["saturated"] == 0.0
    assert sigmoid["flow"] == pytest.approx(2.0 * float(output.detach().norm()), rel=1e-5)


def reference(query, key, mask, scale=None):
    """Entropy, smallest entropy of a head, largest score, weight on masked keys; loops, in float64."""
    query, key = query.double(), key.double()
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    by_head, largest = [[] for _ in range(query.shape[1])], -math.inf
    for b in range(len(query)):
        for h in range(query.shape[1]):
            for t in range(query.shape[2]):
                seen = scores[b, h, t][mask.expand_as(scores)[b, h, t]]
                if len(seen):
                    largest = max(largest, float(seen.max()))
                if len(seen) > 1:
                    weights = seen.softmax(0)
                    by_head[h].append(float(-(weights * weights.log()).sum()) / math.log(len(seen)))
    means = [sum(values) / len(values) for values in by_head]
    every = [value for values in by_head for value in values]
    return {"entropy": sum(every) / len(every), "entropy_min": min(means), "max_logit": largest, "padding": 0.0}


def of_inputs(batch=3, heads=2, time=5, keys=5, size=4, kv_heads=None):
    generator = torch.Generator().manual_seed(3)
    return [
        2.0 * torch.randn(batch, n, t, size, generator=generator) for n, t in ((heads, time), (kv_heads or heads, keys))
    ]


REAL = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()[:, None, None, :]
CAUSAL = torch.ones(5, 5).tril().bool()


@pytest.mark.parametrize(("options", "mask"), [
    ({}, torch.ones(5, 5).bool()),
    ({"is_causal": True}, CAUSAL),
    ({"attn_mask": REAL}, REAL.expand(3, 1, 5, 5)),
    ({"attn_mask": REAL & CAUSAL, "scale": 0.1}, REAL & CAUSAL),
    ({"attn_mask": torch.zeros(3, 1, 1, 5).masked_fill(~REAL, -math.inf)}, REAL.expand(3, 1, 5, 5)),
    ({"attn_mask": torch.zeros(3, 1, 1, 5).masked_fill(~REAL, torch.finfo(torch.float32).min)}, REAL),
])  # fmt: skip
def test_attention_is_that_of_loops_in_float64(options, mask):
    query, key = of_inputs()
    figures = attention.dot_product_figures(query, key, key, **options)
    expected = reference(query, key, mask, options.get("scale"))
    assert {name: float(value) for name, value in figures.items()} == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_attention_with_grouped_keys():
    query, key = of_inputs(heads=4, kv_heads=2)
    figures = attention.dot_product_figures(query, key, key, enable_gqa=True)
    expected = reference(query, key.repeat_interleave(2, 1), torch.ones(5, 5).bool())
    assert float(figures["entropy"]) == pytest.approx(expected["entropy"], rel=1e-4)


def test_keys_that_a_large_negative_score_masks_are_not_counted():
    query, key = of_inputs()
    scores = query @ key.transpose(-1, -2)
    figures = attention.score_figures(torch.where(REAL, scores, attention.MASKED))
    expected = reference(query, key, REAL, 1.0)
    assert float(figures["entropy"]) == pytest.approx(expected["entropy"], rel=1e-4)
    assert float(figures["padding"]) == 0.0
    nothing_else = attention.score_figures(torch.full((1, 1, 1, 4), attention.MASKED))
    assert math.isnan(float(nothing_else["entropy"]))  # a query that sees nothing has none


def test_multi_head_attention_is_what_its_own_weights_say():
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, batch_first=True)
    x = 3.0 * torch.randn(3, 5, 8)
    padding = ~REAL[:, 0, 0]
    looked = Sites([("", module)])
    looked.attach()
    _, weights = module(x, x, x, key_padding_mask=padding, average_attn_weights=False)
    [site] = looked.detach()
    count = (~padding).sum(1)
    entropies = torch.special.entr(weights.detach().double()).sum(-1)[count > 1] / count[count > 1].log()[:, None, None]
    assert site["entropy"] == pytest.approx(float(entropies.mean()), rel=1e-4)
    assert site["entropy_min"] == pytest.approx(float(entropies.mean((0, 2)).min()), rel=1e-4)


def test_a_softmax_in_an_attention_module_is_attention():
    class SelfAttention(nn.Module):
        def forward(self, x):
            return (x @ x.transpose(-1, -2)).masked_fill(~REAL[:, 0], -1e9).softmax(-1) @ x

    x = of_inputs()[0][:, 0]
    model = SelfAttention()
    looked = Sites([("", model)])
    looked.attach()
    model(x)
    [site] = looked.detach()
    assert site["kind"] == "attention"
    assert site["entropy"] == pytest.approx(reference(x[:, None], x[:, None], REAL, 1.0)["entropy"], rel=1e-4)


def test_a_measurement_that_fails_leaves_the_step_alone(monkeypatch):
    def broken(*_):
        raise RuntimeError("no such kernel\nsecond line")

    monkeypatch.setattr(sites, "_figures", broken)
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    looked = Sites([("", model)])
    looked.attach()
    model(torch.ones(1, 2)).sum().backward()
    assert looked.detach() == []
    assert looked.trouble == "RuntimeError: no such kernel"
    looked.attach()
    assert not hooks()


def test_an_error_in_the_model_leaves_nothing_behind():
    class Refusing(nn.Module):
        def forward(self, x):
            raise ValueError("too long")

    model = nn.Sequential(nn.Linear(2, 2), Refusing())
    looked = Sites([("", model)])
    looked.attach()
    with pytest.raises(ValueError, match="too long"):
        model(torch.ones(1, 2))
    assert torch.overrides._get_current_function_mode() is None
    assert [site["name"] for site in looked.detach()] == ["0"]
    assert not hooks()


def test_only_the_first_pass_with_gradients_is_measured():
    model = nn.Linear(2, 2)
    looked = Sites([("", model)])
    looked.attach()
    with torch.no_grad():
        model(torch.zeros(1, 2))
    model(torch.ones(1, 2)).sum().backward()
    model(torch.zeros(1, 2)).sum().backward()
    [site] = looked.detach()
    assert site["mean"] == pytest.approx(float(model(torch.ones(1, 2)).detach().mean()), rel=1e-5)


def test_a_deep_network_keeps_sites_of_each_kind_from_first_to_last():
    parts = [part for _ in range(60) for part in (nn.Linear(2, 2), nn.Tanh(), nn.LayerNorm(2))]
    model = nn.Sequential(*parts)
    looked = Sites([("", model)])
    for _ in range(2):
        looked.attach()
        model(torch.ones(1, 2)).sum().backward()
        found = looked.detach()
        names = [int(site["name"]) for site in found]
        assert len(found) <= sites.MAX_SITES
        assert names == sorted(names)
        assert (names[0], names[-1]) == (0, 179)
        assert {site["kind"] for site in found} == {"linear", "tanh", "norm"}


def test_shares_of_kinds():
    kept = evenly([{"kind": "linear"}] * 90 + [{"kind": "relu"}] * 10, 10)
    assert kept == [0, 11, 22, 33, 44, 56, 67, 78, 89, 90]


@pytest.mark.parametrize(("module", "kind"), [
    (nn.LayerNorm(2), "norm"), (nn.GELU(), "gelu"), (nn.SiLU(), "silu"), (nn.Linear(2, 2), None),
    (nn.TransformerEncoderLayer(4, 1), None),
])  # fmt: skip
def test_modules_that_are_one_operation(module, kind):
    assert kind_of_module(module) == kind


def test_a_compiled_network_is_left_alone():
    model = nn.Sequential(nn.Linear(2, 2))
    compiled = torch.compile(model, backend="eager")
    assert is_compiled(compiled)
    looked = Sites([("", compiled)])
    looked.attach()
    assert not hooks()
    assert looked.detach() == []
