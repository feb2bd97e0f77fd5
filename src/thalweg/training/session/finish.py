"""The end of a run: the weights that were kept restored and measured, `metrics.json`, and the report."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from thalweg import distributed, names
from thalweg.certificates.problems import problem_at
from thalweg.errors import capitalized
from thalweg.objective import Objective
from thalweg.report.page import render_report
from thalweg.status import Status
from thalweg.tasks.reading.taught import AbstractPupil
from thalweg.tasks.verdict import Seen
from thalweg.training.certified.proof import proof_summary
from thalweg.training.distilled.teacher import milliseconds
from thalweg.training.folder import build, tensor_files
from thalweg.training.folder.report import make_report, predict_command
from thalweg.training.integrity.claim import aside
from thalweg.training.integrity.replaced import drop
from thalweg.training.integrity.run_files import HISTORY, METRICS, REPORT, WEIGHTS, json_bytes
from thalweg.training.session.loop import train
from thalweg.training.session.selection import sentences
from thalweg.training.session.session import Session
from thalweg.training.steps.evaluate import Evaluation, affordable
from thalweg.training.steps.held_out import chosen_from, interval_notes, part_seen, to_json, written_notes
from thalweg.training.trackers.tracking import tracking

MAX_GENERATED = 1000  # validation examples that are written out for BLEU and the like; `evaluate` takes all of a file


def train_and_finish(
    session: Session, say: Callable[[str], None], watch: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Train to the end, measure the weights that were kept, write the report and return the summary.

    `say` takes sentences about what is being done, `watch` every history entry.
    """
    status = Status.COMPLETED
    with tracking(session.run.recipe, session.run.folder, session.total_steps, say) as trackers:
        for entry in train(session):
            watch(entry)
            trackers.take(entry)
            if entry["event"] == "finished":
                status = Status[entry["status"]]
        if status is not Status.INTERRUPTED and WEIGHTS in session.ledger:
            say("Evaluating the weights that were kept and writing the report.")
        summary = finish(session, status)
        trackers.finish(summary)
    return summary


def finish(session: Session, status: Status) -> dict[str, Any]:
    """Measure the weights that were kept, write the report and `metrics.json` at once, and return the summary.

    With the latter the run has finished: killed before, it goes on here. After an interruption, and where no weights
    are worth keeping, nothing is measured and no report is written, only the state noted. The summary is what `--json`
    prints (`run task model optimizer steps seconds metrics status`), and more.
    """
    with session:  # whose work ends here
        session.join()
        return distributed.by_first(lambda: _finished(session, status))


def _finished(session: Session, status: Status) -> dict[str, Any]:
    run, recipe, score, ledger = session.run, session.run.recipe, session.score, session.ledger
    summary: dict[str, Any] = {
        "run": str(run.folder),
        "task": recipe.run.task,
        "model": recipe.model.model,
        "optimizer": recipe.training.optimizer,
        "steps": session.place.step,
        "seconds": score.seconds,
        "metrics": {},
        "status": status.name,
        "sentence": _sentence(session, status),
        "num_rejected": score.num_rejected,
        "num_rollbacks": score.num_rollbacks,
        "best_step": score.best_step,
        "keeps_last": bool(recipe.training.certify),
        "num_parameters": build.count_parameters(session.model, session.head),
        "num_train": session.prepared.num_train if session.prepared.stream else len(session.rows),
        "num_valid": len(session.prepared.valid),
        "steps_per_epoch": session.feed.steps_per_epoch,
    }
    if status is Status.INTERRUPTED:
        ledger.write({METRICS: json_bytes(summary)})
        return summary
    if WEIGHTS not in ledger:
        ledger.write({METRICS: json_bytes(summary)})
        return summary
    weights, files = tensor_files.load_tensors(ledger.path(WEIGHTS)), {}
    build.put_weights(session.model, session.head, weights, run.folder / WEIGHTS)
    if session.task.tune(session.model, session.head, session.prepared.valid):
        files[WEIGHTS] = tensor_files.tensor_bytes(build.get_weights(session.model, session.head))
    if recipe.training.optimizer in names.SOLVERS:
        summary["certificate"] = prove(session)
        if status is Status.PROVED and not summary["certificate"]["reached"]:  # by rounding, computed once more
            summary |= {"status": Status.COMPLETED.name, "sentence": Status.COMPLETED.value}
    if session.is_chosen:
        chosen, sizes = session.selection(), (len(session.prepared.train), len(session.prepared.valid))
        summary["selection"] = {**chosen, "sentences": sentences(chosen, *sizes, refitted=session.refits)}
        session.put_measured()
    summary |= held_out_figures(session, summary.get("certificate"))
    if not session.feed.is_fixed and not session.fast:
        of = session.task.about()["examples"]
        summary["interval_notes"] += part_seen(session.feed.epoch_of(session.place.step), of)
    if figures := session.head.figures():
        summary["head"] = figures
    settled, changed = session.task.settle(session.model, session.head, session.prepared)
    files |= changed
    summary["warnings"] = [*session.head.notes(), *settled]
    summary["example"] = predict_command(run, session.task, session.prepared.valid)
    begin = np.array([time.perf_counter(), time.process_time()])
    page = render_report(make_report(run, session.task, session.prepared, (session.model, session.head), summary))
    # The smaller one: other programs make the one longer, several threads the other.
    took = float((np.array([time.perf_counter(), time.process_time()]) - begin).min())
    files |= {REPORT: page.encode(errors="replace"), METRICS: json_bytes(summary | {"report_seconds": took})}
    ledger.write(files, noted={HISTORY: session.history} if session.history else {})
    drop(aside(run.folder), run.folder)  # what this run replaces
    return summary


