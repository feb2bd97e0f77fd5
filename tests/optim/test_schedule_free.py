"""Averages of weights around any optimizer: the published formulas, what the parameters hold when, and saved states."""

import copy
import io
import warnings

import pytest
import pytorch_optimizer
import torch
from cases import PROBLEMS
from torch import nn

from thalweg.objective import Objective
from thalweg.optim.averaging import AbstractAveraging
from thalweg.optim.combined import Combined
from thalweg.optim.descent import Descent
from thalweg.optim.schedule_free import ScheduleFree
from thalweg.optim.soap import SOAP
from thalweg.optim.weight_average import ExponentialAverage, LastAverage

X = torch.randn(16, 3, generator=torch.Generator().manual_seed(2))
Y = X.sum(1, keepdim=True).sin()

AVERAGES = {
    "schedule-free": ScheduleFree,
    "schedule-free with decay": lambda inner: ScheduleFree(inner, 0.8, weight_decay=0.1, power=1.0),
    "schedule-free at the average": lambda inner: ScheduleFree(inner, 1.0),
    "exponential": lambda inner: ExponentialAverage(inner, 0.9),
    "last": LastAverage,
}


def muon_and_adamw(parameters):
    matrices, others = ([p for p in parameters if (p.dim() == 2) == wanted] for wanted in (True, False))
    return Combined([torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(others, lr=0.01)])


INNER = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, betas=(0.0, 0.99)),
    "fused adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, fused=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.5),
    "combined": muon_and_adamw,
    "soap": lambda parameters: SOAP(parameters, lr=0.01),
}


def layers(dtype=torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def twice(parameters):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="optimizer contains a parameter group with duplicate")
        return torch.optim.SGD([next(parameters)] * 2)


def weights(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def averages(model, optimizer):
    with optimizer.averaged():
        return weights(model)


def train(model, optimizer, steps, schedule=None):
    x, y = (part.to(next(model.parameters()).dtype) for part in (X, Y))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return loss.item()


def test_it_is_the_published_adamw():
    model, twin = layers(torch.float64), layers(torch.float64)
    inner = torch.optim.AdamW(model.parameters(), lr=0.05, betas=(0.0, 0.95), weight_decay=0.0)
    optimizer = ScheduleFree(inner, 0.9, weight_decay=0.1, power=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))
    options = {"betas": (0.9, 0.95), "weight_decay": 0.1, "r": 0.5, "warmup_steps": 5}
    peer = pytorch_optimizer.ScheduleFreeAdamW(twin.parameters(), lr=0.05, **options)
    for _ in range(3):
        train(model, optimizer, 10, schedule)
        train(twin, peer, 10)
        assert torch.allclose(weights(model), weights(twin), rtol=1e-10, atol=1e-12)
        peer.eval()
        assert torch.allclose(averages(model, optimizer), weights(twin), rtol=1e-10, atol=1e-12)
        assert not torch.allclose(weights(model), weights(twin), rtol=1e-4)
        peer.train()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_its_three_sequences(decay):
    """Written down once more, with x, y and z kept apart, around gradient descent with momentum."""
    model, beta = layers(torch.float64), 0.8
    optimizer = ScheduleFree(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5), beta, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], gamma=0.5)
    x = z = y = weights(model)
    speed, total, twin = torch.zeros_like(x), 0.0, layers(torch.float64)
    for step in range(7):
        nn.utils.vector_to_parameters(y, twin.parameters())
        loss = nn.functional.mse_loss(twin(X.double()), Y.double())
        gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(twin.parameters()))])
        speed = 0.5 * speed + gradient
        rate = 0.1 * 0.5 ** sum(step >= place for place in (2, 4))
        z = z - rate * decay * y - rate * speed
        total += 0.1**2  # by the largest rate so far
        x = x + 0.1**2 / total * (z - x)
        y = (1.0 - beta) * z + beta * x
        train(model, optimizer, 1, schedule)
        assert torch.allclose(weights(model), y, rtol=1e-12, atol=1e-13)
        assert torch.allclose(averages(model, optimizer), x, rtol=1e-11, atol=1e-12)


def test_the_exponential_average_leaves_the_steps_as_they_are():
    model, twin = layers(), layers()
    optimizer, plain = ExponentialAverage(INNER["adamw"](model.parameters()), 0.7), INNER["adamw"](twin.parameters())
    average = weights(twin)
    for step in range(1, 13):
        train(model, optimizer, 1)
        train(twin, plain, 1)
        keep = min(0.7, (1 + step) / (10 + step))
        average = keep * average + (1 - keep) * weights(twin)
        assert torch.equal(weights(model), weights(twin))
    assert torch.allclose(averages(model, optimizer), average, atol=1e-6)
    assert not torch.allclose(average, weights(twin), atol=1e-3)


