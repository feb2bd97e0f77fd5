"""What everybody relies on in an optimizer of PyTorch: schedulers, hooks, groups, saved files, sparse gradients."""

import io

import pytest
import torch
from cases import DIRECTIONS, PROBLEMS, descent, snapshot
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers

from thalweg.objective import Objective
from thalweg.optim.base import ModelAlongLine, SearchDirection
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Gradient, Update
from thalweg.optim.lbfgs import LBFGS, curvature_condition
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.muon import NorMuon, PolarMuon
from thalweg.optim.shampoo import Shampoo
from thalweg.optim.soap import SOAP
from thalweg.optim.stochastic import StochasticArmijo
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status

X = torch.randn(16, 3, generator=torch.Generator().manual_seed(2))
Y = X.sum(1, keepdim=True).sin()

SCHEDULERS = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: schedulers.StepLR(o, 3),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, total_iters=3),
    "LinearLR": lambda o: schedulers.LinearLR(o, total_iters=5),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.8),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.ConstantLR(o, total_iters=2), schedulers.ExponentialLR(o, 0.9)], [3]
    ),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 8),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, total_iters=2), schedulers.ExponentialLR(o, 0.9)], o
    ),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=0, threshold=0.5),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.001, 0.1, step_size_up=3),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 4),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=12),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 8),
}


PRECONDITIONED = {kind.__name__: kind for kind in (SOAP, Shampoo, PolarMuon, NorMuon)}


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def gradients(model: nn.Module) -> Tensor:
    model.zero_grad()
    loss = nn.functional.mse_loss(model(X), Y)
    loss.backward()
    return loss


def ours(parameters, constructor=torch.optim.AdamW, **options) -> Descent:
    return Descent(parameters, Update(constructor, **options), Fixed(1))


def test_the_table_names_every_scheduler_of_pytorch():
    # SWALR lies elsewhere, and has a test of its own.
    assert {name for name in schedulers.__all__ if name != "LRScheduler"} == SCHEDULERS.keys()


@pytest.mark.parametrize("make", [*SCHEDULERS.values(), lambda o: torch.optim.swa_utils.SWALR(o, 0.01, 4)],
                         ids=[*SCHEDULERS, "SWALR"])  # fmt: skip
def test_every_scheduler_drives_it_like_the_plain_optimizer(make):
    ended, rates = [], []
    for constructor in (torch.optim.AdamW, ours):
        model = layers()
        optimizer = constructor(model.parameters(), lr=0.05)
        schedule = make(optimizer)
        rates.append([])
        for _ in range(10):
            loss = gradients(model)
            optimizer.step()
            schedule.step(*([loss.detach()] if isinstance(schedule, schedulers.ReduceLROnPlateau) else []))
            rates[-1].append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]))
        ended.append(weights(model))
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 1
    assert torch.equal(*ended)


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_every_scheduler_drives_preconditioned_optimizers(make):
    rates = {}
    for name, kind in {"AdamW": torch.optim.AdamW, **PRECONDITIONED}.items():
        model = layers()
        optimizer = kind(model.parameters(), lr=0.05)
        schedule, rates[name] = make(optimizer), []
        for step in range(10):
            gradients(model)
            optimizer.step()
            # A score of its own for the one that looks at it: the losses differ.
            schedule.step(*([step % 3] if isinstance(schedule, schedulers.ReduceLROnPlateau) else []))
            rates[name].append(optimizer.param_groups[0]["lr"])
        assert weights(model).isfinite().all()
    assert all(found == rates["AdamW"] for found in rates.values())
    assert len(set(rates["AdamW"])) > 1


@pytest.mark.parametrize("kind", PRECONDITIONED.values(), ids=PRECONDITIONED)
def test_preconditioned_optimizers_step_as_the_direction_of_a_descent(kind):
    ended = []
    for wrap in (lambda p: kind(p, lr=0.05), lambda p: ours(p, kind, lr=0.05)):
        model = layers()
        optimizer = wrap(model.parameters())
        for _ in range(6):
            gradients(model)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        ended.append(weights(model))
    assert torch.equal(*ended)
    model = layers()
    objective = Objective(model, nn.MSELoss(), X, Y)
    searched, start = Descent(model.parameters(), Update(kind, lr=0.05), Armijo()), objective.value()
    for _ in range(10):
        searched.step(objective)
    assert objective.value() < 0.9 * start


