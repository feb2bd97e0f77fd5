"""From options to data: the recipe file, the source, the task, the columns, and the examples."""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, final

import numpy as np

from thalweg import names
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import IN_MEMORY, Spill
from thalweg.data.blocks.windows import WINDOW
from thalweg.data.columns.choice import Choice, TaskColumns, choose_columns
from thalweg.data.columns.guess import doubt_about_text, guess_task
from thalweg.data.columns.reading import ReadSource, read_as
from thalweg.data.containers.folder import splits_of
from thalweg.data.containers.opening import is_sample, open_any, reading_of
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError, counted
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.tasks.settings import Settings
from thalweg.training.folder.opening import settings_of
from thalweg.training.recipe.recipe import Options, Recipe, read_options

SAMPLE: Final = WINDOW  # blocks that vocabulary, labels and scaling are learned from
MOST_VALID: Final = WINDOW // 4  # blocks that are held out for validation, at most


@final
@dataclasses.dataclass(frozen=True)
class Opened:
    """Data that are open, and what was chosen about them."""

    options: Options  # what the user gave, with source and task
    decided: Options  # the same, with the columns that were chosen
    source: AbstractSource
    valid: AbstractSource | None  # None where the validation data are split off
    choice: Choice

    def notes(self) -> list[str]:
        """Return sentences about the files and the columns."""
        return [note for note in (*self.source.notes, self.choice.sentence) if note]


def open_data(
    options: Options,
    say: Callable[[str], None],
    objects: Mapping[str, AbstractSource] = MappingProxyType({}),
    *,
    to_look: bool = False,
    hints: Mapping[str, Any] = MappingProxyType({}),
    labeled: Callable[[AbstractSource, str], AbstractSource] = lambda source, named: source,  # noqa: ARG005
) -> Opened:
    """Open the data, and choose the task (`say` takes a sentence about the guess) and the columns.

    `objects` are sources that were given in Python, by the names that stand for them in the options.

    An InputError tells of a file that cannot be opened, a named column that is missing, or that none fits; and, unless
    it is only `to_look`, of numbers that can be read in two ways. `hints` are options that name columns, of which those
    hold that nobody gave and the file has. `labeled` gives a source the column of answers that it may lack;
    it takes the name that was given, "" where none was.
    """
    options, splits = _with_splits(_with_source(options))
    how = reading_of(options)
    source, valid = (
        objects.get(place) or open_any(place, **how) if place else None
        for place in (options["source"], options.get("valid"))
    )
    if source is None:
        raise InputError("The name of the data is empty; give a file, or leave it out for the task's built-in set.")
    named_label = options.get("label_column") or ""
    source, valid = labeled(source, named_label), None if valid is None else labeled(valid, named_label)
    options = options.with_({name: value for name, value in hints.items() if _fits(name, value, options, source)})
    if splits:
        source.notes[:0] = splits
    doubt = ""
    if "task" not in options:
        named = _named(options) | ({"series": ",".join(columns)} if (columns := options.get("columns")) else {})
        guessed, sentence = guess_task(source, names.all_task_columns(), named, decimal=options.get("decimal") or "")
        say(sentence)
        options = options.with_(task=guessed.task)
        doubt = "" if options.get("kind") else doubt_about_text(source)
    task = names.task_columns(options["task"])
    choice = _choose(source, task, options)
    if doubt:
        choice = dataclasses.replace(choice, unclear=(*choice.unclear, doubt))
    choice = choice if to_look else choice.check()
    skip = bool(options.get("skip_bad_rows"))
    source = read_as(source, task, choice, skip_bad_rows=skip)
    valid = None if valid is None else read_as(valid, task, choice, skip_bad_rows=skip)
    return Opened(options, _with_columns(options, task, choice), source, valid, choice)


