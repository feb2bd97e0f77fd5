"""What the user asked for, decided: options -> open data -> recipe -> examples -> the recipe that suits their size.

Each step returns a new value, and nothing is written.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from thalweg import distributed, names
from thalweg.data.arrays.batches import KEYS
from thalweg.data.containers.memory import checksum_of_rows
from thalweg.data.containers.opening import is_sample
from thalweg.data.containers.places import checksums_of, short_name
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.pretrained_folder import is_pretrained, with_checksum
from thalweg.errors import InputError, counted
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.distilled.choosing import taught_options, teacher_of
from thalweg.training.distilled.teacher import Lesson
from thalweg.training.folder.opening import skipped_rows
from thalweg.training.folder.resuming import resumed
from thalweg.training.folder.run import Run
from thalweg.training.folder.starting import start_of, started, starting_weights
from thalweg.training.integrity.environment import environment
from thalweg.training.integrity.placing import Wanted, folder_name, renamed, run_name
from thalweg.training.pretrained.start import starting_point
from thalweg.training.recipe.complete import complete, without_effect
from thalweg.training.recipe.recipe import Options, Recipe
from thalweg.training.recipe.trusted import require_trust
from thalweg.training.session import automatic, pilot, sizing
from thalweg.training.session.optimizer import known_defaults
from thalweg.training.session.reading import Opened, from_recipe, open_data, read_examples
from thalweg.training.steps.device import choose_device, choose_precision
from thalweg.training.trackers.tracking import require_trackers

Say = Callable[[str], None]


@final
@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for."""

    options: Options  # those that were given
    out: Path = Path("runs")  # holds runs
    overwrite: bool = False  # replace a run of the same name
    resume: Path | None = None  # folder of the run to resume
    resume_from: Path | None = None  # the checkpoint to resume from; None: the run's newest
    fast: bool = False  # two steps of everything
    objects: Mapping[str, AbstractSource] = dataclasses.field(default_factory=dict)  # data given in Python, by name
    trust: bool = False  # import code that a recipe names and the options do not


@final
@dataclasses.dataclass(frozen=True)
class Plan:
    """A run that is decided, with its data read and nothing written."""

    recipe: Recipe
    task: AbstractTask
    prepared: Prepared
    device: torch.device
    folder: Path
    is_resumed: bool  # whether the folder holds an unfinished run
    wanted: Wanted  # how the folder is found
    is_timed: bool  # whether a time limit alone bounds the run, so that steps are planned to fit into it
    description: dict[str, Any]  # what `data.json` says
    fast: bool  # two steps of everything
    seconds: float | None = None  # how long training is going to take, where that was measured
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the recipe of a run that goes on
    start: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)  # weights of another run; none: initial ones
    resume_from: Path | None = None  # the checkpoint that it goes on from; None: the newest
    kept: str = ""  # the checksum of the options that a run keeps that was named to go on
    lesson: Lesson | None = None  # what the run learns from; None: nothing but its data


