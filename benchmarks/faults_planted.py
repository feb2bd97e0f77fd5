"""The faults: what each changes in a healthy training, what it is to be called, and how it is undone."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import torch
from faults_settings import Rows, Setting
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.models.attention import Attention

ALL = ("mlp", "recurrent", "transformer")
Session = Any  # of thalweg.training.session.session; its parts are exchanged here
Change = Callable[[Rows, Rows], tuple[Rows, Rows]]


@final
@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        key: of this way to plant it.
        name: of the finding.
        families: that it is planted in.
        options: setting -> what changes in its recipe.
        plant: changes a session before its first step, where no option can.
        rows: changes the data.
        columns: changes a table of numbers.
        num_train: training examples, where not as usual.
        also: findings that are as true of such a run, listed here before anything was measured.
        costs: whether it costs validation loss beside the setting without it, so that a repair can win it back (full
            batches, and the low rate under weights in bfloat16, are in such a plant, but no part of the fault).
        datasets: only on these; empty for all.
        sealed: whether it was left out of everything before the end.
    """

    key: str
    name: str
    families: tuple[str, ...] = ALL
    options: Callable[[Setting], dict[str, Any]] = lambda setting: {}  # noqa: ARG005
    plant: Callable[[Session], None] | None = None
    rows: Change | None = None
    columns: Callable[[list[list[str]]], list[list[str]]] | None = None
    num_train: int | None = None
    also: tuple[str, ...] = ()
    costs: bool = True
    datasets: tuple[str, ...] = ()
    sealed: bool = False


def _matrices(session: Session, *, embeddings: bool = False) -> list[tuple[nn.Module, str, Tensor]]:
    found = []
    for module in session.model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and not embeddings:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() >= 2:
                found.append((module, name, parameter))
    return found


@torch.no_grad()
def _scaled(session: Session, factor: float) -> None:
    for _, _, weight in _matrices(session):
        weight.mul_(factor)


@torch.no_grad()
def _equal_units(session: Session) -> None:
    """Every unit of a layer starts like every other."""
    for _, _, weight in _matrices(session):
        weight.copy_(weight.mean(0, keepdim=True).expand_as(weight))
        if weight.dim() == 2 and float(weight.std()) < 1e-6:
            weight.fill_(0.02)
    for name, parameter in session.head.named_parameters():
        if parameter.dim() == 2:
            parameter.fill_(0.01)
        del name


@torch.no_grad()
def _dead(session: Session) -> None:
    """Biases below zero switch every ReLU off."""
    layers = [m for m in session.model.modules() if isinstance(m, nn.Linear)]
    for module in layers:
        owner = _owner(session.model, module)
        if owner == "feed_in" or owner.startswith("layers"):
            module.bias.fill_(-12.0)


def _owner(model: nn.Module, wanted: nn.Module) -> str:
    name = next(name for name, module in model.named_modules() if module is wanted)
    parts = name.split(".")
    return parts[-1] if not parts[-1].isdigit() else parts[-2]


@torch.no_grad()
def _saturated(session: Session) -> None:
    for module, name, weight in _matrices(session):
        if isinstance(module, nn.RNNBase):
            weight.mul_(25.0)
        elif isinstance(module, nn.Linear):
            weight.mul_(20.0)
        del name


@torch.no_grad()
def _forgetful(session: Session) -> None:
    """Forget gates that are shut: nothing is remembered over a step."""
    for module in session.model.modules():
        if isinstance(module, nn.LSTM):
            size = module.hidden_size
            module.bias_ih_l0[size : 2 * size] = -9.0
            module.bias_hh_l0.requires_grad_(True)
            module.weight_hh_l0.mul_(0.2)


@torch.no_grad()
def _collapsed_embedding(session: Session) -> None:
    for module in session.model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            row = module.weight[5:6].clone()
            module.weight.copy_(row + 1e-3 * torch.randn_like(module.weight))
            module.weight.requires_grad_(True)
    _slow_embedding(session)


