"""Every preset passes the same battery: shape, gradients, determinism, precision, weights on disk, padding."""

import copy

import pytest
import safetensors.torch
import torch
from torch import nn

from thalweg.models import presets, skips
from thalweg.models.mlp import MaskedLinear
from thalweg.models.presets import ModelOptions
from thalweg.models.shape import ModelShape

SHAPE = ModelShape(vocabulary_size=30, num_columns=2, lags=4, target_vocabulary_size=25, max_length=16)
OPTIONS = ModelOptions(width=8, hidden=12, layers=2, heads=2, dropout=0.1)
BATCH = 3


def bag(prefix=""):
    return {
        f"{prefix}tokens": torch.randint(30, (9,)),
        f"{prefix}offsets": torch.tensor([0, 4, 4]),
        f"{prefix}weights": torch.rand(9),
    }


def padded(prefix=""):
    mask = torch.arange(6)[None] < torch.tensor([6, 1, 4])[:, None]
    tokens = torch.randint(4, 30, (BATCH, 6)).masked_fill(~mask, 0)
    return {f"{prefix}tokens": tokens, f"{prefix}mask": mask}


def window():
    return {"features": torch.randn(BATCH, 4, 2)}


def causal():
    return {"tokens": torch.randint(4, 30, (BATCH, 6))}


def translate():
    return {**padded(), "decoder_tokens": torch.randint(1, 25, (BATCH, 5))}


# name: (inputs, shape of hidden before the width, width)
CASES = {
    "pooled_bag": (bag, (BATCH,), 8),
    "pooled_mlp": (bag, (BATCH,), 12),
    "pooled_lstm": (padded, (BATCH,), 24),
    "pooled_gru": (padded, (BATCH,), 24),
    "pooled_transformer": (padded, (BATCH,), 8),
    "pair_bag": (lambda: {**bag(), **bag("other_")}, (BATCH,), 32),
    "pair_lstm": (lambda: {**padded(), **padded("other_")}, (BATCH,), 96),
    "pair_transformer": (lambda: {**padded(), **padded("other_")}, (BATCH,), 32),
    "tokens_lstm": (padded, (BATCH, 6), 24),
    "tokens_transformer": (padded, (BATCH, 6), 8),
    "window_mlp": (window, (BATCH,), 12),
    "window_lstm": (window, (BATCH,), 12),
    "causal_lstm": (causal, (BATCH, 6), 12),
    "causal_transformer": (causal, (BATCH, 6), 8),
    "translate_lstm": (translate, (BATCH, 5), 8),
    "translate_transformer": (translate, (BATCH, 5), 8),
}
PADDED = [name for name, (inputs, _, _) in CASES.items() if any(key.endswith("mask") for key in inputs())]
every_preset = pytest.mark.parametrize("name", CASES)
# The others differ from these in pooling alone.
NETWORKS = [name for name in CASES if not name.startswith("tokens") and name not in ("pair_lstm", "pair_transformer")]
every_network = pytest.mark.parametrize("name", NETWORKS)


def make(name, options=OPTIONS):
    torch.manual_seed(0)
    model = getattr(presets, name)(SHAPE, options)
    return model, CASES[name][0]()


@every_preset
def test_hidden_states_have_the_stated_shape_and_are_finite(name):
    model, inputs = make(name)
    hidden = model(**inputs)
    assert hidden.shape == (*CASES[name][1], CASES[name][2])
    assert model.width == CASES[name][2]
    assert hidden.isfinite().all()


@every_preset
@pytest.mark.parametrize("skip", [skips.PreNorm, skips.Highway, skips.ReZero])
def test_gradient_reaches_every_parameter(name, skip):
    model, inputs = make(
        name, ModelOptions(width=8, hidden=12, layers=3, heads=2, dropout=0.0, activation=nn.Tanh, skip=skip)
    )
    assert any(isinstance(module, skip) for module in model.modules()) == ("bag" not in name)
    for module in model.modules():
        if isinstance(module, skips.ReZero):
            nn.init.constant_(module.alpha, 0.5)
    hidden = model(**inputs)
    (hidden * torch.randn_like(hidden)).sum().backward()
    # A key's bias adds the same number to all scores of a query, so the softmax does not see it.
    missed = [
        parameter_name
        for parameter_name, p in model.named_parameters()
        if (p.grad is None or not p.grad.any()) and not parameter_name.endswith("key.bias")
    ]
    assert missed == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@every_network
def test_evaluation_is_deterministic_and_training_has_dropout(name):
    model, inputs = make(name, ModelOptions(width=8, hidden=12, layers=2, heads=2, dropout=0.5))
    assert not torch.equal(model(**inputs), model(**inputs))
    model.eval()
    assert torch.equal(model(**inputs), model(**inputs))


