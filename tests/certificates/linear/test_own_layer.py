"""An output layer whose weights are not its own is refused by name, wherever a statement about it would be made."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

import thalweg
from thalweg.batch import Batch
from thalweg.certificates.factored.bags import factored_problem
from thalweg.certificates.linear.last_layer import head_problem, split_last_layer
from thalweg.certificates.two_layer.level import certify_two_layer
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.models.bag import Bag
from thalweg.models.mlp import MLP
from thalweg.objective import Objective

torch.manual_seed(0)
X, Y = torch.randn(12, 4), torch.arange(12) % 3
OLD = "ignore:.*weight_norm.*:FutureWarning"


class Doubled(nn.Module):
    def forward(self, weight):
        return 2.0 * weight


class Scaled(nn.Linear):
    def forward(self, given):
        return 2.0 * super().forward(given)


class Net(nn.Module):
    """A layer below, a ReLU, and the output layer under test."""

    def __init__(self, out=None):
        super().__init__()
        self.below = nn.Linear(4, 4)
        self.out = nn.Linear(4, 3) if out is None else out

    def forward(self, inputs):
        return self.out(torch.relu(self.below(inputs)))


class UsedBelow(Net):
    def forward(self, inputs):
        return self.out(torch.relu(inputs) + F.linear(inputs, self.out.weight).sum(1, keepdim=True))


class UsedTwice(Net):
    def __init__(self):
        super().__init__(nn.Linear(4, 4))

    def forward(self, inputs):
        return self.out(torch.relu(self.out(inputs)))


class InPlace(Net):
    def forward(self, inputs):
        return super().forward(inputs).mul_(3.0)


class Rough(Net):
    def forward(self, inputs):
        return self.out(F.dropout(torch.relu(self.below(inputs)), 0.5, training=True))


def with_norm(name):
    model = Net()
    match name:
        case "parametrized weight norm":
            parametrizations.weight_norm(model.out)
        case "old weight norm":
            nn.utils.weight_norm(model.out)
        case "parametrized spectral norm":
            parametrizations.spectral_norm(model.out)
        case "old spectral norm":
            nn.utils.spectral_norm(model.out)
        case "own parametrization":
            parametrize.register_parametrization(model.out, "weight", Doubled())
        case "bias parametrized":
            parametrize.register_parametrization(model.out, "bias", Doubled())
    return model


def sharing(name):
    model = Net(nn.Linear(4, 4))
    match name:
        case "same parameter":
            model.out.weight = model.below.weight
        case "same data":
            model.out.weight.data = model.below.weight.data
        case "a view":
            model.out.weight.data = model.below.weight.data.T
        case "a row":
            model.below.bias.data = model.out.weight.data[1]
    return model


def hooked(name):
    model = Net()
    match name:
        case "forward hook":
            model.out.register_forward_hook(lambda module, given, output: 2.0 * output)
        case "pre-hook":
            model.out.register_forward_pre_hook(lambda module, given: (2.0 * given[0],))
        case "replaced forward":
            model.out.forward = lambda given: 2.0 * F.linear(given, model.out.weight, model.out.bias)
        case "hook on the model":
            model.register_forward_hook(lambda module, given, output: output.add_(1.0))
    return model


def frozen(*parts):
    model = Net()
    for part in parts:
        getattr(model.out, part).requires_grad_(False)
    return model


CASES = {
    **{
        f"{kind} {l2}": (lambda kind=kind: with_norm(kind), word, l2)
        for kind, word in {
            "parametrized weight norm": "'out' is not a plain Linear: its weight is computed by WeightNorm",
            "old weight norm": "'out' is not a plain Linear: its weight is computed by WeightNorm",
            "parametrized spectral norm": "its weight is computed by SpectralNorm",
            "old spectral norm": "its weight is computed by SpectralNorm",
            "own parametrization": "its weight is computed by Doubled",
            "bias parametrized": "its bias is computed by Doubled",
        }.items()
        for l2 in (0.0, 1e-2)
    },
    "subclass": (lambda: Net(Scaled(4, 3)), "'out' is not a plain Linear: it has a forward of its own", 1e-2),
    "weight used below": (UsedBelow, "The weight of the layer 'out' is used below the layer", 1e-2),
    "weight used below, no penalty": (UsedBelow, "is used below the layer", 0.0),
    "used twice": (UsedTwice, "used more than once", 1e-2),
    "changed in place": (InPlace, "changes the output of its last linear layer", 1e-2),
    "random": (Rough, "Two evaluations", 1e-2),
    **{
        kind: (lambda kind=kind: sharing(kind), "'out' shares its weight with 'below.", 1e-2)
        for kind in ("same parameter", "same data", "a view", "a row")
    },
    "forward hook": (lambda: hooked("forward hook"), "it has a forward hook", 1e-2),
    "pre-hook": (lambda: hooked("pre-hook"), "it has a forward hook", 1e-2),
    "replaced forward": (lambda: hooked("replaced forward"), "it has a forward of its own", 1e-2),
    "hook on the model": (lambda: hooked("hook on the model"), "changes the output of its last linear layer", 1e-2),
    "frozen": (lambda: frozen("weight", "bias"), "'out' is frozen", 1e-2),
    "frozen weight": (lambda: frozen("weight"), "'out' is frozen", 0.0),
    "frozen bias": (lambda: frozen("bias"), "'out' is frozen", 1e-2),
}


@pytest.mark.filterwarnings(OLD)
@pytest.mark.parametrize("name", CASES)
def test_a_layer_that_is_not_its_own_is_refused_by_name(name):
    """In every level about it, also in float32, and in the copy that `certify` works on."""
    make, message, l2 = CASES[name]
    model = make()
    single = Objective(model, nn.CrossEntropyLoss(), X, Y % getattr(model.out, "out_features", 3), l2=l2)
    with pytest.raises(InputError, match=message):
        head_problem(single)
    if name == "replaced forward":  # it reads the original's weights, so that a copy cannot be evaluated
        with pytest.raises(InputError, match="cannot be evaluated in float64"):
            thalweg.certify(single)
        return
    for objective in (single.copied(torch.float64),):
        with pytest.raises(InputError, match=message):
            head_problem(objective)
    interval = thalweg.certify(single, seconds=1.0, radius=2.0)
    assert not [level.name for level in interval.levels if level.name in ("head", "separable", "norm_floor")]
    assert message in interval.left_out["head"]
    assert message in interval.left_out["norm_floor"]


class FedBack(Net):
    """The answer before, where there is one, goes in through the output layer's own weight."""

    def forward(self, inputs, before=None):
        hidden = torch.relu(self.below(inputs))
        if before is not None:
            hidden = hidden + self.out.weight[before.clamp_min(0)] * (before >= 0)[:, None]
        return self.out(hidden)


