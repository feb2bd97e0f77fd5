"""Initialization: each scheme shows what it claims."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from thalweg.models import pool, presets
from thalweg.models.activations import gain
from thalweg.models.bag import Bag
from thalweg.models.initialize import LSUV, He, Orthogonal, TFixup, Xavier
from thalweg.models.mlp import MLP, random_mask
from thalweg.models.presets import FlatWindow, ModelOptions
from thalweg.models.recurrent import Recurrent
from thalweg.models.shape import ModelShape
from thalweg.models.skips import Highway, NoSkip, PreNorm, Residual
from thalweg.models.transformer import Decoder, Encoder, EncoderDecoder

SCHEMES = pytest.mark.parametrize("scheme", [Xavier(), He(), Orthogonal(), LSUV()], ids=lambda s: type(s).__name__)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def outputs_by_layer(model, x):
    seen = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.detach()))
    model(x)
    return seen


def sizes_by_layer(model, activation):
    """Return the second moment before each activation, for inputs that give the first layer one of about 1."""
    x = torch.randn(200, model.layers[0].in_features) / gain(activation)
    return [output.square().mean().item() for output in outputs_by_layer(model, x)]


def test_he_keeps_the_size_through_twenty_relu_layers():
    model = MLP([512] * 21, activation=nn.ReLU)
    assert He(nn.ReLU)(model) == [f"layers.{i}" for i in range(20)]
    assert all(0.4 < size < 2.5 for size in sizes_by_layer(model, nn.ReLU))
    assert sizes_by_layer(MLP([512] * 21, activation=nn.ReLU), nn.ReLU)[-1] < 0.01


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, lambda: nn.LeakyReLU(0.3)])
def test_he_keeps_the_size_through_ten_layers_of_other_activations(activation):
    model = MLP([512] * 11, activation=activation)
    He(activation)(model)
    assert all(0.6 < size < 1.7 for size in sizes_by_layer(model, activation))
    He(nn.Identity)(model)
    assert sizes_by_layer(model, activation)[-1] < 0.1


def test_xavier_keeps_values_and_gradients_alive_through_twenty_tanh_layers():
    model = MLP([256] * 21, activation=nn.Tanh)
    Xavier(nn.Tanh)(model)
    x = torch.randn(200, 256, requires_grad=True)
    seen = outputs_by_layer(model, x)
    variances = [output.tanh().var().item() for output in seen]
    assert all(0.3 < variance < 0.6 for variance in variances[3:])
    assert max(variances[3:]) / min(variances[3:]) < 1.2
    model(x).square().sum().backward()
    sizes = [layer.weight.grad.norm().item() for layer in model.layers]
    assert max(sizes) / min(sizes) < 20


def test_xavier_keeps_the_variance_of_a_linear_network_both_ways():
    model = MLP([256] * 21, activation=nn.Identity)
    Xavier()(model)
    x = torch.randn(200, 256, requires_grad=True)
    y = model(x)
    assert 0.5 < y.var().item() < 2.0
    (gradient,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert 0.5 < gradient.var().item() < 2.0


def test_variances_are_the_formulas_of_xavier_and_he():
    model = MLP([300, 500], activation=nn.ReLU)
    Xavier(nn.Tanh)(model)
    assert model.layers[0].weight.std().item() == pytest.approx(5 / 3 * math.sqrt(2 / 800), rel=0.02)
    He(nn.ReLU)(model)
    assert model.layers[0].weight.std().item() == pytest.approx(math.sqrt(2 / 300), rel=0.02)


def test_sparse_layers_count_only_the_connections_that_exist():
    model = MLP([400, 400], activation=nn.ReLU, masks=[random_mask(400, 400, 0.9)])
    He(nn.ReLU)(model)
    layer = model.layers[0]
    assert layer.weight[layer.mask == 1].std().item() == pytest.approx(math.sqrt(2 / 40), rel=0.03)


@pytest.mark.parametrize(("inputs", "outputs"), [(30, 30), (50, 20), (20, 50)])
def test_orthogonal_matrices_are_orthogonal(inputs, outputs):
    model = MLP([inputs, outputs], activation=nn.ReLU).double()
    Orthogonal(gain=1.5)(model)
    weight = model.layers[0].weight.detach()
    product = weight @ weight.T if outputs <= inputs else weight.T @ weight
    torch.testing.assert_close(product, 2.25 * torch.eye(min(inputs, outputs), dtype=torch.float64))


def test_orthogonal_treats_recurrent_matrices_gate_by_gate():
    model = Recurrent(20, 6, hidden=6, bidirectional=True).double()
    assert Orthogonal()(model) == ["stack.forward_cells.0", "stack.backward_cells.0"]
    for matrix in model.stack.backward_cells[0].weight_hh_l0.detach().split(6):
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(6, dtype=torch.float64))


def test_lsuv_gives_every_layer_unit_variance():
    body = MLP([64, 100, 100, 30, 30, 10], activation=nn.ReLU, skip=Residual, input_skip=True, dropout=0.3)
    x = 5 * torch.rand(300, 1, 64)
    names = LSUV(tolerance=0.01)(FlatWindow(body), {"features": x})
    assert names == [*(f"body.layers.{i}" for i in range(5)), "body.shortcut"]
    assert body.training
    assert body.dropout.training
    body.eval()
    for output in outputs_by_layer(body, x.flatten(1)):
        assert output.var(correction=0).item() == pytest.approx(1.0, abs=0.011)


def test_lsuv_scales_transformers_too_and_leaves_a_layer_with_constant_output():
    model = Encoder(20, 8, hidden=16, layers=3, heads=2, pooling=pool.mean, skip=Residual).double()
    inputs = {"tokens": torch.randint(4, 20, (16, 9)), "mask": torch.ones(16, 9, dtype=torch.bool)}
    LSUV(tolerance=0.05)(model, inputs)
    seen = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.var(correction=0).item()))
    model(**inputs)
    assert seen == pytest.approx([1.0] * 18, abs=0.051)
    flat = FlatWindow(MLP([2, 3], activation=nn.ReLU))
    LSUV()(flat, {"features": torch.zeros(4, 1, 2)})
    torch.testing.assert_close(flat.body.layers[0].weight.T @ flat.body.layers[0].weight, torch.eye(2))


@SCHEMES
def test_masked_weights_stay_zero(scheme):
    mask = random_mask(6, 4, 0.5)
    model = FlatWindow(MLP([4, 6, 2], activation=nn.Tanh, masks=[mask, None]))
    before = model.body.layers[0].weight.detach().clone()
    scheme(model, {"features": torch.randn(30, 2, 2)})
    layer = model.body.layers[0]
    assert torch.count_nonzero(layer.stored[mask == 0]) == 0
    assert torch.count_nonzero(layer.stored[mask == 1]) == int(mask.sum())
    assert not torch.equal(layer.weight, before)


@SCHEMES
def test_biases_are_zero_but_for_forget_gates_and_highway_gates(scheme):
    model = Recurrent(20, 6, hidden=6, layers=2, skip=Highway)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name:
                parameter.fill_(9.0)
    scheme(model, {"tokens": torch.randint(4, 20, (5, 7))})
    for cell in model.stack.forward_cells:
        assert torch.equal(cell.bias_ih_l0, torch.tensor([0.0] * 6 + [1.0] * 6 + [0.0] * 12))
        assert torch.count_nonzero(cell.bias_hh_l0) == 0
    assert torch.equal(model.stack.skips[1].gate.bias, torch.full((6,), -2.0))
    mlp = FlatWindow(MLP([4, 6, 2], activation=nn.Tanh))
    scheme(mlp, {"features": torch.randn(30, 1, 4)})
    assert all(torch.count_nonzero(layer.bias) == 0 for layer in mlp.body.layers)


def matrices_of(module):
    """Return the matrices of one of PyTorch's own layers, as what makes an output from what it sees."""
    if isinstance(module, nn.MultiheadAttention):
        own = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        return list(own if module.in_proj_weight is None else module.in_proj_weight.chunk(3))
    return [group.flatten(1) for group in module.weight.chunk(module.groups)]


