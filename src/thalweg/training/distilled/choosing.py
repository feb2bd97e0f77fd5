"""Which run a new one learns from, and which of its options follow from that."""

from pathlib import Path
from typing import Any

from thalweg import names
from thalweg.errors import InputError
from thalweg.tasks.reading.taught import AbstractPupil
from thalweg.training.distilled.naming import reference_to, run_named
from thalweg.training.distilled.teacher import Teacher, kept_teacher
from thalweg.training.folder.opening import task_in
from thalweg.training.folder.run import Run
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options


def teacher_of(options: Options, resume: Path | None) -> Teacher | None:
    """Return the teacher that a run learns from, None where it has none; `resume` is a run that goes on.

    An InputError tells of a run that is missing, damaged, unfinished, or can't teach.
    """
    if not options.get("distill"):
        return None
    if resume is not None:
        return kept_teacher(Run(resume), task_in(Run(resume)))
    if not options.get("start_from"):
        raise InputError("--distill learns from the answers of a finished run; name it with --start-from.")
    run = run_named(options["start_from"])
    if not run.finished:
        raise InputError(f"{run.folder} has not finished training; finish it before another run learns from it.")
    if not isinstance(run.task, AbstractPupil):
        able = [name for name in names.TASKS if "taught" in names.task_spec(name).traits]
        raise InputError(f"--distill is for --task {' and '.join(able)}; {run.folder} is of task '{run.task.name}'.")
    return Teacher(run, run.task, run.data["columns"])


def taught_options(given: Options, teacher: Teacher) -> tuple[Options, dict[str, Any]]:
    """Return the options of a run with a teacher, and those that name columns, which the file may lack.

    Nothing of the teacher's recipe is taken but its task and its columns. An InputError tells of another task.
    """
    run = teacher.run
    if run is None:
        return given, {}
    if given.get("task", run.task.name) != run.task.name:
        raise InputError(
            f"{run.folder} is of task '{run.task.name}', so it can't teach task '{given['task']}'; leave --task "
            "out, or name a run of that task."
        )
    own = run.recipe.values()
    options = given.with_(task=run.task.name, start_from=reference_to(run))
    return options, {name: own[name] for name in OPTIONS if "column" in name and own[name]}