def test_the_average_of_the_last_steps_weighs_them_by_a_power():
    model, twin = layers(), layers()
    optimizer, plain = LastAverage(INNER["adamw"](model.parameters())), INNER["adamw"](twin.parameters())
    seen = []
    for _ in range(200):
        train(model, optimizer, 1)
        train(twin, plain, 1)
        seen.append(weights(twin))
    shares = torch.arange(1, 201, dtype=torch.float64)
    shares = torch.lgamma(shares + 7.0) - torch.lgamma(shares)  # j (j + 1) ... (j + 6), in logarithms
    shares = torch.softmax(shares, 0)
    wanted = sum(share * one for share, one in zip(shares, seen, strict=True))
    assert torch.allclose(averages(model, optimizer), wanted, atol=1e-5)
    assert 0.45 < float(shares[-17:].sum()) < 0.55  # the last 8 %
    assert 0.88 < float(shares[-50:].sum()) < 0.92  # the last quarter


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("average", AVERAGES)
def test_the_average_is_better_than_the_start_and_the_weights_come_back(average, inner):
    model = layers()
    optimizer = AVERAGES[average](INNER[inner](list(model.parameters())))
    start, _ = nn.functional.mse_loss(model(X), Y).item(), train(model, optimizer, 30)
    before, inside = weights(model), []
    with optimizer.averaged():
        with optimizer.averaged():
            inside.append(weights(model))
        assert optimizer.is_averaged
        assert nn.functional.mse_loss(model(X), Y).item() < 0.7 * start
        with pytest.raises(ValueError, match=r"the parameters hold the average.*optimizer.train\(\) first"):
            optimizer.step()
    assert torch.equal(weights(model), before)
    with pytest.raises(KeyError, match="broken off"), optimizer.averaged():
        raise KeyError("broken off")
    assert not optimizer.is_averaged
    assert torch.equal(weights(model), before)
    assert average == "schedule-free at the average" or not torch.equal(inside[0], before)


@pytest.mark.parametrize("saved_inside", [False, True], ids=["training", "inside the block"])
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("average", AVERAGES)
def test_a_saved_state_goes_on_with_the_same_bits(average, inner, saved_inside):
    """With weights as they are inside the block, too: some frameworks save after they have evaluated."""
    model = layers()
    optimizer = AVERAGES[average](INNER[inner](list(model.parameters())))
    train(model, optimizer, 5)
    if saved_inside:
        optimizer.eval()
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    optimizer.train()
    train(model, optimizer, 4)
    again = layers()
    resumed = AVERAGES[average](INNER[inner](list(again.parameters())))
    file.seek(0)
    for part, state in zip((again, resumed), torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    assert resumed.is_averaged == saved_inside
    resumed.train()
    train(again, resumed, 4)
    assert torch.equal(weights(again), weights(model))
    assert torch.equal(averages(again, resumed), averages(model, optimizer))


@pytest.mark.parametrize("average", AVERAGES)
def test_half_precision_keeps_its_average_and_its_steps_in_single_precision(average):
    model = layers(torch.bfloat16)
    optimizer = AVERAGES[average](torch.optim.SGD(model.parameters(), lr=1e-5))
    start = weights(model)
    train(model, optimizer, 3)
    state = optimizer.state_dict()
    kept = [tensor for memory in state["state"].values() for key, tensor in memory.items() if "averaging" in key]
    assert {tensor.dtype for tensor in kept} == {torch.float32}
    assert all(p.dtype == p.grad.dtype == torch.bfloat16 for p in model.parameters())
    again = layers(torch.bfloat16)
    resumed = AVERAGES[average](torch.optim.SGD(again.parameters(), lr=1e-5))
    resumed.load_state_dict(copy.deepcopy(state))
    again.load_state_dict(model.state_dict())
    train(model, optimizer, 3)
    train(again, resumed, 3)
    assert torch.equal(weights(again), weights(model))
    if average == "schedule-free":
        z = torch.cat([optimizer.state[p]["z"].reshape(-1) for p in model.parameters()])
        assert (z != start.float()).float().mean() > 0.9  # steps of which the half of bfloat16 would know nothing
        assert torch.equal(z.bfloat16(), start)


def test_the_inner_optimizer_has_its_state_in_single_precision():
    model, twin = layers(torch.bfloat16), layers(torch.bfloat16)
    optimizer = ScheduleFree(torch.optim.AdamW(model.parameters(), lr=0.01))
    train(model, optimizer, 3)
    assert {state["exp_avg"].dtype for state in optimizer.optimizer.state.values()} == {torch.float32}
    resumed = ScheduleFree(torch.optim.AdamW(twin.parameters(), lr=0.01))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    twin.load_state_dict(model.state_dict())
    for each in ((model, optimizer), (twin, resumed)):
        train(*each, 3)
    assert torch.equal(weights(model), weights(twin))
    with torch.no_grad():
        model[0].bias.fill_(3.0)  # moved by somebody else
    train(model, optimizer, 1)
    assert (model[0].bias > 2.0).all()


@pytest.mark.parametrize("average", AVERAGES)
def test_parameters_without_a_gradient_stay_and_groups_can_be_added(average):
    model = layers()
    optimizer = AVERAGES[average](torch.optim.AdamW(model[0].parameters(), lr=0.02))
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 0.5, 2)
    model[0].bias.requires_grad_(False)
    first, last = model[0].bias.detach().clone(), model[2].weight.detach().clone()
    train(model, optimizer, 2, schedule)
    assert torch.equal(model[0].bias, first)
    assert torch.equal(model[2].weight, last)
    optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.1})
    model[0].bias.requires_grad_(True)
    train(model, optimizer, 2)
    assert not torch.equal(model[0].bias, first)
    assert not torch.equal(model[2].weight, last)
    assert [group["lr"] for group in optimizer.optimizer.param_groups] == [0.02, 0.1]
    again = AVERAGES[average](torch.optim.AdamW([{"params": model[0].parameters()}, {"params": model[2].parameters()}]))
    again.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in again.optimizer.param_groups] == [0.02, 0.1]


