"""What the online models share: labels, checks, and saving that survives a crash."""

import dataclasses
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch

from thalweg.data.text.hashing import HashingOptions
from thalweg.errors import InputError
from thalweg.models.hashed import HashedTable
from thalweg.online.hashed_rows import RowHasher
from thalweg.online.progress import Progress
from thalweg.training.folder import checkpoint

BIAS_STEP: Final = 0.1  # step of the bias of a row with text, whose features have length 1; rows of numbers: 1
_FORMAT: Final = "thalweg online 1"
_LARGEST = 1e30  # squares of larger numbers would leave the range of float32 weights


@final
@dataclass(frozen=True)
class Shared:
    """What every online model saves beside its features and weights.

    Args:
        kind: "classify" or "score".
        lr: step size.
        l2: strength of the L2 term.
        label_column: column of the label; None while it is not known.
        progress: counts of the stream.
        plain: texts are normalized by `str.lower`, the default.
    """

    kind: str
    lr: float
    l2: float
    label_column: str | None
    progress: Progress
    plain: bool


@final
@dataclass(frozen=True)
class State:
    """A saved model, read and verified but not yet built."""

    folder: Path
    options: HashingOptions
    shared: Shared
    own: dict[str, Any]
    features: dict[str, Any]
    table: dict[str, Any]

    def restore(self, hasher: RowHasher, table: HashedTable) -> None:
        """Put the features' statistics and the weights into a new model.

        Raises:
            InputError: if they do not fit together.
        """
        features = self.features
        scales = {name: tensor.numpy() for name, tensor in features["scales"].items()}
        hasher.restore(features["kinds"], features["number_columns"], scales)
        try:
            table.restore({name: tensor.numpy() for name, tensor in self.table.items()})
        except ValueError as error:
            raise InputError(f"The model in {self.folder} is damaged ({error}); save it again.") from None


def save_state(folder: str | Path, shared: Shared, hasher: RowHasher, table: HashedTable, own: dict[str, Any]) -> None:
    """Save a model as the newest checkpoint in `folder`, and keep the one before it."""
    state = {
        "format": _FORMAT,
        "options": dataclasses.asdict(hasher.options),
        "shared": dataclasses.asdict(shared),
        "own": own,
        "features": {
            "kinds": hasher.kinds,
            "number_columns": hasher.number_columns,
            "scales": _tensors(hasher.scales.arrays()),
        },
        "table": _tensors(table.arrays()),
    }
    newest = checkpoint.latest(Path(folder))
    number = int(newest.name.rpartition("-")[2]) + 1 if newest else 1
    checkpoint.save(Path(folder), number, state)


def load_state(folder: str | Path, kind: str | None, plain: bool | None) -> State:
    """Read and verify a saved model.

    Args:
        folder: where it was saved.
        kind: the kind that is expected; None takes any.
        plain: texts are normalized by the default; None doesn't check it.

    Raises:
        InputError: if nothing is there, a file is damaged, or it is another kind of model.
    """
    newest = checkpoint.latest(Path(folder))
    if newest is None:
        raise InputError(f"There is no saved online model in {folder}; train one with `thalweg train - --online`.")
    state = checkpoint.load(newest)
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise InputError(f"{newest} holds no online model that this version can read; expected format {_FORMAT!r}.")
    shared = state["shared"]
    if kind is not None and shared["kind"] != kind:
        raise InputError(f"The model in {folder} is of the kind {shared['kind']!r}; expected {kind!r}.")
    if plain is not None and shared["plain"] != plain:
        made = "the default normalization" if shared["plain"] else "a normalization of its own"
        raise InputError(f"The model in {folder} was trained with {made} of texts; load it with the same `normalize`.")
    return State(
        Path(folder),
        HashingOptions(**state["options"]),
        Shared(**(shared | {"progress": Progress.from_dict(shared["progress"])})),
        state["own"],
        state["features"],
        state["table"],
    )


def is_online(folder: Path) -> bool:
    """Whether a folder holds a model that learns from a stream: its checkpoints, and no recipe."""
    return not (folder / "recipe.toml").exists() and checkpoint.latest(folder) is not None


def remove_online(folder: Path) -> None:
    """Remove an online model's folder.

    Raises:
        InputError: if the folder holds something else.
    """
    if not is_online(folder):
        raise InputError(
            f"{folder} is no model that learns from a stream, so --overwrite leaves it alone; give a --name."
        )
    shutil.rmtree(folder)


def class_name(label: object) -> str:
    """Return a label as the name of a class: 1, 1.0 and "1" are the same class.

    Raises:
        InputError: if it is neither a text nor a finite number.
    """
    if isinstance(label, str):
        name = label.strip()
        if name:
            return name
    elif isinstance(label, bool):
        return "true" if label else "false"
    elif isinstance(label, int | float) and abs(label) <= _LARGEST:
        return str(int(label)) if label == int(label) else repr(float(label))
    raise InputError(f"Expected a text or a finite number as label, got {_shown(label)}.")


def target_number(label: object) -> float:
    """Return a label as a number.

    Raises:
        InputError: if it is no finite number, or one beyond 1e30.
    """
    number = math.nan
    if isinstance(label, str | int | float) and not isinstance(label, bool):
        try:
            number = float(label)
        except (ValueError, OverflowError):
            number = math.nan
    if not abs(number) <= _LARGEST:
        raise InputError(
            f"Expected a finite number of at most {_LARGEST:g} in size as label, got {_shown(label)}; "
            "for classes use the task classify."
        )
    return number


def check_steps(name: str, lr: float, l2: float) -> None:
    """Check the step size and the L2 term of a model.

    Raises:
        ValueError: if one is out of range.
    """
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"{name}(lr=...) must be above 0 and finite; got {lr}.")
    if not (l2 >= 0 and math.isfinite(l2)):
        raise ValueError(f"{name}(l2=...) must be 0 or more and finite; got {l2}.")


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _shown(value: object) -> str:
    """Return a value for a message; Python refuses to write out very large integers."""
    return "a very large integer" if isinstance(value, int) and value.bit_length() > 1000 else repr(value)[:60]
