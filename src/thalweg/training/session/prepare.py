"""From a plan to a session: folder, networks and optimizer are made, and steps are planned in a time limit."""

import contextlib
import dataclasses
import time
from pathlib import Path

from thalweg import distributed
from thalweg.data.text.features import BagFeatures
from thalweg.errors import InputError, counted
from thalweg.storage.ledger import MANIFEST, Ledger
from thalweg.tasks.reading.text_reader import FEATURES
from thalweg.training.folder import run, tensor_files
from thalweg.training.folder.resuming import check_length, has_result, is_ending, kept_options
from thalweg.training.integrity import checkpoint_names, run_files
from thalweg.training.integrity.claim import Claim
from thalweg.training.integrity.environment import differences
from thalweg.training.integrity.new_folder import NewFolder
from thalweg.training.recipe.trusted import require_inside
from thalweg.training.session.plan import Plan, Request, Say, make_plan
from thalweg.training.session.session import Session
from thalweg.training.steps.fit import FitOptions, Place, fit

CALIBRATION_SECONDS = 1.0
# More steps are planned than a time limit has room for, as the first ones tell: the schedule follows the clock, which
# ends the run.
MARGIN = 1.5


def prepare(request: Request, say: Say) -> Session:
    """Read the data, decide everything, find or make the run's folder, and build what trains.

    `say` takes sentences about what was chosen. An InputError tells what the user has to mend.
    """
    return start(make_plan(request, say), say)


def start(plan: Plan, say: Say) -> Session:
    """Return the session of a plan; if it cannot begin, its new folder goes again.

    An InputError tells of an option that its part does not take, or that the data of a resumed run have changed.
    """
    with contextlib.ExitStack() as undo:
        claims: list[Claim] = []

        def claim() -> list[str]:
            found, goes_on, sentence = plan.wanted.claim()
            undo.callback(found.release)
            if goes_on is not plan.is_resumed:
                raise InputError(f"{found.folder} has been changed by another process meanwhile; repeat the command.")
            claims.append(found)
            return [str(found.folder), sentence]

        folder, sentence = distributed.by_first(claim)
        if sentence:
            say(sentence)
        session = _started(dataclasses.replace(plan, folder=Path(folder)), say)
        undo.pop_all()
    session.claim = claims[0] if claims else None
    return session


def _started(plan: Plan, say: Say) -> Session:
    folder, made = plan.folder, list[NewFolder]()
    distributed.by_first(lambda: _check_resumed(plan) if plan.is_resumed else made.append(_new_folder(plan)))
    new = made[0] if made else None
    try:
        opened = run.Run(folder)
        opened.recipe = opened.recipe.with_(**plan.changes)
        session = Session(opened, plan.task, plan.prepared, plan.device, fast=plan.fast)
        newest = plan.resume_from or session.newest()
        if plan.is_timed and newest is None and not plan.fast:  # killed before its first checkpoint: planned again
            session = _fit_to_time(session, say)
        check_length(plan.changes, session.total_steps, newest)
        if newest is not None:
            _tell_differences(session, newest, say)
    except BaseException:
        if new is not None:  # an option that no part takes, or Ctrl-C: nothing has been trained, so nothing stays
            new.discard()
        raise
    if plan.changes:
        for name in distributed.by_first(lambda: _change(session)):
            say(f"{folder / name} was about the weights so far, and is removed.")
        session.ledger.refresh()
    session.place_to_resume = plan.resume_from
    session.new_folder, session.expected_seconds, session.lesson = new, plan.seconds, plan.lesson
    return session


def _check_resumed(plan: Plan) -> None:
    """Put the folder of a run that goes on in order."""
    folder = plan.folder
    require_inside(folder)
    opened = run.Run(folder)
    if plan.kept not in ("", kept_options(opened.recipe)):
        raise InputError(f"{folder} has been changed by another process meanwhile; repeat the command.")
    ledger, ends = Ledger(folder), is_ending(opened)
    ledger.complete()
    run.Run(folder).verify(weights=False)
    _check_same_data(plan)
    if run.Run(folder).finished and not plan.changes:
        if not ends:
            raise InputError(f"{folder} has been changed by another process meanwhile; repeat the command.")
        ledger.write({}, removed=[run_files.METRICS], forgotten=[run_files.HISTORY])