@pytest.mark.parametrize("l2", [0.0, 1e-2])
@pytest.mark.parametrize("where", ["in one batch", "in the last rows"])
def test_a_weight_that_is_used_below_for_some_examples_only_is_seen(where, l2):
    """The first 256 rows of one batch were tried before, and a bound was proved that training the layer went below."""
    x, y = torch.randn(300, 4), torch.arange(300) % 3
    before = torch.where(torch.arange(300) < 280, -1, y)
    batches = [Batch({"inputs": x, "before": before}, y)]
    if where == "in one batch":
        batches = [Batch({"inputs": x[:280]}, y[:280]), Batch({"inputs": x[280:], "before": y[280:]}, y[280:])]
    objective = Objective(FedBack(), nn.CrossEntropyLoss(), batches, l2=l2)
    with pytest.raises(InputError, match="is used below it, too, if only for some examples"):
        head_problem(objective)
    assert all(tensor.requires_grad for tensor in objective.parameters)
    interval = thalweg.certify(objective, seconds=5.0)
    assert not [level.name for level in interval.levels if level.name in ("head", "separable")]
    assert "is used below it, too" in interval.left_out["head"]
    never = Objective(FedBack(), nn.CrossEntropyLoss(), [Batch({"inputs": x}, y)], l2=l2)
    assert head_problem(never)[2] >= 0.0