def make_plan(request: Request, say: Say) -> Plan:
    """Read the data and decide everything; `say` and InputError as in `prepare`."""
    changes: Mapping[str, Any] = {}
    options, kept = request.options, ""
    if request.resume is not None:
        going_on = resumed(request.resume, options, starts_over=request.overwrite, fast=request.fast)
        options, changes, kept = going_on.options, going_on.changes, going_on.kept
        for note in going_on.notes:
            say(note)
    options = from_recipe(options)
    teacher = teacher_of(options, request.resume)
    start = start_of(options, request.resume) if teacher is None else None
    if is_pretrained(options.get("model", "")):
        if "task" in options:
            names.model_spec(options["task"], options["model"], freeze=bool(options.get("freeze")))
        options = options.with_(model=with_checksum(options["model"]))
    hints: Mapping[str, Any] = {}
    if teacher is not None:
        options, hints = taught_options(options, teacher)
    if start is not None and start.run is not None:
        options, hints = started(options, start.run)
    origin = request.resume or (start and start.run and start.run.folder) or request.options.get("source", "")
    require_trust(options.get("optimizer", ""), request.options, origin, trust=request.trust)
    how: dict[str, Any] = {} if teacher is None else {"labeled": teacher.labeled}
    found = open_data(options, say, request.objects, hints=hints, **how)
    opened = sizing.with_streaming(_without_auto(found), say)
    known = known_defaults(opened.options)
    recipe = complete(_named(opened.decided), known)
    require_trackers(recipe.training.log)
    device = choose_device(recipe.run.device)
    for note in (*opened.notes(), *without_effect(opened.options, known), *renamed(opened.options.get("name", ""))):
        say(note)
    begun_from = None if start is None else start.task
    columns, lesson = opened.choice.plain(), None
    sources: tuple[AbstractSource, AbstractSource | None] = opened.source, opened.valid
    if teacher is not None:
        places = {opened.options["source"]: ""} | _files(opened, request.objects)
        lesson = teacher.teach(*sources, columns, recipe.training.distill_weight, device, places, say)
        sources = lesson.train, lesson.valid
    task, prepared = read_examples(*sources, recipe, columns, begun_from, say)
    prepared.notes += _repeated(prepared)
    for note in (*skipped_rows(opened.source, opened.valid), *prepared.notes):
        say(note)
    recipe, seconds = _suited(recipe, opened, known, task, prepared, say)
    bounded = _is_bounded(opened.options) or recipe.training.optimizer in names.SOLVERS
    is_timed = bool(opened.options.get("time")) and not bounded
    resolve = functools.partial(automatic.resolve, recipe, _named(opened.decided), task, prepared)
    # What is tried and measured for it is one process's own.
    recipe = recipe.with_(
        **distributed.by_first(lambda: resolve(is_timed=is_timed, fast=request.fast, say=say).values())
    )
    _require_shares(recipe, prepared.num_train)
    wanted = Wanted(request.out, recipe, is_timed, request.overwrite, request.resume)
    description = _describe(opened, prepared, request.objects)
    versions = environment(device, *choose_precision(recipe.run.precision, device))
    distributed.require_alike({**versions, "data": description["files"], "recipe": recipe.to_dict()})
    place, is_resumed = distributed.by_first(lambda: _as_plain(*wanted.look()))
    folder = Path(place)
    if is_resumed and "log" in options and Run(folder).recipe.training.log != recipe.training.log:
        changes = {**changes, "log": recipe.training.log}
    weights: Mapping[str, Tensor] = {}
    if start is not None and not is_resumed:
        weights, sentence = starting_weights(start, recipe, task, prepared, folder)
        say(sentence)
    elif is_pretrained(recipe.model.model) and not (recipe.model.freeze or is_resumed):
        weights, sentence = starting_point(recipe, task, prepared)
        if sentence:
            say(sentence)
    return Plan(
        recipe,
        task,
        prepared,
        device,
        folder,
        is_resumed,
        wanted,
        is_timed,
        description,
        request.fast,
        seconds,
        changes,
        weights,
        request.resume_from,
        kept,
        lesson,
    )


def _require_shares(recipe: Recipe, num_examples: int) -> None:
    """Raise an InputError unless every process has its share of each batch."""
    num, least = distributed.world_size(), min(recipe.training.batch_size or num_examples, num_examples)
    if least < num and recipe.training.optimizer not in names.SOLVERS:
        is_batch = least < num_examples
        raise InputError(
            f"Each of the {num} processes needs a share of every batch, and "
            f"{'--batch-size' if is_batch else 'the number of training examples'} is {least}; start fewer processes"
            f"{' or give a larger --batch-size' if is_batch else ''}."
        )


def _as_plain(folder: Path, is_resumed: bool) -> list[Any]:
    return [str(folder), is_resumed]


def _repeated(prepared: Prepared) -> list[str]:
    """Return a sentence about validation examples whose texts are trained on; none where texts are not known."""
    train, valid = prepared.train.columns, prepared.valid.columns
    if KEYS not in train or KEYS not in valid or prepared.stream is not None:
        return []
    count = int(np.isin(np.asarray(valid[KEYS]), np.asarray(train[KEYS])).sum())
    if not count:
        return []
    return [
        f"{count:,} of {counted(len(prepared.valid), 'validation example')} repeat texts that are trained on, so the "
        "validation figures are not about new texts alone."
    ]