def _new_folder(plan: Plan) -> NewFolder:
    """Return the folder of a new run, filled with what a run has before its first step."""
    files = {run_files.RECIPE: plan.recipe.to_toml().encode(), run_files.DATA: run_files.json_bytes(plan.description)}
    files |= plan.task.files()
    if plan.start:
        files[run_files.START] = tensor_files.tensor_bytes(plan.start)
    if plan.lesson is not None:
        files |= plan.lesson.files()
    return NewFolder(plan.folder, files, run_files.RECIPE, gives_way=not has_result(plan.folder))


def _tell_differences(session: Session, place: Path, say: Say) -> None:
    """Say where a run goes on otherwise than it was, and that its history begins anew where that was removed."""
    about = checkpoint_names.ledger_of(place).about
    with checkpoint_names.sound(place / MANIFEST):
        differing = differences(dict(about.get("environment", {})), session.environment)
    if differing:
        say(f"The run was trained with {differing}, so it may not end with the same bits.")
    if not (session.run.folder / run_files.HISTORY).is_file():
        say(f"{session.run.folder / run_files.HISTORY} is missing, so the history begins here.")


def _change(session: Session) -> list[str]:
    """Write the changed recipe of a run that goes on; what was said of a finished run's weights goes, and is named."""
    ledger = session.ledger
    recipe = {run_files.RECIPE: session.run.recipe.to_toml().encode()}
    if not session.run.finished:
        ledger.write(recipe)
        return []
    about = (
        run_files.CERTIFICATE,
        run_files.CERTIFICATE_ARRAYS,
        run_files.DIAGNOSIS,
        run_files.DIAGNOSIS_PAGE,
        run_files.BEFORE_POLISH,
    )
    gone = [name for name in (run_files.CERTIFICATE, run_files.DIAGNOSIS) if name in ledger]
    ledger.write(recipe, removed=[run_files.METRICS, *about], forgotten=[run_files.HISTORY])
    return gone


def _check_same_data(plan: Plan) -> None:
    folder, description = plan.folder, plan.description
    before = run.Run(folder).data
    for key in ("files", "num_train", "num_valid"):
        if before.get(key) != description[key]:
            raise InputError(
                f"The data has changed since {folder} was started, so it cannot be resumed; restore the "
                "original files, or start over with --overwrite."
            )
    features = getattr(getattr(plan.task, "reader", None), "features", None)
    if isinstance(features, BagFeatures) and not features.has_vectors_of(BagFeatures.load(folder / FEATURES)):
        raise InputError(
            f"{plan.recipe.data.word_vectors} has changed since {folder} was started, so it cannot be resumed; restore "
            "the original file, or start over with --overwrite."
        )


def _fit_to_time(session: Session, say: Say) -> Session:
    """Measure a few steps and plan as many as fit into the time limit; the number goes into the run's recipe."""
    recipe, folder, begin = session.run.recipe, session.run.folder, time.monotonic()
    limit = recipe.training.time
    seconds = _seconds_per_step(session, min(CALIBRATION_SECONDS, limit / 10))
    num_steps = max(1, int(MARGIN * limit / seconds))
    epochs = session.feed.epoch_of(max(1, round(num_steps / MARGIN)))
    each = f"{seconds:.2g} s each" if seconds >= 1 else f"{seconds * 1e3:{'.0f' if seconds > 0.01 else '.2g'}} ms each"
    room = f"about {counted(max(1, round(num_steps / MARGIN)), 'step')} ({epochs:.3g} epochs)"
    say(
        f"Steps take {each}: {limit:g} s have room for {room}, less what evaluations and the report take. The schedule "
        "follows the clock."
    )
    session.change(lambda: {run_files.RECIPE: recipe.with_(epochs=0.0, steps=num_steps).to_toml().encode()})
    planned = Session(run.Run(folder), session.task, session.prepared, session.device, fast=False)
    planned.is_timed = True
    planned.score.seconds = distributed.of_first(time.monotonic() - begin)
    return planned


def _seconds_per_step(session: Session, enough: float) -> float:
    place, first = Place(), time.monotonic()
    parts = (session.model, session.head, session.stepper, session.feed)
    options = FitOptions(autocast=session.autocast, compiled=session.run.recipe.run.compile)
    for record in fit(*parts, steps=1000, place=place, options=options):
        float(record.loss)
        if record.step == 1:
            first = time.monotonic()  # the first step is slower than the others
        if record.step > 3 and distributed.most([time.monotonic() - first])[0] > enough:
            break
    return distributed.of_first((time.monotonic() - first) / max(1, place.step - 1))
