"""Watching a loop of one's own: the entries are those of `fit`, and the training is the same to the last bit."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.modules.module import _global_forward_hooks

from thalweg.batch import Batch
from thalweg.diagnosis.loops.fitting import fitting
from thalweg.diagnosis.loops.record import MAX_ENTRIES, Record, clipping_norm
from thalweg.diagnosis.loops.seen import Call, Kept, bare, unwrapped
from thalweg.diagnosis.loops.watch import Watch
from thalweg.errors import InputError
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.training.steps.fit import FitOptions, fit
from thalweg.training.steps.recorder import Interval


class Network(nn.Module):
    def __init__(self, activation=nn.ReLU, dropout=0.0):
        super().__init__()
        self.inner = nn.Linear(3, 8)
        self.activation = activation()
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(8, 2)

    def forward(self, x, scale=None):
        hidden = self.activation(self.inner(x if scale is None else x * scale))
        return self.outer(self.dropout(hidden))


def data(step, num=16):
    x = torch.randn(num, 3, generator=torch.Generator().manual_seed(step))
    return x, (x[:, 0] > 0).long()


def network(**options):
    torch.manual_seed(0)
    return Network(**options)


def train(steps=8, *, watched=True, late=False, model=None, loader=data, evaluate=None, clip=None, **options):
    model = network(dropout=0.2) if model is None else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    watch = Watch(model, optimizer, **options) if watched else None
    torch.manual_seed(1)
    for step in range(steps):
        x, y = loader(step)
        loss = nn.functional.cross_entropy(model(x), y)
        if watch and not late:
            watch.loss(loss, y)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if watch and late:
            watch.loss(loss, targets=y)
        if evaluate and watch:
            evaluate(watch, model, step)
    return model, watch


def steps_of(watch):
    return [entry for entry in watch.history if entry["event"] == "step"]


def test_the_training_is_the_same_to_the_last_bit():
    plain, _ = train(watched=False)
    watched, watch = train()
    assert all(map(torch.equal, plain.state_dict().values(), watched.state_dict().values()))
    assert not _global_forward_hooks
    watch.close()
    assert not watched._forward_hooks
    assert len(steps_of(watch)) == 8


@pytest.mark.parametrize("late", [False, True])
def test_the_entries_are_those_of_fit(late):
    _, watch = train(model=network(), late=late)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    interval = Interval.of(8)
    options = FitOptions(watch=interval.watches, sites=interval.sees_sites)
    records = fit(model, Softmax(None, None), optimizer, lambda step: [Batch({"x": data(step)[0]}, data(step)[1])],
                  steps=8, options=options)  # fmt: skip
    ours, theirs = steps_of(watch), [record.resolve() for record in records]
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-6)
        watched = {"layers", "sites", "alignment", "label_share", "label_kinds"}
        assert watched & one.keys() == watched & other.keys()
        for name in ("layers", "label_share", "label_kinds"):
            assert one.get(name) == other.get(name)
        assert one.get("alignment") == other.get("alignment")
    assert [site["name"] for site in ours[0]["sites"]] == ["inner", "activation", "outer"]
    assert [site["mean"] for site in ours[2]["sites"]] == [site["mean"] for site in theirs[2]["sites"]]


def test_accumulation_is_one_step_with_the_mean_of_its_losses():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer)
    losses = []
    for number in range(6):
        x, y = data(number)
        loss = nn.functional.cross_entropy(model(x), y)
        watch.loss(loss, y)
        losses.append(float(loss.detach()))
        (loss / 2).backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
    found = steps_of(watch)
    assert [entry["loss"] for entry in found] == pytest.approx([sum(losses[i : i + 2]) / 2 for i in (0, 2, 4)])
    assert watch.subject().facts.batch_size == 32


def test_a_closure_is_one_step_with_its_first_loss():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    watch = Watch(model, optimizer)
    x, y = data(0)
    first = float(nn.functional.cross_entropy(model(x), y).detach())

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        watch.loss(loss, y)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    found = steps_of(watch)
    assert len(found) == 3
    assert found[0]["loss"] == pytest.approx(first)
    assert found[0]["layers"]["inner"]["update_ratio"] > 0.0
    assert [site["kind"] for site in found[0]["sites"]] == ["linear", "relu", "linear"]


def test_what_is_looked_at_is_what_the_loop_trains_on():
    model, watch = train(steps=40, num_train=320)
    subject = watch.subject()
    assert isinstance(subject.head, Softmax)
    assert 8 <= len(subject.train) <= 16
    x, y = data(0)
    assert torch.equal(subject.train[0].inputs["x"], x)
    model.eval()
    expected = nn.functional.cross_entropy(model(x), y)
    torch.testing.assert_close(subject.objective([subject.train[0]]).value(), expected)
    facts = subject.facts
    assert (facts.family, facts.optimizer, facts.lr, facts.momentum, facts.weight_decay) == (
        "mlp",
        "adamw",
        0.05,
        0.9,
        0.01,
    )
    assert (facts.batch_size, facts.steps, facts.steps_per_epoch, facts.num_classes, facts.dropout) == (
        16,
        40,
        20,
        2,
        0.2,
    )


def test_a_diagnosis_leaves_the_watch_as_it_was():
    model, watch = train()
    before, weights = watch.history, copy.deepcopy(model.state_dict())
    diagnosis = watch.diagnose(seconds=2.0)
    assert diagnosis.trends["num_steps"] == 8
    assert watch.history == before
    assert watch.subject().facts.batch_size == 16
    assert all(map(torch.equal, weights.values(), model.state_dict().values()))
    assert isinstance(watch.findings(), list)


@pytest.mark.parametrize(("mode", "expected"), [("train", True), ("eval", False)])
@pytest.mark.parametrize("inside", [True, False])
def test_an_evaluation_in_training_mode_is_seen(mode, expected, inside):
    def evaluate(watch, model, step):
        getattr(model, mode)()
        x, y = data(100 + step, 10)
        if inside:
            with watch.evaluation(), torch.no_grad():
                watch.loss(nn.functional.cross_entropy(model(x), y), y)
        else:
            with torch.no_grad():
                watch.evaluated(nn.functional.cross_entropy(model(x), y), accuracy=0.5)
        model.train()

    model, watch = train(steps=3, evaluate=evaluate)
    found = [entry for entry in watch.history if entry["event"] == "evaluation"]
    assert [entry["step"] for entry in found] == [1, 2, 3]
    assert [entry.get("training_mode", False) for entry in found] == [expected] * 3
    assert found[0]["metrics"] == ({} if inside else {"accuracy": 0.5})
    assert len(watch.subject().valid) == (3 if inside else 0)
    assert len(steps_of(watch)) == 3
    if mode == "eval":
        model.eval()
        x, y = data(102, 10)
        assert found[-1]["loss"] == pytest.approx(float(nn.functional.cross_entropy(model(x), y).detach()))


def test_parameters_that_the_optimizer_has_not():
    model = network()
    model.inner.bias.requires_grad_(False)
    watch = Watch(model, torch.optim.SGD(model.outer.parameters(), lr=0.1))
    [entry] = watch.history
    assert entry == {
        "event": "watched", "not_in_optimizer": ["inner.weight"], "frozen": ["inner.bias"], "num_parameters": 50,
        "looked_at": 0, "left_over": 0, "losses_looked_at": 0, "driven_up": 0,
        "losses_told": 0, "losses_of_all_pairs": 0, "losses_negative": 0,
    }  # fmt: skip


def test_what_was_not_finite_first_is_named():
    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(x)  # not a number below zero

    def loader(step):
        x, y = data(step)
        return (x - 100.0 if step == 3 else x), y

    class Shifted(nn.Module):
        def forward(self, x):
            return x.abs() if x.min() > -50 else x

    torch.manual_seed(0)
    model = nn.Sequential(Shifted(), Root(), nn.Linear(3, 2))
    _, watch = train(steps=6, model=model, loader=loader)
    found = steps_of(watch)
    assert [entry["loss"] is None for entry in found] == [False] * 3 + [True] * 3
    assert (found[3]["where"], found[3]["what"]) == ("1", "output of the forward pass")
    assert (found[4]["where"], found[4]["what"]) == ("2", "parameter")


class WithLoss(nn.Module):
    """A model that computes its loss, as those of Hugging Face do."""

    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, x, labels=None, mode="mean"):
        logits = self.network(x)
        return {"loss": None if labels is None else nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_a_model_with_its_own_loss_needs_nothing_told():
    torch.manual_seed(0)
    model = WithLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer)
    losses = []
    for step in range(4):
        x, labels = data(step)
        loss = model(x, labels=labels)["loss"]
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert [entry["loss"] for entry in steps_of(watch)] == pytest.approx(losses)
    assert steps_of(watch)[0]["label_kinds"] == 2
    subject = watch.subject()
    x, labels = data(0)
    torch.testing.assert_close(subject.objective([subject.train[0]]).value(), model(x, labels=labels)["loss"])


def test_without_targets_there_are_no_probes_and_no_complaint():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer)
    loss = model(data(0)[0]).square().mean()
    watch.loss(loss)
    loss.backward()
    optimizer.step()
    assert watch.subject().train == []
    assert watch.diagnose().skipped == {"all": "no targets were told: watch.loss(loss, targets)"}


def test_copies_of_the_model_are_not_watched():
    model, watch = train(steps=2)
    before = watch.history
    other = copy.deepcopy(model)
    other(data(0)[0])
    saved = io.BytesIO()
    torch.save(model, saved)
    assert next(iter(other._forward_hooks.values()))._watch is None
    assert watch.history == before
    assert watch._calls == []


@pytest.mark.parametrize(("output", "targets", "loss", "kind"), [
    (torch.randn(6, 3), torch.arange(6) % 3, nn.CrossEntropyLoss(), Softmax),
    (torch.randn(6, 2), torch.randn(6, 2), nn.MSELoss(), Squared),
    (torch.randn(6, 2), torch.randn(6, 2).sigmoid(), nn.BCEWithLogitsLoss(), Bernoulli),
    (torch.randn(6, 2), torch.randn(6, 2), nn.L1Loss(), None),
])  # fmt: skip
def test_the_head_is_the_one_that_gives_the_loss(output, targets, loss, kind):
    call = Call(nn.Identity(), (), {"input": output}, output)
    fit = fitting(call, float(loss(output, targets)), targets)
    assert fit is None if kind is None else type(fit.head) is kind


def test_calls_by_place_and_by_name_are_the_same():
    x = torch.ones(2, 3)
    for args, kwargs in (((x,), {}), ((), {"x": x}), ((x, None), {})):
        call = Call(Network(), args, kwargs, x)
        assert call.is_complete
        assert list(call.inputs) == ["x"]
        assert call.num_examples == 2
    assert not Call(Network(), (x, 2.0), {}, x).is_complete


def test_kept_batches_are_spread_over_all():
    kept = Kept()
    for number in range(100):
        kept.offer(Batch({}, torch.tensor([number])))
    assert [int(batch.targets) for batch in kept.batches] == list(range(0, 100, 8))


def test_a_long_training_keeps_watched_steps_and_some_of_the_others():
    record = Record()
    for step in range(1, 20_001):
        entry = {"event": "step", "step": step, "loss": 1.0 * step, "grad_norm": 1.0 / step}
        record.add(entry | {"layers": {}} if step % 500 == 1 else entry)
    steps = [entry["step"] for entry in record.entries()]
    assert len(steps) <= MAX_ENTRIES + 40
    assert steps == sorted(steps)
    assert steps[0] == 1
    assert steps[-1] == 20_000
    assert set(range(1, 20_001, 500)) <= set(steps)


def test_clipping_shows_in_the_norms():
    _, watch = train(clip=0.2)
    assert watch.subject().facts.clip == pytest.approx(0.2, rel=1e-4)
    assert sum(entry["clipped"] for entry in watch.history if entry["event"] == "step") >= 3
    _, watch = train()
    assert watch.subject().facts.clip is None
    constant = [{"event": "step", "grad_norm": 1.0, "loss": 2.0}] * 5  # nothing moves
    assert clipping_norm(constant) is None


def test_wrappers_are_taken_off():
    model = nn.Linear(2, 2)
    assert unwrapped(torch.compile(nn.DataParallel(model), backend="eager")) is model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    class Wrapper:
        def __init__(self):
            self.optimizer = optimizer

    assert bare(Wrapper()) is optimizer
    with pytest.raises(InputError, match=r"needs a torch\.optim\.Optimizer; got a Linear"):
        Watch(model, model)


def test_a_compiled_network_is_watched_without_its_operations():
    model = network()
    _, watch = train(steps=2, model=torch.compile(model, backend="eager"))
    found = steps_of(watch)
    assert [entry["step"] for entry in found] == [1, 2]
    assert "sites" not in found[0]
    assert set(found[0]["layers"]) == {"inner", "outer"}


@pytest.mark.parametrize(("settings", "message"), [
    ({"steps": -5}, r"Watch\(steps=\.\.\.\) must be a whole number >= 1, or None; got -5"),
    ({"num_train": 0}, r"Watch\(num_train=\.\.\.\) must be a whole number >= 1, or None; got 0"),
])  # fmt: skip
def test_numbers_that_are_none(settings, message):
    model = network()
    with pytest.raises(InputError, match=message):
        Watch(model, torch.optim.SGD(model.parameters(), lr=0.1), **settings)


def test_what_is_told_wrongly_is_refused_at_once():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer)
    x, y = data(0)
    loss = nn.functional.cross_entropy(model(x), y)
    with pytest.raises(InputError, match=r"takes one number, the one whose gradient is taken; got a tensor \[16\]"):
        watch.loss(nn.functional.cross_entropy(model(x), y, reduction="none"), y)
    with pytest.raises(InputError, match="takes targets as a tensor; got a str that is none"):
        watch.loss(loss, "y")
    watch.loss(loss, y.numpy())
    loss.backward()
    optimizer.step()
    assert watch.history[-1]["label_kinds"] == 2
    with pytest.raises(InputError, match=r"must be above 0; got -1"):
        watch.diagnose(seconds=-1)
    with pytest.raises(InputError, match=r"needs an nn\.Module first; got a SGD"):
        Watch(optimizer, optimizer)
    lazy = nn.LazyLinear(2)
    with pytest.raises(InputError, match="call it once on a batch before"):
        Watch(lazy, torch.optim.SGD(lazy.parameters(), lr=0.1))


def test_a_model_that_is_called_by_place_only_has_no_probes_and_no_complaint():
    class ByPlace(Network):
        def forward(self, x, /):
            return super().forward(x)

    torch.manual_seed(0)
    _, watch = train(model=ByPlace())
    assert watch.diagnose().skipped == {"all": "the model is called with other things than tensors by name"}


def test_a_closure_that_is_evaluated_often_is_one_batch():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    watch = Watch(model, optimizer)
    x, y = data(0)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(3):
        watch.loss(optimizer.step(closure), y)
    assert watch.subject().facts.batch_size == 16
    assert len(watch.subject().train) == 3


def test_batch_norm_in_an_evaluation_in_training_mode_is_seen():
    def evaluate(watch, model, step):
        with watch.evaluation(), torch.no_grad():
            x, y = data(100 + step, 10)
            watch.loss(nn.functional.cross_entropy(model(x), y), y)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    _, watch = train(steps=3, model=model, evaluate=evaluate)
    assert watch.findings()[0].name == "dropout-in-evaluation"
