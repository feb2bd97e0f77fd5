"""A new run that starts from the weights of another: its options, its task, and its first weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from thalweg import names
from thalweg.errors import InputError
from thalweg.storage.ledger import Ledger
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.tasks.growing import Growth
from thalweg.training.distilled.naming import reference_to, run_named
from thalweg.training.folder import build, tensor_files
from thalweg.training.folder.opening import task_in
from thalweg.training.folder.resuming import contradicting
from thalweg.training.folder.run import Run
from thalweg.training.integrity.run_files import WEIGHTS
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options, Recipe

# Options of the network that are about its training alone; a word's vectors are among the weights already.
_FREE: Final = tuple(name for name, one in OPTIONS.items() if one.wants == "method" or name.startswith("dispersion"))
_WINDOW: Final = ("lags", "scaling")
_SIDES: Final = ("vocabularies", "vocabulary")
_INITIAL: Final = ("word_vectors", "init")
# What the weights mean nothing without, given otherwise, is refused; whole numbers about texts are limits.
KEPT: Final = {"task"} | {
    name
    for name, option in OPTIONS.items()
    if option.section == "model"
    or name in (*_WINDOW, *_SIDES)
    or (option.compared != "fixed" and option.trait in ("text", "tokens") and option.kind is not int)
} - set(_FREE)
COLUMNS: Final = tuple(name for name in OPTIONS if "column" in name)  # taken where the new file has them
LEFT: Final = {name for name, option in OPTIONS.items() if option.compared == "fixed"} - {"task", "seed"}


@final
@dataclass(frozen=True)
class Start:
    """What a run starts from."""

    task: AbstractTask
    run: Run | None  # None where the run has begun already, and all it needs is its own


def start_of(options: Options, resume: Path | None) -> Start | None:
    """Return what a run starts from, None for its own beginning; `resume` is the folder of a run that goes on.

    An InputError tells of a run that is missing, damaged, without weights, or another one than a recipe means.
    """
    if not options.get("start_from"):
        return None
    if resume is not None:
        return Start(task_in(Run(resume)), None)
    run = run_named(options["start_from"])
    return Start(task_in(run), run)


def started(given: Options, run: Run) -> tuple[Options, dict[str, Any]]:
    """Return the options of a run that starts from another, and those that name columns, which the file may lack.

    What the weights mean is the old run's; how they are trained is too, where nothing else is given.

    Raises:
        InputError: if an option contradicts the weights; it names each with both values.
    """
    own = run.recipe.values()
    if refused := [name for name in given if name in KEPT and given[name] != own[name]]:
        raise InputError(
            f"{run.folder} was trained with {contradicting(run.recipe, given, refused)}, and its weights fit nothing "
            f"else; leave {'it' if len(refused) == 1 else 'them'} out, or train without --start-from."
        )
    if given.get("select") == "model":
        raise InputError(
            f"--select model chooses among models, and the weights of {run.folder} are of one; give --select penalty."
        )
    taken = {name: value for name, value in own.items() if name not in (*LEFT, *_INITIAL, "vocabulary")}
    for name in (*_replaced(given, own), "normalize_vectors", "distill", "distill_weight"):
        taken.pop(name, None)
    if "select" not in given:  # the penalty is the one before, so that training goes on where it ended
        taken |= {"select": "none", "refit": False} if "select" in taken else {}
    options = Options(taken).with_(given).with_(start_from=reference_to(run))
    return options, {name: own[name] for name in COLUMNS}


def starting_weights(
    start: Start, recipe: Recipe, task: AbstractTask, prepared: Prepared, folder: Path
) -> tuple[Mapping[str, Tensor], str]:
    """Return the first weights of a new run, and the sentence about what was taken.

    Rows of words, features and labels that the old run has are its rows; those of new ones are initial.

    Raises:
        InputError: if the weights fit in no other way, or the new run is to replace the one it starts from.
    """
    assert start.run is not None
    old_folder = start.run.folder
    if folder.resolve() == old_folder.resolve():
        raise InputError(f"{folder} can't start from itself and be replaced; give another --name.")
    feed = build.build_feed(recipe, task, prepared.train, torch.device("cpu"))
    counts = task.token_counts(prepared.train) if recipe.model.head != "softmax" else None
    networks = build.build_networks(recipe, task, batch=feed(0)[0], counts=counts)
    growth = task.growth(start.task)
    own = build.get_weights(*networks)
    old = tensor_files.load_tensors(Ledger(old_folder).path(WEIGHTS))
    weights, num_whole = carried(own, old, growth, str(old_folder))
    taken = f"all {len(own)} tensors" if num_whole == len(own) else f"{num_whole} of {len(own)} tensors"
    new = [part.told for part in growth if part.told]
    last = f"; new: {' and '.join(new)}" if new else ""
    return weights, f"Starting from {old_folder}: {taken} as they were{last}."


def carried(
    own: Mapping[str, Tensor], old: Mapping[str, Tensor], growth: Sequence[Growth], where: str
) -> tuple[dict[str, Tensor], int]:
    """Return new weights with the rows that old ones have copied, and how many tensors are the old ones as a whole.

    Raises:
        InputError: if a tensor has no counterpart, or differs in a size that is none of what has grown.
    """
    if own.keys() != old.keys():
        name = sorted(own.keys() ^ old.keys())[0]
        raise InputError(f"{where} holds weights of another network ('{name}'); train without --start-from.")
    found, num_whole = {}, 0
    for name, tensor in own.items():
        before = old[name].to(tensor.dtype)
        if before.shape == tensor.shape:
            found[name], num_whole = before.clone(), num_whole + 1
            continue
        places = [_places(*sizes, growth) for sizes in zip(before.shape, tensor.shape, strict=False)]
        if before.ndim != tensor.ndim or any(rows is None for rows in places):
            raise InputError(
                f"The weights '{name}' of {where} have the sizes {list(before.shape)}, and this run needs "
                f"{list(tensor.shape)}; give the options of that run, or train without --start-from."
            )
        new = tensor.detach().clone()
        new[torch.meshgrid(*(rows for rows in places if rows is not None), indexing="ij")] = before
        found[name] = new
    return found, num_whole


def _places(before: int, after: int, growth: Sequence[Growth]) -> Tensor | None:
    """Return where the entries along one side of a tensor are now; None where nothing has grown so."""
    if before == after:
        return torch.arange(before)
    fitting = (part.rows for part in growth if (part.old, part.new) == (before, after))
    return next((torch.as_tensor(rows) for rows in fitting), None)


def _replaced(given: Options, own: Mapping[str, Any]) -> set[str]:
    """Return options about the training that what was given makes meaningless."""
    gone: set[str] = set()
    if own["time"] and not {"steps", "epochs"} & set(given):  # planned for the speed of other data
        gone |= {"steps", "epochs"}
    if {"steps", "epochs"} & set(given):
        gone |= {"steps", "epochs", "time"}
    if given.get("optimizer", own["optimizer"]) != own["optimizer"]:
        gone |= {name for name, option in OPTIONS.items() if option.wants == "method" and option.section == "training"}
        if {given["optimizer"], own["optimizer"]} & set(names.SOLVERS):
            gone |= {"certify", "select", "refit", "precision", "l2"}
    return gone