def read_examples(
    source: AbstractSource,
    valid: AbstractSource | None,
    recipe: Recipe,
    columns: dict[str, Any],
    start: AbstractTask | None = None,
    tell: Callable[[str], None] | None = None,
) -> tuple[AbstractTask, Prepared]:
    """Return task and examples as a complete recipe says; an InputError tells of rows that the task cannot use.

    `start` is the task that this one is begun from, and `tell` takes sentences about how far the reading is (see
    `thalweg.tasks.settings.Settings`).
    """
    spill = Path(tempfile.mkdtemp(prefix="thalweg-"))
    try:
        kind: type[AbstractTask] = names.task_class(recipe.run.task)
        settings = dataclasses.replace(settings_of(recipe, columns, Spill(spill), start), tell=tell)
        if recipe.data.streaming != "yes":
            return kind.prepare(source, valid, settings)
        task = names.task_columns(recipe.run.task)
        choice, rows = Choice.of_plain(task.task, columns), source.source if isinstance(source, ReadSource) else source
        read = partial(read_as, task=task, choice=choice, skip_bad_rows=recipe.data.skip_bad_rows, is_piece=True)
        settings = dataclasses.replace(settings, spill=IN_MEMORY)
        return _streamed(kind, rows, valid, settings, read, _read_columns(choice))
    finally:
        shutil.rmtree(spill, ignore_errors=True)  # what is mapped into memory stays readable until it is closed


def _streamed(
    kind: type[AbstractTask],
    source: AbstractSource,
    valid: AbstractSource | None,
    settings: Settings,
    read: Callable[[AbstractSource], AbstractSource],
    columns: Sequence[str],
) -> tuple[AbstractTask, Prepared]:
    """Make the task from a sample of the data, and training examples of which a part at a time is in memory.

    Vocabulary, labels and scaling are those of 128 blocks that are drawn once, the same for every seed; where there is
    no validation file, other blocks are held out, 32 at most.

    Args:
        kind: the task.
        source: rows as they stand in the files.
        valid: validation data, as the task reads them; None holds blocks out.
        settings: what the recipe says.
        read: makes of rows as they stand what the task reads.
        columns: those that it reads.

    Raises:
        InputError: as `prepare` of the task; and for data of too few blocks.
    """
    from thalweg.data.blocks.shards import Shards
    from thalweg.data.blocks.streamed import Streamed

    shards = Shards(source, columns)
    order = _drawn(shards.units)
    num_valid = 0
    if valid is None and settings.valid_share:
        num_valid = min(MOST_VALID, max(1, round(settings.valid_share * len(shards))))
        valid = read(shards.source_of(np.sort(order[:num_valid])))
    blocks = np.sort(order[num_valid:])
    _require_blocks(source.name, len(shards), len(blocks))
    chosen = np.sort(order[num_valid : num_valid + SAMPLE])
    sample = read(shards.source_of(chosen))
    task, prepared = kind.prepare(sample, valid, dataclasses.replace(settings, valid_share=0.0))
    sizes = shards.num_rows[blocks]
    if not kind.row_is_example:
        sizes = np.ceil(shards.num_bytes[blocks] * (len(prepared.train) / int(shards.num_bytes[chosen].sum())))

    def examples(places: np.ndarray) -> Iterator[Examples]:
        for rows in shards.each(blocks[places]):
            usable = read(rows)
            has_some = next(usable.chunks(), None) is not None
            yield task.training_examples(usable, settings.columns) if has_some else prepared.train.take([])

    sizes, spare = np.maximum(sizes, 1).astype(np.int64), dataclasses.replace(prepared.train, raw=None)
    stream = Streamed(sizes, shards.units[blocks], examples, spare)
    about = f"{len(prepared.train):,} of about {len(stream):,} training examples"
    notes = [f"The data are read in blocks while training (--streaming yes), and learned from {about}: {_what(kind)}."]
    if num_valid:
        held_out = counted(len(prepared.valid), "example")
        notes.append(f"Validation is {num_valid} of {len(shards):,} blocks that are not trained on, {held_out}.")
    if sample.num_bad_rows:
        notes.append(f"{counted(sample.num_bad_rows, 'row')} of the sample cannot be used, left out; others will be.")
    return task, Prepared(prepared.train, prepared.valid, notes + prepared.notes, stream=stream, sums=shards.files)


