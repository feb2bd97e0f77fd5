"""What may be given to a step, and what happens where it cannot be: one sentence."""

import functools

import pytest
import torch
from cases import PROBLEMS, snapshot
from torch import nn

from thalweg.objective import Objective
from thalweg.optim.closures import objective_in
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Gradient, Update
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.newton import Newton
from thalweg.optim.newton_cg import NewtonCG
from thalweg.status import Status


def make(dtype: torch.dtype = torch.float64) -> Objective:
    return PROBLEMS["regression"].make(dtype, None)


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


X = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
Y = X.sum(1, keepdim=True)

# ---- frozen layers ----


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "fixed adamw": lambda p: Descent(p, Update(torch.optim.AdamW, lr=0.1), Fixed(1)),
    "searched adamw": lambda p: Descent(p, Update(torch.optim.AdamW, lr=0.1), Armijo()),
    "lbfgs": lambda p: Descent(p),
    "newton-cg": lambda p: Descent(p, NewtonCG()),
}
WITH_CLOSURES = ("fixed adamw", "searched adamw", "lbfgs")  # PyTorch's own move what a closure leaves a gradient on


@pytest.mark.parametrize(
    ("name", "own_closure"), [*((name, False) for name in OPTIMIZERS), *((name, True) for name in WITH_CLOSURES)]
)
def test_a_layer_frozen_between_steps_stays(name, own_closure):
    model = layers()
    optimizer = OPTIMIZERS[name](model.parameters())

    def objective() -> Objective:
        return Objective(model, nn.MSELoss(), X, Y)

    def closure() -> torch.Tensor:  # leaves the gradients of frozen layers where they are
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = None
        loss = nn.functional.mse_loss(model(X), Y)
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure if own_closure else objective())
    model[0].requires_grad_(False)
    frozen, free = model[0].weight.detach().clone(), model[2].weight.detach().clone()
    for _ in range(5):
        optimizer.step(closure if own_closure else objective())
    assert torch.equal(model[0].weight, frozen)
    assert not torch.equal(model[2].weight, free)


def test_an_objective_follows_what_is_frozen_and_thawed():
    model = layers()
    objective = Objective(model, nn.MSELoss(), X, Y, l2=0.1)
    assert len(objective.parameters) == 4
    assert len(objective.penalized) == 2
    model[0].requires_grad_(False)
    assert objective.parameters == list(model[2].parameters())
    assert objective.penalized == [model[2].weight]
    optimizer = Descent(model.parameters(), LevenbergMarquardt())
    before = model[0].weight.detach().clone()
    optimizer.step(objective)
    assert optimizer.status is Status.STEPPED
    assert torch.equal(model[0].weight, before)
    model[0].requires_grad_(True)
    optimizer.step(objective)
    assert not torch.equal(model[0].weight, before)


# ---- sentences ----


def tuple_model() -> nn.Module:
    return nn.LSTM(3, 1)


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (None, "it returned None"),
        ((1.0, 2.0), "it returned a tuple"),
        (torch.ones(2), r"it returned a float32 tensor of shape \[2\]"),
        (torch.ones((), dtype=torch.complex64), r"it returned a complex64 tensor of shape \[\]"),
    ],
    ids=["none", "tuple", "vector", "complex"],
)
@pytest.mark.parametrize(
    "parts", [(None, None), (Update(torch.optim.SGD, lr=0.1), Fixed(1))], ids=["lbfgs", "in place"]
)
def test_a_closure_must_return_one_real_number(returned, got, parts):
    w = torch.ones(2, requires_grad=True)
    w.grad = torch.ones(2)
    with pytest.raises(ValueError, match=f"must clear the gradients, call backward and return the loss.*{got}"):
        Descent([w], *parts).step(lambda: returned)
    assert torch.equal(w, torch.ones(2))


def test_numbers_and_tensors_of_one_element_are_losses():
    for returned in (4.0, 4, torch.tensor([4.0]), torch.tensor([[4.0]], dtype=torch.float64)):
        w = torch.tensor([2.0], requires_grad=True)
        w.grad = torch.tensor([4.0])
        loss = Descent([w], Gradient(), Fixed(0.1)).step(lambda returned=returned: returned)
        assert loss.shape == ()
        assert float(loss) == 4.0


