"""Held-out loss and metrics, and before them what a head needs to turn its scores into probabilities."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Range, Samples, of_sums, ratio
from thalweg.data.arrays.batches import Examples
from thalweg.data.files.base import BadRow
from thalweg.heads.base import AbstractHead
from thalweg.phases import steps_of
from thalweg.tasks.answering import answering
from thalweg.tasks.base import AbstractMeter, AbstractTask
from thalweg.tasks.written import NOTHING, Generated
from thalweg.training.steps.feed import parts_in_order

NUM_TRIED = 16  # texts that are written to see how long it takes
NUM_TIMED = 256  # examples that are evaluated to see how long it takes
MAX_TARGETS = 512  # one number is fitted: some hundred targets determine it to about a hundredth


@final
@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Loss per target (without any penalty) and the task's metrics.

    Args:
        loss: per target.
        metrics: by name.
        num_examples: how many examples they were measured on.
        intervals: for "loss" and each metric for which there is one: the 95 % interval of its value on new examples
            like these, the weights being what they are; empty where none were asked for. Exact (Clopper-Pearson) for
            fractions of independent examples, else a bootstrap (see `thalweg.certificates.share_interval`).
        baselines: what always giving the most frequent answer scores on these examples, by metric.
        unit: what the bootstrap draws: "examples", "sentences", "rows".
        shares: of the metrics that are plain shares of independent examples: how many were right, of how many.
        details: more figures as plain data, such as those of each label (see `thalweg.tasks.by_class`).
        num_rows: rows of the file that was evaluated, if it was one.
        num_left_out: how many of them were left out.
        left_out: the first of them that could not be read or used, with their lines.
        notes: sentences about what was read.
        written: of metrics of texts that were written for them: how, on how many, and how they were computed.
    """

    loss: float
    metrics: dict[str, float]
    num_examples: int = 0
    intervals: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unit: str = "examples"
    shares: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_rows: int = 0
    num_left_out: int = 0
    left_out: Sequence[BadRow] = ()
    notes: Sequence[str] = ()
    written: Generated = NOTHING

    def value(self, name: str) -> float:
        """Return a metric, or the loss under the name "loss"; NaN where the loss is not finite.

        A loss that is no number comes of scores that are none: what was counted on them says nothing.
        """
        return self.metrics[name] if name != "loss" and math.isfinite(self.loss) else self.loss


def evaluate(
    task: AbstractTask,
    model: nn.Module,
    head: AbstractHead,
    examples: Examples,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
    generated: int = 0,
    quick: bool = False,
    intervals: bool = False,
) -> Evaluation:
    """Measure loss and metrics on examples, in evaluation mode (the mode is restored).

    Sums and counts are added over batches and divided once, so the batch size changes nothing but the speed. Where
    several processes call it, each takes some of the batches, and all get the same figures; with intervals, or figures
    of generated text, each takes all of them.

    Args:
        task: collates, and gives the meter.
        model: from inputs to hidden states.
        head: from hidden states to loss.
        examples: what to measure on.
        batch_size: examples a batch.
        device: where the model is.
        autocast: type of the forward pass.
        generated: metrics that need generated text are measured on so many examples; 0 leaves them out.
        quick: whether only those of them are that take little time, as during training.
        intervals: whether to give each figure an interval (some hundredths of a second).
    """
    meter = task.meter()
    meter.use(head)
    losses: list[np.ndarray] = []
    kept: list[Samples | None] = []
    total, count = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    device_type = torch.device(device).type
    dtype = next((p.dtype for p in (*model.parameters(), *head.parameters()) if p.is_floating_point()), torch.float32)
    share = Share(examples, batch_size, is_alone=intervals or generated > 0 or type(meter).join is AbstractMeter.join)
    with answering(model, head), torch.autocast(device_type, autocast, enabled=autocast is not None):
        for part in steps_of("evaluating", share.parts, len):
            batch = task.batch(examples, part).to(device, dtype)
            for hidden, few in in_parts(head, model(**batch.inputs), batch):
                prediction = head(hidden)
                few_total, few_count, each = loss_by_example(head, prediction, few, intervals)
                losses.append(each)
                total += few_total.double().cpu()
                count += few_count.double().cpu()
                meter.update(prediction, few)
        if share.is_divided:
            meter.join(share.everyones)
            total, count = distributed.sum_over_ranks([torch.stack([total, count])])[0]
        metrics = meter.compute()
        written = NOTHING
        if generated and torch.isfinite(total):
            written = task.generated_metrics(model, head, examples, generated, quick=quick)
            metrics |= written.metrics
            kept.append(written.samples)
    details = meter.details() if intervals else {}
    found = Evaluation(float(total / count), metrics, len(examples), details=details, written=written)
    if not intervals or not math.isfinite(found.loss):
        return found
    kept = [meter.samples(), *kept]
    return with_intervals(found, np.concatenate(losses), [samples for samples in kept if samples is not None])


def writes_to_measure(task: AbstractTask) -> bool:
    """Whether some of a task's metrics need texts that are written for them."""
    return type(task).generated_metrics is not AbstractTask.generated_metrics


def affordable(
    task: AbstractTask, model: nn.Module, head: AbstractHead, examples: Examples, most: int, seconds: float
) -> int:
    """Return how many texts can be written and measured in so many seconds, at most `most`, as a few of them tell."""
    tried = min(most, NUM_TRIED)
    begin = time.perf_counter()
    task.generated_metrics(model, head, examples, tried)
    each = (time.perf_counter() - begin) / max(1, tried)
    return max(tried, min(most, int((seconds - each * tried) / each)))