def _sentence(session: Session, status: Status) -> str:
    """Return how the run ended, and which weights it has where its loss was not finite."""
    if status is not Status.NOT_FINITE:
        return status.value
    if WEIGHTS in session.ledger:
        return f"{status.value} The weights of step {session.score.best_step:,}, the best before, are kept."
    why = "evaluation produced a finite score" if session.holds_out else "step left finite weights"
    return f"No {why}, so no weights were saved. {status.value}"


def verdict(session: Session, found: Evaluation, certificate: Mapping[str, Any] | None) -> str:
    """Return the run's result in a sentence: the task's figures, and whether the training loss is certified."""
    num_written = found.written.num_examples
    seen = Seen(found.num_examples, found.intervals, found.baselines, session.prepared.valid, num_written)
    said = session.task.verdict({"loss": found.loss, **found.metrics}, seen)
    return f"{capitalized(said)}{'' if certificate is None else '; ' + certificate['short']}."


def held_out_figures(session: Session, certificate: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the summary says of the validation data: their figures, or that there are none."""
    if not session.holds_out:
        nothing = (
            "Nothing was held out, so there are no validation figures; thalweg evaluate RUN FILE has those of a file."
        )
        return {"interval_notes": [nothing]}
    num, limit = min(len(session.prepared.valid), MAX_GENERATED), session.time_limit
    if limit.for_writing:
        parts = session.task, session.model, session.head, session.prepared.valid
        num = affordable(*parts, num, limit.for_writing)
    evaluation = session.evaluate(generated=num, intervals=True)
    compared = chosen_from(session.run.history, keeps_last=bool(session.run.recipe.training.certify))
    notes = [*interval_notes(evaluation, "validation example", compared), *written_notes(evaluation)]
    return {
        "loss": evaluation.loss,
        "metrics": evaluation.metrics,
        **to_json(evaluation),
        "verdict": verdict(session, evaluation, certificate),
        "interval_notes": [*notes, *_beside(session, evaluation)],
    }


def _beside(session: Session, found: Evaluation) -> list[str]:
    """Return the sentence on this model and the one that it has learned from, where there is one."""
    lesson, task = session.lesson, session.task
    if lesson is None or not isinstance(task, AbstractPupil):
        return []
    taken = milliseconds(task, session.model, session.head, lesson.inputs)
    said = task.beside(session.prepared.valid, found.metrics, is_teachers=lesson.is_judge)
    spoken = [lesson.remark] if lesson.remark and not lesson.is_judge else []
    return [f"{said}; an answer takes {taken:.2g} ms in place of {lesson.milliseconds:.2g} ms.", *spoken]


def prove(session: Session) -> dict[str, Any]:
    """Return what the summary says about the proof for the present weights on all training data, as plain values.

    What is proved and what is held fixed are the certificate's own words.
    """
    recipe = session.run.recipe
    objective = Objective(session.model, session.head, session.feed(0), l2=recipe.training.l2)
    problem, point = problem_at(objective, session.task.about())
    certificate = problem.certificate(point, evidence=False)
    return proof_summary(certificate, recipe.training.certify, session.place.step)
