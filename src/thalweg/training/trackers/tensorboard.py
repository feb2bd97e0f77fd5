"""TensorBoard: event files in the run's folder, written by tensorboardX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Self, final

from typing_extensions import override

from thalweg.training.trackers.base import About, AbstractTracker

FOLDER: Final = "tensorboard"  # within the run's


@final
class TensorBoard(AbstractTracker):
    """Scalars and hyperparameters; `tensorboard --logdir runs` shows all runs of a folder."""

    package: ClassVar[str] = "tensorboardX"

    def __init__(self, about: About) -> None:
        self._folder = str(about.folder / FOLDER)
        self._writer = self._opened(about.step + 1 if (about.folder / FOLDER).exists() else None)
        self._options: dict[str, Any] = dict(about.options)
        experiment, start, _ = self._hyperparameters({})
        self._writer.file_writer.add_summary(experiment)
        self._writer.file_writer.add_summary(start)

    @classmethod
    @override
    def open(cls, about: About) -> Self:
        return cls(about)

    def _opened(self, first: int | None) -> Any:
        """Return a new event file; what other files of the folder have of the step `first` and later is void."""
        from tensorboardX import SummaryWriter

        number = len(list(Path(self._folder).glob("events.*")))  # a file's name has its second, which is not enough
        return SummaryWriter(self._folder, purge_step=first, filename_suffix=f".{number:04d}")

    def _hyperparameters(self, figures: Mapping[str, float]) -> Any:
        from tensorboardX.summary import hparams

        return hparams(self._options, dict(figures))

    @override
    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    @override
    def go_back(self, step: int) -> None:
        self._writer.close()
        self._writer = self._opened(step + 1)

    @override
    def close(self, step: int, figures: Mapping[str, float], status: str) -> None:
        if figures:
            for part in self._hyperparameters(figures):
                self._writer.file_writer.add_summary(part)
            self.log(step, figures)
        self._writer.close()
