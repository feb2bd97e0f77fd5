"""The MLP: its formula, sparse wiring under many optimizers."""

import pytest
import torch
from torch import nn

from thalweg.models.mlp import MLP, MaskedLinear, random_mask
from thalweg.models.skips import Highway, NoSkip, Residual


def test_mlp_is_its_formula():
    torch.manual_seed(0)
    model = MLP([3, 4, 4, 2], activation=nn.Tanh, input_skip=True, skip=Residual).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    first, second, last = model.layers
    h = torch.tanh(x @ first.weight.T + first.bias)
    h = h + torch.tanh(h @ second.weight.T + second.bias)
    torch.testing.assert_close(model(x), h @ last.weight.T + last.bias + x @ model.shortcut.weight.T)
    assert model.shortcut.bias is None
    assert model.width == 2


def test_output_activation_leaves_the_input_skip_linear():
    model = MLP([2, 3], activation=nn.ReLU, output_activation=nn.ReLU, input_skip=True).double()
    x = torch.randn(5, 2, dtype=torch.float64)
    expected = torch.relu(model.layers[0](x)) + model.shortcut(x)
    torch.testing.assert_close(model(x), expected)


def test_skips_lie_between_hidden_layers_of_one_width_only():
    model = MLP([4, 4, 4, 3, 3, 3], activation=nn.ReLU, skip=Highway)
    assert [type(skip) for skip in model.skips] == [NoSkip, Highway, NoSkip, Highway]


def test_mlp_takes_any_leading_dimensions():
    model = MLP([3, 4, 2], activation=nn.Tanh)
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(model(x)[1, 4], model(x[1, 4]))


def test_bias_false_leaves_no_bias():
    model = MLP([3, 4, 2], activation=nn.Tanh, bias=False, masks=[torch.ones(4, 3), None])
    assert [name for name, _ in model.named_parameters()] == ["layers.0.stored", "layers.1.weight"]


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model = MLP([3, 64, 64], activation=nn.Identity, dropout=0.5)
    seen = []
    model.layers[1].register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    model(torch.ones(1, 3))
    model.eval()
    model(torch.ones(1, 3))
    assert 10 < int((seen[0] == 0).sum()) < 54
    assert int((seen[1] == 0).sum()) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [3]}, "at least two sizes"),
        ({"sizes": [3, 0]}, "at least two sizes of at least 1"),
        ({"sizes": [3, 2], "dropout": 1.0}, r"dropout=\.\.\.\) must lie in \[0, 1\)"),
        ({"sizes": [3, 2], "masks": []}, "needs 1 entries"),
        ({"sizes": [3, 2], "masks": [torch.ones(3, 2)]}, r"shape \(2, 3\) here; got \(3, 2\)"),
        ({"sizes": [3, 2], "masks": [torch.full((2, 3), 0.5)]}, "zeros and ones"),
    ],
)
def test_mlp_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLP(arguments.pop("sizes"), activation=nn.Tanh, **arguments)


MASKS = [torch.tensor([[1, 0], [1, 1], [0, 1]]), None, torch.tensor([[0, 1]])]


def sparse_model():
    return MLP([2, 3, 1], activation=nn.Tanh, input_skip=True, masks=MASKS).double()


def optimizers():
    import pytorch_optimizer

    return {
        "SGD momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        "SGD Nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
        "Adam amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True, weight_decay=0.1),
        "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1, centered=True),
        "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
        "Rprop": lambda p: torch.optim.Rprop(p, lr=0.1),
        "LBFGS": lambda p: torch.optim.LBFGS(p, line_search_fn="strong_wolfe"),
        "Lion": lambda p: pytorch_optimizer.Lion(p, lr=0.1, weight_decay=0.1),
        "AdaBelief": lambda p: pytorch_optimizer.AdaBelief(p, lr=0.1),
    }


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", list(optimizers()))
def test_masked_weights_stay_exactly_zero_under(name):
    torch.manual_seed(1)
    model = sparse_model()
    optimizer = optimizers()[name](list(model.parameters()))
    x, y = torch.randn(20, 2, dtype=torch.float64), torch.randn(20, 1, dtype=torch.float64)
    before = [parameter.detach().clone() for parameter in model.parameters()]

    def closure():
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    for layer in (model.layers[0], model.shortcut):
        assert torch.equal(
            layer.stored[layer.mask == 0], torch.zeros(int((layer.mask == 0).sum()), dtype=torch.float64)
        )
        assert torch.count_nonzero(layer.weight[layer.mask == 0]) == 0


def test_noise_in_stored_values_does_not_reach_the_network():
    model = sparse_model()
    x = torch.randn(4, 2, dtype=torch.float64)
    before = model(x)
    layer = model.layers[0]
    with torch.no_grad():
        layer.stored.add_((1 - layer.mask) * 7.0)
    assert torch.equal(model(x), before)
    assert torch.count_nonzero(layer.weight[layer.mask == 0]) == 0


def test_masked_layer_has_the_right_first_and_second_derivatives():
    torch.manual_seed(2)
    layer = MaskedLinear(torch.tensor([[1, 0], [1, 1]])).double()
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def function(x, stored, bias):
        return torch.func.functional_call(layer, {"stored": stored, "bias": bias}, x).sin()

    stored, bias = (tensor.detach().clone().requires_grad_() for tensor in (layer.stored, layer.bias))
    assert torch.autograd.gradcheck(function, (x, stored, bias))
    assert torch.autograd.gradgradcheck(function, (x, stored, bias))
    layer(x).square().sum().backward()
    assert layer.stored.grad[0, 1].item() == 0.0


def test_random_mask_has_the_share_of_zeros_asked_for():
    torch.manual_seed(0)
    mask = random_mask(50, 40, 0.75)
    assert torch.equal(mask.sum(1), torch.full((50,), 10.0))
    assert int((mask.sum(0) > 0).sum()) == 40
    assert torch.equal(random_mask(3, 4, 0.99).sum(1), torch.ones(3))


def test_random_mask_refuses_all_zeros():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\); got 1\.0"):
        random_mask(2, 2, 1.0)
