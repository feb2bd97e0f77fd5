"""Watching Lightning's Trainer, by a callback; Lightning is not imported here."""

from typing import Any

from torch import Tensor, nn

from thalweg.diagnosis.finding import Diagnosis
from thalweg.diagnosis.loops.in_trainer import watched
from thalweg.diagnosis.loops.watch import Watch
from thalweg.heads.base import AbstractHead


class LightningDiagnosis:
    """Put before Lightning's `Callback`, watches a training: the loss is what `training_step` returns.

    Args:
        network: name of the module that `training_step` calls, such as "model"; None: the only module in the
            LightningModule that has parameters, or the LightningModule itself.
        head: the loss of its output (see `Watch`); None: found out, where batches are pairs of inputs and targets.

    Attributes:
        watch: the watch, once training has begun.

    Example:
        >>> class Diagnose(LightningDiagnosis): ...  # class Diagnose(LightningDiagnosis, lightning.Callback): ...

    `Trainer(callbacks=[callback := Diagnose()])`, and after the training `print(callback.diagnose())`. Of several
    optimizers the first is watched.
    """

    watch: Watch | None = None

    def __init__(self, network: str | None = None, head: AbstractHead | nn.Module | None = None) -> None:
        super().__init__()
        self._network, self._head = network, head

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to watch."""
        if self.watch is not None:
            self.watch.close()
        steps = trainer.estimated_stepping_batches
        known = steps if isinstance(steps, int) and 0 < steps < 10**9 else None
        network = pl_module.get_submodule(self._network) if self._network else _only_network(pl_module)
        self.watch = Watch(network, trainer.optimizers[0], self._head, steps=known)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the loss and the targets of a batch."""
        del pl_module, batch_idx
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if self.watch is not None and isinstance(loss, Tensor):
            # Lightning has divided it among the micro-batches of a step.
            self.watch.loss(loss * trainer.accumulate_grad_batches, _targets(batch))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the validation loss that was logged, of the names "val_loss" and "valid_loss"."""
        del pl_module
        for name in ("val_loss", "valid_loss"):
            if self.watch is not None and name in trainer.callback_metrics and not trainer.sanity_checking:
                self.watch.evaluated(trainer.callback_metrics[name])
                return

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the hooks off."""
        del trainer, pl_module
        if self.watch is not None:
            self.watch.close()

    def diagnose(self, **options: Any) -> Diagnosis:
        """Return what is wrong with the training (see `Watch.diagnose`)."""
        return watched(self.watch).diagnose(**options)


def _only_network(module: nn.Module) -> nn.Module:
    networks = [child for child in module.children() if next(child.parameters(), None) is not None]
    own = list(module.parameters(recurse=False))
    return networks[0] if len(networks) == 1 and not own else module


def _targets(batch: Any) -> Tensor | None:
    is_pair = isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor)
    return batch[1] if is_pair else None
