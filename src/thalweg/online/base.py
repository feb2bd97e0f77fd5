"""What the online models share: outputs linear in hashed features, and saving that survives a crash."""

import abc
import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Self, final

import numpy as np
import torch

from thalweg.data.text.hashing import HashingOptions
from thalweg.errors import InputError
from thalweg.models.hashed import HashedTable
from thalweg.online.checked import require_sound
from thalweg.online.hashed_rows import Features, RowHasher
from thalweg.online.progress import Outcome, Progress, Tally
from thalweg.storage.files import remove
from thalweg.storage.forms import record, text, truth
from thalweg.training.folder import checkpoint
from thalweg.training.integrity import checkpoint_names

Row = str | Mapping[str, object]
_BIAS_STEP: Final = 0.1  # step of the bias of a row with text, whose features have length 1; rows of numbers: 1
_FORMAT: Final = "thalweg online 2"
_STATE: Final = record(kind=text(), has_default_normalization=truth())


@final
class HashedLinear:
    """Outputs that are linear in a row's hashed features, learned by the AdaGrad of `HashedTable`.

    Messages name the class `owner`. The loss has the term l2/2 times the squared weights of the example's features;
    `normalize` is applied to a text before it is split into words. Raises `ValueError` unless `lr` > 0 and `l2` >= 0,
    both finite.
    """

    def __init__(
        self, owner: str, options: HashingOptions, width: int, lr: float, l2: float, normalize: Callable[[str], str]
    ) -> None:
        if not (lr > 0 and math.isfinite(lr)):
            raise ValueError(f"{owner}(lr=...) must be above 0 and finite; got {lr}.")
        if not (l2 >= 0 and math.isfinite(l2)):
            raise ValueError(f"{owner}(l2=...) must be 0 or more and finite; got {l2}.")
        self.lr = lr
        self.l2 = l2
        self.normalize = normalize
        self.hasher = RowHasher(options, normalize)
        self.table = HashedTable(options.num_buckets, width)
        self._bias_squares = 0.0

    def outputs(self, features: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the places and weights of a row's features, and the outputs without a bias, float32 [width]."""
        slots, rows = self.table.gather(features.buckets)
        return slots, rows, features.values.dot(rows)

    def learn(
        self, features: Features, slots: np.ndarray, rows: np.ndarray, gradient: np.ndarray, step: float
    ) -> float:
        """Take one step on what `outputs` gave, which is overwritten, and return the step size for the bias.

        The gradient is that of the loss in the outputs, float32 [width]; the step size is above 0.
        """
        self.table.learn(features.buckets, features.values, slots, rows, gradient=gradient, step=step, l2=self.l2)
        self._bias_squares += float(gradient.dot(gradient))
        return step * (_BIAS_STEP if features.has_text else 1.0) / math.sqrt(self._bias_squares + 1e-8)

    def state(self) -> dict[str, Any]:
        """Return what has been learned, as tensors and plain values."""
        return {
            "bias_squares": self._bias_squares,
            "kinds": self.hasher.kinds,
            "number_columns": self.hasher.number_columns,
            "scales": _tensors(self.hasher.scales.arrays()),
            "table": _tensors(self.table.arrays()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; raises `ValueError` if the weights are not those of a table of this size."""
        self._bias_squares = state["bias_squares"]
        self.hasher.restore(state["kinds"], state["number_columns"], _arrays(state["scales"]))
        self.table.restore(_arrays(state["table"]))


class AbstractOnlineModel(abc.ABC):
    """A model that learns one row at a time; made by a subclass's constructor, or by its `load`."""

    kind: ClassVar[str]
    score_name: ClassVar[str]
    label_role: ClassVar[str]  # of the column of the label, a key of `thalweg.data.columns.role_names.ROLE_NAMES`
    label_column: str | None  # None while it is not known
    progress: Progress  # counts of the stream
    _linear: HashedLinear
    _arguments: dict[str, Any]  # of the constructor, but for `normalize`

    @final
    def _begin(self, linear: HashedLinear) -> None:
        """Set what the constructors have in common: nothing has been seen."""
        options = {name: getattr(linear.hasher.options, name) for name in ("num_buckets", "ngrams", "columns")}
        self._linear, self._arguments = linear, options | {"lr": linear.lr, "l2": linear.l2}
        self.label_column, self.progress = None, Progress()

    @abc.abstractmethod
    def predict(self, row: Row) -> Any:
        """Return the answer for a text, or for values by column; nothing changes."""

    @abc.abstractmethod
    def learn(self, row: Row, label: object) -> Outcome:
        """Predict a row, then learn from its label; a row or label that can't be read changes nothing."""

    @abc.abstractmethod
    def count(self, outcome: Outcome, label: object) -> None:
        """Count the outcome of a labeled row in `progress`."""

    @abc.abstractmethod
    def scores(self, tally: Tally) -> tuple[float, float, float]:
        """Return the score of the model, of always predicting what is most frequent so far, and what came last."""

    @abc.abstractmethod
    def _state(self) -> dict[str, Any]:
        """Return what this kind of model has learned beside its weights."""

    @abc.abstractmethod
    def _restore(self, state: dict[str, Any]) -> None:
        """Take back what `_state` gave."""

    @final
    @property
    def num_features(self) -> int:
        """How many buckets have been learned."""
        return self._linear.table.num_rows - 1

    @final
    @property
    def kinds(self) -> Mapping[str, str]:
        """The columns that are read, and as what: text, category or number."""
        return self._linear.hasher.kinds

    @final
    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the model was made with."""
        return self._arguments

    @final
    @property
    def num_bytes(self) -> int:
        """Memory of the weights as they are."""
        return self._linear.table.num_bytes

    @final
    def snapshot(self) -> dict[str, Any]:
        """Return all that is saved as it is now, in memory of its own."""
        return copy.deepcopy(
            {
                "format": _FORMAT,
                "kind": self.kind,
                "arguments": self._arguments,
                "has_default_normalization": self._linear.normalize is str.lower,
                "label_column": self.label_column,
                "progress": dataclasses.asdict(self.progress),
                "linear": self._linear.state(),
                "own": self._state(),
            }
        )

    @final
    def save(self, folder: str | Path) -> None:
        """Save as a whole or not at all; the previous one stays until this one is in place (and one longer)."""
        save_state(folder, self.snapshot())

    @final
    @classmethod
    def load(cls, folder: str | Path, normalize: Callable[[str], str] = str.lower) -> Self:
        """Load what `save` saved; learning continues exactly as if it had never stopped.

        Args:
            folder: the folder given to `save`.
            normalize: the same as when it was made (a function can't be saved).

        Raises:
            InputError: if nothing is there, a file is damaged, or it was saved with another `normalize`.
        """
        state = load_state(folder)
        if state["kind"] != cls.kind:
            raise InputError(f"The model in {folder} is a {state['kind']}; expected a {cls.kind}.")
        has_default = state["has_default_normalization"]
        if has_default != (normalize is str.lower):
            made = "the default normalization" if has_default else "its own normalization"
            raise InputError(
                f"The model in {folder} was trained with {made} of texts; load it with the same `normalize`."
            )
        with _sound(folder):
            require_sound(state)
            model = cls(**state["arguments"], normalize=normalize)  # pyright: ignore[reportCallIssue]
            model._linear.restore(state["linear"])
            model.label_column, model.progress = state["label_column"], Progress.from_dict(state["progress"])
            model._restore(state["own"])
        return model


def save_state(folder: str | Path, state: Mapping[str, Any], keep: int = 2) -> None:
    """Save what `snapshot` gave, as the newest one in the folder; all but the `keep` newest are removed then."""
    newest = checkpoint_names.latest(Path(folder))
    number = int(newest.name.rpartition("-")[2]) + 1 if newest else 1
    checkpoint.save(Path(folder), number, state, keep)


def load_state(folder: str | Path) -> dict[str, Any]:
    """Read and verify a saved model of any kind; raises `InputError` if it is missing, damaged, or no online model."""
    newest = checkpoint_names.latest(Path(folder))
    if newest is None:
        raise InputError(f"There is no saved online model in {folder}; train one with `thalweg train - --online`.")
    with _sound(folder):
        state = checkpoint.load(newest)
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise InputError(f"{newest} holds no online model that this version can read; expected format {_FORMAT!r}.")
    with _sound(folder):
        known: dict[str, Any] = _STATE(state, "")
    return known


@contextlib.contextmanager
def _sound(folder: str | Path) -> Iterator[None]:
    """Tell of a saved model that is not as it was saved, whatever is wrong with it."""
    try:
        yield
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        how = str(error)[:200] or type(error).__name__
        raise InputError(
            f"The model in {folder} is damaged or of another version ({how}); start over with --overwrite."
        ) from None


def is_begun(folder: Path) -> bool:
    """Whether a model that learns from a stream has been saved in a folder.

    A folder that is not there, or holds only what a process that was killed has left, can be begun. Raises
    `InputError` where it holds something else.
    """
    if checkpoint_names.is_online(folder):
        return True
    if folder.exists() and not (folder.is_dir() and all(one.name.startswith(".") for one in folder.iterdir())):
        raise InputError(f"{folder} holds something else than a model of a stream; choose another --name.")
    return False


def remove_online(folder: Path) -> None:
    """Remove an online model, and its folder unless a file of someone else is in it."""
    for saved in folder.glob("step-*"):
        remove(saved)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
