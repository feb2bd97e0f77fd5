"""From a run, or a session under way, to what a diagnosis looks at."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from thalweg import names
from thalweg.data.arrays.batches import KEYS, Examples
from thalweg.diagnosis.networks import dropout_of, family_of
from thalweg.diagnosis.subject import DataFacts, Facts, Networks, Subject
from thalweg.diagnosis.symptoms.entries import well_formed
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder import build
from thalweg.training.folder.again import read_again
from thalweg.training.folder.run import Run
from thalweg.training.integrity.history import damaged_line, read_history
from thalweg.training.integrity.run_files import HISTORY
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.steps.device import choose_device, choose_precision
from thalweg.training.steps.feed import Feed

NUM_EXAMPLES: Final = 512  # that probes look at, of training and of validation data
FEWEST_BATCHES, MOST_BATCHES = 8, 32
LARGEST_BATCH: Final = 64


def subject_of_run(run: Run) -> Subject:
    """Return what is looked at in a run, its data read again.

    An InputError tells of a run without weights, or of data that are missing or have changed.
    """
    run.require_weights()
    task, prepared = read_again(run)
    place = run.folder / HISTORY
    subject = subject_of(run.recipe, task, prepared, run.measured, well_formed(read_history(place)))
    if (line := damaged_line(place)) is not None:
        reason = f"line {line:,} of {HISTORY} is damaged, so it and what comes after it were not read"
    elif how := run.history_damage():
        reason = f"{HISTORY} {how}, and what is left of it was read"
    else:
        return subject
    return dataclasses.replace(subject, left_out={"rest of the history": reason})


def subject_of(
    recipe: Recipe,
    task: AbstractTask,
    prepared: Prepared,
    networks: Networks,
    history: Sequence[Mapping[str, Any]],
    feed: Feed | None = None,
) -> Subject:
    """Return what is looked at in a training: a recipe, its data, the networks as they are, and the history.

    `feed` gives the batches of each step, where it is not the one of the recipe.
    """
    model, head = networks
    parameter = next(iter((*model.parameters(), *head.parameters())))
    device, dtype = parameter.device, parameter.dtype
    own = build.build_feed(recipe, task, prepared.train, device) if feed is None else feed
    size = recipe.training.batch_size
    rows = _rows(prepared.train, min(size, LARGEST_BATCH) or LARGEST_BATCH, recipe.run.seed)
    train = [task.training_batch(prepared.train, part).to(device, dtype) for part in rows]
    valid_rows = _rows(prepared.valid, LARGEST_BATCH, recipe.run.seed)
    valid = [task.training_batch(prepared.valid, part).to(device, dtype) for part in valid_rows]
    _, autocast = choose_precision(recipe.run.precision, choose_device("cpu") if device.type == "cpu" else device)

    def initial() -> Networks:
        batch = train[0] if device.type == "cpu" else train[0].to("cpu", dtype)
        counts = task.token_counts(prepared.train) if recipe.model.head != "softmax" else None
        fresh = build.build_networks(recipe, task, batch=batch, counts=counts)
        return fresh[0].to(device), fresh[1].to(device)

    return Subject(
        model=model,
        head=head,
        train=train,
        valid=valid,
        history=history,
        facts=facts_of(recipe, task, prepared, model, dtype, own, history),
        data=dataclasses.replace(data_facts(task, prepared), rows=[int(row) for part in rows for row in part]),
        initial=initial,
        in_order=own,
        autocast=autocast,
    )


def facts_of(
    recipe: Recipe,
    task: AbstractTask,
    prepared: Prepared,
    model: nn.Module,
    dtype: torch.dtype,
    feed: Feed,
    history: Sequence[Mapping[str, Any]],
) -> Facts:
    """Return what a recipe and its data say of the setting."""
    training = recipe.training
    labels = getattr(task, "labels", None)
    steps = [entry["step"] for entry in history if entry.get("event") in {"step", "finished"} and "step" in entry]
    momentum = training.optimizer_options.get("momentum")
    if momentum is None:
        betas = training.optimizer_options.get("betas", (0.9, 0.999))
        momentum = 0.0 if training.optimizer == "sgd" else betas[0]
    return Facts(
        task=recipe.run.task,
        model=recipe.model.model,
        family=family_of(model),
        optimizer=training.optimizer,
        lr=training.lr,
        momentum=float(momentum),
        weight_decay=training.weight_decay,
        l2=training.l2,
        clip=training.clip,
        batch_size=(training.batch_size or len(prepared.train)) * training.accumulate,
        full_batch=training.batch_size == 0 or feed.steps_per_epoch == 1,
        dropout=dropout_of(model),
        schedule=training.schedule,
        precision=str(dtype).removeprefix("torch."),
        width=getattr(model, "width", None),
        steps=max(steps, default=None),
        steps_per_epoch=feed.steps_per_epoch,
        num_train=len(prepared.train),
        num_valid=len(prepared.valid),
        num_classes=len(labels) if isinstance(labels, tuple | list) else None,
        is_fresh=not recipe.data.word_vectors,
        is_proved=training.optimizer in names.SOLVERS,
        options=recipe.values(),
    )


def data_facts(task: AbstractTask, prepared: Prepared) -> DataFacts:
    """Return what the examples say of themselves: equal texts on both sides of the split, and within one."""
    labels = getattr(task, "labels", ())
    facts = DataFacts(
        label_names=[str(label) for label in labels] if isinstance(labels, tuple | list) else (),
        lines=None if prepared.lines is None else [int(line) for line in prepared.lines],
    )
    raw = prepared.train.raw
    if raw is not None:
        facts = dataclasses.replace(facts, texts=raw.__getitem__)
    train, valid = prepared.train.columns.get(KEYS), prepared.valid.columns.get(KEYS)
    if train is None:
        return facts
    keys = np.asarray(train)
    unique = len(np.unique(keys))
    facts = dataclasses.replace(facts, duplicates=1.0 - unique / max(len(keys), 1))
    answers = prepared.train.columns.get("labels")
    if isinstance(answers, np.ndarray) and answers.ndim == 1:
        pairs = len(np.unique(np.stack([keys.astype(np.uint64), answers.astype(np.uint64)]), axis=1).T)
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(np.diff(keys[order]) == 0)
        differing = same[answers[order][same] != answers[order][same + 1]]
        conflicting = np.isin(keys, np.unique(keys[order][differing])) if pairs > unique else np.zeros(0)
        facts = dataclasses.replace(facts, conflicts=float(conflicting.sum() / max(len(keys), 1)))
    if valid is not None and len(valid):
        facts = dataclasses.replace(facts, valid_in_train=float(np.isin(np.asarray(valid), keys).mean()))
    return facts


def _rows(examples: Examples, size: int, seed: int) -> list[np.ndarray]:
    """Return which examples make random batches of a size: some hundred, in at least eight where there are so many."""
    total = len(examples)
    if not total:
        return []
    number = min(max(math.ceil(NUM_EXAMPLES / size), FEWEST_BATCHES), MOST_BATCHES, max(1, total // size))
    chosen = np.random.default_rng(seed).permutation(total)[: number * size]
    parts = np.array_split(np.sort(chosen) if examples.lengths is None else chosen, number)
    return [np.sort(part) for part in parts]
