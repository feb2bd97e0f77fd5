"""A finished run's data, read again as its training read them."""

from collections.abc import Collection, Mapping
from typing import Any

from thalweg import names
from thalweg.data.columns.facts import as_text
from thalweg.data.containers.memory import checksum_of_rows
from thalweg.data.containers.opening import open_any, reading_of
from thalweg.data.containers.places import OBJECT, checksum_of
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.tasks.reading.text_column import check_columns
from thalweg.training.distilled.teacher import kept_teacher
from thalweg.training.folder.opening import as_it_is, open_as, task_in
from thalweg.training.folder.run import Run
from thalweg.training.session.reading import read_examples


def read_again(run: Run) -> tuple[AbstractTask, Prepared]:
    """Return task and examples of a finished run exactly as its training read them.

    An InputError tells of a file that is missing or has changed since.
    """
    run.verify(weights=False)
    recipe, data, own = run.recipe, run.data, task_in(run)
    for name, expected in data["files"].items():
        found = checksum_of_rows(run.objects[name]) if name in run.objects else checksum_of(name)
        if found is None and name.startswith(OBJECT):
            raise InputError(
                f"{run.folder} was trained on data that were given in Python, which can't be read again from here; use "
                "the run that train() returned, or save the data to a file and train on that."
            )
        if found is None:
            raise InputError(f"The data of {run.folder} is missing: there is no {name}; restore the file.")
        if found != expected:
            raise InputError(
                f"{name} has changed since {run.folder} was trained on it, so nothing can be said about that training; "
                "restore the original file, or train again."
            )
    teacher = kept_teacher(run, own) if recipe.training.distill else None
    labeled = as_it_is if teacher is None else teacher.labeled
    how, columns = reading_of(vars(recipe.data)), data["columns"]
    source, valid = (
        open_as(run.objects.get(place, place), recipe.run.task, columns, labeled=labeled, **how) if place else None
        for place in (recipe.data.source, recipe.data.valid)
    )
    assert source is not None
    for one in (source, valid):
        if one is not None:
            check_columns(one, [name for role in names.task_columns(own.name).roles for name in _named(columns, role)])
    # What was begun from another run is complete in its own task: begun from that again, it is the same. So is what has
    # word vectors, whose file may have changed.
    is_closed = getattr(getattr(own, "reader", None), "is_closed", False)
    start = own if is_closed or (recipe.run.start_from and teacher is None) else None
    sources: tuple[AbstractSource, AbstractSource | None] = source, valid
    if teacher is not None:
        lesson = teacher.teach(*sources, columns, recipe.training.distill_weight)
        sources = lesson.train, lesson.valid
    task, prepared = read_examples(*sources, recipe, columns, start)
    if (prepared.num_train, len(prepared.valid)) != (data["num_train"], data["num_valid"]):
        raise InputError(
            f"{run.folder} was trained on {data['num_train']:,} examples and validated on {data['num_valid']:,}; now "
            f"there are {prepared.num_train:,} and {len(prepared.valid):,} (another version of Python has other "
            "built-in sets). Train again."
        )
    if (task.shape(), _entries(task)) != (own.shape(), _entries(own)):
        raise InputError(
            f"{run.folder} reads its data otherwise than its recipe says (another vocabulary, or other labels), so "
            "nothing can be said about its training; restore its files, or train again."
        )
    return task, prepared


def _named(columns: Mapping[str, Any], role: str) -> list[str]:
    """Return the columns of a role, those of an option that joins several among them."""
    if role == "label" and columns.get("label_columns"):
        return list(columns["label_columns"])
    found = columns.get(role, [])
    return [found] if isinstance(found, str) else list(found or ())


def _entries(task: AbstractTask) -> list[str] | None:
    return None if task.vocabulary is None else task.vocabulary.entries


def texts_at(run: Run, task: AbstractTask, lines: Collection[int]) -> dict[int, list[str]]:
    """Return what stands on these lines of a run's training data: the words of a row of words, else its text or texts.

    The source is read in one pass, which ends with the last of them.
    """
    wanted, found = set(lines), {}
    source = open_any(
        run.objects.get(run.recipe.data.source, run.recipe.data.source), **reading_of(vars(run.recipe.data))
    )
    columns = [run.data["columns"][role] for role in task.inputs if role in run.data["columns"]]
    for chunk in source.chunks() if wanted else ():
        values = [chunk.column(name) for name in columns]
        for place, line in enumerate(chunk.lines):
            if line in wanted:
                row = [column[place] for column in values]
                found[line] = [as_text(value) for value in (row[0] if isinstance(row[0], list) else row)]
        if len(chunk) and chunk.lines[-1] >= max(wanted):
            break
    return found
