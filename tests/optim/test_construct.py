"""Optimizers over a model and its head: every one of torch.optim, SOAP, groups, refusals."""

import copy
import functools
import json
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.optim import schedules
from thalweg.optim.catalog import OPTIMIZERS
from thalweg.optim.combined import Combined
from thalweg.optim.construct import (
    default_learning_rate,
    default_weight_decay,
    find_optimizer,
    load_optimizer,
    make_optimizer,
    needs_closure,
    optimizer_names,
    roles_of,
)
from thalweg.optim.schedule_free import ScheduleFree
from thalweg.optim.weight_average import ExponentialAverage

NAMES = [*(name for name in optimizer_names() if name != "sparseadam"), "pytorch_optimizer.SOAP"]
every_optimizer = pytest.mark.parametrize("name", NAMES)


class Small(nn.Module):
    """Embedding, a matrix inside, a norm: every role."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.hidden = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(torch.tanh(self.hidden(self.embedding(tokens))))


def problem() -> tuple[Small, Softmax, Tensor, Tensor]:
    torch.manual_seed(1)
    return Small(), Softmax(6, 3), torch.randint(9, (40,)), torch.randint(3, (40,))


def train(optimizer, model, head, tokens, targets, steps: int) -> list[float]:
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        total, count = head.loss_from_hidden(model(tokens), targets)
        loss = total / count
        loss.backward()
        return loss.detach()

    for _ in range(steps):
        if needs_closure(optimizer):
            losses.append(float(optimizer.step(closure)))
        else:
            losses.append(float(closure()))
            optimizer.step()
    losses.append(float(closure()))
    return losses


@every_optimizer
def test_twenty_steps_at_the_default_rate_lower_the_loss(name):
    model, head, tokens, targets = problem()
    optimizer = make_optimizer(find_optimizer(name), model, head)
    losses = train(optimizer, model, head, tokens, targets, 20)
    assert losses[-1] < 0.99 * losses[0]


@every_optimizer
def test_a_resumed_optimizer_goes_on_bit_for_bit(name):
    model, head, *data = problem()
    optimizer = make_optimizer(find_optimizer(name), model, head, lr=0.01)
    train(optimizer, model, head, *data, 4)
    saved = copy.deepcopy((optimizer.state_dict(), model.state_dict(), head.state_dict()))
    train(optimizer, model, head, *data, 4)

    other_model, other_head, *_ = problem()
    resumed = make_optimizer(find_optimizer(name), other_model, other_head, lr=0.01)
    other_model.load_state_dict(saved[1])
    other_head.load_state_dict(saved[2])
    resumed.load_state_dict(saved[0])
    train(resumed, other_model, other_head, *data, 4)
    for ours, theirs in zip(
        [*model.parameters(), *head.parameters()], [*other_model.parameters(), *other_head.parameters()], strict=True
    ):
        assert torch.equal(ours, theirs)


@every_optimizer
def test_the_state_is_numbered_as_pytorch_numbers_it(name):
    model, head, *data = problem()
    optimizer = make_optimizer(find_optimizer(name), model, head, lr=0.01)
    train(optimizer, model, head, *data, 2)
    state = optimizer.state_dict()
    assert set(state) == {"state", "param_groups"}
    numbers = [index for group in state["param_groups"] for index in group["params"]]
    assert sorted(numbers) == list(range(7))
    assert set(state["state"]) <= set(numbers)
    json.dumps(state["param_groups"])


@every_optimizer
def test_schedules_reach_every_group(name):
    model, head, *_ = problem()
    optimizer = make_optimizer(find_optimizer(name), model, head)
    first = [group["lr"] for group in optimizer.param_groups]
    schedule = schedules.linear(optimizer, total_steps=4)
    for _ in range(2):
        optimizer._opt_called = True  # no step is needed to see the rates
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5 * rate for rate in first])


@every_optimizer
def test_every_parameter_is_trained_once(name):
    model, head, *_ = problem()
    optimizer = make_optimizer(find_optimizer(name), model, head)
    ids = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for part in (model, head) for p in part.parameters())


def test_roles_by_the_type_of_the_owner():
    model, head, *_ = problem()
    roles = roles_of(model, head)
    assert roles.matrices == [model.hidden.weight]
    assert roles.output == [head.output.weight]
    assert roles.embeddings == [model.embedding.weight]
    assert [id(p) for p in roles.norms] == [id(model.norm.weight), id(model.norm.bias)]
    assert [id(p) for p in roles.biases] == [id(model.hidden.bias), id(head.output.bias)]
    tied = roles_of(model, Softmax(6, 9, tied=model.embedding))
    assert tied.output == []
    assert tied.embeddings == [model.embedding.weight]
    model.hidden.requires_grad_(False)
    assert roles_of(model, head).matrices == []


def test_weight_decay_applies_to_matrices_only():
    model, head, *_ = problem()
    optimizer = make_optimizer(torch.optim.AdamW, model, head, lr=0.5, weight_decay=0.1)
    before = {id(p): p.detach().clone() for part in (model, head) for p in part.parameters()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
    optimizer.step()
    for p in (model.hidden.weight, head.output.weight):
        torch.testing.assert_close(p.detach(), 0.95 * before[id(p)])
    for p in (model.embedding.weight, model.norm.weight, model.hidden.bias, head.output.bias):
        assert torch.equal(p.detach(), before[id(p)])


@pytest.mark.parametrize("name", ["adam", "nadam", "radam"])
def test_weight_decay_is_decoupled_where_the_optimizer_can(name):
    model, head, *_ = problem()
    optimizer = make_optimizer(find_optimizer(name), model, head, weight_decay=0.1)
    assert all(group["decoupled_weight_decay"] for group in optimizer.param_groups)
    coupled = make_optimizer(
        find_optimizer(name), model, head, weight_decay=0.1, options={"decoupled_weight_decay": False}
    )
    assert not any(group["decoupled_weight_decay"] for group in coupled.param_groups)


def test_fused_kernels_are_used_where_pytorch_has_them():
    model, head, *_ = problem()
    fused = {"adagrad", "adam", "adamw", "sgd"}
    for name, constructor in optimizer_names().items():
        if name != "sparseadam":
            optimizer = make_optimizer(constructor, model, head)
            groups = [g for g in optimizer.param_groups if not (name == "muon" and "momentum" in g)]
            assert all(bool(group.get("fused")) == (name in fused or name == "muon") for group in groups), name
    plain = make_optimizer(torch.optim.SGD, model, head, options={"fused": False})
    assert not any(group["fused"] for group in plain.param_groups)
    foreach = make_optimizer(torch.optim.Adam, model, head, options={"foreach": True})
    assert not any(group["fused"] for group in foreach.param_groups)


def test_muon_takes_the_matrices_inside_and_adamw_the_rest():
    model, head, *_ = problem()
    optimizer = make_optimizer(torch.optim.Muon, model, head, lr=0.04, options={"nesterov": False})
    assert isinstance(optimizer, Combined)
    muon, adamw = optimizer.optimizers
    assert [group["params"] for group in muon.param_groups] == [[model.hidden.weight]]
    assert muon.param_groups[0]["nesterov"] is False
    assert isinstance(adamw, torch.optim.AdamW)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.04, 0.004, 0.004])
    chosen = make_optimizer(torch.optim.Muon, model, head, options={"companion_lr": 0.5})
    assert [group["lr"] for group in chosen.param_groups] == [0.02, 0.5, 0.5]


def test_muon_without_a_matrix_inside_is_refused_and_soap_takes_the_output_layer():
    model, head = nn.EmbeddingBag(9, 6), Softmax(6, 3)
    with pytest.raises(InputError, match=r"Muon works on weight matrices between .* use AdamW"):
        make_optimizer(torch.optim.Muon, model, head)
    optimizer = make_optimizer(load_optimizer("pytorch_optimizer.SOAP"), model, head)
    assert isinstance(optimizer, Combined)
    assert optimizer.optimizers[0].param_groups[0]["params"] == [head.output.weight]


def test_lbfgs_has_one_group_a_line_search_and_no_weight_decay():
    model, head, *_ = problem()
    optimizer = make_optimizer(torch.optim.LBFGS, model, head, weight_decay=0.0)
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["line_search_fn"] == "strong_wolfe"
    plain = make_optimizer(torch.optim.LBFGS, model, head, options={"line_search_fn": None})
    assert plain.param_groups[0]["line_search_fn"] is None
    with pytest.raises(InputError, match=r"LBFGS takes no weight decay; set it to 0"):
        make_optimizer(torch.optim.LBFGS, model, head, weight_decay=0.1)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("adamw", {"options": {"bettas": (0.9, 0.99)}}, r"AdamW takes no 'bettas'; it takes lr, betas, eps"),
        ("pytorch_optimizer.SOAP", {"options": {"bettas": 1}}, r"SOAP takes no 'bettas'; it takes .*companion_lr"),
        ("sgd", {"options": {"companion_lr": 1}}, r"SGD takes no 'companion_lr'"),
        ("adamw", {"lr": -1.0}, r"AdamW\(lr=-1.0\) refuses its arguments: Invalid learning rate: -1.0"),
        ("adamw", {"options": {"betas": (2.0, 0.9)}}, r"AdamW\(lr=.*, betas=\(2.0, 0.9\)\) refuses its arguments: Inv"),
        (
            "adafactor",
            {"options": {"eps": [0.9]}},
            r"Adafactor\(eps=...\) must be 2 numbers, such as \[None, 0.001\]",
        ),
        ("adafactor", {"options": {"eps": {"a": 1}}}, r"Adafactor\(eps=...\) must be 2 numbers"),
        ("muon", {"options": {"adjust_lr_fn": "abc"}}, r"Muon\(lr=.*, adjust_lr_fn='abc'\) refuses its arguments"),
        (
            "adamw",
            {"options": {"betas": 0.9}},
            r"AdamW\(betas=...\) must be 2 numbers, such as \[0.9, 0.999\]; got 0.9",
        ),
        ("soap", {"options": {"betas": [0.9]}}, r"SOAP\(betas=...\) must be 2 numbers, such as .*; got \[0.9\]"),
        ("adamw", {"options": {"betas": ["a", "b"]}}, r"must be 2 numbers, such as"),
        ("adamw", {"options": {"eps": "big"}}, r"AdamW\(eps=...\) must be a number, such as 1e-08; got 'big'"),
        ("adamw", {"options": {"amsgrad": 3}}, r"AdamW\(amsgrad=...\) must be true or false; got 3"),
        ("adamw", {"options": {"fused": "maybe"}}, r"AdamW\(fused=...\) must be true or false; got 'maybe'"),
        ("sgd", {"options": {"momentum": [1, 2]}}, r"SGD\(momentum=...\) must be a number, such as 0; got \[1, 2\]"),
        ("muon", {"options": {"ns_steps": 1.5}}, r"Muon\(ns_steps=...\) must be a whole number, such as 5; got 1.5"),
        ("muon", {"options": {"companion_lr": "x"}}, r"Muon: companion_lr must be a number; got 'x'"),
        ("muon", {"options": {"ns_steps": float("nan")}}, r"Muon\(ns_steps=...\) must be a whole number, .*; got nan"),
        ("adamw", {"options": {"eps": float("nan")}}, r"AdamW\(eps=...\) must be a number, such as 1e-08; got nan"),
        ("lbfgs", {"options": {"history_size": 1e308}}, r"LBFGS\(history_size=...\) must be a whole number, .*1e\+308"),
        (
            "lbfgs",
            {"options": {"history_size": -1}},
            r"LBFGS\(history_size=...\) must lie between 1 and 10,000; got -1",
        ),
        ("lbfgs", {"options": {"history_size": 10**12}}, r"must lie between 1 and 10,000; got 1000000000000"),
        ("lbfgs", {"options": {"max_iter": 0}}, r"LBFGS\(max_iter=...\) must lie between 1 and 10,000; got 0"),
        ("adamw", {"options": {"params": 1}}, r"AdamW takes no 'params'; it takes lr, betas"),
        ("adam", {"weight_decay": -0.1}, r"Adam: weight_decay must not be negative; got -0.1"),
        ("sparseadam", {}, r"SparseAdam takes sparse gradients only"),
        ("rprop", {"weight_decay": 0.1}, r"Rprop takes no weight decay"),
    ],
)
def test_what_an_optimizer_does_not_take_is_refused(name, arguments, message):
    model, head, *_ = problem()
    with pytest.raises(InputError, match=message):
        make_optimizer(find_optimizer(name), model, head, **arguments)


def test_nothing_to_train_is_refused():
    with pytest.raises(InputError, match="There is nothing to train"):
        make_optimizer(torch.optim.SGD, nn.Identity(), Softmax(None, 3))


def test_a_function_may_stand_for_a_class():
    model, head, *_ = problem()
    optimizer = make_optimizer(functools.partial(torch.optim.SGD, momentum=0.5), model, head, lr=0.3)
    assert {(group["momentum"], group["lr"]) for group in optimizer.param_groups} == {(0.5, 0.3)}
    anything = make_optimizer(lambda groups, **given: torch.optim.SGD(groups, **given), model, head, lr=0.3)
    assert anything.param_groups[0]["lr"] == 0.3


def test_names_are_those_of_torch_optim():
    names = optimizer_names()
    assert names["sgd"] is torch.optim.SGD
    assert {member.__name__.lower() for member in names.values()} == {name.replace("-", "") for name in names}
    assert {name for name, member in names.items() if member.__module__.startswith("thalweg.")} == set(OPTIMIZERS)
    assert "optimizer" not in names
    assert find_optimizer("AdamW") is torch.optim.AdamW
    with pytest.raises(InputError, match=r"no optimizer 'adamm'; expected .*adamw"):
        find_optimizer("adamm")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_package.Lion", r"no module 'no_such_package'; pip install no-such-package"),
        ("torch.optim.nowhere.SGD", r"torch is installed and has no module 'torch.optim.nowhere'"),
        ("torch.optim.SGDD", r"torch.optim has no 'SGDD'; .* such as SGD"),
        ("torch.nn.Linear", r"torch.nn.Linear is not a torch.optim.Optimizer"),
        ("torch.optim.lr_scheduler.StepLR", r"is not a torch.optim.Optimizer"),
        ("SOAP", r"looks like package.Class.*got 'SOAP'"),
        (".SOAP", r"looks like package.Class.*got '.SOAP'"),
        ("os; import x.SOAP", r"looks like package.Class"),
    ],
)
def test_import_paths_that_lead_nowhere_are_refused(path, message):
    with pytest.raises(InputError, match=message):
        load_optimizer(path)


def test_first_guesses_for_rate_and_decay():
    assert default_learning_rate("adamw") == 2e-3
    assert default_learning_rate(torch.optim.LBFGS) == 1.0
    assert default_learning_rate("pytorch_optimizer.SOAP") == 3e-3
    assert default_learning_rate(lambda groups, **given: torch.optim.SGD(groups, **given)) == 1e-3
    assert {name: default_weight_decay(name) for name in ("adamw", "muon", "sgd", "lbfgs", "rprop")} == {
        "adamw": 0.01, "muon": 0.01, "sgd": 0.01, "lbfgs": 0.0, "rprop": 0.0,
    }  # fmt: skip


@every_optimizer
def test_only_pytorchs_first_order_optimizers_need_no_closure(name):
    model, head, *_ = problem()
    optimizer = make_optimizer(find_optimizer(name), model, head)
    assert needs_closure(optimizer) == (name == "lbfgs" or "." in name)


def test_combined_forgets_when_told_and_keeps_what_parts_remember():
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    parts = [torch.optim.SGD([w], lr=0.1, momentum=0.9) for w in weights]
    for w in weights:
        w.grad = torch.ones(2)
    for part in parts:
        part.step()
    both = Combined(parts)
    assert set(both.state) == set(weights)
    both.state = {}
    assert not any(part.state for part in parts)


def test_combined_calls_the_closure_once_and_returns_its_loss():
    w = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    both = Combined([torch.optim.SGD([x], lr=0.1) for x in w])
    calls = []

    def closure() -> Tensor:
        both.zero_grad()
        loss = F.mse_loss(w[0] + w[1], torch.zeros(1))
        loss.backward()
        calls.append(loss)
        return loss.detach()

    assert float(both.step(closure)) == 4.0
    assert len(calls) == 1
    torch.testing.assert_close([x.detach() for x in w], [torch.tensor([0.6])] * 2)


def test_combined_refuses_what_it_cannot_do():
    w = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=r"Combined\(optimizers=...\) must hold at least one"):
        Combined([])
    with pytest.raises(ValueError, match="more than one parameter group"):
        Combined([torch.optim.SGD([w]), torch.optim.SGD([w])])
    one = Combined([torch.optim.SGD([w])])
    with pytest.raises(ValueError, match="add the group to one of the parts"):
        one.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    two = torch.optim.SGD([nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="the saved groups hold other numbers of parameters"):
        one.load_state_dict(two.state_dict())


def _both(w):
    return Combined([torch.optim.AdamW(w[:1], lr=0.1), torch.optim.SGD(w[1:], lr=0.1, momentum=0.9)])


@pytest.mark.parametrize("wrapped", [lambda both: both, ScheduleFree, ExponentialAverage])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_of_several_optimizers_goes_on_like_the_original(wrapped, copied):
    w = [nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([3.0]))]
    optimizer = wrapped(_both(w))

    def step(optimizer, w) -> None:
        for p in w:
            p.grad = p.detach() ** 3
        optimizer.step()

    step(optimizer, w)
    again, other = copied((w, optimizer))
    for group in (*optimizer.param_groups, *other.param_groups):
        group["lr"] = 0.2
    for _ in range(3):
        step(optimizer, w)
        step(other, again)
    assert all(torch.equal(left, right) for left, right in zip(w, again, strict=True))
    assert again[0] is not w[0]


@pytest.mark.parametrize("wrapped", [lambda both: both, ScheduleFree, ExponentialAverage])
def test_hooks_run_around_saving_and_loading_of_several_optimizers(wrapped):
    w = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))]
    optimizer, seen = wrapped(_both(w)), []
    optimizer.register_state_dict_pre_hook(lambda _: seen.append("save"))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "epoch": 3})
    optimizer.register_load_state_dict_pre_hook(lambda _, state: seen.append(state.pop("epoch")))
    optimizer.register_load_state_dict_post_hook(lambda _: seen.append("loaded"))
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert seen == ["save", 3, "loaded"]
    assert state["epoch"] == 3
