"""The level about new data of a run: its mistakes on validation examples, or on a file that nothing was chosen by."""

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from thalweg import names
from thalweg.certificates.attempts import Clock
from thalweg.certificates.certificate.interval import Certificate, Interval
from thalweg.certificates.new_texts.level import NAME, held_out_level
from thalweg.data.arrays.batches import KEYS, Examples
from thalweg.data.arrays.equal import one_of_each
from thalweg.data.arrays.split import text_keys
from thalweg.data.columns.facts import as_text
from thalweg.data.containers.opening import open_any, reading_like, reading_of
from thalweg.data.containers.places import checksum_of, checksums_of
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.storage.files import sum_of_file
from thalweg.tasks.answering import answering
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder.evaluating import open_for
from thalweg.training.folder.opening import open_as, settings_of
from thalweg.training.folder.run import Run
from thalweg.training.integrity.run_files import HELD_OUT
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.session.session import MAX_EVALUATIONS
from thalweg.training.steps.device import choose_device, choose_precision
from thalweg.training.steps.evaluate import evaluate
from thalweg.training.steps.held_out import chosen_from

VALIDATION = "validation examples"
TRIED = 32  # examples by which the time for all is foretold
BEFORE_REFIT = f"the model as it was before it was trained on the validation examples, too ({HELD_OUT}),"
SHARE = "accuracy"  # the metric that must be a plain share of independent examples


def level_or_reason(
    run: Run,
    task: AbstractTask,
    prepared: Prepared,
    test: Path | None,
    clock: Clock,
    reading: Mapping[str, Any] = MappingProxyType({}),
) -> Certificate | str:
    """Return the level about new data, or the reason why there is none.

    The validation examples are looked at within the time; a file that was asked for in any case.
    """
    if test is None and not len(prepared.valid):
        return "Nothing was held out; give --test FILE with examples that nothing was chosen by."
    try:
        if test is None:
            clock.require(expected_seconds(run, task, prepared.valid), "Evaluating the validation examples")
        return new_texts_level(run, task, prepared, test, reading)
    except InputError as error:
        if test is not None:
            raise
        return str(error)


def with_new_texts(interval: Interval, found: Certificate | str) -> Interval:
    """Return the interval with the level about new data, or with the reason why there is none."""
    if isinstance(found, str):
        return dataclasses.replace(interval, left_out={**interval.left_out, NAME: found})
    return dataclasses.replace(interval, levels=(*interval.levels, found))


def require_untouched(run: Run, test: Path) -> None:
    """Raise an InputError if a run was trained on a file, or its weights were chosen by it."""
    if run.has_learned_from(test):
        raise InputError(
            f"{run.folder} was trained on {test}, or its weights were chosen by it, so it says nothing about new "
            "data; give --test a file that nothing was chosen by."
        )


def new_texts_level(
    run: Run,
    task: AbstractTask,
    prepared: Prepared,
    test: Path | None,
    reading: Mapping[str, Any] = MappingProxyType({}),
) -> Certificate:
    """Return the level about new data; `reading` are options of how the test file is read, else as the run's own.

    Examples of a test file whose texts the model was trained on or chosen by are left out, and those of a validation
    file whose texts it was trained on. What is the same is the text, not what the model sees of it: texts of unknown
    words alone may look the same, and are new all the same.
    An InputError tells of a task whose examples are not simply right or wrong, weights whose choice cannot be counted,
    or a file that cannot be read.
    """
    start = time.perf_counter()
    examples, data, compared = prepared.valid, VALIDATION, 1
    file: dict[str, str | int] = {"file": "", "sha256": ""}
    if test is not None:
        require_untouched(run, test)
        how = reading_of(reading_like(vars(run.recipe.data), test, reading))
        given, _ = task.examples(open_as(str(test), task.name, run.data["columns"], **how), run.data["columns"])
        examples = without(given, prepared.train, prepared.valid)
        if not len(examples):
            raise InputError(f"All examples of {test} are among those that {run.folder} was trained on or chosen by.")
        file = {
            "file": str(test),
            "sha256": next(iter(checksums_of(str(test)).values()), ""),
            "repeats": len(given) - len(examples),
        }
        data = f"examples of {test.name}"
    else:
        compared = num_compared(run)
        if task.is_tuned:
            raise InputError(
                "The validation examples chose the thresholds of the labels, so they say too little about new data; "
                "give --test FILE with examples that nothing was chosen by."
            )
        if validated_on_training_file(run):
            raise InputError(
                f"{run.folder} was validated on the file that it was trained on, which says nothing about new data; "
                "use --test FILE."
            )
        if run.recipe.data.valid:
            examples = without(prepared.valid, prepared.train)
            file["repeats"] = len(prepared.valid) - len(examples)
        else:  # equal texts are on one side of the split, so that they are no independent ones
            examples = different(prepared.valid)
            data = VALIDATION if len(examples) == len(prepared.valid) else f"different {VALIDATION}"
        if not len(examples):
            raise InputError(
                f"All examples of {run.recipe.data.valid} are among those that {run.folder} was trained on, which says "
                "nothing about new data; use --test FILE."
            )
    _, autocast = choose_precision(run.recipe.run.precision, choose_device("cpu"))
    networks = run.measured if test is None else (run.model, run.head)
    model = BEFORE_REFIT if test is None and run.is_refitted else ""
    found = evaluate(run.task, *networks, examples, autocast=autocast, intervals=True)
    if SHARE not in found.shares:
        raise InputError(
            "An exact statement needs independent examples that are simply right or wrong; `thalweg evaluate` gives "
            "bootstrap intervals of this task's figures."
        )
    right, size = found.shares[SHARE]
    baseline = size - round(found.baselines[SHARE] * size) if SHARE in found.baselines else None
    level = held_out_level(size - right, size, compared=compared, data=data, baseline=baseline, model=model)
    return dataclasses.replace(level, seconds=time.perf_counter() - start, evidence={**level.evidence, **file})