@every_network
def test_double_precision_agrees_with_single(name):
    model, inputs = make(name)
    model.eval()
    single = model(**inputs)
    double_inputs = {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}
    double = copy.deepcopy(model).to(torch.float64)(**double_inputs)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-5, rtol=1e-4)


@every_network
@pytest.mark.parametrize("skip", [skips.NoSkip, skips.PreNorm])
def test_bfloat16_autocast_gives_finite_hidden_states_and_gradients(name, skip):
    if name.endswith("lstm") and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("PyTorch has no LSTM in bfloat16 for this CPU (it has no AVX-512).")
    model, inputs = make(name, ModelOptions(width=8, hidden=12, layers=2, heads=2, dropout=0.0, skip=skip))
    exact = model(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model(**inputs)
    torch.testing.assert_close(hidden.float(), exact, atol=0.1, rtol=0.1)
    hidden.float().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_network
def test_weights_go_to_disk_and_back(name, tmp_path):
    options = ModelOptions(width=8, hidden=12, layers=2, heads=2, input_skip=True, sparsity=0.5)
    model, inputs = make(name, options)
    safetensors.torch.save_model(model, str(tmp_path / "model.safetensors"))
    torch.manual_seed(99)
    other = getattr(presets, name)(SHAPE, options)
    safetensors.torch.load_model(other, str(tmp_path / "model.safetensors"))
    model.eval(), other.eval()
    assert torch.equal(other(**inputs), model(**inputs))
    third = getattr(presets, name)(SHAPE, options)
    third.load_state_dict(model.state_dict())
    assert torch.equal(third.eval()(**inputs), model(**inputs))


@pytest.mark.parametrize("name", PADDED)
def test_more_padding_changes_nothing(name):
    model, inputs = make(name)
    model.double().eval()
    longer = dict(inputs)
    for key, value in inputs.items():
        if key.endswith("mask"):
            tokens_key = key.removesuffix("mask") + "tokens"
            longer[key] = torch.cat([value, torch.zeros(BATCH, 4, dtype=torch.bool)], 1)
            longer[tokens_key] = torch.cat([inputs[tokens_key], torch.full((BATCH, 4), 7)], 1)
    hidden = model(**longer)
    if name.startswith("tokens"):
        assert torch.count_nonzero(hidden[:, 6:]) == 0
        hidden, expected = hidden[:, :6][inputs["mask"]], model(**inputs)[inputs["mask"]]
    else:
        expected = model(**inputs)
    torch.testing.assert_close(hidden, expected)


@every_network
def test_model_moves_with_everything_it_owns(name):
    model, inputs = make(name)
    moved = model.to("meta")
    assert {tensor.device.type for tensor in [*moved.parameters(), *moved.buffers()]} == {"meta"}
    on_meta = {key: value.to("meta") for key, value in inputs.items()}
    assert moved(**on_meta).shape == (*CASES[name][1], CASES[name][2])


@pytest.mark.parametrize("name", ["causal_lstm", "causal_transformer", "translate_lstm", "translate_transformer"])
def test_generating_models_can_share_their_table_with_a_head(name):
    model, inputs = make(name, ModelOptions(width=12, hidden=12, layers=1, heads=2))
    assert isinstance(model.embedding, nn.Embedding)
    vocabulary = 25 if name.startswith("translate") else 30
    assert model.embedding.weight.shape == (vocabulary, model.width)
    assert (model(**inputs) @ model.embedding.weight.T).shape[-1] == vocabulary


@pytest.mark.parametrize("name", ["pooled_mlp", "window_mlp"])
def test_sparsity_and_input_skip_reach_the_mlp(name):
    model, inputs = make(name, ModelOptions(width=8, hidden=12, layers=2, heads=2, input_skip=True, sparsity=0.5))
    assert model.body.shortcut is not None
    layers = [*model.body.layers, model.body.shortcut]
    assert all(isinstance(layer, MaskedLinear) for layer in layers)
    assert [layer.mask.mean().item() for layer in layers] == [0.5, 0.5, 0.5]
    assert model(**inputs).isfinite().all()


@pytest.mark.parametrize(
    ("builder", "field"),
    [
        (presets.pooled_bag, "vocabulary_size"),
        (presets.tokens_transformer, "vocabulary_size"),
        (presets.window_mlp, "lags"),
        (presets.window_lstm, "num_columns"),
        (presets.translate_lstm, "vocabulary_size"),
    ],
)
def test_a_shape_without_what_the_model_needs_is_refused(builder, field):
    with pytest.raises(ValueError, match=rf"ModelShape\({field}=\.\.\.\) of at least 1; got 0"):
        builder(ModelShape(), OPTIONS)
