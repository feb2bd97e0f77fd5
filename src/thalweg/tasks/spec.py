"""What the rest of the house knows of a task before its code is imported: models, defaults, built-in sample, traits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

PRETRAINED: Final = "hf:"  # before the folder of a pretrained model, in place of a model's name
FINE_TUNED, FROZEN = "hf", "hf-frozen"  # what such a model is called in the table of options
READ_BY_ITSELF: Final[Mapping[str, Any]] = {"tokenizer": "pretrained", "normalize": ()}
TUNED: Final[Mapping[str, Any]] = {  # whatever the task: what fine-tuning usually takes
    **READ_BY_ITSELF, "lr": 5e-5, "epochs": 3.0, "batch_size": 32, "warmup": 0.1, "dropout": 0.1,
}  # fmt: skip


@final
@dataclass(frozen=True)
class ModelSpec:
    """A model that a task can be given; "" stands for none."""

    builder: str  # import path of what builds it (see `thalweg.models.presets`)
    layout: str  # how it reads its input (see `thalweg.tasks.base.Settings`)
    pair_builder: str = ""  # import path of what builds it for pairs of texts
    defaults: Mapping[str, Any] = field(default_factory=dict)  # options with another default for this model
    solver: str = ""  # the method of `thalweg.names.SOLVERS` that trains it to a proved optimum
    solves_by_default: bool = False  # whether that method is used when the user asks for no other


@final
@dataclass(frozen=True)
class TaskSpec:
    """A task as plain values; it imports no torch, so that the command line can read it at once.

    The traits say which of the options that only some tasks read apply: "text" (reads texts), "lengths" (which are of
    different lengths), "tokens" (splits texts into tokens itself), "bigrams" (can read bigrams), "pairs" (can read two
    texts), "series" (reads numeric columns), "classes" (answers with classes), "labels" (its classes are labels of
    whole texts), "chain" (answers that depend on each other), "writes" (writes text), "translates" (writes a text
    for each text), "running" (reads one long text), "taught" (can learn from another run's answers).
    """

    name: str  # what the user types
    task: str  # import path of the `thalweg.tasks.base.AbstractTask`
    columns: str  # import path of its `thalweg.data.columns.choice.TaskColumns`, which imports no torch either
    sample: str  # the built-in data set that a run reads when none is named
    models: Mapping[str, ModelSpec]  # by the names that the user types
    defaults: Mapping[str, Any]  # options whose default differs from the general one, always with `model`
    traits: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()  # the options of `thalweg predict` about answers that the task reads
    pretrained: ModelSpec | None = None  # what `--model hf:PATH` is trained as; None: the task takes none
    frozen: ModelSpec | None = None  # the same with `--freeze`
    network: str = ""  # the model that is meant where an option is about a network or its training; "": `model`
    online: str = ""  # import path of what learns the task from a stream; "" where nothing does
    examine: str = (
        ""  # import path of what tells what is odd about a file's rows, from its source and a task's settings
    )
    examines: str = ""  # what that looks for

    def model(self, name: str, *, freeze: bool = False) -> ModelSpec | None:
        """Return what is known of a model by the name that the user typed; None where the task has none of it."""
        if name.startswith(PRETRAINED):
            return self.frozen if freeze else self.pretrained
        return self.models.get(name)


def kind_of(model: str, *, freeze: bool = False) -> str:
    """Return what a model is called in the table of options: its name, or whether a pretrained one is trained.

    Example:
        >>> kind_of("bag"), kind_of("hf:models/minilm"), kind_of("hf:models/minilm", freeze=True)
        ('bag', 'hf', 'hf-frozen')
    """
    if not model.startswith(PRETRAINED):
        return model
    return FROZEN if freeze else FINE_TUNED
