"""From what the user asked for to a session, in steps that each return a new value.

options -> open data -> recipe -> examples -> the recipe that suits their size -> folder -> session (-> plan of steps).
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from thalweg import names
from thalweg.errors import InputError, counted
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder import build, checkpoint, run
from thalweg.training.recipe.complete import complete, without_effect
from thalweg.training.recipe.recipe import Options, Recipe
from thalweg.training.session import sizing
from thalweg.training.session.optimizer import optimizer_defaults
from thalweg.training.session.reading import Opened, open_data, read_examples, skipped_rows
from thalweg.training.session.session import Session
from thalweg.training.steps.device import choose_device
from thalweg.training.steps.fit import FitOptions, Place, fit

CALIBRATION_SECONDS = 1.0
FRACTION_OF_TIME = 0.9  # of a time limit is planned for steps; the rest is left to evaluation

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


def prepare(request: Request, say: Say) -> Session:
    """Read the data, find or make the run's folder, and build everything.

    Nothing is written before the data have been read and the recipe has been checked.

    Args:
        request: what the user asked for.
        say: takes sentences about what was chosen.

    Raises:
        InputError: for anything the user has to mend.
    """
    opened = open_data(_all_options(request), say)
    known = known_defaults(opened.options)
    recipe = complete(_named(opened.decided()), known)
    device = choose_device(recipe.run.device)
    for note in (*opened.notes(), *without_effect(opened.options, known)):
        say(note)
    task, prepared = read_examples(opened.source, opened.valid, recipe, opened.choice.plain())
    for note in (*skipped_rows(opened.source, opened.valid), *prepared.notes):
        say(note)
    recipe = _suited(recipe, opened, known, task, prepared, say)
    timed = _is_timed(recipe, opened.options)
    folder, resumed = _find_folder(request, recipe, timed, say)
    description = _describe(opened, prepared)
    new = None
    if resumed:
        _check_same_data(folder, description)
    else:
        new = run.NewFolder(folder, lambda path: _fill(path, recipe, task, description))
    try:
        session = Session(run.Run(folder), task, prepared, device, fast=request.fast)
        begun = checkpoint.latest(folder / run.CHECKPOINTS) is not None
        if timed and not begun and not request.fast:  # killed before its first checkpoint, it is planned again
            session = _fit_to_time(session, say)
    except BaseException:
        if new is not None:  # an option that no part takes, or Ctrl-C: nothing has been trained, so nothing stays
            new.discard()
        raise
    session.new_folder = new
    return session


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


def known_defaults(options: Options) -> dict[str, Any]:
    """Return the defaults that lie outside the recipe: the optimizer's own, and the width of vectors in a file or run.

    Raises:
        InputError: if there is no such optimizer, file or run.
    """
    known: dict[str, Any] = dict(optimizer_defaults(options.get("optimizer")))
    targets = options.get("targets", "")
    kind, _, start = targets.partition(":")
    text = start if kind in ("trained", "combined") else targets
    if "target_width" not in options and text not in ("", "embedding", *names.TARGETS):
        known["target_width"] = build.target_table(text).width()
    return known


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
            recipe = complete(_named(opened.decided()).with_(optimizer=names.OPTIMIZER), known)
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


def _check_same_data(folder: Path, description: dict[str, Any]) -> None:
    before = run.Run(folder).data
    for key in ("files", "num_train", "num_valid"):
        if before.get(key) != description[key]:
            raise InputError(
                f"The data have changed since {folder} was started, so it cannot be resumed; put the "
                "old files back, or start over with --overwrite."
            )


def _fill(folder: Path, recipe: Recipe, task: AbstractTask, description: dict[str, Any]) -> None:
    """Write what a run has before its first step."""
    (folder / run.RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
    task.save(folder)
    run.write_json(folder / run.DATA, description)
    run.write_manifest(folder, weights=False)


def _fit_to_time(session: Session, say: Say) -> Session:
    """Measure a few steps and plan as many as fit into the time limit; the number goes into the run's recipe."""
    recipe, folder = session.run.recipe, session.run.folder
    limit = recipe.training.time
    seconds = _seconds_per_step(session, min(CALIBRATION_SECONDS, limit / 10))
    num_steps = max(1, int(FRACTION_OF_TIME * limit / seconds))
    epochs = session.feed.epoch_of(num_steps)
    each = f"{seconds:.2g} s each" if seconds >= 1 else f"{seconds * 1e3:{'.0f' if seconds > 0.01 else '.2g'}} ms each"
    say(f"{limit:g} s are time for about {counted(num_steps, 'step')} ({epochs:.3g} epochs) at {each}.")
    checkpoint.write_atomically(folder / run.RECIPE, recipe.with_(epochs=0.0, steps=num_steps).to_toml())
    run.write_manifest(folder, weights=False)
    return Session(run.Run(folder), session.task, session.prepared, session.device, fast=False)


def _seconds_per_step(session: Session, enough: float) -> float:
    place, first = Place(), time.monotonic()
    for record in fit(
        session.model, session.head, session.stepper, session.feed, steps=1000, place=place,
        options=FitOptions(autocast=session.autocast),
    ):  # fmt: skip
        float(record.loss)
        if record.step == 1:
            first = time.monotonic()  # the first step is slower than the others
        if record.step > 3 and time.monotonic() - first > enough:
            break
    return (time.monotonic() - first) / max(1, place.step - 1)