def test_a_closure_without_backward_is_named():
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="left no gradient on any of the optimizer's parameters; it must call"):
        Descent([w]).step(lambda: w.detach().sum())


@pytest.mark.parametrize("direction", [LBFGS(), NewtonCG(), Newton()], ids=["lbfgs", "newton-cg", "newton"])
def test_an_objective_over_other_parameters_is_named(direction):
    with pytest.raises(ValueError, match="about other parameters than the optimizer's: give both the same model"):
        Descent(layers().parameters(), direction).step(Objective(layers(), nn.MSELoss(), X, Y))


def test_nothing_to_train_is_named():
    model = layers().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train: all of its parameters are frozen"):
        Descent(model.parameters()).step(Objective(model, nn.MSELoss(), X, Y))


def test_complex_parameters_are_refused_where_something_is_searched():
    w = torch.ones(2, dtype=torch.complex64, requires_grad=True)
    with pytest.raises(ValueError, match="searches over real parameters, and one of them is complex"):
        Descent([w])
    w.grad = torch.ones(2, dtype=torch.complex64)
    Descent([w], Update(torch.optim.SGD, lr=0.5), Fixed(1)).step()
    assert torch.equal(w.detach(), torch.full((2,), 0.5, dtype=torch.complex64))


def test_a_model_that_returns_a_tuple_is_told_what_to_do():
    with pytest.raises(ValueError, match=r"must return one tensor, or an output with `logits`.*got a tuple\. Wrap it"):
        Objective(nn.LSTM(3, 1), nn.MSELoss(), X, Y).value()


@pytest.mark.parametrize("field", ["logits", "last_hidden_state"])
def test_outputs_with_fields_are_read(field):
    class Output(dict):
        def __getattr__(self, name: str) -> torch.Tensor:
            return self[name]

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers()

        def forward(self, inputs: torch.Tensor) -> Output:
            return Output({field: self.inner(inputs), "loss": torch.zeros(())})

    class Plain(Output):
        def __getattr__(self, name: str) -> torch.Tensor:
            if name not in self:
                raise AttributeError(name)
            return self[name]

    class Careful(Wrapped):
        def forward(self, inputs: torch.Tensor) -> Output:
            return Plain({field: self.inner(inputs)})

    expected = Objective(layers(), nn.MSELoss(), X, Y).value()
    assert torch.equal(Objective(Careful(), nn.MSELoss(), X, Y).value(), expected)


# ---- types ----


@pytest.mark.parametrize(
    "direction", [LBFGS(), Newton(), NewtonCG(), LevenbergMarquardt()], ids=["lbfgs", "newton", "newton-cg", "lm"]
)
@pytest.mark.parametrize("types", ["bfloat16", "mixed"])
def test_narrow_and_mixed_types_are_trained(direction, types):
    model = layers()
    if types == "bfloat16":
        model, x, y = model.bfloat16(), X.bfloat16(), Y.bfloat16()
    else:
        model[2].double()
        model.insert(2, Cast())
        x, y = X, Y.double()
    objective = Objective(model, nn.MSELoss(), x, y)
    optimizer = Descent(model.parameters(), direction)
    first = float(objective.value())
    for _ in range(6):
        optimizer.step(objective)
    assert float(objective.value()) < 0.7 * first
    assert [p.dtype for p in model.parameters()] == [p.dtype for p in objective.parameters]