@torch.no_grad()
def _anisotropic_embedding(session: Session) -> None:
    for module in session.model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            scale = float(module.weight.norm(dim=1).mean())
            direction = torch.randn(module.weight.shape[1], generator=torch.Generator().manual_seed(3))
            module.weight.add_(6.0 * scale * direction / direction.norm())


class _Slower:
    """After each step of an optimizer, takes most of the embedding's change back."""

    def __init__(self, tables: list[Tensor], share: float) -> None:
        self.tables, self.share = tables, share
        self.before: list[Tensor] = []

    def pre(self, *_: Any) -> None:
        self.before = [table.detach().clone() for table in self.tables]

    def post(self, *_: Any) -> None:
        with torch.no_grad():
            for table, before in zip(self.tables, self.before, strict=True):
                table.copy_(before + self.share * (table - before))


def _slow_embedding(session: Session) -> None:
    tables = [m.weight for m in session.model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    slower = _Slower(tables, 0.02)
    session.optimizer.register_step_pre_hook(slower.pre)
    session.optimizer.register_step_post_hook(slower.post)


def _frozen(session: Session) -> None:
    """All but the output layer keep their random start."""
    for parameter in session.model.parameters():
        parameter.requires_grad_(False)


def _left_out(session: Session) -> None:
    """The optimizer never got the network's own matrices."""
    keep = {id(p) for p in session.head.parameters()} | {id(p) for p in session.model.parameters() if p.dim() < 2}
    for group in session.optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) in keep]


@torch.no_grad()
def _sharp_attention(session: Session) -> None:
    for module in session.model.modules():
        if isinstance(module, Attention):
            module.query.weight.mul_(60.0)


