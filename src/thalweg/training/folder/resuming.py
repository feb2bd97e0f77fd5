"""What a run takes when it goes on: the options that it was started with, and those that may change on the way."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from thalweg import names
from thalweg.errors import InputError, counted
from thalweg.storage.files import sum_of
from thalweg.training.folder.run import Run
from thalweg.training.integrity import checkpoint_names
from thalweg.training.integrity.checkpoint_names import CHECKPOINTS
from thalweg.training.integrity.run_files import METRICS, REPORT, WEIGHTS
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options, Recipe, read_options

_PATHS: Final = ("source", "valid")


@final
@dataclass(frozen=True)
class Resumed:
    """A run that goes on."""

    options: Options  # its own, and over them what has changed
    changes: Mapping[str, Any]  # what has changed, by name
    notes: tuple[str, ...]  # what to tell about that
    kept: str  # the checksum of the options that it keeps


def resumed(folder: Path, given: Options, *, starts_over: bool = False, fast: bool = False) -> Resumed:
    """Return how the run in a folder goes on with the options that were given.

    An InputError names every option that contradicts the run's own, and tells of a run that has ended for good.
    `starts_over` and `fast` are --overwrite and --fast, which are for new runs.
    """
    for flag, is_given in (("--overwrite", starts_over), ("--fast", fast)):
        if is_given:
            raise InputError(f"--resume {folder} goes on with a run, and {flag} is for a new one; leave one out.")
    run = Run(folder)
    recipe = run.recipe
    if given.get("source", "").endswith(".toml"):
        given = read_options(given["source"]).with_(given.with_(source=None))
    changed = {name: value for name, value in given.items() if not _is_same(name, value, recipe)}
    if refused := [name for name in changed if not OPTIONS[name].resumed]:
        raise InputError(_refusal(folder, recipe, changed, refused))
    for name, other in (("steps", "epochs"), ("epochs", "steps")):
        if name in changed and other not in given and recipe.values()[other]:
            changed[other] = type(recipe.values()[other])(0)  # one of the two bounds a run
    if run.finished and (changed or not is_ending(run)):
        _check_end(run, changed)
    return Resumed(Options(recipe.values()).with_(changed), changed, tuple(_notes(run, changed)), kept_options(recipe))


def resumption(folder: str | Path | None, place: str | Path | None) -> tuple[Path | None, Path | None]:
    """Return the folder of the run that goes on, and the checkpoint that it goes on from, None for the newest one.

    An InputError tells of a checkpoint that is none, or is another run's.
    """
    if place is None:
        return (None if folder is None else Path(folder)), None
    place = Path(place)
    whole = place.resolve()
    if whole.parent.name == CHECKPOINTS and (place.parent.name, place.name) != (CHECKPOINTS, whole.name):
        place = whole  # named from inside of the run's folder, or by a link
    run = place.parent.parent
    if place.parent.name != CHECKPOINTS or place not in checkpoint_names.steps(place.parent):
        shown = [one for folder in (place / CHECKPOINTS, place, place.parent) for one in checkpoint_names.steps(folder)]
        there = ""
        if shown:
            newest = f"--resume {shown[0].parent.parent} goes on from the newest"
            there = f" There are {', '.join(map(str, shown))}; {newest}."
        raise InputError(
            f"There is no checkpoint {place}; give the folder of one, such as runs/x/checkpoints/step-00000012.{there}"
        )
    if folder is not None and Path(folder).resolve() != run.resolve():
        raise InputError(f"{place} is not a checkpoint of {folder}; leave out --resume, or give one of its own.")
    return run, place


def kept_options(recipe: Recipe) -> str:
    """Return the checksum of the options that a run keeps while it goes on, by which its checkpoints are known."""
    kept = {name: value for name, value in recipe.values().items() if not OPTIONS[name].resumed}
    return sum_of(json.dumps(kept, sort_keys=True, default=str).encode()).sha256


def is_ending(run: Run) -> bool:
    """Whether a run was killed while its last files took their names, so that its end is to be made again.

    Another change may wait for being completed: that of polished weights, or of a certificate.
    """
    waiting = run.ledger.waiting
    return METRICS in waiting and (REPORT in waiting or WEIGHTS not in waiting)


def has_result(folder: Path) -> bool:
    """Whether a folder holds a run that has ended with weights; what cannot be read has none."""
    try:
        run = Run(folder)
        return run.finished and WEIGHTS in run.ledger
    except InputError:
        return False


def check_length(changes: Mapping[str, Any], total_steps: int, newest: Path | None) -> None:
    """Raise an InputError where a run has already taken, at its checkpoint, all the steps that it should have now."""
    taken = int(newest.name.rpartition("-")[2]) if newest else 0
    if newest is not None and {"epochs", "steps"} & changes.keys() and total_steps <= taken:
        name = "steps" if changes.get("steps") else "epochs"
        raise InputError(
            f"{newest.parent.parent} has taken {counted(taken, 'step')} already, and "
            f"{OPTIONS[name].written(changes[name])} makes {total_steps:,} in all; give more, or leave it out."
        )


def contradicting(recipe: Recipe, given: Mapping[str, Any], contradicted: list[str]) -> str:
    """Return these options of a recipe with what was given instead, for a sentence."""
    values = recipe.values()
    shown = [f"{OPTIONS[name].written(values[name])} (got {_value(name, given[name])})" for name in contradicted]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _is_same(name: str, value: Any, recipe: Recipe) -> bool:
    own = recipe.values()[name]
    if name in _PATHS and value and own:
        return value == own or Path(value).resolve() == Path(own).resolve()
    if name == "start_from":  # whose checksum the recipe knows
        return bool(value == own.partition("#")[0] or value == own)
    if name == "optimizer" and value == names.AUTOMATIC:  # the run's own has been chosen so, or is as good a choice
        return True
    return bool(value == own)


def _refusal(folder: Path, recipe: Recipe, given: Mapping[str, Any], refused: list[str]) -> str:
    allowed = ", ".join(option.flag for option in OPTIONS.values() if option.resumed)
    what = f"{folder} was started with {contradicting(recipe, given, refused)}"
    if refused == ["source"]:
        return f"{what}, and a run goes on with its own data; leave the file out, or train a new run without --resume."
    them = "it" if len(refused) == 1 else "them"
    return (
        f"{what}, and a run keeps its options while it goes on (only {allowed} may change); leave {them} out, or train "
        "a new run without --resume."
    )


def _check_end(run: Run, changed: Mapping[str, Any]) -> None:
    """Raise an InputError where a finished run is not to go on, or can't."""
    lifts = [option for option in OPTIONS.values() if option.ends is run.status]
    if not lifts:
        raise InputError(
            f"The run {run.folder} is finished, so there is nothing to resume. {run.status.value} Train a new one."
        )
    if not any(option.name in changed for option in lifts):
        flags = " or ".join(option.flag for option in lifts)
        raise InputError(
            f"The run {run.folder} is finished, so there is nothing to resume. {run.status.value} Give a larger "
            f"{flags} to go on longer, or train a new one."
        )
    if checkpoint_names.latest(run.folder / CHECKPOINTS) is None:
        raise InputError(
            f"{run.folder} has no checkpoint to go on from: {CHECKPOINTS}/ is missing; restore it, or train a new run."
        )


def _notes(run: Run, changed: Mapping[str, Any]) -> list[str]:
    own = run.recipe.values()
    said = [f"{OPTIONS[name].written(value)} (before: {_value(name, own[name])})" for name, value in changed.items()]
    if not said:
        return []
    state = "finished run" if run.finished else "run"
    notes = [f"The {state} {run.folder} goes on with {', '.join(said)}; its recipe says so from now on."]
    schedule = run.recipe.training.schedule
    if {"epochs", "steps"} & changed.keys() and schedule != "constant" and schedule not in names.SCORED_SCHEDULES:
        notes.append(f"The learning rate follows the {schedule} schedule of the new length from here on.")
    return notes


def _value(name: str, value: Any) -> str:
    """Return a value without its flag, or where it has none but the flag, that."""
    flag, _, text = OPTIONS[name].written(value).partition(" ")
    return text or flag
