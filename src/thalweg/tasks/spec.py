"""What the rest of the house knows of a task before its code is imported: models, defaults, built-in sample, traits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final


@final
@dataclass(frozen=True)
class ModelSpec:
    """A model that a task can be given.

    Args:
        builder: import path of what builds it (see `thalweg.models.presets`).
        layout: how it reads its input (see `thalweg.tasks.base.Settings`).
        pair_builder: import path of what builds it for pairs of texts; "" where there are none.
        defaults: options that have another default with this model of this task.
        solver: the method of `thalweg.names.SOLVERS` that trains it to a proved optimum; "" where there is none.
        solves_by_default: whether it is trained so where nothing speaks against it.
    """

    builder: str
    layout: str
    pair_builder: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    solver: str = ""
    solves_by_default: bool = False


@final
@dataclass(frozen=True)
class TaskSpec:
    """A task as plain values; it imports no torch, so that the command line can read it at once.

    Args:
        name: what the user types.
        task: import path of the `thalweg.tasks.base.AbstractTask`.
        columns: import path of its `thalweg.data.columns.choice.TaskColumns`, which imports no torch either.
        sample: the built-in data set that a run reads when none is named.
        models: the models that can be chosen, by name.
        defaults: options whose default differs from the general one; `model` is always among them.
        traits: what the task has to do with, for options that only some tasks read: "text" (reads texts), "tokens"
            (cuts texts into tokens by itself), "bigrams" (can read bigrams), "pairs" (can read two
            texts), "series" (reads numeric columns), "classes" (answers with classes), "writes" (writes text).
        online: import path of what learns the task from a stream; "" where nothing does.
    """

    name: str
    task: str
    columns: str
    sample: str
    models: Mapping[str, ModelSpec]
    defaults: Mapping[str, Any]
    traits: frozenset[str] = frozenset()
    online: str = ""