def _without_auto(opened: Opened) -> Opened:
    """Return what was opened as if nobody had named an optimizer, where the wish was that one be chosen."""
    if opened.options.get("optimizer") != names.AUTOMATIC:
        return opened
    options, decided = (options.with_(optimizer=None) for options in (opened.options, opened.decided))
    return dataclasses.replace(opened, options=options, decided=decided)


def _named(options: Options) -> Options:
    name = options.get("name")
    return options.with_(name=folder_name(name) if name else run_name(options["source"]))


def _suited(
    recipe: Recipe, opened: Opened, known: dict[str, Any], task: AbstractTask, prepared: Prepared, say: Say
) -> tuple[Recipe, float | None]:
    """Return the recipe that suits the size of the data, and how long it is going to take, where that was measured."""
    options, decided, seconds = opened.options, _named(opened.decided), None
    if recipe.training.optimizer in names.SOLVERS:
        if not {"model", "optimizer", "width"} & set(options) and sizing.is_large(task, prepared):
            recipe = complete(decided.with_(model=names.LINEAR_MODEL, select=options.get("select", "none")), known)
            say(
                f"The data are large, so the model is {names.LINEAR_MODEL}, the cheapest, and validation chooses no "
                "penalty (--model and --select do)."
            )
        has_linear = names.LINEAR_MODEL in names.task_spec(task.name).models
        if recipe.training.select == "model" and "model" not in options and has_linear:  # it begins with the cheapest
            recipe = sizing.for_candidate(recipe, names.LINEAR_MODEL, task)
        recipe = recipe.with_(**{name: value for name, value in task.decided().items() if name not in options})
        suited = sizing.for_solver(recipe, options, task, prepared)
        found = sizing.estimate(suited, task, prepared, _seconds_to_solve)
        if not found.obstacle or "optimizer" in options:
            recipe, seconds = suited, found.seconds
        else:
            say(f"{found.obstacle} Falling back to mini-batch training, without a proof of optimality.")
            recipe = complete(decided.with_(optimizer=names.OPTIMIZER), known)
    if seconds is not None:
        say(f"Training on all data at once is going to take about {seconds:.0f} s, by training on a part of them.")
    if names.model_spec(recipe.run.task, recipe.model.model, freeze=recipe.model.freeze).layout == "features":
        recipe = sizing.for_linear_tagger(recipe, options, prepared)
    return recipe if _is_bounded(options) else sizing.with_enough_epochs(recipe, prepared.num_train), seconds


def _seconds_to_solve(recipe: Recipe, task: AbstractTask, prepared: Prepared) -> float:
    return distributed.by_first(lambda: pilot.seconds_to_solve(recipe, task, prepared))


def _is_bounded(options: Options) -> bool:
    return bool(options.get("steps") or options.get("epochs"))


def _describe(opened: Opened, prepared: Prepared, objects: Mapping[str, AbstractSource]) -> dict[str, Any]:
    """Return what `data.json` says; checksums let a resumed run notice that a file has changed."""
    source, place = opened.source, opened.options["source"]
    files = dict(prepared.sums) | _files(opened, objects, without_source=bool(prepared.sums))
    return {
        "described": f"the built-in set '{source.name}'" if source.kind == "sample" else short_name(place),
        "files": files,
        "columns": opened.choice.plain(),
        "num_train": prepared.num_train,
        "num_valid": len(prepared.valid),
        "notes": [*opened.notes(), *skipped_rows(source, opened.valid)],
    }


def _files(opened: Opened, objects: Mapping[str, AbstractSource], *, without_source: bool = False) -> dict[str, Any]:
    """Return the files of the data with their checksums."""
    places = [*([] if without_source else [opened.options["source"]]), opened.options.get("valid", "")]
    files = [
        {place: checksum_of_rows(objects[place])} if place in objects else checksums_of(place)
        for place in places
        if place and not is_sample(place)
    ]
    return {name: value for found in files for name, value in found.items()}
