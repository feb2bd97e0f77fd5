"""From options to data: the recipe file, the source, the task, the columns, and the examples."""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from thalweg import names
from thalweg.data.arrays.ragged import Spill
from thalweg.data.columns.choice import Choice, TaskColumns, choose_columns
from thalweg.data.columns.guess import doubt_about_text, guess_task
from thalweg.data.columns.reading import read_as
from thalweg.data.containers.folder import splits_of
from thalweg.data.containers.opening import is_sample, open_any, reading_of
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder import build
from thalweg.training.recipe.recipe import Options, Recipe, read_options


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
) -> Opened:
    """Open the data, and choose the task (`say` takes a sentence about the guess) and the columns.

    `objects` are sources that were given in Python, by the names that stand for them in the options.

    An InputError tells of a file that cannot be opened, a named column that is missing, or that none fits; and, unless
    it is only `to_look`, of numbers that can be read in two ways. `hints` are options that name columns, of which those
    hold that nobody gave and the file has.
    """
    options, splits = _with_splits(_with_source(options))
    how = reading_of(options)
    source, valid = (
        objects.get(place) or open_any(place, **how) if place else None
        for place in (options["source"], options.get("valid"))
    )
    if source is None:
        raise InputError("The name of the data is empty; give a file, or leave it out for the task's built-in set.")
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
) -> tuple[AbstractTask, Prepared]:
    """Return task and examples as a complete recipe says; an InputError tells of rows that the task cannot use.

    `start` is the task that this one is begun from (see `thalweg.tasks.settings.Settings`).
    """
    spill = Path(tempfile.mkdtemp(prefix="thalweg-"))
    try:
        kind: type[AbstractTask] = names.task_class(recipe.run.task)
        return kind.prepare(source, valid, build.settings_of(recipe, columns, Spill(spill), start))
    finally:
        shutil.rmtree(spill, ignore_errors=True)  # what is mapped into memory stays readable until it is closed


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
    if "select" in given or not {"l2", "model"} & set(given):
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