class Cast(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.double()


def test_a_state_comes_back_into_another_type():
    single, double = make(torch.float32), make(torch.float64)
    optimizer, other = Descent(single.parameters), Descent(double.parameters)
    for _ in range(4):
        optimizer.step(single)
    other.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        for mine, theirs in zip(double.parameters, single.parameters, strict=True):
            mine.copy_(theirs)
    losses = [float(other.step(double)) for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    assert other.counts["steps"] == 8
    assert other.counts["restarts"] == 0


@pytest.mark.parametrize("state", [{}, {"state": {}}, "adam"], ids=["empty", "half", "adam"])
def test_the_state_of_another_optimizer_is_refused(state):
    w = torch.ones(2, requires_grad=True)
    if state == "adam":
        adam = torch.optim.Adam([w])
        w.grad = torch.ones(2)
        adam.step()
        state = adam.state_dict()
    with pytest.raises(ValueError, match=r"takes what Descent\.state_dict returned"):
        Descent([w]).load_state_dict(state)


# ---- other people's loops ----


def framework(function):
    function.__module__ = "lightning.pytorch.plugins.precision.precision"
    return function


def wrapped(function):
    @functools.wraps(function)
    def inner():
        return function()

    return inner


@pytest.mark.parametrize(
    "wrap",
    [
        lambda o: o,
        lambda o: o.__call__,
        functools.partial,
        lambda o: functools.partial(framework(lambda model, closure: closure()), None, o),
        lambda o: functools.partial(framework(lambda closure: closure()), closure=functools.partial(o)),
    ],
    ids=["itself", "bound", "partial", "argument", "nested"],
)
def test_an_objective_is_found_in_what_frameworks_wrap_around_it(wrap):
    objective = make()
    assert objective_in(wrap(objective)) is objective
    again = make()
    ours, plain = Descent(objective.parameters, NewtonCG()), Descent(again.parameters, NewtonCG())
    for _ in range(3):
        ours.step(wrap(objective))
        plain.step(again)
    assert torch.equal(snapshot(objective), snapshot(again))


def test_what_wraps_no_objective_is_left_alone():
    objective = make()
    own = (functools.partial(lambda o: 2.0 * o(), objective), wrapped(objective), objective.value)
    for closure in (None, lambda: 1.0, functools.partial(print, "a"), wrapped(lambda: 2.0), *own):
        assert objective_in(closure) is None


def test_an_objective_can_be_handed_over_once():
    objective, again = make(), make()
    ours = Descent(objective.parameters, LevenbergMarquardt(), objective=objective)
    plain = Descent(again.parameters, LevenbergMarquardt())
    for _ in range(3):
        assert torch.equal(ours.step(), plain.step(again))
    assert torch.equal(snapshot(objective), snapshot(again))


def test_the_loops_closure_runs_once_and_makes_the_batch():
    model, calls = layers(), []

    def closure() -> torch.Tensor:
        calls.append(Objective(model, nn.MSELoss(), X[: 5 + len(calls)], Y[: 5 + len(calls)]))
        loss = nn.functional.mse_loss(model(X), Y)
        loss.backward()
        return loss

    optimizer = Descent(model.parameters(), NewtonCG(), objective=lambda: calls[-1])
    for step in range(3):
        optimizer.step(closure)
        assert optimizer.status.continues
        assert len(calls) == step + 1
        assert calls[-1].num_gradients > 0


def test_a_function_that_makes_no_objective_is_named():
    optimizer = Descent(layers().parameters(), objective=lambda: 3)
    with pytest.raises(ValueError, match=r"must be a thalweg.Objective, or a function.*it returned a int"):
        optimizer.step()


# ---- rates and scalers ----


@pytest.mark.parametrize("parts", [(Gradient(), Fixed(0.5)), (Update(torch.optim.SGD, lr=0.5), Fixed(1))])
def test_a_rate_given_replaces_the_parts_own(parts):
    w = torch.ones(2, requires_grad=True)
    optimizer = Descent([w], *parts, lr=0.25)
    assert optimizer.param_groups[0]["lr"] == 0.25
    w.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(w, torch.full((2,), 0.75))


def test_a_rate_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"Descent\(lr=...\) must be finite and not negative; got -0.1"):
        Descent([torch.ones(1, requires_grad=True)], lr=-0.1)


def test_a_gradient_scaler_is_undone_where_the_step_is_plain():
    models = layers(), layers()
    ours = Descent(models[0].parameters(), Update(torch.optim.AdamW, lr=0.1), Fixed(1))
    plain = torch.optim.AdamW(models[1].parameters(), lr=0.1)
    for model, optimizer in zip(models, (ours, plain), strict=True):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for step in range(3):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(X), Y) * (float("inf") if step == 1 else 1.0)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    for mine, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    assert ours.counts["rejected"] == 1


def test_a_gradient_scaler_is_refused_where_the_loss_is_searched():
    model = layers()
    optimizer = Descent(model.parameters())
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(nn.functional.mse_loss(model(X), Y)).backward()
    with pytest.raises(ValueError, match=r"a GradScaler's factor would be in some of its numbers.*use bfloat16"):
        scaler.step(optimizer, Objective(model, nn.MSELoss(), X, Y))
