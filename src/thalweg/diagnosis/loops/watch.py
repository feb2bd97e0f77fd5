"""Watching a training in anyone's own loop: the same entries as those of a run, and the same findings."""

import contextlib
import copy
import dataclasses
import math
import numbers
import time
import weakref
from collections.abc import Iterator
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg import vectors
from thalweg.batch import Batch
from thalweg.diagnosis.diagnose import SECONDS, diagnose, plain
from thalweg.diagnosis.finding import Diagnosis, Finding
from thalweg.diagnosis.loops.cleared import Cleared
from thalweg.diagnosis.loops.elsewhere import Elsewhere
from thalweg.diagnosis.loops.fitting import LoopLoss
from thalweg.diagnosis.loops.record import Record, clipping_norm
from thalweg.diagnosis.loops.seen import Call, bare, inside, output_sum, unwrapped
from thalweg.diagnosis.loops.start import Start
from thalweg.diagnosis.loops.uphill import Uphill
from thalweg.diagnosis.loops.words import in_pytorch
from thalweg.diagnosis.networks import depends_on_mode, dropout_of, family_of
from thalweg.diagnosis.subject import Facts, Networks, Subject
from thalweg.diagnosis.symptoms.rules import findings_of
from thalweg.diagnosis.trends import trends_of
from thalweg.errors import InputError
from thalweg.frameworks.whole_loss import WholeLoss
from thalweg.heads.adapt import as_head
from thalweg.heads.base import AbstractHead
from thalweg.heads.value import Value
from thalweg.objective import Objective
from thalweg.training.steps.culprit import GRADIENT, find_culprit
from thalweg.training.steps.gauges import label_figures, parameter_facts
from thalweg.training.steps.recorder import Interval, Recorder
from thalweg.training.steps.sites import is_compiled

FIRST_GUESS: Final = 2000  # steps, where nobody says how many there will be
MAX_SEARCHES: Final = 3  # for what was not finite
NUM_ORDERED: Final = 20  # steps whose targets are kept in their order


