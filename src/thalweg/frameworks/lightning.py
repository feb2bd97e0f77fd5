"""Lightning's automatic optimization: the micro-batches of a step as one objective."""

from typing import Any

import torch
from torch import Tensor

from thalweg.batch import Batch
from thalweg.frameworks.wrapped import descent_in
from thalweg.objective import Objective
from thalweg.optim.clipping import ClipNorm, ClipValue
from thalweg.optim.descent import Descent


class LightningSteps:
    """Put before `LightningModule`, makes every `Descent` work in Lightning's automatic optimization.

    `training_step` returns `self.minimized(Objective(...))` instead of a loss. With `accumulate_grad_batches` the step
    is about all of its micro-batches together, the mean over all their targets; `gradient_clip_val` clips the gradient
    that directions are made from; the objective runs in the Trainer's precision ("bf16-mixed"). Loss and gradient are
    evaluated once, for Lightning's hooks and for the step; of micro-batches that only wait, the loss alone.

    Raises:
        ValueError: in the first step: another optimizer than one `Descent`; precision "16-mixed", whose gradients are
            scaled ("bf16-mixed" works); several processes, whose gradients Lightning averages by itself.

    Example:
        >>> class Net(LightningSteps):  # class Net(LightningSteps, lightning.LightningModule):
        ...     def training_step(self, batch, batch_idx):
        ...         return self.minimized(Objective(self.model, torch.nn.MSELoss(), *batch))

    Not needed in manual optimization: `loss = self.optimizers().step(Objective(...))` is the whole step there.
    """

    _is_stepping: bool = False
    _waiting: list[Batch] | None = None
    _whole: Objective | None = None
    _gradients: list[tuple[Tensor, Tensor | None]] | None = None

    def minimized(self, objective: Objective) -> Tensor:
        """Return the loss of an objective, for Lightning; the step is about it and the micro-batches before it.

        Its model, head and penalty are those of the last micro-batch.
        """
        descent = self._descent()
        objective = self._in_precision(objective)
        waiting = self._waiting or []
        if not self._is_stepping:
            self._waiting = [*waiting, *objective.batches]
            return objective.value()
        self._waiting, self._whole = None, objective.on([*waiting, *objective.batches])
        loss = descent.evaluate(self._whole)
        self._gradients = [(parameter, parameter.grad) for parameter in self._whole.parameters]
        return loss

    def on_train_start(self) -> None:
        """Forget the micro-batches of a training that was interrupted in the middle of a step."""
        self._waiting = None
        super().on_train_start()  # type: ignore[misc]

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take a step on the objective that `training_step` makes when Lightning's closure calls it."""
        descent = self._descent()
        self._is_stepping, descent.objective = True, self._of_this_step
        try:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)  # type: ignore[misc]
        finally:
            self._is_stepping, descent.objective, self._whole = False, None, None

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Put back the gradients that Lightning has cleared: they are the loss's."""
        del loss, args, kwargs
        for parameter, gradient in self._gradients or ():
            parameter.grad = gradient
        self._gradients = None

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Leave clipping to the step, which needs the gradient as it is, too."""
        del optimizer
        if gradient_clip_val:
            self._descent().clip = (ClipValue if gradient_clip_algorithm == "value" else ClipNorm)(gradient_clip_val)

    def _descent(self) -> Descent:
        trainer: Any = self.trainer  # type: ignore[attr-defined]
        every = trainer.optimizers
        found = descent_in(every[0]) if len(every) == 1 else None
        if found is None:
            kinds = ", ".join(type(optimizer).__name__ for optimizer in every)
            raise ValueError(
                f"LightningSteps is for one Descent; configure_optimizers returned {kinds}. Return the loss from "
                "training_step for other optimizers, without LightningSteps."
            )
        if trainer.world_size > 1:
            raise ValueError(
                f"LightningSteps works in one process; there are {trainer.world_size}, and Lightning would "
                "average gradients that are summed over processes already."
            )
        return found

    def _in_precision(self, objective: Objective) -> Objective:
        """Return the objective in the precision that Lightning computes in around `training_step`."""
        kind = objective.batches[0].targets.device.type
        if not torch.is_autocast_enabled(kind) or objective.autocast is not None:
            return objective
        precision = torch.get_autocast_dtype(kind)
        if precision == torch.float16:
            raise ValueError(
                "Descent evaluates the loss itself, so that the factor of a GradScaler would be in some of its numbers "
                "and not in others: set Trainer(precision='bf16-mixed') instead of '16-mixed', which needs no scaler."
            )
        objective = objective.on(objective.batches)
        objective.autocast = precision
        return objective

    def _of_this_step(self) -> Objective:
        if self._whole is None:
            raise ValueError("training_step must return self.minimized(Objective(...)); it has called it for no batch.")
        return self._whole