def seconds_to_evaluate(
    task: AbstractTask, model: nn.Module, head: AbstractHead, examples: Examples, device: torch.device
) -> float:
    """Return how long an evaluation takes about, as a few of the examples tell."""
    some = examples.take(np.arange(min(len(examples), NUM_TIMED)) * len(examples) // min(len(examples), NUM_TIMED))
    begin = time.perf_counter()
    evaluate(task, model, head, some, device=device)
    return (time.perf_counter() - begin) * len(examples) / len(some)


def in_parts(head: AbstractHead, hidden: Tensor, batch: Batch) -> Iterator[tuple[Tensor, Batch]]:
    """Yield the hidden states of a batch with what they should answer, of few examples where predictions are wide."""
    most = head.most_rows
    if most is None or batch.targets.numel() <= most or len(hidden) != len(batch.targets):
        yield hidden, batch
        return
    size = max(1, most * len(batch.targets) // batch.targets.numel())
    for start in range(0, len(hidden), size):
        rows = slice(start, start + size)

        def of_rows(tensor: Tensor, rows: slice = rows) -> Tensor:
            return tensor[rows] if len(tensor) == len(hidden) else tensor

        yield hidden[rows], batch.changed(of_rows)


@final
class Share:
    """The batches of one process, the others having the rest; `is_alone`, or where they are too few, all of them."""

    def __init__(self, examples: Examples, batch_size: int, *, is_alone: bool = False) -> None:
        every = list(parts_in_order(examples, batch_size))
        num = distributed.world_size()
        self.is_divided = 1 < num <= len(every) and not is_alone
        self.parts = every[distributed.rank() :: num] if self.is_divided else every
        starts = np.cumsum([0, *map(len, every)])
        places = [np.arange(starts[n], starts[n + 1]) for first in range(num) for n in range(first, len(every), num)]
        self._order = torch.from_numpy(np.argsort(np.concatenate(places or [starts[:0]])))

    def everyones(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes in the order of the examples; `rows` are those of one's own batches."""
        return distributed.gather_rows(rows)[self._order.to(rows.device)]


def with_intervals(found: Evaluation, losses: np.ndarray, kept: list[Samples]) -> Evaluation:
    """Return an evaluation with the intervals of its figures; `losses` holds each example's loss and count."""
    unit, in_time = (kept[0].unit, kept[0].in_time) if kept else ("examples", False)
    total, count = losses.sum(0)
    ranges: dict[str, Range] = {}
    if (
        len(losses) == found.num_examples
        and count > 0.0
        and np.isclose(total / count, found.loss, rtol=1e-4, atol=1e-6)
    ):  # else it is no sum over examples
        loss = of_sums(losses, lambda sums: {"loss": ratio(sums[:, 0], sums[:, 1])}, unit=unit, in_time=in_time)
        ranges |= loss.intervals()
    baselines: dict[str, float] = {}
    shares: dict[str, tuple[int, int]] = {}
    for samples in kept:
        shares |= samples.shares
        ranges |= {name: pair for name, pair in samples.intervals().items() if name in found.metrics}
        baselines |= samples.baselines
    return dataclasses.replace(found, intervals=ranges, baselines=baselines, unit=unit, shares=shares)


def loss_by_example(
    head: AbstractHead, prediction: Tensor, batch: Batch, wanted: bool
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Return what `head.loss` returns, and, where wanted, what each example adds to both, float64 `[batch, 2]`.

    Sum and count are linear in the weights of the examples, so these are the derivatives by the weights; they are left
    out (`[0, 2]`) for a head that cannot be differentiated so.
    """
    given = batch.weights
    if wanted:
        with torch.inference_mode(mode=False), torch.enable_grad(), contextlib.suppress(RuntimeError):
            ones = torch.ones(batch.num_examples, dtype=prediction.dtype, device=prediction.device, requires_grad=True)
            weights = ones if given is None else given.clone() * ones.view(-1, *[1] * (given.ndim - 1))
            sums = head.loss(prediction, batch.targets, batch.mask, weights)
            grads = [torch.autograd.grad(total, ones, retain_graph=True, allow_unused=True)[0] for total in sums]
            each = [torch.zeros_like(ones) if grad is None else grad for grad in grads]
            return sums[0].detach(), sums[1].detach(), torch.stack(each, 1).double().cpu().numpy()
    return *head.loss(prediction, batch.targets, batch.mask, given), np.empty((0, 2))


def calibrate(model: nn.Module, head: AbstractHead, batch: Batch, *, autocast: torch.dtype | None = None) -> None:
    """Let the head fit its calibration on some targets of a training batch, in evaluation mode."""
    if type(head).calibrate is AbstractHead.calibrate:
        return
    modes = [(module, module.training) for network in (model, head) for module in network.modules()]
    model.eval()
    head.eval()
    try:
        with torch.no_grad(), torch.autocast(batch.targets.device.type, autocast, enabled=autocast is not None):
            prediction = head(model(**batch.inputs))
            mask = torch.ones_like(batch.targets, dtype=torch.bool) if batch.mask is None else batch.mask
            # Evenly over the batch, so that neither the beginnings of texts nor short texts dominate.
            places = mask.flatten().nonzero().squeeze(1)
            places = places[:: max(1, len(places) // MAX_TARGETS)][:MAX_TARGETS]
            head.calibrate(prediction.flatten(0, -2)[places], batch.targets.flatten()[places])
    finally:
        for module, mode in modes:
            module.training = mode
