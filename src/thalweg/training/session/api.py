"""The same verbs in Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from thalweg.errors import InputError
from thalweg.training.folder.run import Run
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.finish import train_and_finish
from thalweg.training.session.prepare import Request, prepare


def train(
    source: str | Path | None = None,
    *,
    out: str | Path = "runs",
    overwrite: bool = False,
    resume: str | Path | None = None,
    fast: bool = False,
    say: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
    watch: Callable[[dict[str, Any]], None] = lambda entry: None,  # noqa: ARG005
    **options: Any,
) -> Run:
    """Train a model on a file or a built-in set, and return the run.

    Args:
        source: a data file, the name of a built-in set, or a `recipe.toml`; None takes the task's built-in set.
        out: folder that holds runs.
        overwrite: replace a run of the same name instead of taking the next free one.
        resume: folder of an unfinished run to resume. (The same call again resumes it, too.)
        fast: take two steps of everything, as a smoke test.
        say: takes the sentences about what was chosen and is being done.
        watch: takes every history entry.
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
    given = Options(options, source=source)
    request = Request(given, Path(out), overwrite, None if resume is None else Path(resume), fast)
    session = prepare(request, say)
    train_and_finish(session, say, watch)
    return Run(session.run.folder)