# A layer; inputs and outputs of each matrix, those of a convolution times the size of its kernel; whether gain counts.
FOREIGN = {
    "Conv1d": (lambda: nn.Conv1d(40, 60, 5), [(200, 300)], True),
    "Conv2d": (lambda: nn.Conv2d(20, 30, (3, 5), stride=2), [(300, 450)], True),
    "Conv2d, groups": (lambda: nn.Conv2d(60, 90, 3, groups=3, padding=1), [(180, 270)] * 3, True),
    "Conv3d": (lambda: nn.Conv3d(10, 20, 3).to(memory_format=torch.channels_last_3d), [(270, 540)], True),
    "attention": (lambda: nn.MultiheadAttention(120, 4), [(120, 120)] * 3, False),
    "attention, sizes of its own": (
        lambda: nn.MultiheadAttention(120, 4, kdim=200, vdim=80, bias=False),
        [(120, 120), (200, 120), (80, 120)],
        False,
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_convolutions_and_attention_have_the_variances_of_the_formulas(name):
    make, sizes, has_gain = FOREIGN[name]
    layer = make()
    for scheme, variance in (
        (Xavier(nn.ReLU), lambda inputs, outputs: 2 / (inputs + outputs)),
        (He(nn.ReLU), lambda inputs, outputs: 1 / inputs),
    ):
        scheme(layer)
        for matrix, fans in zip(matrices_of(layer), sizes, strict=True):
            expected = math.sqrt(variance(*fans) * (2 if has_gain else 1))
            assert matrix.std().item() == pytest.approx(expected, rel=0.03)
    if isinstance(layer, nn.MultiheadAttention):
        assert layer.out_proj.weight.std().item() == pytest.approx(math.sqrt(1 / 120), rel=0.03)
    Orthogonal(gain=1.5)(layer)
    for matrix in matrices_of(layer):
        short = matrix if len(matrix) <= matrix.shape[1] else matrix.T
        torch.testing.assert_close(short @ short.T, 2.25 * torch.eye(len(short)), atol=1e-4, rtol=1e-4)


COMPUTED = {
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(60, 80)),
    "weight norm, convolution": lambda: parametrizations.weight_norm(nn.Conv1d(20, 80, 3)),
    "bfloat16": lambda: nn.Linear(60, 80).bfloat16(),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_weights_that_are_computed_or_in_half_precision_are_set(name):
    layer = COMPUTED[name]()
    He(nn.ReLU)(layer)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 60), rel=0.03)
    Orthogonal(gain=1.5)(layer)
    matrix = layer.weight.flatten(1).float()
    torch.testing.assert_close(matrix.T @ matrix, 2.25 * torch.eye(60), atol=0.03, rtol=0.03)