@pytest.mark.parametrize("kind", PRECONDITIONED.values(), ids=PRECONDITIONED)
def test_a_scaler_skips_the_steps_of_preconditioned_optimizers(kind):
    model, twin, scaler = layers(), layers(), torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer, plain = kind(model.parameters(), lr=0.05), kind(twin.parameters(), lr=0.05)
    for step in range(4):
        model.zero_grad()
        scaler.scale(nn.functional.mse_loss(model(X), Y)).backward()
        if step == 2:
            model[0].bias.grad[0] = torch.inf
        else:
            gradients(twin)
            plain.step()
        scaler.step(optimizer)
        scaler.update()
    torch.testing.assert_close(weights(model), weights(twin), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "options", [{"maximize": True}, {"amsgrad": True}, {"foreach": False}, {"fused": True}], ids=str
)
def test_options_groups_and_clipping_are_the_plain_optimizers(options):
    ended = []
    for constructor in (torch.optim.AdamW, ours):
        model = layers()
        optimizer = constructor([{"params": model[0].parameters(), "lr": 0.1}], lr=0.02, **options)
        for step in range(6):
            if step == 2:
                optimizer.add_param_group({"params": model[2].parameters(), "weight_decay": 0.3})
            gradients(model)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        ended.append(weights(model))
    assert torch.equal(*ended)
    assert not torch.equal(ended[0], weights(layers()))


@pytest.mark.parametrize(
    ("constructor", "options"), [(torch.optim.SparseAdam, {"lr": 0.1}), (torch.optim.SGD, {"lr": 0.1})]
)
def test_sparse_gradients_move_what_the_plain_optimizer_moves(constructor, options):
    ended = []
    for wrap in (lambda p: constructor(p, **options), lambda p: ours(p, constructor, **options)):
        torch.manual_seed(0)
        table = nn.Embedding(6, 2, sparse=True)
        optimizer = wrap(table.parameters())
        for ids in ([1, 1, 3], [0, 3]):
            optimizer.zero_grad()
            table(torch.tensor(ids)).square().sum().backward()
            optimizer.step()
        ended.append(table.weight.detach())
    assert torch.equal(*ended)


def test_a_search_takes_sparse_gradients():
    table = nn.Embedding(6, 2, sparse=True)
    objective = Objective(table, nn.MSELoss(), torch.tensor([1, 1, 3]), torch.ones(3, 2))
    optimizer, before = Descent(table.parameters(), LBFGS()), table.weight.detach().clone()
    for _ in range(5):
        optimizer.step(objective)
    assert objective.value() < 1e-8
    assert torch.equal(table.weight[[0, 2, 4, 5]], before[[0, 2, 4, 5]])


def test_hooks_run_around_every_step_and_around_saving():
    model, seen = layers(), []
    optimizer = Descent(model.parameters(), LBFGS())
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "mine": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, state: seen.append(state["mine"]))
    optimizer.step(Objective(model, nn.MSELoss(), X, Y))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["before", "after", 1]


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_saved_state_loads_without_pickle(name):
    """Trainer, accelerate and Lightning read it so."""
    objective = PROBLEMS["regression"].make(torch.float64, None)
    pair = (name, "fixed" if name in ("sgd", "adamw") else "armijo")
    optimizer = descent(objective, pair)
    for _ in range(3):
        optimizer.step(objective)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    kept, ends = snapshot(objective).clone(), []
    for is_restored in (False, True):
        if is_restored:
            nn.utils.vector_to_parameters(kept, objective.parameters)
            optimizer = descent(objective, pair)
            optimizer.load_state_dict(torch.load(file, weights_only=True))
        for _ in range(2):
            optimizer.step(objective)
        ends.append(snapshot(objective))
    assert torch.equal(*ends)
    assert optimizer.counts["steps"] == 5


def test_a_model_in_data_parallel_is_trained_like_the_model():
    ends = []
    for wrap in (lambda model: model, nn.DataParallel):
        model = layers()
        optimizer = Descent(model.parameters())
        for _ in range(4):
            optimizer.step(Objective(wrap(model), nn.MSELoss(), X, Y))
        ends.append(weights(model))
    assert torch.equal(*ends)


@pytest.mark.parametrize("direction", [d for d in DIRECTIONS if d not in ("sgd", "adamw", "gradient")])
def test_every_direction_works_under_autocast(direction):
    model = layers()
    objective = Objective(model, nn.MSELoss(), X, Y, autocast=torch.bfloat16)
    optimizer, start = Descent(model.parameters(), DIRECTIONS[direction]), objective.value()
    for _ in range(8):
        optimizer.step(objective)
    assert objective.value() < 0.9 * start


def test_what_has_been_evaluated_is_not_evaluated_again():
    model = layers()
    optimizer, plain = Descent(model.parameters()), Descent((twin := layers()).parameters())
    for _ in range(3):  # other batches than before, as in a loop over data
        objective = Objective(model, nn.MSELoss(), X, Y)
        loss = optimizer.evaluate(objective)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)  # what a loop does to the gradients it sees
        assert torch.equal(optimizer.step(objective), loss)
        plain.step(Objective(twin, nn.MSELoss(), X, Y))
    assert torch.equal(weights(model), weights(twin))
    assert optimizer.counts == plain.counts
    loss = optimizer.evaluate(objective := Objective(model, nn.MSELoss(), X, Y))
    with torch.no_grad():
        model[0].bias.add_(1.0)
    assert not torch.equal(optimizer.step(objective), loss)


