"""From a plan to a session: folder, networks and optimizer are made, and steps are planned in a time limit."""

import dataclasses
import time
from functools import partial
from itertools import count
from pathlib import Path

from thalweg.errors import InputError, counted
from thalweg.training.folder import checkpoint, run
from thalweg.training.folder.new_folder import NewFolder
from thalweg.training.folder.resuming import check_length
from thalweg.training.session.plan import Plan, Request, Say, make_plan
from thalweg.training.session.session import Session
from thalweg.training.steps.fit import FitOptions, Place, fit

CALIBRATION_SECONDS = 1.0
FRACTION_OF_TIME = 0.9  # of a time limit is planned for steps; the rest is left to evaluation


def prepare(request: Request, say: Say) -> Session:
    """Read the data, decide everything, find or make the run's folder, and build what trains.

    `say` takes sentences about what was chosen. An InputError tells what the user has to mend.
    """
    return start(make_plan(request, say), say)


def start(plan: Plan, say: Say) -> Session:
    """Return the session of a plan; if it cannot begin, its new folder goes again.

    An InputError tells of an option that its part does not take, or that the data of a resumed run have changed.
    """
    new, before = None, ""
    if plan.is_resumed:
        run.verify_files(plan.folder, weights=False)
        _check_same_data(plan)
        if plan.changes:
            before = (plan.folder / run.RECIPE).read_text(encoding="utf-8")
            recipe = run.Run(plan.folder).recipe.with_(**plan.changes)
            checkpoint.write_atomically(plan.folder / run.RECIPE, recipe.to_toml())
    else:
        plan, new = _new_folder(plan, say)
    try:
        session = Session(run.Run(plan.folder), plan.task, plan.prepared, plan.device, fast=plan.fast)
        begun = checkpoint.latest(plan.folder / run.CHECKPOINTS) is not None
        if plan.is_timed and not begun and not plan.fast:  # killed before its first checkpoint, it is planned again
            session = _fit_to_time(session, say)
        check_length(plan.folder, plan.changes, session.total_steps)
    except BaseException:
        if before:
            checkpoint.write_atomically(plan.folder / run.RECIPE, before)
        if new is not None:  # an option that no part takes, or Ctrl-C: nothing has been trained, so nothing stays
            new.discard()
        raise
    if before and session.run.finished:
        _reopen(plan.folder, say)
    session.new_folder, session.expected_seconds = new, plan.seconds
    return session


def _new_folder(plan: Plan, say: Say) -> tuple[Plan, NewFolder]:
    """Return the folder of a new run, and the plan with its name: another one where a run has just taken it."""
    wanted, name = plan.folder, plan.recipe.run.name
    fill = partial(_fill, plan=plan)
    for number in count(2):
        try:
            return plan, NewFolder(plan.folder, fill, run.RECIPE, replaces=plan.replaces)
        except FileExistsError:
            plan = dataclasses.replace(plan, folder=wanted.with_name(f"{name}-{number}"))
            if not plan.folder.exists():
                say(f"Another run has just begun in {wanted}; this one is {plan.folder}.")
    raise AssertionError("the numbers have no end")


def _reopen(folder: Path, say: Say) -> None:
    """Make a finished run an unfinished one: what was said about its weights is not true of those to come."""
    (folder / run.METRICS).unlink()
    gone = [name for name in (run.CERTIFICATE, run.DIAGNOSIS) if (folder / name).is_file()]
    for name in (run.CERTIFICATE, run.CERTIFICATE_ARRAYS, run.DIAGNOSIS, run.DIAGNOSIS_PAGE):
        (folder / name).unlink(missing_ok=True)
    for name in gone:
        say(f"{folder / name} was about the weights so far, and is removed.")


def _check_same_data(plan: Plan) -> None:
    folder, description = plan.folder, plan.description
    before = run.Run(folder).data
    for key in ("files", "num_train", "num_valid"):
        if before.get(key) != description[key]:
            raise InputError(
                f"The data has changed since {folder} was started, so it cannot be resumed; restore the "
                "original files, or start over with --overwrite."
            )


def _fill(folder: Path, plan: Plan) -> None:
    """Write what a run has before its first step."""
    (folder / run.RECIPE).write_text(plan.recipe.to_toml(), encoding="utf-8")
    for name, content in plan.task.files().items():
        checkpoint.write_atomically(folder / name, content)
    run.write_json(folder / run.DATA, plan.description)
    if plan.start:
        checkpoint.save_tensors(folder / run.START, plan.start)
    run.write_manifest(folder, weights=False)


def _fit_to_time(session: Session, say: Say) -> Session:
    """Measure a few steps and plan as many as fit into the time limit; the number goes into the run's recipe."""
    recipe, folder = session.run.recipe, session.run.folder
    limit = recipe.training.time
    seconds = _seconds_per_step(session, min(CALIBRATION_SECONDS, limit / 10))
    num_steps = max(1, int(FRACTION_OF_TIME * limit / seconds))
    epochs = session.feed.epoch_of(num_steps)
    each = f"{seconds:.2g} s each" if seconds >= 1 else f"{seconds * 1e3:{'.0f' if seconds > 0.01 else '.2g'}} ms each"
    say(f"Planning about {counted(num_steps, 'step')} ({epochs:.3g} epochs, {each}) for the {limit:g} s limit.")
    checkpoint.write_atomically(folder / run.RECIPE, recipe.with_(epochs=0.0, steps=num_steps).to_toml())
    run.write_manifest(folder, weights=False)
    return Session(run.Run(folder), session.task, session.prepared, session.device, fast=False)


def _seconds_per_step(session: Session, enough: float) -> float:
    place, first = Place(), time.monotonic()
    parts, options = (session.model, session.head, session.stepper, session.feed), FitOptions(autocast=session.autocast)
    for record in fit(*parts, steps=1000, place=place, options=options):
        float(record.loss)
        if record.step == 1:
            first = time.monotonic()  # the first step is slower than the others
        if record.step > 3 and time.monotonic() - first > enough:
            break
    return (time.monotonic() - first) / max(1, place.step - 1)