def _drawn(units: np.ndarray) -> np.ndarray:
    """Return all blocks in an order that is drawn once and for all; blocks of one unit stay together."""
    begins = np.flatnonzero(np.diff(units, prepend=-1))
    parts = np.split(np.arange(len(units)), begins[1:])
    order = np.random.Generator(np.random.Philox(key=[0, 0])).permutation(len(parts))
    return np.concatenate([parts[number] for number in order])


def _what(kind: type[AbstractTask]) -> str:
    found: Any = "vocabulary, labels and scaling"
    return found if kind.row_is_example else "the vocabulary"


def _require_blocks(name: str, num_blocks: int, num_train: int) -> None:
    from thalweg import distributed

    world_size = distributed.world_size()
    if world_size > WINDOW:
        raise InputError(f"Data are read in blocks by {WINDOW} processes at most; got {world_size}. Start fewer.")
    if num_train < world_size:
        each = "the process" if world_size == 1 else f"each of {world_size} processes"
        raise InputError(
            f"{name} is too small for blocks ({counted(num_blocks, 'block')} of rows, {max(0, num_train)} for "
            f"training, and {each} needs one); give --streaming no."
        )


def _read_columns(choice: Choice) -> list[str]:
    """Return the columns of the files that a task reads."""
    joined = choice.columns.get("label") if choice.label_columns else None
    return [name for name in (*choice.columns.values(), *choice.label_columns) if name != joined]


def from_recipe(options: Options) -> Options:
    """Return the options on top of the recipe file that was named, if one was."""
    if options.get("source", "").endswith(".toml"):
        return on_top(read_options(options["source"]), options.with_(source=None))
    return options


def _fits(name: str, value: Any, given: Options, source: AbstractSource) -> bool:
    """Whether a column that was read before is to be read again: nobody said otherwise, and the file has it."""
    wanted = value if isinstance(value, tuple) else (value,)
    return bool(value) and name not in given and set(wanted) <= set(source.columns)


def _with_source(options: Options) -> Options:
    """Return the options on top of the recipe file that was named, if one was, and with a source."""
    options = from_recipe(options)
    if "source" not in options:
        task = options.get("task", next(iter(names.TASKS)))
        return options.with_(source=names.task_spec(task).sample, task=task)
    if "task" not in options and is_sample(options["source"]):
        return options.with_(task=next(t for t in names.TASKS if names.task_spec(t).sample == options["source"]))
    return options


def _with_splits(options: Options) -> tuple[Options, list[str]]:
    """Return the options with the parts of a folder that has several for training and validation, and notes on them."""
    place = options["source"]
    splits = None if is_sample(place) else splits_of(place)
    if splits is None:
        return options, []
    named = {"source": splits.train, "name": options.get("name") or Path(place).resolve().name}
    if splits.valid and not {"valid", "valid_share"} & set(options):
        named["valid"] = splits.valid
    return options.with_(named), splits.notes


def on_top(recipe: Options, given: Options) -> Options:
    """Return the options of a recipe with those given on top; what is given is not chosen by validation any more."""
    joined = recipe.with_(given)
    if "select" in given or not {"l2", "model"} & set(given) or joined.get("select") in names.WRITTEN_METRICS:
        return joined
    return joined.with_(select=None, refit=given.get("refit"))


def _choose(source: AbstractSource, task: TaskColumns, options: Options) -> Choice:
    named = _named(options)
    if options.get("columns") and "series" in task.roles:
        named = {"series": ",".join(options["columns"]), "time": named["time"], "id": named["id"]}
    return choose_columns(source, task, named, decimal=options.get("decimal") or "")


def _named(options: Options) -> dict[str, str | None]:
    return {role: options.get(f"{role}_column") for role in ("text", "label", "other", "time", "id")}


def _with_columns(options: Options, task: TaskColumns, choice: Choice) -> Options:
    chosen: dict[str, Any] = {"columns": choice.series}
    for role, column in choice.columns.items():
        option = f"{task.option_of(role)}_column"
        if option in ("text_column", "label_column", "other_column", "time_column", "id_column"):
            chosen[option] = ",".join(choice.joined.get(role, (column,)))
    return options.with_(chosen)
