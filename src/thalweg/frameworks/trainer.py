"""Hugging Face's Trainer: all micro-batches of a step as one objective, for optimizers that evaluate the loss."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.batch import Batch
from thalweg.errors import InputError
from thalweg.frameworks.whole_loss import NO_GAUSS_NEWTON, WholeLoss
from thalweg.frameworks.wrapped import descent_in
from thalweg.heads.adapt import as_head
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax
from thalweg.heads.value import Value
from thalweg.objective import Objective
from thalweg.optim.base import Requires
from thalweg.optim.clipping import ClipNorm
from thalweg.optim.descent import Descent

Inputs = dict[str, Any]
Arrange = Callable[[Tensor], Tensor]
# How accelerate calls the ways in which one process has all parameters and gradients.
_WHOLE = {"NO", "MULTI_CPU", "MULTI_GPU"}


class TrainerSteps:
    """Put before Hugging Face's `Trainer`, or a class derived from it, makes every `Descent` work there.

    The Trainer runs forward and backward, and calls `optimizer.step()` with nothing to evaluate. Here the micro-batches
    of a step become one `Objective` instead, which is evaluated once for what the Trainer logs, clips and shows to
    callbacks; the step starts from this evaluation, so that nothing is computed twice. Its loss is the Trainer's own
    (`compute_loss`: the model's loss, label smoothing, `compute_loss_func`, accumulation as there). Directions with
    second derivatives get the head and the targets for which the loss of the model's logits is this loss, which is
    found out on the first batch: cross-entropy (for language models of the next token), squared error, or several
    labels.

    Optimizers that evaluate nothing, such as `AdamW` or `Descent(Update(...), Fixed(1))`, train as they always do.

    Args:
        *args: of the Trainer, of which `optimizers=(Descent(model.parameters(), ...), None)` is one.
        head: the loss of the model's logits and the labels, instead of the model's own; None: as above.
        **kwargs: of the Trainer, too.

    Raises:
        ValueError: in the first step: float16, whose gradients are scaled (bfloat16 works); parameters that are
            distributed over processes or belong to DeepSpeed; a `weight_decay` that nothing reads; second derivatives
            of checkpointed layers whose attention is not "eager". An `InputError` where a Gauss-Newton matrix is needed
            and no head fits.

    Example:
        >>> class DescentTrainer(TrainerSteps): ...  # class DescentTrainer(TrainerSteps, transformers.Trainer): ...

    The Trainer's own settings: give `lr_scheduler_type="constant"`, since its default lets the rate, which multiplies
    the direction, fall to 0. `max_grad_norm` is honored, and 1 by default: the gradient that directions are made from
    is clipped; 0 leaves it alone, as methods with a line search prefer it. `learning_rate` and `weight_decay` belong to
    optimizers that the Trainer makes. Models need dropout 0 for second derivatives.
    """

    args: Any
    accelerator: Any
    optimizer: Any

    def __init__(self, *args: Any, head: AbstractHead | nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: list[Inputs] = []
        self._found: tuple[AbstractHead, Arrange] | None = None if head is None else (as_head(head), _as_they_are)
        self._seeks = head is None

    def training_step(self, model: nn.Module, inputs: Inputs, num_items_in_batch: Any = None) -> Tensor:
        """Keep a micro-batch; with the last one of a step, return the loss of all and leave its gradient."""
        descent = descent_in(self.optimizer)
        if descent is None or not descent.evaluates:
            return super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        network = self.accelerator.unwrap_model(model)
        needs_head = Requires.CURVATURE in descent.direction.requires
        self._refuse(descent, network, needs_head)
        model.train()
        self._waiting.append(self._prepare_inputs(inputs))  # type: ignore[attr-defined]
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        # Of a training that was interrupted in the middle of a step, micro-batches may be left.
        num = getattr(self, "current_gradient_accumulation_steps", len(self._waiting))
        batches, self._waiting = self._waiting[-num:], []
        if descent.clip is None and self.args.max_grad_norm:
            descent.clip = ClipNorm(self.args.max_grad_norm)
        if needs_head and self._seeks:
            self._found, self._seeks = self._fitting_head(network, batches[0]), False
        objective = self._of_logits(network, batches) if self._found else None
        objective = objective or self._of_losses(network, batches, num_items_in_batch)
        descent.objective = objective
        return descent.evaluate(objective)

    def _refuse(self, descent: Descent, network: nn.Module, needs_head: bool) -> None:
        if getattr(self.accelerator, "scaler", None) is not None:
            raise ValueError(
                "Descent evaluates the loss itself, so that the factor of a GradScaler would be in some of its numbers "
                "and not in others: set TrainingArguments(bf16=True) instead of fp16, which needs no scaler."
            )
        kind = getattr(self.accelerator.distributed_type, "name", str(self.accelerator.distributed_type))
        if kind not in _WHOLE:
            raise ValueError(
                f"Descent needs all parameters and gradients in each process, and {kind} divides them; use one process "
                "or data parallelism (torchrun without FSDP, DeepSpeed or tensor parallelism)."
            )
        if not descent.direction.moves_itself and any(group.get("weight_decay") for group in descent.param_groups):
            raise ValueError(
                f"weight_decay is read by Update(...) of an optimizer that has one; {type(descent.direction).__name__} "
                "would ignore it. Set weight_decay=0, or put the penalty into the loss (compute_loss_func)."
            )
        attention = getattr(getattr(network, "config", None), "_attn_implementation", "eager")
        older, newer = (
            "is_gradient_checkpointing",
            "is_activation_checkpointing",
        )  # the older one warns in newer versions
        recomputes = getattr(network, newer if hasattr(network, newer) else older, False)
        if needs_head and recomputes and attention != "eager":
            raise ValueError(
                f"For second derivatives checkpointed layers are run again by other kernels than {attention!r}: "
                "switch gradient_checkpointing off, or load the model with attn_implementation='eager'."
            )

    def _of_losses(self, network: nn.Module, batches: list[Inputs], num_items: Any) -> Objective:
        """Return the Trainer's own loss as an objective."""
        scaled = getattr(self, "loss_is_scaled_for_ga", None)
        if scaled is None:
            by_model = self.model_accepts_loss_kwargs and num_items is not None  # type: ignore[attr-defined]
            scaled = by_model or self.compute_loss_func is not None  # type: ignore[attr-defined]
        compute: Any = functools.partial(self.compute_loss, num_items_in_batch=num_items)  # type: ignore[attr-defined]
        share = torch.full((), 1.0 / len(batches) if scaled else 1.0, device=self.args.device)
        head = Value(NO_GAUSS_NEWTON, averages=True)
        return Objective(WholeLoss(network, compute), head, [Batch(dict(inputs), share) for inputs in batches])

    def _of_logits(self, network: nn.Module, batches: list[Inputs]) -> Objective:
        """Return the head's loss of the model's logits as an objective."""
        assert self._found is not None
        head, arrange = self._found
        return Objective(network, head, [_without_labels(network, inputs, arrange) for inputs in batches])

    def _fitting_head(self, network: nn.Module, inputs: Inputs) -> tuple[AbstractHead, Arrange] | None:
        """Return the head and the order of labels for which the loss of the logits is the Trainer's loss."""
        labels = inputs.get("labels")
        if not isinstance(labels, Tensor):
            return None
        with torch.no_grad():
            loss, outputs = self.compute_loss(network, dict(inputs), return_outputs=True)  # type: ignore[attr-defined]
            logits = outputs.get("logits") if isinstance(outputs, dict) else None
            if not isinstance(logits, Tensor):
                return None
            for head, arrange in _candidates(logits, labels, self.args.label_smoothing_factor):
                total, count = head.loss_from_hidden(logits, arrange(labels))
                if math.isclose(total / head.divisor(count), loss, rel_tol=1e-4, abs_tol=1e-6):
                    return head, arrange
        return None


def _candidates(logits: Tensor, labels: Tensor, smoothing: float) -> Iterator[tuple[AbstractHead, Arrange]]:
    """Return the usual losses that fit these shapes."""
    if not labels.is_floating_point():
        if logits.shape[:-1] == labels.shape:
            yield Softmax(None, None, label_smoothing=smoothing), _as_they_are
            if labels.dim() > 1:
                yield Softmax(None, None, label_smoothing=smoothing), _shifted
        return
    if logits.shape == labels.shape:
        yield as_head(nn.MSELoss()), _as_they_are
        yield as_head(nn.BCEWithLogitsLoss()), _as_they_are
    if logits.shape == (*labels.shape, 1):
        yield as_head(nn.MSELoss()), _as_a_column


def _as_they_are(labels: Tensor) -> Tensor:
    return labels


def _shifted(labels: Tensor) -> Tensor:
    """The label of each place is the next one's; the last place has none."""
    return F.pad(labels[..., 1:], (0, 1), value=-100)


def _as_a_column(labels: Tensor) -> Tensor:
    return labels.unsqueeze(-1)


def _without_labels(network: nn.Module, inputs: Inputs, arrange: Arrange) -> Batch:
    """Return a batch whose labels are targets, so that the model computes no loss."""
    others = dict(inputs)
    labels = others.pop("labels", None)
    if not isinstance(labels, Tensor):
        raise InputError("TrainerSteps(head=...) compares logits with `labels`; the batch has none.")
    shift = getattr(network, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None and "decoder_input_ids" not in others:  # which the model makes of the labels otherwise
        others["decoder_input_ids"] = shift(labels=labels)
    return Batch(others, arrange(labels))
