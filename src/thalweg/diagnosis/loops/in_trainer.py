"""Watching Hugging Face's Trainer, by a callback; the Trainer's package is not imported here."""

from typing import Any

from thalweg.diagnosis.finding import Diagnosis
from thalweg.diagnosis.loops.watch import Watch


class TrainerDiagnosis:
    """Put before `TrainerCallback`, watches a Trainer; the loss is the model's own, or that of the Trainer's logs.

    Attributes:
        watch: the watch, once training has begun.

    Example:
        >>> class Diagnose(TrainerDiagnosis): ...  # class Diagnose(TrainerDiagnosis, transformers.TrainerCallback): ...

    `trainer.add_callback(callback := Diagnose())`, and after the training `print(callback.diagnose())`. Loops that hand
    no labels to the model (label smoothing, `compute_loss_func`) have no probes, and the loss of the logs only.
    """

    watch: Watch | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to watch."""
        del args, control
        if self.watch is not None:
            self.watch.close()
        self.watch = Watch(kwargs["model"], kwargs["optimizer"], steps=state.max_steps or None)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Take the loss that the Trainer logs, where the model computes none."""
        del args, state, control, kwargs
        if self.watch is not None and logs and "loss" in logs and not self.watch.has_own_loss:
            self.watch.loss(logs["loss"])

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Take the validation loss."""
        del args, state, control, kwargs
        if self.watch is not None and metrics and "eval_loss" in metrics:
            self.watch.evaluated(metrics["eval_loss"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the hooks off."""
        del args, state, control, kwargs
        if self.watch is not None:
            self.watch.close()

    def diagnose(self, **options: Any) -> Diagnosis:
        """Return what is wrong with the training (see `Watch.diagnose`)."""
        return watched(self.watch).diagnose(**options)


def watched(watch: Watch | None) -> Watch:
    """Return the watch of a callback.

    Raises:
        RuntimeError: if no training has begun.
    """
    if watch is None:
        raise RuntimeError("Nothing has been watched yet: give the callback to the trainer, and train.")
    return watch