class Asking(Net):
    """What a batch of large inputs does with the output layer's weight below it."""

    def __init__(self, use):
        super().__init__()
        self.use = use

    def forward(self, inputs):
        hidden = torch.relu(self.below(inputs))
        return self.out(self.use(hidden, self.out.weight) if inputs.max() > 100.0 else hidden)


def copied(into, weight):
    with torch.no_grad():
        into[1:4] = weight
    return into


@pytest.mark.parametrize(
    ("use", "is_seen"),
    [
        (lambda hidden, weight: hidden * (1.0 + weight.detach().sum()), True),
        (lambda hidden, weight: hidden * (1.0 + weight.data.sum()), True),
        (lambda hidden, weight: hidden * (1.0 + weight.detach().sum().item()), True),
        (lambda hidden, weight: hidden + float(weight.detach()[0, 0]), True),
        (lambda hidden, weight: hidden * weight.detach().tolist()[0][0], True),
        (lambda hidden, weight: -hidden if weight.amax() > 0.0 else hidden, True),
        (lambda hidden, weight: hidden.to(weight).to(weight.device, weight.dtype).reshape(-1, weight.shape[1]), False),
        (lambda hidden, weight: hidden * (1.0 + copied(torch.zeros(5, 4), weight).sum()), True),
        (lambda hidden, weight: hidden * (1.0 + hidden.new_tensor(weight).sum()), True),
        (lambda hidden, weight: hidden * (1.0 + weight.detach().type_as(hidden.float()).sum()), True),
        (lambda hidden, weight: -hidden if "-" in str(weight) else hidden, True),
        (lambda hidden, weight: hidden.type_as(weight) + torch.zeros_like(weight[:0]).sum(), False),
        (lambda hidden, weight: hidden.to(weight.data.dtype).reshape(-1, weight.T.shape[0]), False),
        (lambda hidden, weight: hidden + weight.data.new(1, 4).zero_() + weight.data.new_zeros(1, 4), False),
        (lambda hidden, weight: torch.func.vmap(torch.tanh)(hidden), False),
        (lambda hidden, weight: torch.func.jvp(torch.tanh, (hidden,), (torch.ones_like(hidden),))[1], False),
        (lambda hidden, weight: hidden + weight.new_zeros(1) + torch.zeros_like(weight).sum(), False),
    ],
)
@pytest.mark.filterwarnings("ignore:To copy construct", "ignore:.*torch.jit.script:DeprecationWarning")
def test_a_weight_whose_numbers_are_asked_for_below_without_a_gradient_is_seen(use, is_seen):
    x, y = torch.randn(60, 4), torch.arange(60) % 3
    x[59] = 200.0
    batches = [Batch({"inputs": part}, labels) for part, labels in zip(x.split(20), y.split(20), strict=True)]
    interval = thalweg.certify(Objective(Asking(use), nn.CrossEntropyLoss(), batches, l2=1e-2), seconds=5.0)
    assert ("head" in {level.name for level in interval.levels}) is not is_seen
    assert ("is used below it, too" in interval.left_out.get("head", "")) is is_seen


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_part_is_watched_as_it_is_written():
    class Compiled(Net):
        def __init__(self):
            super().__init__()
            self.part = torch.compile(lambda h, w: torch.tanh(h).to(w.dtype), backend="eager", fullgraph=True)

        def forward(self, inputs):
            return self.out(self.part(self.below(inputs), self.out.weight))

    x, y = torch.randn(60, 4), torch.arange(60) % 3
    sizes = (20, 17, 5, 9, 9)
    batches = [Batch({"inputs": part}, labels) for part, labels in zip(x.split(sizes), y.split(sizes), strict=True)]
    interval = thalweg.certify(Objective(Compiled(), nn.CrossEntropyLoss(), batches, l2=1e-2), seconds=10.0)
    assert "head" in {level.name for level in interval.levels}


