"""What is recorded of steps: figures by layer, cosines of gradients, labels; and nothing of it changes the training."""

import pytest
import torch
from torch import nn
from torch.nn.modules.module import _global_forward_hooks

from thalweg.batch import Batch
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.optim.descent import Descent
from thalweg.optim.lbfgs import LBFGS
from thalweg.training.steps import recorder
from thalweg.training.steps.fit import FitOptions, fit
from thalweg.training.steps.gauges import alignment, label_figures, layer_figures, layer_names, parameter_facts
from thalweg.training.steps.recorder import Interval, Recorder

ALWAYS = {"watch": lambda step: True, "sites": lambda step: True}


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 4)
        self.width = 4

    def forward(self, x):
        return nn.functional.dropout(self.second(torch.tanh(self.first(x))), 0.2, self.training)


def data(step):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    return [Batch({"x": x}, (x[:, 0] > 0).long())]


def halves(step):
    [batch] = data(step)
    return [Batch({"x": batch.inputs["x"][part]}, batch.targets[part]) for part in (slice(0, 3), slice(3, 8))]


def run(make, batches=data, steps=4, **options):
    torch.manual_seed(0)
    model, head = Body(), Softmax(4, 2)
    optimizer = make([*model.parameters(), *head.parameters()])
    records = list(fit(model, head, optimizer, batches, steps=steps, options=FitOptions(**options)))
    return [*model.parameters(), *head.parameters()], records


KINDS = {
    "first order": lambda p: torch.optim.AdamW(p, lr=0.05),
    "closure": lambda p: torch.optim.LBFGS(p, lr=0.1),
    "objective": lambda p: Descent(p, LBFGS()),
}


@pytest.mark.parametrize("batches", [data, halves])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_watched_training_is_the_same_to_the_last_bit(make, batches):
    plain, _ = run(make, batches)
    watched, records = run(make, batches, **ALWAYS)
    assert all(map(torch.equal, plain, watched))
    entries = [record.resolve() for record in records]
    assert [site["name"] for site in entries[0]["sites"]] == ["first", "body", "second", "head.output"]
    assert set(entries[0]["layers"]) == {"first", "second", "head.output"}
    assert all(site["flow"] > 0 for entry in entries for site in entry["sites"])
    assert [("alignment" in entry) for entry in entries] == [False, True, True, True]
    assert not any("unmeasured" in entry for entry in entries)


def test_what_comes_back_is_that_of_the_mean_loss_with_micro_batches():
    torch.manual_seed(0)
    model, head = nn.Linear(3, 4), Squared(4, 1)
    model.width = 4
    x, y = torch.randn(2, 8, 3), torch.randn(2, 8, 1)
    batches = [Batch({"input": x[i]}, y[i]) for i in range(2)]
    hidden = model(x[0]).detach().requires_grad_()
    total, _ = head.loss(head(hidden), y[0])
    (gradient,) = torch.autograd.grad(total / 16, hidden)
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.0)
    [record] = fit(model, head, optimizer, lambda _: batches, steps=1, options=FitOptions(**ALWAYS))
    assert record.watched.sites[0]["flow"] == pytest.approx(float(gradient.norm()), rel=1e-5)


def test_alignment_is_the_cosine_with_the_step_before():
    _, records = run(KINDS["first order"], steps=3, watch=lambda step: step == 2)
    gradients = []
    for steps in (2, 3):
        parameters, _ = run(KINDS["first order"], steps=steps)
        gradients.append(torch.cat([p.grad.flatten() for p in parameters]).double())
    cosine = float(torch.cosine_similarity(*gradients, dim=0))
    assert records[2].watched.alignment == pytest.approx(cosine, rel=1e-5)
    assert records[1].watched is None


@pytest.mark.parametrize(("old", "new", "expected"), [
    ([1.0, 0.0], [0.0, 3.0], 0.0), ([1.0, 1.0], [2.0, 2.0], 1.0), ([1.0, 0.0], [-4.0, 0.0], -1.0),
    ([0.0, 0.0], [1.0, 0.0], None), ([1.0, 0.0], [float("nan"), 0.0], None), ([1e30, 0.0], [1e30, 0.0], None),
])  # fmt: skip
def test_cosines(old, new, expected):
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor(new)
    found = alignment([torch.tensor(old)], [parameter])
    assert found == (None if expected is None else pytest.approx(expected))