def test_gates_that_are_computed_are_set():
    cell = parametrizations.weight_norm(nn.LSTMCell(50, 60), "weight_ih")
    He()(cell)
    assert cell.weight_ih.std().item() == pytest.approx(math.sqrt(1 / 50), rel=0.03)


def test_a_normalized_layer_is_scaled_to_variance_one():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(60, 80)))
    inputs = torch.rand(500, 60) * 3.0
    LSUV()(model, {"input": inputs})
    assert model(inputs).var().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_a_weight_that_a_hook_computes_is_refused():
    with pytest.raises(ValueError, match=r"weight of a Linear is computed by a hook.*parametrizations"):
        He()(nn.utils.weight_norm(nn.Linear(3, 4)))


def test_he_keeps_the_size_through_ten_convolutions():
    layers = [layer for _ in range(10) for layer in (nn.Conv1d(64, 64, 5, padding="same"), nn.ReLU())]
    model, x = nn.Sequential(*layers), torch.randn(4, 64, 200)
    He(nn.ReLU)(model)
    assert 0.4 < model[:-1](x).square().mean().item() < 4.0


class Mixed(nn.Module):
    """Layers of PyTorch's own that are set, and such that are not."""

    def __init__(self):
        super().__init__()
        self.table, self.norm, self.batch_norm = nn.Embedding(9, 8), nn.LayerNorm(8), nn.BatchNorm1d(8)
        self.convolution, self.back = nn.Conv1d(8, 8, 3, padding=1), nn.ConvTranspose1d(8, 8, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)
        self.recurrent, self.cell = nn.RNN(8, 8, batch_first=True), nn.LSTMCell(8, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, tokens):
        x = self.norm(self.table(tokens))
        x = self.back(self.batch_norm(self.convolution(x.mT))).mT
        x = self.recurrent(x + self.attention(x, x, x)[0])[0]
        return self.block(x + self.cell(x[:, 0])[0].unsqueeze(1))