def test_a_schedule_drives_the_inner_optimizer_also_after_loading():
    model = layers()
    optimizer = ScheduleFree(torch.optim.SGD(model.parameters(), lr=1.0))
    optimizer.load_state_dict(optimizer.state_dict())
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.25)
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.25


def test_steps_at_rate_zero_move_nothing():
    model = layers()
    optimizer, start = ScheduleFree(torch.optim.SGD(model.parameters(), lr=0.0)), weights(model)
    train(model, optimizer, 2)
    assert torch.equal(weights(model), start)
    assert torch.equal(averages(model, optimizer), start)


def test_a_copy_is_an_optimizer_of_its_own():
    pair = (layers(), None)
    optimizer = ScheduleFree(torch.optim.AdamW(pair[0].parameters(), lr=0.02))
    train(pair[0], optimizer, 2)
    model, copied = copy.deepcopy((pair[0], optimizer))
    for each in ((pair[0], optimizer), (model, copied)):
        train(*each, 2)
    assert torch.equal(weights(model), weights(pair[0]))
    assert copied.param_groups is copied.optimizer.param_groups


def test_an_inner_step_that_fails_leaves_the_average():
    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            raise MemoryError("no memory left")

    model = layers()
    optimizer, start = ScheduleFree(Failing(model.parameters(), lr=0.1)), weights(model)
    with pytest.raises(MemoryError, match="no memory left"):
        train(model, optimizer, 1)
    assert torch.allclose(weights(model), start, atol=1e-7)
    assert all(p.grad is not None for p in model.parameters())


def test_a_closure_is_evaluated_once():
    objective = PROBLEMS["regression"].make(torch.float64, None)
    optimizer = ScheduleFree(torch.optim.AdamW(objective.parameters, lr=0.05, betas=(0.0, 0.99)))
    losses = [float(optimizer.step(objective)) for _ in range(60)]
    assert objective.num_gradients == 60
    with optimizer.averaged():
        assert objective.value() < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: ScheduleFree(Descent(p)), "needs an optimizer that makes one step from one gradient.*got Descent"),
        (lambda p: ScheduleFree(torch.optim.LBFGS(p)), "got LBFGS, which evaluates the loss itself"),
        (lambda p: ExponentialAverage(ScheduleFree(torch.optim.SGD(p))), "got ScheduleFree, which averages already"),
        (lambda p: ScheduleFree(twice(p)), "a group holds a parameter twice.*give each once"),
        (lambda p: ScheduleFree(torch.optim.SGD(p), 0.0), r"momentum=...\) must lie in \(0, 1\]; got 0.0"),
        (lambda p: ScheduleFree(torch.optim.SGD(p), power=-1.0), r"power=...\) must be zero or positive; got -1.0"),
        (lambda p: LastAverage(torch.optim.SGD(p), -1.0), r"power=...\) must be zero or positive; got -1.0"),
        (lambda p: ExponentialAverage(torch.optim.SGD(p), 1.0), r"decay=...\) must lie in \[0, 1\); got 1.0"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(layers().parameters())


def test_both_are_of_one_kind():
    model = layers()
    objective = Objective(model, nn.MSELoss(), X, Y)
    for average in AVERAGES.values():
        optimizer = average(torch.optim.SGD(model.parameters(), lr=0.1))
        assert isinstance(optimizer, AbstractAveraging)
        assert float(optimizer.step(objective)) > 0.0