def num_repeated(run: Run, data: Any, named: Mapping[str, Any] = MappingProxyType({})) -> int | None:
    """Return how many rows of a file have the texts of a row that a run was trained on or chosen by.

    Texts are compared as normalized; `named` are the options by which the file is read. None where it is unknown: a
    task that reads no texts row by row, or data that are missing or have changed since.
    """
    columns, given, files = run.data["columns"], run.recipe.data, run.data["files"]
    roles = [role for role in run.task.inputs if role in columns and role != "series"]
    if not roles or any(checksum_of(name) != old for name, old in files.items()):
        return None
    normalizer = settings_of(run.recipe, columns).normalizer()

    def keys(source: AbstractSource, columns: Mapping[str, Any] = columns) -> np.ndarray:
        found = [np.zeros(0, dtype=np.uint64)]
        for chunk in source.chunks():
            parts = [normalizer.many([as_text(value) for value in chunk.column(columns[role])]) for role in roles]
            found.append(text_keys("\0".join(texts) for texts in zip(*parts, strict=True)))
        return np.concatenate(found)

    how = reading_of(vars(given))
    known = [keys(open_any(name, **how)) for name in (given.source, given.valid) if name]
    source, found = open_for(run.task, columns, data, named, vars(given), skip_bad_rows=True)
    return int(np.isin(keys(source, found.columns), np.concatenate(known)).sum())


def validated_on_training_file(run: Run) -> bool:
    """Return whether the validation file of a run is, byte for byte, the file that it was trained on."""
    given, files = run.recipe.data, run.data["files"]
    if not given.valid:
        return False
    train, valid = (
        set(checksums_of(place).values()) | ({files[place]} if place in files else set())
        for place in (given.source, given.valid)
    )
    return Path(given.valid).resolve() == Path(given.source).resolve() or not train.isdisjoint(valid)


def different(examples: Examples) -> Examples:
    """Return one example of each text."""
    chosen = one_of_each(np.asarray(examples.columns[KEYS])) if KEYS in examples.columns else np.arange(len(examples))
    return examples if len(chosen) == len(examples) else examples.take(chosen)


def without(examples: Examples, *known: Examples) -> Examples:
    """Return the examples whose texts are none of the known ones."""
    if KEYS not in examples.columns:
        return examples
    seen = np.concatenate([np.asarray(one.columns[KEYS]) for one in known])
    new = np.flatnonzero(~np.isin(np.asarray(examples.columns[KEYS]), seen))
    return examples if len(new) == len(examples) else examples.take(new)


def expected_seconds(run: Run, task: AbstractTask, examples: Examples) -> float:
    """Return how long the examples take, from a few of them."""
    few = np.unique(np.linspace(0, len(examples) - 1, TRIED).astype(int))
    batch = task.batch(examples, few)
    start = time.perf_counter()
    with answering(run.model, run.head) as parameter:
        batch = batch.to(parameter.device, parameter.dtype)
        run.head(run.model(**batch.inputs))
    return (time.perf_counter() - start) * len(examples) / len(few)


def counted_again(run: Run, task: AbstractTask, prepared: Prepared, claimed: dict[str, Any]) -> dict[str, Any]:
    """Return the evidence of the level with the mistakes counted again, on the file that the claimed evidence names.

    An InputError tells of a file that is missing or another one by now.
    """
    test = None
    if claimed.get("file"):
        test = Path(str(claimed["file"]))
        if not test.is_file() or sum_of_file(test).sha256 != claimed.get("sha256"):
            raise InputError(f"{test} is missing or has changed, so that mistakes on it cannot be counted again")
    return dict(new_texts_level(run, task, prepared, test).evidence)


def num_compared(run: Run) -> int:
    """Return of how many weights the kept ones may be the best on the validation examples; 1 where none were compared.

    An InputError says that the examples had a say in the training itself.
    """
    training = run.recipe.training
    if training.schedule in names.SCORED_SCHEDULES:
        raise InputError(
            f"--schedule {training.schedule} trained by the validation examples, so they say too little about new "
            "data; give --test FILE with examples that nothing was chosen by."
        )
    # Training to a proved optimum keeps its last weights, but with patience the scores decide which are the last.
    done = chosen_from(run.history, keeps_last=bool(training.certify))
    return max(1, done, num_planned(run.recipe, int(run.result["steps_per_epoch"])) if training.patience else 0)


def num_planned(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return how many evaluations a run makes that is not stopped early."""
    training = recipe.training
    steps = min(training.steps or math.inf, math.ceil(training.epochs * steps_per_epoch) or math.inf)
    every = training.evaluate_every or max(steps_per_epoch, math.ceil(steps / MAX_EVALUATIONS))
    return math.ceil(steps / every)