@SCHEMES
def test_what_is_not_named_does_not_move(scheme):
    model = Mixed()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    torch.nn.init.normal_(model.table.weight)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    touched = scheme(model, {"tokens": torch.randint(9, (4, 7))})
    layers = ["convolution", "attention", "attention.out_proj", "recurrent", "cell", "block.self_attn"]
    assert touched == [*layers, "block.self_attn.out_proj", "block.linear1", "block.linear2"]
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    kept = {"attention.bias_k", "attention.bias_v"}
    assert moved == {name for name in before if name.startswith(tuple(touched)) and "norm" not in name} - kept
    biases = {name: tensor for name, tensor in model.state_dict().items() if "bias" in name and name in moved}
    assert all(not tensor.any() for name, tensor in biases.items() if name != "cell.bias_ih")
    assert biases["cell.bias_ih"].tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
    assert model.training


def test_lsuv_gives_convolutions_and_attention_unit_variance():
    model, inputs = Mixed(), {"tokens": torch.randint(9, (64, 7))}
    LSUV(tolerance=0.01)(model, inputs)
    seen = {}

    def note(module, _inputs, output):
        seen[module] = (output if isinstance(output, torch.Tensor) else output[0]).var(correction=0).item()

    layers = [model.convolution, model.attention, model.block.self_attn, model.block.linear1, model.block.linear2]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    model.eval()(**inputs)
    assert [seen[layer] for layer in layers] == pytest.approx([1.0] * 5, abs=0.011)
    assert len(hooks) == 5


@SCHEMES
@pytest.mark.parametrize("name", ["pooled_mlp", "causal_transformer", "translate_lstm"])
def test_every_scheme_reports_every_layer_it_has_to_set(scheme, name):
    model = getattr(presets, name)(ModelShape(20, 2, 3, 15, 16), ModelOptions(width=8, hidden=12, layers=2, heads=2))
    expected = [
        layer_name for layer_name, module in model.named_modules() if isinstance(module, nn.Linear | nn.LSTM | nn.GRU)
    ]
    inputs = {
        "pooled_mlp": {"tokens": torch.randint(20, (40,)), "offsets": torch.arange(0, 40, 4)},
    }.get(name, {"tokens": torch.randint(4, 20, (5, 7))})
    if name.startswith("translate"):
        inputs["decoder_tokens"] = torch.randint(4, 15, (5, 4))
    assert scheme(model, inputs) == expected


