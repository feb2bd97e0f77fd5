"""A run on another file: what was read and what was left out, its figures, and a page about it."""

import dataclasses
import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from thalweg import names
from thalweg.data.arrays.batches import Examples
from thalweg.data.columns.choice import Choice
from thalweg.data.columns.reading import ReadSource, read_as
from thalweg.data.containers.opening import open_like
from thalweg.data.files.base import NUM_LISTED
from thalweg.errors import InputError, capitalized
from thalweg.heads.base import AbstractHead
from thalweg.report.page import Report
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.tasks.verdict import Seen
from thalweg.tasks.written import Scoring
from thalweg.training.folder.columns import Found, find_columns
from thalweg.training.steps.evaluate import Evaluation, evaluate
from thalweg.training.steps.held_out import IN_BRACKETS, interval_notes, written_notes
from thalweg.version import __version__

_OF_TRAINING: Final = re.compile(r"\b[Vv]alidation ")  # sections of a task speak of validation texts


def open_for(
    task: AbstractTask,
    trained: Mapping[str, Any],
    data: Any,
    named: Mapping[str, Any],
    own: Mapping[str, Any] = MappingProxyType({}),
    *,
    skip_bad_rows: bool,
) -> tuple[ReadSource, Found]:
    """Open labeled data as a run reads them: the source, and where its columns are.

    `trained` are the columns of the training data, `named` the options that say how this file is read,
    and `own` those of the training data, which count where none is named.
    """
    known = names.task_columns(task.name)
    source = open_like(own, data, named, skip_bad_rows=skip_bad_rows)
    roles = [role for role in known.roles if role in task.inputs or role not in known.optional]
    found = find_columns(task.name, trained, source, named, roles)
    return read_as(source, known, Choice.of_plain(task.name, found.columns), skip_bad_rows=skip_bad_rows), found


def scoring_of(
    beam: int | None,
    length_penalty: float | None,
    bleu_tokenizer: str | None,
    references: Sequence[str | Path],
    stride: int | None,
) -> Scoring:
    """Return how translations are made and measured, with the further references read from their files.

    An InputError tells of a tokenizer that there is not, and of a file that cannot be read.
    """
    if bleu_tokenizer is not None:
        names.check(names.BLEU_TOKENIZERS, bleu_tokenizer, "tokenizer of BLEU")
    if isinstance(references, str | Path):
        references = [references]
    return Scoring(
        beam, length_penalty, bleu_tokenizer, stride, {str(place): _lines(Path(place)) for place in references}
    )


def _lines(place: Path) -> list[str]:
    """Return the lines of a text file."""
    try:
        text = place.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror or error
        raise InputError(f"--references {place} cannot be read ({what}); give a text file with a line a row.") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def evaluate_rows(
    task: AbstractTask,
    networks: tuple[nn.Module, AbstractHead],
    source: ReadSource,
    columns: Found,
    skipped: Callable[[ReadSource], list[str]],
    *,
    autocast: torch.dtype | None,
) -> tuple[Evaluation, Examples]:
    """Return the figures of a run on a source that `open_for` opened, with what was left out of it, and the examples.

    `skipped` says what was left out in sentences, `autocast` is the type of the forward pass.
    """
    examples, notes = task.examples(source, columns.columns)
    found = evaluate(task, *networks, examples, autocast=autocast, generated=len(examples), intervals=True)
    if not math.isfinite(found.loss):
        raise InputError(
            f"{source.name} cannot be evaluated: the loss of this run on it is not a finite number. Look for numbers "
            "far from those of the training data, or train again with a smaller --lr."
        )
    num_rows = source.num_rows + source.num_bad_rows
    found = dataclasses.replace(
        found,
        num_rows=num_rows,
        num_left_out=num_rows - len(examples) if task.row_is_example else source.num_bad_rows,
        left_out=tuple(sorted([*source.bad_rows, *source.unlabeled])[:NUM_LISTED]),
        notes=(*source.notes, *columns.notes, *skipped(source), *notes),
    )
    return found, examples


def report_on(
    name: str,
    task: AbstractTask,
    networks: tuple[nn.Module, AbstractHead],
    examples: Examples,
    found: Evaluation,
    seed: int,
) -> Report:
    """Return the page about data that a run was evaluated on; `name` says which run and which data."""
    nothing = examples.take(np.arange(0))
    values = {"loss": found.loss, **found.metrics}
    told = {"loss": ("lower", "Loss per target."), **task.explanations}
    shown = [metric for metric in values if metric in told and " " not in metric and math.isfinite(values[metric])]
    seen = Seen(len(examples), found.intervals, found.baselines, examples, found.written.num_examples)
    verdict = task.verdict(values, seen)
    return Report(
        name=name,
        task=task.name,
        verdict=f"{capitalized(verdict)}.",
        sentence=f"{found.num_rows:,} rows were read, and {found.num_left_out:,} of them left out.",
        status="",
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        version=__version__,
        metrics=[
            {
                "name": metric,
                "value": values[metric],
                "better": told[metric][0],
                "explanation": _of_file(told[metric][1]),
                "interval": found.intervals.get(metric),
            }
            for metric in shown
        ],
        notes=[
            *(note.removeprefix(IN_BRACKETS) for note in interval_notes(found)),
            *written_notes(found),
            *found.notes,
        ],
        sections=[
            *figure_tables(found),
            *(
                {**section, **{key: _of_file(section[key]) for key in ("title", "text")}}
                for section in task.sections(*networks, Prepared(nothing, examples), seed)
            ),
            *_left_out_table(found),
        ],
    )


def figure_tables(found: Evaluation) -> list[dict[str, Any]]:
    """Return the figures of each class as sections of a report."""
    tables = []
    for key in ("labels", "tags"):
        if key in found.details:
            rows = [list(row.values()) for row in found.details[key]]
            rows += [[f"{name} average", *row.values(), "", ""] for name, row in found.details["averages"].items()]
            tables.append(
                {
                    "kind": "table",
                    "title": f"Figures of the {key}",
                    "text": "Precision is the fraction of the answers that are right, recall the fraction of the true "
                    "ones that are found.",
                    "columns": [key[:-1], "precision", "recall", "F1", "true", "given"],
                    "rows": [[round(value, 4) if isinstance(value, float) else value for value in row] for row in rows],
                }
            )
    return tables


def _left_out_table(found: Evaluation) -> list[dict[str, Any]]:
    if not found.left_out:
        return []
    return [
        {
            "kind": "table",
            "title": "Rows that were left out",
            "text": "The first of them, with their lines.",
            "columns": ["line", "reason"],
            "rows": [[str(row.line), row.reason] for row in found.left_out],
        }
    ]


def _of_file(text: str) -> str:
    """Return what is said of validation data in words that fit any."""
    said = _OF_TRAINING.sub("", text)
    return capitalized(said)