def test_other_weights_are_put_back_bit_by_bit():
    model = Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    split_last_layer(Objective(model, nn.CrossEntropyLoss(), X, Y, l2=1e-2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training


def tied_bag():
    bag = Bag(6, 3)
    return bag, Softmax(3, 6, tied=bag.embedding.weight)


def same_memory():
    bag, head = Bag(6, 3), Softmax(3, 6)
    head.output.weight.data = bag.embedding.weight.data
    return bag, head


def normed_embedding():
    bag = Bag(6, 3)
    parametrize.register_parametrization(bag.embedding, "weight", Doubled())
    return bag, Softmax(3, 6)


def normed_output():
    head = Softmax(3, 6)
    parametrizations.weight_norm(head.output)
    return Bag(6, 3), head


def hooked_head():
    head = Softmax(3, 6)
    head.register_forward_hook(lambda module, given, output: 2.0 * output)
    return Bag(6, 3), head


def frozen_embedding():
    bag = Bag(6, 3)
    bag.embedding.weight.requires_grad_(False)
    return bag, Softmax(3, 6)


def clipped_embedding():
    bag = Bag(6, 3)
    bag.embedding.max_norm = 1.0
    return bag, Softmax(3, 6)


BAGS = {
    "tied": (tied_bag, "tied"),
    "same memory": (same_memory, "tied"),
    "parametrized embedding": (normed_embedding, "'embedding' is not a plain EmbeddingBag"),
    "parametrized output": (normed_output, "'head.output' is not a plain Linear"),
    "hook on the head": (hooked_head, "The head Softmax has a forward hook"),
    "frozen embedding": (frozen_embedding, "'embedding' is frozen"),
    "max_norm": (clipped_embedding, "max_norm"),
}


@pytest.mark.parametrize("name", BAGS)
def test_bags_whose_factors_are_not_their_own(name):
    make, message = BAGS[name]
    model, head = make()
    batch = Batch({"tokens": torch.tensor([1, 2, 3, 4]), "offsets": torch.tensor([0, 2])}, torch.tensor([0, 1]))
    objective = Objective(model, head, batch, l2=0.1)
    with pytest.raises(InputError, match=message):
        factored_problem(objective)
    interval = thalweg.certify(objective, seconds=1.0)
    assert message in interval.left_out["factored"]


def test_two_layers_that_are_not_their_own():
    model = MLP([4, 6, 3], activation=nn.ReLU)
    parametrizations.weight_norm(model.layers[0])
    objective = Objective(model, nn.CrossEntropyLoss(), X, Y, l2=0.1)
    with pytest.raises(InputError, match=r"'layers\.0' is not a plain Linear: its weight is computed by WeightNorm"):
        certify_two_layer(objective)
    model = MLP([4, 4, 4, 3], activation=nn.ReLU)
    model.layers[1].weight.data = model.layers[0].weight.data
    objective = Objective(model, nn.CrossEntropyLoss(), X, Y, l2=0.1)
    with pytest.raises(InputError, match=r"'layers\.1' shares its weight with 'layers\.0\.weight'"):
        certify_two_layer(objective)


def test_what_the_layer_of_a_spectral_norm_reaches_at_the_same_norm():
    """The figure behind the refusal: with a free scale below a normed layer a norm ball says nothing about it."""
    torch.manual_seed(1)
    x, y = torch.randn(40, 4), torch.randint(0, 3, (40,))
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), parametrizations.weight_norm(nn.Linear(8, 3)))
    objective = Objective(model, nn.CrossEntropyLoss(), x, y)
    interval = thalweg.certify(objective, seconds=1.0)
    assert "head" not in [level.name for level in interval.levels]
    optimizer = torch.optim.LBFGS(objective.parameters, max_iter=300, line_search_fn="strong_wolfe")
    optimizer.step(objective)
    assert interval.bound <= float(objective.value()) + 1e-12


def test_shared_memory_is_shared_in_the_copy():
    for kind in ("same data", "a view", "a row"):
        objective = Objective(sharing(kind), nn.CrossEntropyLoss(), X, Y)
        copy = objective.copied(torch.float64)
        assert math.isclose(float(copy.value()), float(objective.value()), rel_tol=1e-6)
        with torch.no_grad():
            copy.model.out.weight.zero_()
        other = copy.model.below.bias if kind == "a row" else copy.model.below.weight
        assert not bool(other.any())
        assert bool(objective.model.out.weight.any())
