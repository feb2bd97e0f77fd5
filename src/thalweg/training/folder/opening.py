"""Data by name, read as a recipe and a run's `data.json` say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from thalweg import names
from thalweg.data.arrays.ragged import IN_MEMORY, Spill
from thalweg.data.columns.choice import Choice, Kind
from thalweg.data.columns.reading import ReadSource, read_as
from thalweg.data.containers.opening import open_any
from thalweg.data.files.base import AbstractSource
from thalweg.errors import counted
from thalweg.tasks.settings import Settings
from thalweg.tasks.spec import PRETRAINED
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Recipe

if TYPE_CHECKING:
    from thalweg.tasks.base import AbstractTask


def as_it_is(source: AbstractSource) -> AbstractSource:
    """Return a source as it is."""
    return source


def open_as(
    data: Any,
    task: str,
    columns: Mapping[str, Any],
    labeled: Callable[[AbstractSource], AbstractSource] = as_it_is,
    **options: Any,
) -> ReadSource:
    """Open data of any kind, and read the columns as a run's `data.json` says; `task` is the task's name.

    `labeled` gives a source a column that it lacks; `options` are those of `open_any`.
    """
    choice, skip = Choice.of_plain(task, columns), bool(options.get("skip_bad_rows"))
    return read_as(labeled(open_any(data, **options)), names.task_columns(task), choice, skip_bad_rows=skip)


def has_series(task: str) -> bool:
    """Whether a task reads series of numbers: its rows belong together, and a file is one question or a few."""
    return Kind.SERIES in names.task_columns(task).roles.values()


def with_numbers(source: AbstractSource, task: str, columns: Mapping[str, Any]) -> AbstractSource:
    """Return a source to forecast from, in which numbers of another notation (`notations` of `columns`) are numbers."""
    known = names.task_columns(task)
    roles = [role for role, kind in known.roles.items() if kind is Kind.SERIES]
    if not roles or not columns.get("notations"):
        return source
    return read_as(source, known, Choice.of_plain(task, columns), skip_bad_rows=False, roles=roles)


def skipped_rows(*sources: AbstractSource | None) -> list[str]:
    """Return a sentence for each source with rows that could not be read, or hold what the task can't use."""
    notes = []
    for source in sources:
        if source is not None and source.num_bad_rows:
            listed = "; ".join(f"line {row.line}: {row.reason}" for row in source.bad_rows[:5])
            more = "; ..." if source.num_bad_rows > 5 else ""
            count = counted(source.num_bad_rows, "row")
            is_unusable = isinstance(source, ReadSource) and source.num_unusable_rows > 0
            verb = "used" if is_unusable else "read"
            notes.append(f"{source.name}: {count} cannot be {verb}, left out ({listed}{more}).")
        if source is not None:
            notes += source.remarks
    return notes


def settings_of(
    recipe: Recipe, columns: dict[str, Any], spill: Spill = IN_MEMORY, start: AbstractTask | None = None
) -> Settings:
    """Return the data part of a complete recipe as the settings of a task; see `Settings.start`."""
    data, model = recipe.data, recipe.model
    # The targets of continuous outputs are vectors of the words there are, so that the vocabulary does not grow; nor
    # does one in which the words of a file of vectors stand.
    is_kept = start is not None and model.head not in ("softmax", names.CHAIN_HEAD)
    limit = 0 if is_kept else data.vocabulary_size
    reader: Any = getattr(start, "reader", None)
    if getattr(reader, "is_closed", False):
        limit = reader.tokenizer.vocabulary_size
    return Settings(
        columns=columns,
        valid_share=data.valid_share,
        normalize=data.normalize,
        tokenizer=data.tokenizer,
        vocabulary_size=limit,
        bigrams=data.bigrams,
        min_frequency=data.min_frequency,
        max_length=data.max_length,
        carry=data.carry if model.model in OPTIONS["carry"].models else 0,
        stride=data.stride,
        lags=data.lags,
        scaling=data.scaling,
        gaps=data.gaps,
        day_first={"yes": True, "no": False}.get(data.day_first),
        layout=names.model_spec(recipe.run.task, model.model, freeze=model.freeze).layout,
        pretrained=model.model if model.model.startswith(PRETRAINED) else "",
        pooling=model.pooling,
        pairs=model.pairs,
        device=recipe.run.device,
        long=data.long,
        max_ratio=data.max_ratio,
        bpe_dropout=data.bpe_dropout,
        vocabulary=data.vocabulary,
        vocabularies=data.vocabularies,
        word_vectors=data.word_vectors,
        normalize_vectors=data.normalize_vectors,
        class_weights=recipe.training.class_weights,
        threshold=recipe.training.threshold,
        bleu_tokenizer=recipe.training.bleu_tokenizer,
        select=recipe.training.select if recipe.training.select in names.WRITTEN_METRICS else "",
        spill=spill,
        start=start,
    )


def task_in(run: Any) -> AbstractTask:
    """Return the task that the folder of a `Run` holds, whether the run has weights yet or not."""
    kind: type[AbstractTask] = names.task_class(run.recipe.run.task)
    return kind.load(run.folder, settings_of(run.recipe, run.data["columns"]))
