"""From what the user typed to a session: data read, defaults filled in, the run's folder found or made."""

import dataclasses
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from thalweg import names
from thalweg.data.arrays.ragged import Spill
from thalweg.data.builtin.catalog import SAMPLES
from thalweg.data.columns.choice import Choice, choose_columns, guess_task
from thalweg.data.files.base import AbstractSource
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError, counted
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.certified import proved
from thalweg.training.folder import build, checkpoint, run
from thalweg.training.recipe.defaults import complete, defaults_for
from thalweg.training.recipe.recipe import Recipe, read_recipe
from thalweg.training.recipe.without_effect import without_effect
from thalweg.training.session.session import Session
from thalweg.training.steps.device import choose_device
from thalweg.training.steps.fit import FitOptions, Place, fit

MIN_DEFAULT_STEPS, MAX_DEFAULT_EPOCHS = 300, 100
CALIBRATION_SECONDS = 1.0
SHARE_OF_TIME = 0.9  # of a time limit is planned for steps; the rest is left to evaluation

DEFAULT_OPTIMIZER = "adamw"  # of every task

Say = Callable[[str], None]


@final
@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        given: the options that were given; the others are None.
        out: folder that holds runs.
        overwrite: replace a run of the same name.
        resume: folder of the run to go on with.
        fast: two steps of everything.
    """

    given: Recipe
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
    given = with_recipe_file(request.given, request.resume)
    source = open_any(given.data.source or "", given)
    valid = open_any(given.data.valid, given) if given.data.valid else None
    if given.run.task is None:
        guessed, sentence = guess_task(source, names.all_task_columns())
        given.run.task = guessed.task
        say(sentence)
    names.check(names.TASKS, given.run.task, "task")
    choice = choose(source, given)
    columns = choice.plain()
    recipe = _completed(given, choice)
    unused = without_effect(given, defaults_for(given, build.optimizer_defaults(given.training.optimizer)))
    for note in [*source.notes, choice.sentence, *unused]:
        if note:
            say(note)
    device = choose_device(recipe.run.device or "auto")
    if request.resume is not None and run.Run(request.resume).finished:
        raise InputError(f"The run {request.resume} is finished, so there is nothing to resume; train a new one.")
    spill = Path(tempfile.mkdtemp(prefix="thalweg-"))
    try:
        kind: type[AbstractTask] = names.task_class(given.run.task)
        task, prepared = kind.prepare(source, valid, build.settings_of(recipe, columns, Spill(spill)))
    finally:
        shutil.rmtree(spill, ignore_errors=True)  # what is mapped into memory stays readable until it is closed
    for note in [*skipped_rows(source, valid), *prepared.notes]:
        say(note)
    recipe = _fitted(recipe, given, choice, task, prepared, say)
    bounds = given.training.steps or given.training.epochs
    if not bounds:
        recipe.training.epochs = _enough_epochs(recipe, len(prepared.train))
    timed = bool(given.training.time) and not bounds and recipe.training.optimizer not in names.SOLVERS
    folder, resumed = _find_folder(request, recipe, timed, say)
    description = _describe(source, valid, choice, prepared)
    new = None
    if resumed:
        _check_same_data(folder, description)
    else:
        new = run.NewFolder(folder, lambda path: _fill(path, recipe, task, description))
    try:
        session = Session(run.Run(folder), task, prepared, device, fast=request.fast)
        begun = checkpoint.latest(folder / run.CHECKPOINTS) is not None
        if timed and not begun and not request.fast:  # killed before its first checkpoint, it is planned again
            session = _fit_to_time(session, recipe, say)
    except BaseException:
        if new is not None:  # an option that no part takes, or Ctrl-C: nothing has been trained, so nothing stays
            new.discard()
        raise
    session.new_folder = new
    return session


def _fitted(recipe: Recipe, given: Recipe, choice: Choice, task: AbstractTask, prepared: Prepared, say: Say) -> Recipe:
    """Return the recipe with what the size of the data decides, where training proves how good it is."""
    if recipe.training.optimizer not in names.SOLVERS:
        return recipe
    reason = proved.obstacle(recipe, task, prepared)
    if reason and given.training.optimizer is None:
        say(f"{reason} So it is trained on mini-batches, and nothing is proved while it trains.")
        given.training.optimizer = DEFAULT_OPTIMIZER
        return _completed(given, choice)
    proved.fit_to_data(recipe, given, task, prepared)
    return recipe


def _enough_epochs(recipe: Recipe, num_examples: int) -> float:
    """Return the default number of epochs, or more where the data are so few that it would be a handful of steps."""
    training = recipe.training
    default, batch = training.epochs or 0.0, (training.batch_size or num_examples) * (training.accumulate or 1)
    steps_per_epoch = math.ceil(num_examples / batch)
    return max(default, float(min(MAX_DEFAULT_EPOCHS, math.ceil(MIN_DEFAULT_STEPS / steps_per_epoch))))


def open_any(name: str, given: Recipe | None = None) -> AbstractSource:
    """Open a file, or a built-in set where there is no file of that name.

    Raises:
        InputError: if it is neither.
    """
    if name in SAMPLES and not Path(name).exists():
        return SAMPLES[name]
    try:
        return open_source(name, skip_bad_rows=bool(given and given.data.skip_bad_rows))
    except InputError as error:
        if "/" not in name and "." not in name:
            raise InputError(f"{error} The built-in sets are {', '.join(SAMPLES)}.") from None
        raise


def with_recipe_file(given: Recipe, resume: Path | None = None) -> Recipe:
    """Return the given options on top of the recipe file that was named, if one was, with task and source filled in."""
    base = Recipe()
    if resume is not None:
        base = run.Run(resume).recipe
    elif (given.data.source or "").endswith(".toml"):
        base = read_recipe(given.data.source or "")
        given.data.source = None
    for section in given.to_dict().values():
        for key, value in section.items():
            base.set(key, value)
    if base.data.source is None:
        task = base.run.task or "classify"
        base.data.source, base.run.task = names.task_spec(task).sample, task
    if base.run.task is None and base.data.source in SAMPLES and not Path(base.data.source).exists():
        base.run.task = next(task for task in names.TASKS if names.task_spec(task).sample == base.data.source)
    return base


def choose(source: AbstractSource, given: Recipe) -> Choice:
    """Choose the columns, those that the user named first.

    Raises:
        InputError: if a named column is missing, or none fits.
    """
    data, task = given.data, names.task_columns(given.run.task or "")
    named = {"text": data.text_column, "label": data.label_column, "other": data.other_column}
    if data.columns and "series" in task.roles:
        named = {"series": ",".join(data.columns)}
    return choose_columns(source, task, named)


def _completed(given: Recipe, choice: Choice) -> Recipe:
    """Fill in the defaults and the columns that were chosen."""
    _take_width(given)
    recipe = complete(given, build.optimizer_defaults(given.training.optimizer))
    task = names.task_columns(choice.task)
    for role, column in choice.columns.items():
        option = f"{task.option_of(role)}_column"
        if option in ("text_column", "label_column", "other_column"):
            recipe.set(option, column)
    recipe.data.columns = list(choice.series)
    recipe.run.name = run.run_name(given.run.name or recipe.data.source or "run")
    return recipe


def _take_width(given: Recipe) -> None:
    """Fill in the width of targets that come from a file or a run."""
    options = given.model
    kind, _, start = (options.targets or "").partition(":")
    text = start if kind in ("trained", "combined") else options.targets
    if options.target_width or not text or text in ("embedding", "trained", *names.TARGETS):
        return
    options.target_width = build.target_table(text).width()


def _find_folder(request: Request, recipe: Recipe, timed: bool, say: Say) -> tuple[Path, bool]:
    """Return the folder of the unfinished run that goes on and True, or the folder of a new run and False."""
    if request.resume is not None:
        return request.resume, True
    folder = request.out / (recipe.run.name or "run")
    if not folder.exists():
        return folder, False
    if request.overwrite:
        return folder, False
    number = 1
    while folder.exists():
        if (folder / run.RECIPE).is_file():
            existing = run.Run(folder)
            if not existing.finished and _same(existing.recipe, recipe, timed):
                say(f"Going on with the unfinished run {folder} (--overwrite starts it anew).")
                return folder, True
        number += 1
        folder = request.out / f"{recipe.run.name}-{number}"
    say(f"{request.out / str(recipe.run.name)} is kept; the new run is {folder} (--overwrite replaces the old one).")
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


def _describe(
    source: AbstractSource, valid: AbstractSource | None, choice: Choice, prepared: Prepared
) -> dict[str, Any]:
    """Return what `data.json` says; checksums let a resumed run notice that a file has changed."""
    files = {
        entry.name: checkpoint.checksum(Path(entry.name))
        for entry in (source, valid)
        if entry and entry.kind != "sample"
    }
    notes = [note for note in [*source.notes, choice.sentence] if note] + skipped_rows(source, valid)
    built_in = source.kind == "sample"
    return {
        "described": f"the built-in set '{source.name}'" if built_in else Path(source.name).name,
        "files": files,
        "columns": choice.plain(),
        "num_train": len(prepared.train),
        "num_valid": len(prepared.valid),
        "notes": notes,
    }


def skipped_rows(*sources: AbstractSource | None) -> list[str]:
    """Return a sentence for each source with rows that could not be read."""
    notes = []
    for source in sources:
        if source is not None and source.num_bad_rows:
            listed = "; ".join(f"line {row.line}: {row.reason}" for row in source.bad_rows[:5])
            more = "; ..." if source.num_bad_rows > 5 else ""
            count = counted(source.num_bad_rows, "row")
            notes.append(f"{source.name}: {count} cannot be read, left out ({listed}{more}).")
    return notes


def _check_same_data(folder: Path, description: dict[str, Any]) -> None:
    before = run.Run(folder).data
    for key in ("files", "num_train", "num_valid"):
        if before.get(key) != description[key]:
            raise InputError(
                f"The data have changed since {folder} was started, so it cannot go on where it was; "
                "put the old files back, or start anew with --overwrite."
            )


def _fill(folder: Path, recipe: Recipe, task: AbstractTask, description: dict[str, Any]) -> None:
    """Write what a run has before its first step."""
    (folder / run.RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
    task.save(folder)
    run.write_json(folder / run.DATA, description)
    run.write_manifest(folder, weights=False)


def _fit_to_time(session: Session, recipe: Recipe, say: Say) -> Session:
    """Measure a few steps and plan as many as fit into the time limit; the number goes into the recipe."""
    limit = recipe.training.time or 0.0
    place, start = Place(), time.monotonic()
    first = start
    for record in fit(
        session.model, session.head, session.stepper, session.feed, steps=1000, place=place,
        options=FitOptions(autocast=session.autocast),
    ):  # fmt: skip
        float(record.loss)
        if record.step == 1:
            first = time.monotonic()  # the first step is slower than the others
        if record.step > 3 and time.monotonic() - first > min(CALIBRATION_SECONDS, limit / 10):
            break
    seconds = (time.monotonic() - first) / max(1, place.step - 1)
    recipe.training.epochs = 0.0
    recipe.training.steps = max(1, int(SHARE_OF_TIME * limit / seconds))
    epochs = session.feed.epoch_of(recipe.training.steps)
    each = f"{seconds:.2g} s each" if seconds >= 1 else f"{seconds * 1e3:{'.0f' if seconds > 0.01 else '.2g'}} ms each"
    steps = counted(recipe.training.steps, "step")
    say(f"{limit:g} s are time for about {steps} ({epochs:.3g} epochs) at {each}.")
    checkpoint.write_atomically(session.run.folder / run.RECIPE, recipe.to_toml())
    run.write_manifest(session.run.folder, weights=False)
    return Session(run.Run(session.run.folder), session.task, session.prepared, session.device, fast=False)
