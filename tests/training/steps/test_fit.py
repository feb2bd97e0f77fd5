import math

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import Ragged
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.optim.clipping import ClipNorm, ClipUpdate, NoClip
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Gradient
from thalweg.optim.line_search import Fixed
from thalweg.training.steps import feed
from thalweg.training.steps.fit import FitOptions, Place, fit
from thalweg.training.steps.gauges import layer_names
from thalweg.training.steps.stepper import ClosureStepper, stepper_for


class Body(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 4)
        self.dropout = nn.Dropout(dropout)
        self.width = 4

    def forward(self, x):
        return self.second(self.dropout(torch.tanh(self.first(x))))


def data(step, spoiled=()):
    """A batch that is a function of the step alone; spoiled steps hold a NaN."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 3, generator=generator)
    if step in spoiled:
        x[2, 1] = float("nan")
    return [Batch({"x": x}, (x[:, 0] > 0).long())]


def parts(dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return Body(dropout), Softmax(4, 2)


def parameters(*modules):
    return [parameter for module in modules for parameter in module.parameters()]


def run(optimizer_class, *, steps=10, batches=data, dropout=0.0, make_stepper=stepper_for, clips=None, **options):
    model, head = parts(dropout)
    stepper = make_stepper(optimizer_class(parameters(model, head), lr=0.05), **(clips or {}))
    records = list(fit(model, head, stepper, batches, steps=steps, options=FitOptions(**options)))
    return model, head, records


def test_it_is_the_bare_loop_step_for_step():
    model, head, records = run(torch.optim.AdamW)
    other, other_head = parts()
    optimizer = torch.optim.AdamW(parameters(other, other_head), lr=0.05)
    for step in range(10):
        [batch] = data(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(other_head(other(**batch.inputs)), batch.targets)
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(records[step].loss, loss.detach(), rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(parameters(model, head), parameters(other, other_head), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_loss_falls():
    _, _, records = run(torch.optim.AdamW, steps=150)
    assert sum(float(r.loss) for r in records[-20:]) < 0.5 * sum(float(r.loss) for r in records[:20])


def test_a_run_cut_in_two_is_the_same_bit_for_bit_with_dropout():
    whole, whole_head, _ = run(torch.optim.AdamW, steps=9, dropout=0.5)
    model, head = parts(dropout=0.5)
    optimizer = torch.optim.AdamW(parameters(model, head), lr=0.05)
    list(fit(model, head, optimizer, data, steps=4))
    torch.rand(1000)  # the random state in between does not matter
    list(fit(model, head, optimizer, data, steps=9, place=Place(4)))
    for ours, theirs in zip(parameters(model, head), parameters(whole, whole_head), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.AdamW(p, lr=0.05), lambda p: torch.optim.SGD(p, lr=0.05),
    lambda p: torch.optim.LBFGS(p, lr=0.05), lambda p: Descent(p, Gradient(), Fixed(0.05)),
])  # fmt: skip
def test_a_step_that_is_not_finite_changes_nothing(make):
    model, head = parts()
    optimizer = make(parameters(model, head))
    before, rejected = None, []
    for record in fit(model, head, optimizer, lambda step: data(step, {3, 5}), steps=8):
        now = [p.detach().clone() for p in parameters(model, head)]
        rejected.append(bool(record.rejected))
        if rejected[-1]:
            assert not math.isfinite(float(record.loss))
            assert before is not None
            assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True))
        elif before is not None:
            assert not all(torch.equal(a, b) for a, b in zip(now, before, strict=True))
        before = now
    assert rejected == [step in {3, 5} for step in range(8)]
    assert all(p.isfinite().all() for p in parameters(model, head))


def test_the_optimizer_remembers_nothing_of_a_rejected_step():
    model, head = parts()
    optimizer = torch.optim.AdamW(parameters(model, head), lr=0.05)
    list(fit(model, head, optimizer, lambda step: data(step, {1}), steps=3))
    for state in optimizer.state.values():
        assert float(state["step"]) == 2.0
        assert state["exp_avg"].isfinite().all()


def test_an_update_that_spoils_the_weights_is_undone():
    class Jump(torch.optim.SGD):
        """An optimizer whose second step is infinite."""

        def step(self, closure=None):
            loss = super().step(closure)
            self.taken = getattr(self, "taken", 0) + 1
            if self.taken == 2:
                with torch.no_grad():
                    self.param_groups[0]["params"][0].fill_(float("inf"))
            return loss

    _, _, records = run(Jump, steps=4, make_stepper=ClosureStepper)
    assert [bool(record.rejected) for record in records] == [False, True, False, False]


@pytest.mark.parametrize(("raised", "said"), [
    (OverflowError(34, "Numerical result out of range"), r"raised OverflowError \(\(34, .*\)\); check --optimizer"),
    (AssertionError(), "raised AssertionError; check"),
    (ValueError("fewer steps,\nplease."), r"raised ValueError \(fewer steps, please\); check"),
])  # fmt: skip
@pytest.mark.parametrize("make_stepper", [stepper_for, ClosureStepper])
def test_what_an_optimizer_raises_is_a_sentence(raised, said, make_stepper):
    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            raise raised

    with pytest.raises(InputError, match=rf"Failing.step\(\) {said}") as told:
        run(Failing, steps=1, make_stepper=make_stepper)
    assert told.value.__cause__ is raised


def test_what_is_no_fault_of_the_optimizer_stays_as_it_is():
    class Forgetful(torch.optim.SGD):
        def step(self, closure=None):
            raise MemoryError

    with pytest.raises(MemoryError):
        run(Forgetful, steps=1)

    def wrong(step):
        (batch,) = data(step)
        return [Batch({"y": batch.inputs["x"]}, batch.targets)]

    for make_stepper in (stepper_for, ClosureStepper):
        with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
            run(torch.optim.LBFGS, steps=1, batches=wrong, make_stepper=make_stepper)


def test_clipping_is_applied_and_the_norm_before_it_is_told():
    _, _, plain = run(torch.optim.SGD, steps=1, clips={"clip": NoClip()})
    model, head, clipped = run(torch.optim.SGD, steps=1, clips={"clip": ClipNorm(1e-3)})
    assert float(plain[0].grad_norm) == pytest.approx(float(clipped[0].grad_norm))
    assert bool(clipped[0].clipped)
    start, start_head = parts()
    moved = [
        (a - b).detach().norm() for a, b in zip(parameters(model, head), parameters(start, start_head), strict=True)
    ]
    assert float(torch.stack(moved).norm()) == pytest.approx(0.05 * 1e-3, rel=1e-3)


def test_update_clipping_bounds_every_entry():
    model, head, _ = run(torch.optim.AdamW, steps=1, clips={"clip_update": ClipUpdate(1e-4)})
    start, start_head = parts()
    for now, before in zip(parameters(model, head), parameters(start, start_head), strict=True):
        assert float((now - before).detach().abs().max()) <= 1e-4 * 1.01
    assert any(
        float((a - b).detach().abs().max()) > 5e-5 for a, b in zip(model.parameters(), start.parameters(), strict=True)
    )


def test_watched_steps_tell_each_layer():
    _, _, records = run(torch.optim.SGD, steps=4, watch=lambda step: step == 2)
    assert [record.watched is not None for record in records] == [False, False, True, False]
    layers = records[2].watched.layers
    assert list(layers) == ["first", "second", "head.output"]
    # With plain SGD the update is the rate times the gradient.
    model, _, _ = run(torch.optim.SGD, steps=2)
    size = math.sqrt(sum(float(p.detach().square().sum()) for p in model.first.parameters()))
    assert layers["first"]["update_ratio"] == pytest.approx(0.05 * layers["first"]["grad_norm"] / size, rel=1e-4)


def test_the_schedule_moves_once_a_step():
    model, head = parts()
    optimizer = torch.optim.SGD(parameters(model, head), lr=1.0)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    records = list(fit(model, head, optimizer, data, steps=4, schedule=schedule))
    assert [record.lr for record in records] == [1.0, 0.5, 0.25, 0.125]


def test_micro_batches_give_the_step_of_the_whole_batch():
    def halves(step):
        [batch] = data(step)
        return [Batch({"x": batch.inputs["x"][part]}, batch.targets[part]) for part in (slice(0, 3), slice(3, 8))]

    model, head, whole = run(torch.optim.SGD)
    other, other_head, cut = run(torch.optim.SGD, batches=halves)
    assert [r.num_examples for r in cut] == [r.num_examples for r in whole]
    for a, b in zip(parameters(model, head), parameters(other, other_head), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_l2_shrinks_the_weights():
    _, _, _ = run(torch.optim.SGD)
    plain, _, _ = run(torch.optim.SGD, steps=100)
    shrunk, _, _ = run(torch.optim.SGD, steps=100, l2=0.5)
    assert float(shrunk.first.weight.detach().norm()) < 0.5 * float(plain.first.weight.detach().norm())


def test_tied_weights_are_counted_in_one_layer():
    embedding = nn.Embedding(5, 4)
    head = nn.Linear(4, 5)
    head.weight = embedding.weight
    layers = layer_names(nn.Sequential(embedding), head)
    assert {name: len(tensors) for name, tensors in layers.items()} == {"0": 1, "head": 1}


def test_squared_head_in_float64_keeps_its_type():
    model, head = Body().double(), Squared(4, 1).double()
    batch = [Batch({"x": torch.randn(5, 3, dtype=torch.float64)}, torch.randn(5, 1, dtype=torch.float64))]
    optimizer = torch.optim.SGD(parameters(model, head), lr=0.01)
    [record] = list(fit(model, head, optimizer, lambda _: batch, steps=1))
    assert record.loss.dtype is torch.float64


def test_a_step_costs_no_entry_in_the_queue_of_seeds_for_a_gpu():
    """`torch.manual_seed` remembers every call until a GPU is used: memory that grows with the steps."""
    queued = len(torch.cuda._queued_calls)
    run(torch.optim.SGD, steps=5)
    assert len(torch.cuda._queued_calls) == queued


def test_the_figures_of_a_layer_are_norms_over_its_tensors():
    model, _, records = run(torch.optim.AdamW, steps=1, watch=lambda step: True)
    start, _ = parts()
    [record] = records
    layers = record.watched.layers
    old, new = (torch.cat([p.detach().flatten() for p in m.first.parameters()]) for m in (start, model))
    gradient = torch.cat([p.grad.flatten() for p in model.first.parameters()])
    assert layers["first"]["update_ratio"] == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-4)
    assert layers["first"]["grad_norm"] == pytest.approx(float(gradient.norm()), rel=1e-5)


def test_long_sequences_that_nothing_is_learned_from_come_in_smaller_batches(monkeypatch):
    monkeypatch.setattr(feed, "MOST_AT_ONCE", 100)
    lengths = np.array([60, 3, 200, 3, 30, 40, 3, 20])
    examples = Examples({"tokens": Ragged.from_lengths(np.zeros(lengths.sum(), np.int64), lengths)})

    def collate(examples, indices):
        return Batch({"x": torch.zeros(1)}, torch.tensor(indices))

    parts = [part.tolist() for part, _ in feed.in_order(examples, collate, 4)]
    assert parts == [[1, 3, 6, 7], [4], [5], [0], [2]]
    assert sorted(index for part in parts for index in part) == list(range(8))
