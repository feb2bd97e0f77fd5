"""The same verbs in Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from thalweg import distributed
from thalweg.data.containers.memory import source_of, splits_in
from thalweg.data.containers.opening import is_sample
from thalweg.data.containers.places import OBJECT
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.training.folder.resuming import resumption
from thalweg.training.folder.run import Run
from thalweg.training.recipe.recipe import Options, named_source
from thalweg.training.session.finish import train_and_finish
from thalweg.training.session.prepare import Request, prepare
from thalweg.training.steps.launch import SECONDS, joined
from thalweg.training.trackers.notebook import notebook_watch


def train(
    source: Any = None,
    *,
    out: str | Path = "runs",
    overwrite: bool = False,
    resume: str | Path | None = None,
    resume_from: str | Path | None = None,
    fast: bool = False,
    trust: bool = False,
    rank_timeout: float = SECONDS,
    say: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
    watch: Callable[[dict[str, Any]], None] | None = None,
    **options: Any,
) -> Run:
    """Train a model on a file or a built-in set, and return the run.

    Args:
        source: a data file, the name of a built-in set, or a `recipe.toml`; None takes the task's built-in set. Or a
            list of files; or data in memory: a data frame of pandas or polars, a series of pandas, a list of dicts, a
            dict of lists, a `datasets.Dataset` or `DatasetDict`, an Arrow table, any `AbstractSource`. The option
            `valid` takes the same.
        out: folder that holds runs.
        overwrite: replace a run of the same name instead of taking the next free one.
        resume: folder of an unfinished run to resume. (The same call again resumes it, too.)
        resume_from: a checkpoint of an unfinished run, such as `runs/x/checkpoints/step-00000012`, to resume that from,
            in place of the newest one. Later ones are removed.
        fast: take two steps of everything, as a smoke test.
        trust: import the optimizer that a recipe or a run names by an import path (`package.Class`), which runs code;
            one that is named here, as the option `optimizer`, needs no trust.
        rank_timeout: with several processes (`torchrun`): seconds after which one that does not answer has hung.
        say: takes the sentences about what was chosen and is being done.
        watch: takes every history entry; None: a notebook shows how far training is, and nothing is shown elsewhere.
        **options: any option of the recipe, under the name of the command line's with underscores
            (`model="gru"`, `lr=3e-3`, `epochs=5`, `seed=1` ...); `thalweg.training.recipe.options` lists them.

    Returns:
        The run. Its `status` tells how it ended; an interruption (Ctrl-C) leaves it unfinished.

    Raises:
        InputError: for anything in data or options that cannot be used.

    Example:
        >>> run = train("docstrings", fast=True, out=getfixture("tmp_path"))
        >>> run.status.name
        'COMPLETED'
    """
    for key, value in options.items():
        if value is None:
            raise InputError(f"Option '{key}' is None; leave it out to take the default.")
    objects: dict[str, AbstractSource] = {}
    splits = splits_in(source)
    if splits is not None:
        source = splits.train
        if splits.valid is not None and not {"valid", "valid_share"} & set(options):
            options["valid"] = splits.valid
        for note in splits.notes:
            say(note)
    task, skip = options.get("task"), bool(options.get("skip_bad_rows"))
    source = _place(source, objects, "", task, skip_bad_rows=skip)
    options["valid"] = _place(options.get("valid"), objects, " (validation)", task, skip_bad_rows=skip)
    given = Options(options, source=source)
    folder, place = resumption(resume, resume_from)
    request = Request(given, Path(out), overwrite, folder, place, fast, objects, trust)
    with joined(seconds=rank_timeout, say=say):
        if not distributed.is_first():
            say, watch = _silent, _silent
        with prepare(request, say) as session:
            shown = watch or notebook_watch(session.run.folder.name, session.total_steps)
            train_and_finish(session, say, shown)
        run = Run(session.run.folder)
    run.objects |= objects
    return run


def _silent(what: object) -> None:
    """Leave telling to the first process."""


def _place(
    data: Any, objects: dict[str, AbstractSource], use: str, task: str | None, *, skip_bad_rows: bool
) -> str | None:
    """Return the name of data for the recipe; data in memory are put into `objects` under it."""
    place = named_source(data, task)
    if data is None or place is not None:
        return place
    if isinstance(data, AbstractSource) and is_sample(data.name):
        return data.name
    name = f"{OBJECT}{type(data).__name__}{use}"
    objects[name] = source_of(data, name, skip_bad_rows=skip_bad_rows)
    return name
