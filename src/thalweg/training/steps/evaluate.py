"""Held-out loss and metrics, and before them what a head needs to turn its scores into probabilities."""

import dataclasses
from typing import final

import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering
from thalweg.tasks.base import AbstractTask
from thalweg.training.steps.feed import in_order

MAX_TARGETS = 512  # one number is fitted: some hundred targets determine it to about a hundredth


@final
@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Loss per target (without any penalty) and the task's metrics."""

    loss: float
    metrics: dict[str, float]

    def value(self, name: str) -> float:
        """Return a metric, or the loss under the name "loss"."""
        return self.loss if name == "loss" else self.metrics[name]


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
) -> Evaluation:
    """Measure loss and metrics on examples, in evaluation mode (the mode is restored).

    Sums and counts are added over batches and divided once, so the batch size changes nothing but the speed.

    Args:
        task: collates, and gives the meter.
        model: from inputs to hidden states.
        head: from hidden states to loss.
        examples: what to measure on.
        batch_size: examples a batch.
        device: where the model is.
        autocast: type of the forward pass.
        generated: metrics that need generated text are measured on so many examples; 0 leaves them out.
    """
    meter = task.meter()
    meter.use(head)
    total, count = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    device_type = torch.device(device).type
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    with answering(model, head), torch.autocast(device_type, autocast, enabled=autocast is not None):
        for _, batch in in_order(examples, task.batch, batch_size, device, dtype):
            prediction = head(model(**batch.inputs))
            batch_total, batch_count = head.loss(prediction, batch.targets, batch.mask, batch.weights)
            total += batch_total.double().cpu()
            count += batch_count.double().cpu()
            meter.update(prediction, batch)
        metrics = meter.compute()
        if generated:
            metrics |= task.generated_metrics(model, head, examples, generated)
    return Evaluation(float(total / count), metrics)


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