@final
class Watch:
    """Watches a PyTorch training from outside: tell it the loss, and ask for a diagnosis.

    Hooks on the model and the optimizer see everything else, so that accumulation, clipping, schedules and several
    calls of the model a step need nothing more; the operations of a compiled network are left out. The training is the
    same to the last bit. What is recorded of which step is that of `thalweg.fit`. Each step also costs the norm of its
    gradient and some tenths of a millisecond, which shows where steps take a few milliseconds (`benchmarks/probes.py`).

    Args:
        model: that the loop calls.
        optimizer: that the loop steps, over the model's parameters.
        head: the loss of the model's output, as for `Objective`. None: cross-entropy, squared error or binary
            cross-entropy, whichever gives the loss of the first batches whose targets are told, as a mean or a sum; or
            the model's own loss, where its output has one. Of an output with several parts `logits` are taken, else the
            first tensor. Without any there are no probes; what the steps say is told all the same.
        steps: how many steps there will be, >= 1; None: unknown.
        num_train: how many training examples there are, >= 1; None: unknown.

    Raises:
        InputError: if the model, the optimizer or a number is none.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        >>> watch = Watch(model, optimizer)
        >>> for step in range(20):
        ...     x = torch.randn(32, 3)
        ...     y = (x[:, 0] > 0).long()
        ...     loss = nn.functional.cross_entropy(model(x), y)
        ...     watch.loss(loss, y)
        ...     loss.backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> len([entry for entry in watch.history if entry["event"] == "step"])
        20

    Not needed with `thalweg train` and `fit`, which record the same. With several optimizers, watch one.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        head: AbstractHead | nn.Module | None = None,
        *,
        steps: int | None = None,
        num_train: int | None = None,
    ) -> None:
        for name, number in (("steps", steps), ("num_train", num_train)):
            if number is not None and not (isinstance(number, int) and number >= 1):
                raise InputError(f"Watch({name}=...) must be a whole number >= 1, or None; got {number!r}.")
        if not isinstance(model, nn.Module):
            raise InputError(f"Watch(model, optimizer) needs an nn.Module first; got a {type(model).__name__}.")
        if any(map(nn.parameter.is_lazy, model.parameters())):
            raise InputError(
                "Watch(model, optimizer) needs a model whose parameters have shapes; this one has some that its first "
                "call makes: call it once on a batch before."
            )
        self.model = unwrapped(model)
        self.optimizer: Optimizer = bare(optimizer)
        self.num_steps = 0
        self._told = LoopLoss(None if head is None else as_head(head))
        self._num_train = num_train
        self._planned = steps or FIRST_GUESS
        self._interval = Interval.of(self._planned)
        self._recorder = Recorder([("", self.model)])
        self._parameters = [parameter for tensors in self._recorder.layers.values() for parameter in tensors]
        self._record, self._began = Record(), time.monotonic()
        self._record.add({"event": "watched", **parameter_facts([("", self.model)], self.optimizer)})
        self._calls: list[Call] = []  # of the step under way
        self._losses: list[Tensor | float] = []
        self._batches: list[Batch] = []  # to evaluate its loss again
        self._labels: list[Batch] = []
        self._last_call: Call | None = None
        self._told_before = (0, 0)  # calls and losses when the optimizer began its step
        self._is_told, self._is_deaf = False, False
        self._start: Start | None = None
        self._elsewhere = Elsewhere(self.model, self.optimizer)
        self._cleared, self._uphill = Cleared(self.optimizer), Uphill(self.optimizer)
        self._ordered: list[list[Batch]] = []  # targets of the first steps
        self._num_searches = 0
        self._last: dict[str, Any] | None = None
        self._evaluating: list[tuple[float, int]] | None = None
        self._modes: set[bool] = (
            set()
        )  # of calls without gradients since the last evaluation: in one that matters or not
        self._peak, self._sizes = 0.0, [0, 0]
        self._autocast: torch.dtype | None = None
        self._looks_inside = not any(map(is_compiled, model.modules()))
        self._handles = [
            model.register_forward_pre_hook(_Ear(self)),
            model.register_forward_hook(_Ear(self), with_kwargs=True),
            self.optimizer.register_step_pre_hook(self._before),
            self.optimizer.register_step_post_hook(self._after),
        ]

    def loss(self, loss: Tensor | float, targets: Tensor | None = None) -> None:
        """Tell the loss of a batch, before or after `backward` and `step`; in `evaluation()`, that of one there.

        Args:
            loss: the number that is minimized.
            targets: what the model's output was compared with, `[batch, ...]`; they let probes evaluate the loss again.

        Raises:
            InputError: if the loss is not one number, or the targets are no numbers.
        """
        value, targets = _number(loss), _numbers(targets)
        call = self._calls[-1] if self._calls else None
        if self._evaluating is not None:
            if call is not None:
                self._evaluating.append((float(value), call.num_examples))
                if targets is not None and (batch := self._told.batch(call, targets)) is not None:
                    self._told.valid.offer(batch)
            return
        self._is_told = True
        self._uphill.listen(loss)
        if call is None and self._last is not None:  # told after the step
            self._last["loss"].append(value)
            if targets is not None and self._last_call is not None and self._last_call.loss is None:
                self._keep(self._last_call, value, targets)
                if "layers" in self._last:
                    self._last |= label_figures(self._labels)
                if self._ordered and self.num_steps <= NUM_ORDERED:
                    self._ordered[-1] += self._labels
                self._batches, self._labels = [], []  # of the step that is over
            return
        self._losses.append(value)
        if call is not None and targets is not None and call.loss is None:
            self._keep(call, value, targets)

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """Say that what happens inside is an evaluation; losses told inside are averaged over its examples."""
        held, self._calls = self._calls, []
        self._evaluating = []
        try:
            yield
        finally:
            told, self._evaluating, self._calls = self._evaluating, None, held
        if told:
            number = sum(count for _, count in told)
            self.evaluated(sum(loss * count for loss, count in told) / max(number, 1))

    def evaluated(self, loss: Tensor | float, **metrics: float) -> None:
        """Tell the result of an evaluation: the validation loss, and whatever else was measured."""
        entry: dict[str, Any] = {"event": "evaluation", "step": self.num_steps, "loss": float(loss)}
        entry |= {"seconds": time.monotonic() - self._began, "metrics": {k: float(v) for k, v in metrics.items()}}
        if self._modes == {True}:
            entry["training_mode"] = True
        self._record.add(entry)
        self._modes = set()

    @property
    def has_own_loss(self) -> bool:
        """Whether the model computes its loss itself, so that nobody needs to tell it."""
        return self._told.has_own

    @property
    def history(self) -> list[dict[str, Any]]:
        """Everything that was recorded, as the entries of a run's `history.jsonl` (waits for the device)."""
        watched, *rest = self._elsewhere.left_out(self._record.entries())
        return [watched | self._cleared.figures() | self._uphill.figures() | self._told.figures(), *rest]

    def subject(self) -> Subject:
        """Return what a diagnosis looks at."""
        model, head = self._told.networks(self.model)
        none = Value("There is no head.", averages=True)
        first = None if self._start is None or head is None else self._start.network(self.model)
        is_ordered = len(self._ordered) > 1 and all(self._ordered)
        train, history = self._told.train.batches if head is not None else [], self.history

        def initial() -> Networks:
            network, copied = self._told.networks(copy.deepcopy(first or self.model))
            return network, copy.deepcopy(copied or none)

        return Subject(
            model=model,
            head=none if head is None else head,
            train=train,
            valid=self._told.valid.batches if train else (),
            history=history,
            facts=self._facts(history),
            initial=None if first is None else initial,
            in_order=(lambda step: self._ordered[step] if step < len(self._ordered) else []) if is_ordered else None,
            autocast=self._autocast,
        )

    def diagnose(self, *, seconds: float = SECONDS) -> Diagnosis:
        """Return what is wrong with the training: what its steps say, and what probes measure now.

        Args:
            seconds: for the probes; above 0.

        Raises:
            InputError: if `seconds` is not positive.
        """
        with self._undisturbed():
            subject = self.subject()
            found = diagnose(subject, seconds=seconds)
        return found if subject.train else dataclasses.replace(found, skipped={"all": self._told.unknown})

    def findings(self) -> list[Finding]:
        """Return what the steps say so far, without any probe; quick enough to be asked now and then."""
        history = self.history
        facts = plain(dataclasses.asdict(self._facts(history)))
        found = findings_of(facts, trends_of(history, facts["steps_per_epoch"]), {})
        return [in_pytorch(finding) for finding in found]

    def close(self) -> None:
        """Take the hooks off; what was recorded stays."""
        self._recorder.stop()
        self._cleared.stop()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Let the model be called without taking that for the training."""
        self._is_deaf = True
        try:
            yield
        finally:
            self._is_deaf = False

    def called(self, module: nn.Module) -> None:
        """Begin to measure the operations of the first call of a step, if it is one of those steps."""
        is_training = self._looks_inside and torch.is_grad_enabled() and self._evaluating is None and not self._is_deaf
        if is_training and not self._calls and self._interval.sees_sites(self.num_steps):
            self._recorder.before_forward(sites=True, entered=module)

    def heard(self, args: Any, kwargs: Any, output: Any) -> None:
        """Take a call of the model."""
        if self._is_deaf:
            return
        self._recorder.end_forward()
        try:
            call = Call(self.model, args, kwargs, output)
        except (TypeError, ValueError):  # a `forward` whose arguments have no names
            return
        if not torch.is_grad_enabled() or self._evaluating is not None:
            self._modes.add(self.model.training and depends_on_mode(self.model))
            if self._evaluating is not None:
                self._calls = [call]
            return
        if not self._told.reads_outputs:
            call.output = None  # nothing needs it any more
        kind = self._parameters[0].device.type if self._parameters else "cpu"
        self._autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        self._calls.append(call)
        if call.loss is not None:
            self._told.has_own = True
            if not self._is_told:
                self._losses.append(call.loss)
            self._keep(call, call.loss, call.inputs.get("labels"))

    def _keep(self, call: Call, loss: Tensor | float, targets: Tensor | None) -> None:
        """Keep a call with its targets, for probes and for figures of the labels."""
        if (batch := self._told.take(call, loss, targets)) is not None:
            self._batches.append(batch)
        if targets is not None:
            self._labels.append(Batch({}, targets.detach()))

    def _before(self, *_: Any) -> None:
        """Look at the gradients and the weights, just before the optimizer takes its step."""
        if self._start is None:
            self._start = Start(self.model)
        self._elsewhere.look()
        self._cleared.look()
        rate = float(self.optimizer.param_groups[0].get("lr", 0.0))
        self._peak = max(self._peak, rate)
        self._last = {"event": "step", "step": self.num_steps + 1, "loss": self._losses, "lr": rate, "clipped": False}
        self._last["grad_norm"] = size = self._gradient_norm()
        # Where something else computes, nothing waits for it.
        if size.is_cpu and not math.isfinite(float(size)) and self._num_searches < MAX_SEARCHES:
            self._last |= self._culprit()
        self._told_before = len(self._calls), len(self._losses)
        self._recorder.before_step(layers=self._interval.watches(self.num_steps))

    def _after(self, *_: Any) -> None:
        """Look at what the step has changed, and begin the next one."""
        assert self._last is not None
        calls, losses = self._told_before
        last = self._calls[-1] if self._calls else None
        if len(self._calls) > calls:
            # From a closure: gradients are known now, and all but the first call and loss are of other weights.
            self._last["grad_norm"] = self._gradient_norm()
            del self._losses[losses + 1 :]
            last = self._calls[calls]
            del self._calls[calls + 1 :]
        keeps = self._interval.watches(self.num_steps + 1)
        watched = self._recorder.after(self._labels, keeps=keeps)
        entry = self._last | {"seconds": time.monotonic() - self._began}
        self._last = self._record.add(entry if watched is None else entry | watched.to_json())
        self.num_steps += 1
        self._sizes[0] += sum(call.num_examples for call in self._calls)
        self._sizes[1] += 1
        self._last_call = last
        if len(self._ordered) < NUM_ORDERED:
            self._ordered.append([batch for batch in self._labels if batch.targets.dim() == 1])
        self._calls, self._losses, self._batches, self._labels = [], [], [], []
        if self.num_steps >= self._planned:
            self._planned *= 2
            self._interval = Interval.of(self._planned)

    def _gradient_norm(self) -> Tensor:
        scale = getattr(self.optimizer, "grad_scale", None)  # of a GradScaler whose factor the optimizer takes out
        gradients = [p.grad.detach() for p in self._parameters if p.grad is not None and not p.grad.is_sparse]
        size = vectors.norm(gradients) if gradients else torch.zeros(())
        return size if scale is None else size / scale

    def _culprit(self) -> dict[str, Any]:
        """Return where what is not finite began; the weights are still those of the forward pass."""
        self._num_searches += 1
        batches, (model, head) = self._batches, self._told.networks(self.model)
        if head is None or not batches:  # what the loop does with the output is not known
            batches = [call.batch(torch.ones(1)) for call in self._calls if call.is_complete]
            model, head = output_sum(self.model)
        if not batches:
            return {}
        try:
            with self._undisturbed():
                found = find_culprit(Objective(model, head, batches, autocast=self._autocast))
        except (RuntimeError, ValueError, InputError):
            return {}
        if found is None or (found.what == GRADIENT and not self._batches):
            return {}
        return {"where": inside(found.where) if isinstance(model, WholeLoss) else found.where, "what": found.what}

    def _facts(self, history: list[dict[str, Any]]) -> Facts:
        group = self.optimizer.param_groups[0]
        momentum = group.get("momentum", (group.get("betas") or (0.0,))[0])
        parameter = next((p for p in self._parameters if p.is_floating_point()), None)
        own = "float32" if parameter is None else str(parameter.dtype).removeprefix("torch.")
        size = round(self._sizes[0] / self._sizes[1]) if self._sizes[0] else None
        is_known = bool(self._num_train and size)
        return Facts(
            family=family_of(self.model),
            optimizer=type(self.optimizer).__name__.lower(),
            lr=self._peak,
            momentum=None if isinstance(momentum, Tensor) else float(momentum),
            weight_decay=float(group.get("weight_decay", 0.0)),
            clip=clipping_norm(history),
            batch_size=size,
            full_batch=is_known and size == self._num_train,
            dropout=dropout_of(self.model),
            precision=own if self._autocast is None else str(self._autocast).removeprefix("torch."),
            steps=self.num_steps,
            steps_per_epoch=-(-self._num_train // size) if self._num_train and size else None,
            num_train=self._num_train,
            num_classes=self._told.num_classes,
        )


def _number(loss: Tensor | float) -> Tensor | float:
    """Return a loss without its graph."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.detach().reshape(())
    if isinstance(loss, numbers.Real):
        return float(loss)
    got = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
    raise InputError(f"watch.loss(loss) takes one number, the one whose gradient is taken; got {got}.")


def _numbers(targets: Any) -> Tensor | None:
    """Return targets as a tensor."""
    if targets is None or isinstance(targets, Tensor):
        return None if targets is None else targets.detach()
    try:
        return torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"watch.loss(loss, targets) takes targets as a tensor; got a {type(targets).__name__} that is none."
        ) from error


@final
class _Ear:
    """What hangs on the model: it tells its watch of every call. Copies of the model, saved or not, have a deaf one."""

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = None if watch is None else weakref.ref(watch)

    def __call__(self, module: nn.Module, args: Any, *rest: Any) -> None:
        watch = None if self._watch is None else self._watch()
        if watch is None:
            return
        if rest:  # after the call: keywords and output
            watch.heard(args, *rest)
        else:
            watch.called(module)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Ear":
        return _Ear()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Ear, ()