def test_an_objective_of_one_tensor_has_others_of_the_same_kind():
    whole = Objective(layers(), nn.MSELoss(), X, Y)
    parts = [Objective(nn.Tanh(), nn.MSELoss(), X[rows], Y[rows]).batches[0] for rows in (slice(6), slice(6, 16))]
    assert torch.allclose(whole.on(parts).value(), whole.value())


def test_a_group_may_be_empty():
    model = layers()
    optimizer = Descent([{"params": []}, {"params": model.parameters()}])
    optimizer.step(Objective(model, nn.MSELoss(), X, Y))
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.counts["steps"] == 1


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"params": [torch.ones(2, dtype=torch.complex64, requires_grad=True)]}, "real parameters"),
        ({"params": [torch.ones(2, requires_grad=True)], "lower": 3.0, "upper": 2.0}, "lower <= upper"),
        ({"params": [torch.ones(2, requires_grad=True)], "maximize": True}, "maximize=True goes up"),
    ],
    ids=["complex", "bounds", "maximize"],
)
def test_a_group_that_is_refused_is_not_added(group, message):
    optimizer = Descent(layers().parameters())
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


def test_a_search_does_not_maximize():
    with pytest.raises(ValueError, match="Armijo looks for a lower loss, and maximize=True goes up"):
        Descent(layers().parameters(), Update(torch.optim.SGD, lr=0.1, maximize=True), Armijo())


def test_a_group_without_a_rate_stays_where_a_search_falls_back_to_the_gradient():
    model = layers()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
    optimizer = Descent(groups, Update(torch.optim.SGD, lr=0.5, momentum=0.99), Armijo())
    objective, before = Objective(model, nn.MSELoss(), X, Y), weights(model[0])
    for _ in range(30):
        optimizer.step(objective)
    assert optimizer.counts["fallbacks"] > 0
    assert torch.equal(weights(model[0]), before)


def test_complex_state_is_cast_to_other_complex_parameters():
    states = []
    for dtype in (torch.complex64, torch.complex128):
        z = torch.ones(2, dtype=dtype, requires_grad=True)
        optimizer = ours([z])
        for state in states:
            optimizer.load_state_dict(state)
        z.grad = torch.full_like(z, 1.0 + 2.0j)
        optimizer.step()
        states.append(optimizer.state_dict())
    assert states[1]["state"][0]["direction"]["optimizer"][0]["exp_avg"].dtype == torch.complex128


def test_parameters_come_back_where_a_search_is_broken_off():
    w, calls = torch.tensor([-1.2, 1.0], requires_grad=True), []
    optimizer = Descent([w])

    def closure():
        calls.append(w.detach().clone())
        if len(calls) == 2:
            raise KeyboardInterrupt("in the search")
        optimizer.zero_grad()
        loss = 100.0 * (w[1] - w[0] ** 2) ** 2 + (1.0 - w[0]) ** 2
        loss.backward()
        return loss

    with pytest.raises(KeyboardInterrupt, match="in the search"):
        optimizer.step(closure)
    assert torch.equal(w, calls[0])
    assert not torch.equal(calls[-1], calls[0])


def test_a_scaler_divides_the_gradients_that_are_there():
    model, scaler = layers(), torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer, before = Descent(model.parameters(), Gradient(), Fixed(0.1)), weights(model)
    scaler.scale(nn.functional.mse_loss(model(X), Y)).backward()
    scaler.step(optimizer)
    moved = weights(model)
    nn.utils.vector_to_parameters(before, model.parameters())
    gradients(model)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert torch.allclose(moved, weights(model), atol=1e-7)


def test_multiples_of_a_direction_stay_numbers_of_single_precision():
    w = torch.tensor([1.5, 2.5], requires_grad=True)
    optimizer = Descent([w])

    def closure():
        optimizer.zero_grad()
        loss = 1e-18 * w.sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert w.isfinite().all()
    assert (w < -1e15).all()


def test_numbers_that_underflow_make_no_pair_and_no_step():
    small = torch.full((2,), 1e-20)
    assert curvature_condition(small, small)[2] is False  # the reciprocal of the product is no number of its type
    assert curvature_condition(1e8 * small, 1e8 * small)[2] is True
    step = torch.full((2,), -1e-170, dtype=torch.float64)
    model = ModelAlongLine(SearchDirection(step), torch.full((2,), 1e-100, dtype=torch.float64))
    assert model.within(1.0).predicted == 0.0


@pytest.mark.parametrize("step_size", [StrongWolfe(), StochasticArmijo()], ids=["wolfe", "stochastic"])
def test_tiny_parameters_are_searched(step_size):
    """A first step of length 1 is nine orders of magnitude too long, and the loss grows like a tenth power there."""
    w = torch.full((3,), 2e-9, dtype=torch.float64, requires_grad=True)
    optimizer = Descent([w], Gradient(), step_size)

    def closure():
        optimizer.zero_grad()
        x = 1e9 * w
        loss = ((x - 1.0).square() + 1e-3 * x**10).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert optimizer.status is Status.STEPPED