@SCHEMES
def test_a_scheme_refuses_a_model_without_layers_for_it(scheme):
    inputs = {"tokens": torch.tensor([1]), "offsets": torch.tensor([0])}
    with pytest.raises(ValueError, match="sets linear, convolutional, attention and recurrent layers; Bag has none"):
        scheme(Bag(10, 4), inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Orthogonal(gain=0.0), r"Orthogonal\(gain=\.\.\.\) must be positive; got 0\.0"),
        (lambda: LSUV(tolerance=0.0), r"LSUV\(tolerance=\.\.\.\) must be positive"),
        (lambda: LSUV(max_iterations=0), r"LSUV\(max_iterations=\.\.\.\) must be at least 1; got 0"),
        (lambda: LSUV()(MLP([2, 2], activation=nn.ReLU)), "LSUV needs a batch of the model's inputs"),
        (lambda: TFixup()(MLP([2, 2], activation=nn.ReLU)), "TFixup is for transformers; got MLP"),
        (
            lambda: TFixup()(Decoder(9, 8, hidden=8, layers=2, heads=2)),
            "without layer normalization; this model has it",
        ),
    ],
)
def test_schemes_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tfixup_has_the_papers_factors():
    model = EncoderDecoder(2000, 2000, 64, hidden=256, layers=3, heads=4, skip=Residual)
    TFixup()(model)
    encoder, decoder = 0.67 * 3**-0.25, 27**-0.25
    xavier, xavier_feed = math.sqrt(2 / 128), math.sqrt(2 / 320)
    expected = [
        (model.encoder.blocks[0].attention.value, encoder * xavier),
        (model.encoder.blocks[1].attention.output, encoder * xavier),
        (model.encoder.blocks[2].feed_in, encoder * xavier_feed),
        (model.encoder.blocks[2].feed_out, encoder * xavier_feed),
        (model.encoder.blocks[0].attention.query, xavier),
        (model.encoder.blocks[0].attention.key, xavier),
        (model.decoder.blocks[0].attention.value, decoder * xavier),
        (model.decoder.blocks[0].cross.value, decoder * xavier),
        (model.decoder.blocks[1].cross.output, decoder * xavier),
        (model.decoder.blocks[1].cross.key, xavier),
        (model.decoder.blocks[1].feed_out, decoder * xavier_feed),
        (model.embedding, decoder / 8),
        (model.source_embedding, decoder / 8),
    ]
    for layer, std in expected:
        assert layer.weight.std().item() == pytest.approx(std, rel=0.06)
    assert torch.count_nonzero(model.embedding.weight[0]) == 0


def first_losses(scheme, skip=Residual):
    """Train a 20-layer model to say the token before, by Adam without warm-up; returns gradient norm and losses."""
    torch.manual_seed(0)
    model = Decoder(12, 16, hidden=32, layers=20, heads=2, skip=skip)
    head = nn.Linear(16, 12)
    scheme(model)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=2e-3)
    tokens = torch.randint(4, 12, (16, 10))
    norm, losses = None, []
    for _ in range(12):
        optimizer.zero_grad()
        logits = head(model(tokens))[:, 1:]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, :-1].flatten())
        loss.backward()
        if norm is None:
            norm = nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
        optimizer.step()
        losses.append(loss.item())
    return norm, losses


def test_tfixup_trains_a_deep_transformer_without_normalization_or_warmup():
    norm, losses = first_losses(TFixup())
    assert 0.01 < norm < 20.0
    assert losses[0] < 3.5
    assert losses[-1] < 0.8 * losses[0]
    plain_norm, plain_losses = first_losses(Xavier())
    assert plain_norm > 1000 * norm
    assert min(plain_losses) > 10 * losses[-1]


def test_tfixup_needs_no_normalization_in_other_skips_either():
    for skip in (NoSkip, Highway):
        assert TFixup()(Decoder(9, 8, hidden=8, layers=1, heads=2, skip=skip))
    with pytest.raises(ValueError, match="take another scheme"):
        TFixup()(Encoder(9, 8, hidden=8, layers=1, heads=2, skip=PreNorm))
