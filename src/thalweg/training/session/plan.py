"""What the user asked for, decided: options -> open data -> recipe -> examples -> the recipe that suits their size.

Each step returns a new value, and nothing is written.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch

from thalweg import names
from thalweg.errors import InputError
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder import checkpoint, run
from thalweg.training.recipe.complete import complete, without_effect
from thalweg.training.recipe.recipe import Options, Recipe
from thalweg.training.session import sizing
from thalweg.training.session.known import known_defaults
from thalweg.training.session.reading import Opened, open_data, read_examples, skipped_rows
from thalweg.training.steps.device import choose_device

Say = Callable[[str], None]


@final
@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        options: the options that were given.
        out: folder that holds runs.
        overwrite: replace a run of the same name.
        resume: folder of the run to resume.
        fast: two steps of everything.
    """

    options: Options
    out: Path = Path("runs")
    overwrite: bool = False
    resume: Path | None = None
    fast: bool = False


@final
@dataclasses.dataclass(frozen=True)
class Plan:
    """A run that is decided, with its data read and nothing written.

    Args:
        recipe: the complete recipe.
        task: reads and collates.
        prepared: training and validation examples.
        device: where to compute.
        folder: the run's folder.
        is_resumed: whether it is an unfinished run that is resumed.
        is_timed: whether a time limit alone bounds the run, so that steps are planned to fit into it.
        description: what `data.json` says.
        fast: two steps of everything.
    """

    recipe: Recipe
    task: AbstractTask
    prepared: Prepared
    device: torch.device
    folder: Path
    is_resumed: bool
    is_timed: bool
    description: dict[str, Any]
    fast: bool


def make_plan(request: Request, say: Say) -> Plan:
    """Read the data and decide everything.

    Args:
        request: what the user asked for.
        say: takes sentences about what was chosen.

    Raises:
        InputError: for anything the user has to mend.
    """
    opened = open_data(_all_options(request), say)
    known = known_defaults(opened.options)
    recipe = complete(_named(opened.decided), known)
    device = choose_device(recipe.run.device)
    for note in (*opened.notes(), *without_effect(opened.options, known)):
        say(note)
    task, prepared = read_examples(opened.source, opened.valid, recipe, opened.choice.plain())
    for note in (*skipped_rows(opened.source, opened.valid), *prepared.notes):
        say(note)
    recipe = _suited(recipe, opened, known, task, prepared, say)
    is_timed = _is_timed(recipe, opened.options)
    folder, is_resumed = _find_folder(request, recipe, is_timed, say)
    description = _describe(opened, prepared)
    return Plan(recipe, task, prepared, device, folder, is_resumed, is_timed, description, request.fast)


def _all_options(request: Request) -> Options:
    """Return the options, on top of those of the run that is resumed."""
    if request.resume is None:
        return request.options
    resumed = run.Run(request.resume)
    if resumed.finished:
        raise InputError(f"The run {request.resume} is finished, so there is nothing to resume; train a new one.")
    return Options(resumed.recipe.values()).with_(request.options)


def _named(options: Options) -> Options:
    return options.with_(name=run.run_name(options.get("name") or options["source"]))


def _suited(
    recipe: Recipe, opened: Opened, known: dict[str, Any], task: AbstractTask, prepared: Prepared, say: Say
) -> Recipe:
    """Return the recipe that suits the size of the data."""
    options = opened.options
    if recipe.training.optimizer in names.SOLVERS:
        reason = sizing.obstacle(recipe, task, prepared)
        if not reason or "optimizer" in options:
            recipe = sizing.for_solver(recipe, options, task, prepared)
        else:
            say(f"{reason} So it is trained on mini-batches, and nothing is proved while it trains.")
            recipe = complete(_named(opened.decided).with_(optimizer=names.OPTIMIZER), known)
    if options.get("steps") or options.get("epochs"):
        return recipe
    return sizing.with_enough_epochs(recipe, len(prepared.train))


def _is_timed(recipe: Recipe, options: Options) -> bool:
    """Whether a time limit alone bounds the run, so that steps are planned to fit into it."""
    bounded = options.get("steps") or options.get("epochs") or recipe.training.optimizer in names.SOLVERS
    return bool(options.get("time")) and not bounded


def _find_folder(request: Request, recipe: Recipe, timed: bool, say: Say) -> tuple[Path, bool]:
    """Return the folder of the unfinished run that goes on and True, or the folder of a new run and False."""
    if request.resume is not None:
        return request.resume, True
    folder = request.out / recipe.run.name
    if not folder.exists():
        return folder, False
    if request.overwrite:
        return folder, False
    number = 1
    while folder.exists():
        if (folder / run.RECIPE).is_file():
            existing = run.Run(folder)
            if not existing.finished and _same(existing.recipe, recipe, timed):
                say(f"Resuming the unfinished run {folder} (--overwrite to start over).")
                return folder, True
        number += 1
        folder = request.out / f"{recipe.run.name}-{number}"
    say(f"{request.out / recipe.run.name} is kept; the new run is {folder} (--overwrite to replace the old one).")
    return folder, False


def _same(left: Recipe, right: Recipe, timed: bool) -> bool:
    """Whether two recipes are the same, apart from the number of steps where a time limit sets it."""
    sections = [recipe.to_dict() for recipe in (left, right)]
    for section in sections:
        section["run"].pop("name")
        if timed:
            section["training"].pop("steps")
            section["training"].pop("epochs")
    return sections[0] == sections[1]


def _describe(opened: Opened, prepared: Prepared) -> dict[str, Any]:
    """Return what `data.json` says; checksums let a resumed run notice that a file has changed."""
    source, files = opened.source, [entry for entry in (opened.source, opened.valid) if entry is not None]
    return {
        "described": f"the built-in set '{source.name}'" if source.kind == "sample" else Path(source.name).name,
        "files": {file.name: checkpoint.checksum(Path(file.name)) for file in files if file.kind != "sample"},
        "columns": opened.choice.plain(),
        "num_train": len(prepared.train),
        "num_valid": len(prepared.valid),
        "notes": [*opened.notes(), *skipped_rows(source, opened.valid)],
    }