def test_the_unchanged_share_counts_entries_that_a_step_is_too_small_for():
    model = nn.Linear(4, 1, bias=False).bfloat16()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 0.0]]))
    before = {id(model.weight): model.weight.detach().clone()}
    model.weight.grad = torch.tensor([[1.0, 1e-3, 0.0, 1e-3]]).bfloat16()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    layers = layer_figures(layer_names(model), before)
    # The second entry would move by 1e-4, which is below a bfloat16's step at 1; the third has no gradient.
    assert layers["linear"]["unchanged"] == pytest.approx(1 / 3)


def test_a_parameter_that_is_one_number_is_measured_as_any_other():
    model = nn.Linear(2, 1)
    model.scale = nn.Parameter(torch.tensor(2.0))
    before = {id(parameter): parameter.detach().clone() for parameter in model.parameters()}
    model.scale.grad = torch.tensor(3.0)
    with torch.no_grad():
        model.scale.add_(1.0)
    layers = layer_figures({"scale": [model.scale]}, before)
    assert layers == {"scale": {"grad_norm": 3.0, "update_ratio": 0.5, "unchanged": 0.0}}


def test_layers_without_a_gradient_and_with_sparse_ones():
    model = nn.ModuleDict({"used": nn.Embedding(5, 2, sparse=True), "idle": nn.Linear(2, 2)})
    before = {id(p): p.detach().clone() for p in model.parameters()}
    model["used"](torch.tensor([1, 1])).sum().backward()
    torch.optim.SGD(model["used"].parameters(), lr=0.1).step()
    layers = layer_figures(layer_names(model), before)
    assert layers["idle"] == {"grad_norm": 0.0, "update_ratio": 0.0, "unchanged": None}
    assert layers["used"]["grad_norm"] == pytest.approx(8**0.5)
    assert layers["used"]["update_ratio"] > 0


@pytest.mark.parametrize(("targets", "mask", "expected"), [
    (torch.tensor([2, 2, 5, -100]), None, {"label_kinds": 2, "label_share": 2 / 3}),
    (torch.tensor([[1, 2], [1, 0]]), torch.tensor([[True, True], [True, False]]),
     {"label_kinds": 2, "label_share": 2 / 3}),
    (torch.tensor([0.5, 1.0]), None, {}),
])  # fmt: skip
def test_labels_of_a_batch(targets, mask, expected):
    assert label_figures([Batch({}, targets, mask)]) == expected


def test_which_parameters_do_not_learn():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2), "c": nn.Linear(2, 2)})
    model["a"].requires_grad_(False)
    facts = parameter_facts([("", model)], torch.optim.SGD(model["b"].parameters(), lr=0.1))
    assert facts == {
        "frozen": ["a.weight", "a.bias"], "not_in_optimizer": ["c.weight", "c.bias"], "num_parameters": 18,
    }  # fmt: skip


def test_what_cannot_be_measured_is_told_once_and_left_out(monkeypatch):
    def broken(*_):
        raise NotImplementedError("no kernel for this type")

    monkeypatch.setattr(recorder, "layer_figures", broken)
    plain, _ = run(KINDS["first order"])
    watched, records = run(KINDS["first order"], **ALWAYS)
    assert all(map(torch.equal, plain, watched))
    told = [record.resolve().get("unmeasured") for record in records]
    assert told == [{"layers": "NotImplementedError: no kernel for this type"}, None, None, None]
    assert all("layers" not in record.resolve() and "sites" in record.resolve() for record in records)


@pytest.mark.parametrize("total", [1, 50, 400, 3000, 100_000])
def test_intervals_bound_what_is_recorded(total):
    interval = Interval.of(total)
    watched = [step for step in range(total) if interval.watches(step)]
    seen = [step for step in range(total) if interval.sees_sites(step)]
    assert seen[:3] == list(range(min(total, 3)))
    assert set(seen) <= set(watched)
    assert len(seen) <= 25
    assert len(watched) <= 206


def test_nothing_is_left_on_the_networks_after_an_error():
    model, head = Body(), Softmax(4, 2)
    bad = [Batch({"x": torch.ones(2, 5)}, torch.zeros(2).long())]
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1)
    with pytest.raises(RuntimeError, match="shapes"):
        list(fit(model, head, optimizer, lambda _: bad, steps=1, options=FitOptions(**ALWAYS)))
    assert not _global_forward_hooks


def test_a_recorder_that_watches_nothing_returns_nothing():
    found = Recorder([("", nn.Linear(2, 2))])
    found.before_forward(sites=False)
    found.before_step(layers=False)
    assert found.after() is None