def drop_mask(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Call a model without its mask (a hook)."""
    del module
    return args, {name: value for name, value in kwargs.items() if name != "mask"}


def _unmasked(session: Session) -> None:
    session.model.register_forward_pre_hook(drop_mask, with_kwargs=True)


def switch_on(module: nn.Module, args: tuple[Any, ...]) -> None:
    """Leave a dropout on (a hook)."""
    del args
    module.training = True


def _always_dropout(session: Session) -> None:
    for module in session.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
            module.register_forward_pre_hook(switch_on)


class _Feed:
    """A feed with one thing changed."""

    def __init__(self, feed: Any, batches: Callable[[int], list[Batch]]) -> None:
        self._feed, self._batches = feed, batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def __call__(self, step: int) -> list[Batch]:
        return self._batches(step)


def _sorted(session: Session) -> None:
    """Training examples come sorted by their label, in every epoch."""
    feed, rows = session.feed, session.rows
    labels = np.asarray(rows.columns["labels"])
    order = np.argsort(labels, kind="stable")
    size = session.run.recipe.training.batch_size

    def batches(step: int) -> list[Batch]:
        place = step % feed.steps_per_epoch
        return [feed._collate(order[place * size : (place + 1) * size])]

    session.feed = _Feed(feed, batches)


def _noisy_batches(session: Session, every: int = 23) -> None:
    """Now and then the batch has huge weights on its examples."""
    feed = session.feed

    def batches(step: int) -> list[Batch]:
        found = feed(step)
        if step < 20 or step % every:
            return found
        batch = found[0]
        targets = batch.targets
        if targets.is_floating_point():
            return [dataclasses.replace(batch, targets=targets * 40.0 + 20.0)]
        wrong = (targets + 1) % (int(targets.max()) + 1)
        weights = torch.full(targets.shape, 60.0)
        return [dataclasses.replace(batch, targets=wrong, weights=weights)]

    session.feed = _Feed(feed, batches)


class _Rates:
    """A schedule with a factor on top, step by step."""

    def __init__(self, session: Session, factor: Callable[[float], float]) -> None:
        self.session, self.factor = session, factor
        self.kept: list[float] = []

    def pre(self, *_: Any) -> None:
        groups = self.session.optimizer.param_groups
        self.kept = [group["lr"] for group in groups]
        part = self.session.place.step / max(1, self.session.total_steps)
        for group in groups:
            group["lr"] = group["lr"] * self.factor(part)

    def post(self, *_: Any) -> None:
        for group, rate in zip(self.session.optimizer.param_groups, self.kept, strict=True):
            group["lr"] = rate


def _with_rates(factor: Callable[[float], float]) -> Callable[[Session], None]:
    def plant(session: Session) -> None:
        rates = _Rates(session, factor)
        session.optimizer.register_step_pre_hook(rates.pre)
        session.optimizer.register_step_post_hook(rates.post)

    return plant


def _rounded(session: Session) -> None:
    """Weights are kept in bfloat16, and small updates are lost in it."""
    parameters = [*session.model.parameters(), *session.head.parameters()]

    def post(*_: Any) -> None:
        with torch.no_grad():
            for parameter in parameters:
                parameter.copy_(parameter.bfloat16().float())

    post()
    session.optimizer.register_step_post_hook(post)


@torch.no_grad()
def _infinite(session: Session) -> None:
    """One row of the embedding is not a number, as from a damaged file of word vectors."""
    for module in session.model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.weight[7:60] = torch.inf


def _flipped(share: float) -> Change:
    def change(train: Rows, valid: Rows) -> tuple[Rows, Rows]:
        draw = random.Random(5)
        labels = sorted({label for _, label in train})
        noisy = [
            (text, draw.choice([other for other in labels if other != label]) if draw.random() < share else label)
            for text, label in train
        ]
        return noisy, valid

    return change


def _leaking(train: Rows, valid: Rows) -> tuple[Rows, Rows]:
    return train, [*valid[: len(valid) // 2], *train[: len(valid) // 2]]


def _imbalanced(train: Rows, valid: Rows) -> tuple[Rows, Rows]:
    labels = sorted({label for _, label in train}, key=lambda one: -sum(label == one for _, label in train))
    keep = labels[0]
    draw = random.Random(2)

    def few(rows: Rows, share: float) -> Rows:
        return [row for row in rows if row[1] == keep or draw.random() < share]

    train = few(train, 0.01)
    known = {label for _, label in train}  # another one would be refused
    return train, [row for row in few(valid, 0.1) if row[1] in known]


def _conflicting(train: Rows, valid: Rows) -> tuple[Rows, Rows]:
    labels = sorted({label for _, label in train})
    part = train[: len(train) // 3]
    return [*train, *((text, labels[(labels.index(label) + 1) % len(labels)]) for text, label in part)], valid


def _few_valid(train: Rows, valid: Rows) -> tuple[Rows, Rows]:
    return train, valid[:24]


def _large_numbers(table: list[list[str]]) -> list[list[str]]:
    return [[f"{1e4 + 300.0 * float(value):.4f}"] for (value,) in table]


def _skewed(table: list[list[str]]) -> list[list[str]]:
    draw = random.Random(1)
    return [[value, f"{float(np.exp(3.5 * draw.gauss(0.0, 1.0))):.5g}"] for (value,) in table]


def _lr(factor: float) -> Callable[[Setting], dict[str, Any]]:
    return lambda setting: {"lr": setting.options["lr"] * factor}


def _with(**options: Any) -> Callable[[Setting], dict[str, Any]]:
    return lambda _: options


SGD = {"optimizer": "sgd", "weight_decay": 0.0}
DESCENT = SGD | {
    "batch_size": 0, "epochs": 120.0, "clip": 0.0, "activation": "gelu", "schedule": "constant", "dropout": 0.0,
}  # fmt: skip
FAULTS: Final = (
    Fault("lr-x60", "learning-rate-too-high", options=_lr(60.0), also=("dead-units", "saturated-activations")),
    Fault("lr-x300", "learning-rate-too-high", options=_lr(300.0), also=("dead-units", "saturated-activations")),
    Fault("lr/300", "learning-rate-too-low", options=_lr(1 / 300)),
    Fault("lr/3000", "learning-rate-too-low", options=_lr(1 / 3000)),
    Fault("deep-sigmoid", "vanishing-gradient", ("mlp",),
          _with(layers=10, activation="sigmoid", skip="none"), also=("embedding-collapse",)),
    Fault("deep-tanh-small", "vanishing-gradient", ("mlp",), _with(layers=12, activation="tanh", skip="none"),
          lambda session: _scaled(session, 0.3), also=("embedding-collapse", "initialization-too-small")),
    Fault("deep-plain", "vanishing-gradient", ("transformer",), _with(layers=8, skip="none", activation="sigmoid"),
          also=("embedding-collapse",)),
    Fault("deep-lstm", "vanishing-gradient", ("recurrent",), _with(layers=5, skip="none"),
          lambda session: _scaled(session, 0.35), also=("embedding-collapse", "initialization-too-small")),
    Fault("deep-gain", "exploding-gradient", ("mlp",), _with(layers=8, activation="relu", clip=0.0),
          lambda session: _scaled(session, 8.0), also=("initialization-too-large",)),
    Fault("deep-gain", "exploding-gradient", ("transformer",),
          _with(layers=8, activation="relu", skip="none", clip=0.0), lambda session: _scaled(session, 5.0),
          also=("initialization-too-large", "attention-collapse")),
    Fault("saturated", "saturated-activations", ("mlp",), _with(activation="tanh"), _saturated,
          also=("initialization-too-large",)),
    Fault("saturated", "saturated-activations", ("recurrent",), plant=_saturated, also=("initialization-too-large",)),
    Fault("dead", "dead-units", ("mlp", "transformer"), _with(activation="relu"), _dead),
    Fault("init-small", "initialization-too-small", plant=lambda session: _scaled(session, 1e-3),
          also=("vanishing-gradient", "plateau-at-saddle")),
    Fault("init-large", "initialization-too-large", plant=lambda session: _scaled(session, 12.0),
          also=("saturated-activations", "attention-collapse", "exploding-gradient")),
    Fault("symmetric", "symmetric-initialization", ("mlp", "transformer"), plant=_equal_units, sealed=True,
          also=("embedding-collapse", "initialization-too-small", "plateau-at-saddle")),
    Fault("bad-batches", "loss-spikes", plant=_noisy_batches, also=("exploding-gradient",)),
    Fault("rate-bursts", "loss-spikes",
          plant=_with_rates(lambda part: 150.0 if part > 0.1 and (part * 300) % 21 < 1 else 1.0),
          also=("learning-rate-too-high",)),
    Fault("decay", "weight-decay-too-strong", options=_with(weight_decay=20.0)),
    Fault("l2", "weight-decay-too-strong", options=_with(l2=0.3), also=("embedding-collapse",)),
    Fault("big-numbers", "unnormalized-inputs", ("mlp",), _with(scaling="none"), columns=_large_numbers,
          datasets=("temperatures", "monthly"), also=("saturated-activations",)),
    Fault("skewed-column", "skewed-columns", ("mlp",), columns=_skewed, datasets=("temperatures", "monthly"),
          costs=False),
    Fault("one-embedding", "embedding-collapse", plant=_collapsed_embedding,
          also=("untrained-parameters", "anisotropic-embeddings")),
    Fault("cone", "anisotropic-embeddings", plant=_anisotropic_embedding,
          also=("embedding-collapse", "saturated-activations", "initialization-too-large")),
    Fault("frozen", "untrained-parameters", plant=_frozen),
    Fault("left-out", "untrained-parameters", plant=_left_out),
    Fault("sharp", "attention-collapse", ("transformer",), plant=_sharp_attention,
          also=("initialization-too-large",)),
    Fault("no-mask", "padding-not-masked", ("recurrent", "transformer"), plant=_unmasked),
    Fault("late-burst", "late-updates-explode", sealed=True,
          plant=_with_rates(lambda part: 1.0 if part < 0.75 else 80.0 / max(1e-3, 1.0 - part) ** 0.5),
          also=("learning-rate-too-high", "loss-spikes")),
    Fault("momentum", "momentum-too-high",
          options=lambda _: SGD | {"lr": 0.1, "optimizer_options": {"momentum": 0.999}, "schedule": "constant"},
          also=("learning-rate-too-high", "oscillation")),
    Fault("batch-1", "batch-too-small", options=_with(batch_size=1, epochs=0.25, schedule="constant"),
          also=("loss-spikes", "learning-rate-too-high")),
    Fault("batch-huge", "batch-too-large", options=_with(batch_size=1200)),
    Fault("clip-tiny", "clipping-always",
          options=lambda _: SGD | {"lr": 0.3, "clip": 3e-3, "optimizer_options": {"momentum": 0.9}},
          also=("learning-rate-too-low",)),
    Fault("clip-huge", "clipping-never", options=_with(clip=1e5), plant=_noisy_batches, also=("loss-spikes",)),
    Fault("early-end", "schedule-ended-early",
          options=_with(schedule="exponential", schedule_options={"gamma": 0.85}, warmup=0.0)),
    Fault("tiny", "capacity-too-small", ("mlp", "recurrent"), _with(width=1, hidden=1, layers=1, dropout=0.0),
          datasets=("trec", "snips")),
    Fault("memorized", "over-fitting",
          options=_with(epochs=60.0, dropout=0.0, weight_decay=0.0, schedule="constant"), num_train=200,
          datasets=("trec", "sst2", "polarity", "snips")),
    Fault("flipped", "label-noise", rows=_flipped(0.35), datasets=("trec", "sms", "snips")),
    Fault("imbalanced", "majority-class", rows=_imbalanced, datasets=("trec", "snips"), also=("never-predicted",),
          costs=False),
    Fault("leak", "leaking-duplicates", rows=_leaking, costs=False),
    Fault("conflicts", "conflicting-labels", rows=_conflicting, also=("label-noise", "duplicate-examples")),
    Fault("few-valid", "validation-too-small", rows=_few_valid, costs=False),
    Fault("sorted", "not-shuffled", plant=_sorted, also=("loss-spikes", "oscillation", "majority-class"),
          datasets=("trec", "sms", "snips", "sst2", "polarity")),
    Fault("not-a-number", "non-finite", plant=_infinite),
    Fault("lr-1e12", "non-finite", options=lambda _: SGD | {"lr": 1e25, "clip": 0.0, "schedule": "constant"},
          also=("learning-rate-too-high",)),
    Fault("dropout-on", "dropout-in-evaluation", plant=_always_dropout, also=("dropout-too-strong",)),
    Fault("dropout-0.9", "dropout-too-strong", options=_with(dropout=0.93)),
    Fault("bf16-weights", "precision-underflow", options=_lr(0.02), plant=_rounded, also=("learning-rate-too-low",),
          costs=False),
    Fault("gd-edge", "edge-of-stability", ("mlp",),
          options=lambda setting: DESCENT | {"lr": {"trec": 2.0}.get(setting.data, 1.2)},
          also=("oscillation", "learning-rate-too-high"), datasets=("trec", "snips"), costs=False),
    Fault("gd-oscillates", "oscillation", ("mlp",),
          options=lambda setting: DESCENT | {"lr": {"trec": 3.0}.get(setting.data, 2.0)},
          also=("edge-of-stability", "learning-rate-too-high", "loss-spikes"), datasets=("trec", "snips"),
          costs=False),
    Fault("forgetful", "vanishing-in-time", ("recurrent",), plant=_forgetful, costs=False,
          datasets=("trec", "snips")),
    Fault("flat-start", "plateau-at-saddle", ("mlp",),
          options=lambda _: SGD | {"lr": 0.1, "layers": 3, "activation": "tanh"},
          plant=lambda session: _scaled(session, 0.05),
          also=("initialization-too-small", "vanishing-gradient", "learning-rate-too-low"),
          datasets=("trec", "snips")),
)  # fmt: skip
