"""Rows of a batch: what each holds, a batch of some of them, and whether a model answers each by itself.

A floor is about functions of one row. A model whose rows see each other (statistics over the batch, attention across
its rows), that draws random numbers or keeps a state, is none; so it is tried out before a floor is said to hold.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from thalweg import noise
from thalweg.batch import Batch
from thalweg.certificates.linear.forms import form_on
from thalweg.data.arrays.equal import Column
from thalweg.data.arrays.ragged import flat_positions
from thalweg.errors import InputError
from thalweg.objective import Objective

OFFSETS: Final = "offsets"  # of bags: where each begins in `tokens`; with `weights` of the same length
TOLERANCE: Final = 1e-9  # of the largest hidden state of a column, in float64
LEAST_COLUMN: Final = 1e-4  # of the largest column; smaller ones may be what rounding leaves of it
MAX_BATCHES: Final = 3
MAX_ALONE: Final = 3  # rows of a batch that are tried by themselves
MAX_GROUPS: Final = 16  # whose batches are looked at
NOISE: Final = 0.03  # of the weights, so that what a zero switches off is seen
_SEED: Final = 11
_NO_ROWS = "The inputs have no row for each example, so it is unknown which of them are equal."


def columns_of(batch: Batch) -> tuple[object, list[Column]]:
    """Return what the rows of a batch hold, and a key that is equal for batches whose rows can be compared.

    Bags are one after the other in `tokens`, with or without a prefix in the name; everything else must have a row for
    each example, or an InputError is raised.
    """
    inputs, bags = batch.inputs, _bags(batch)
    columns: list[Column] = []
    kind: list[Any] = []
    for name in sorted(inputs):
        tensor = inputs[name].detach()
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise InputError(_NO_ROWS)
        if name in bags:
            starts, lengths = bags[name]
            kind.append((name, tensor.dtype, "bag"))
            if not name.endswith(OFFSETS):
                columns.append((_numpy(tensor)[flat_positions(starts, lengths)], lengths))
            continue
        if tensor.ndim == 0 or len(tensor) != batch.num_examples:
            raise InputError(_NO_ROWS)
        kind.append((name, tensor.dtype, tuple(tensor.shape[1:])))
        columns.append(_numpy(tensor))
    return tuple(kind), columns


def some_rows(batch: Batch, rows: np.ndarray) -> Batch:
    """Return a batch of some rows (int), in this order."""
    index = torch.from_numpy(rows).to(batch.targets.device)
    bags = _bags(batch)
    inputs = {}
    for name, tensor in batch.inputs.items():
        if name not in bags:
            inputs[name] = tensor[index]
            continue
        starts, lengths = (part[rows] for part in bags[name])
        if name.endswith(OFFSETS):
            inputs[name] = torch.from_numpy(np.cumsum(lengths) - lengths).to(tensor)
        else:
            inputs[name] = tensor[torch.from_numpy(flat_positions(starts, lengths)).to(tensor.device)]
    mask, weights = (None if part is None else part[index] for part in (batch.mask, batch.weights))
    return Batch(inputs, batch.targets[index], mask, weights)


def column_sizes(states: Tensor) -> Tensor:
    """Return how large the numbers of each column are, `[width]`, above 0: what a difference is compared with."""
    if not len(states):
        return states.new_ones(states.shape[1:])
    sizes = states.abs().amax(0)
    sizes = torch.maximum(sizes, LEAST_COLUMN * sizes.amax()) if sizes.numel() else sizes
    return torch.where(sizes > 0.0, sizes, 1.0)


def numbers_of(states: Tensor, sizes: Tensor) -> np.ndarray:
    """Return a number for each hidden state, `[n]`: its product with a vector that was drawn once.

    Different states have different numbers, but for a chance of 0; columns are in units of their sizes, so that none
    hides another one.
    """
    drawn = torch.randn(states.shape[1], generator=torch.Generator().manual_seed(_SEED), dtype=torch.float64)
    return _numpy(states.double() @ ((drawn / drawn.abs().sum().clamp_min(1e-300)).to(states.device) / sizes.double()))


def require_same_answers(numbers: np.ndarray, groups: np.ndarray, chosen: np.ndarray) -> None:
    """Raise an InputError unless equal rows have got equal hidden states in the pass over all batches.

    Args:
        numbers: of the hidden states of all targets, see `numbers_of`.
        groups: as for `require_own_rows`.
        chosen: likewise.
    """
    if not _agree_in_groups(torch.from_numpy(numbers[chosen]), groups[chosen]):
        raise InputError(
            "The model gives different answers to examples that look the same in this view (it may see padding, the "
            "place in the batch, or other examples of it), so no floor is proved for it."
        )


def require_own_rows(
    objective: Objective, positions: list[tuple[np.ndarray, np.ndarray]], groups: np.ndarray, chosen: np.ndarray
) -> None:
    """Raise an InputError unless the model answers each row by itself, and equal rows alike, as far as can be tried.

    Some batches are evaluated again: whole, in the opposite order, in halves and some rows alone; with the weights as
    they are and with others close by, since a floor is about all of them. Everything is put back.

    Args:
        objective: in float64 and evaluation mode.
        positions: for each batch the row and the place in it of each target.
        groups: of the targets, int; targets of one group are to get one answer.
        chosen: which targets make the floor, bool.
    """
    sizes = [len(row) for row, _ in positions]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    numbers = _batches(groups, chosen, owner, objective.batches)
    with _kept(objective) as add_noise:
        for noisy in (False, True):
            if noisy:
                add_noise()
            states, mine = [], []
            for number in numbers:
                inside = owner == number
                found = _tried(objective, objective.batches[number], positions[number], chosen[inside], noisy=noisy)
                if found is None:  # weights that nothing can be computed with
                    return
                states.append(found[chosen[inside]])
                mine.append(groups[inside & chosen])
            if states and not _agree_in_groups(torch.cat(states), np.concatenate(mine)):
                raise InputError(
                    "The model tells apart examples that look the same in this view (it may see padding, or the place "
                    "in the batch), so no floor is proved for it."
                )


def _tried(
    objective: Objective, batch: Batch, position: tuple[np.ndarray, np.ndarray], chosen: np.ndarray, *, noisy: bool
) -> Tensor | None:
    """Return the hidden states of a batch's targets if parts of the batch have the same; None: they are not finite."""
    whole = _states(objective, batch)
    if noisy and not bool(torch.isfinite(whole).all()):
        return None
    if not noisy and not _agree(whole, _states(objective, batch)):
        raise InputError(
            "Two evaluations of the model on the same inputs differ: something in it draws random numbers or keeps a "
            "state. It is no function of its input, so no floor is proved for it."
        )
    row = position[0]
    order = np.arange(batch.num_examples)
    half = (len(order) + 1) // 2
    alone = np.random.default_rng(_SEED).permutation(np.unique(row[chosen]))[:MAX_ALONE]
    for rows in (order[::-1].copy(), order[:half], order[half:], *alone[:, None]):
        if not np.isin(row, rows).any():
            continue
        try:
            part = _states(objective, some_rows(batch, rows))
        except Exception as error:
            raise InputError(
                f"The model cannot be evaluated on some rows of a batch alone ({type(error).__name__}: {error}), so it "
                "is unknown whether it answers each by itself; no floor is proved for it."
            ) from None
        # The targets of the rows, in the order of these rows; those of one row keep theirs.
        place = np.full(len(order), -1)
        place[rows] = np.arange(len(rows))
        there = np.flatnonzero(place[row] >= 0)
        there = there[np.argsort(place[row[there]], kind="stable")]
        if len(part) != len(there) or not _agree(whole[torch.from_numpy(there).to(whole.device)], part, whole):
            raise InputError(
                "The model's answer to an example depends on the other examples of its batch, so equal inputs may get "
                "different answers; no floor is proved for it."
            )
    return whole


def _states(objective: Objective, batch: Batch) -> Tensor:
    return form_on(objective, batch)[1].features


def _agree(left: Tensor, right: Tensor, like: Tensor | None = None) -> bool:
    scale = column_sizes(left if like is None else like)
    return left.shape == right.shape and bool(((left - right).abs() <= TOLERANCE * scale).all())


def _agree_in_groups(states: Tensor, groups: np.ndarray) -> bool:
    """Whether the hidden states of each group are the same."""
    order = np.argsort(groups, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(groups[order]) > 0])
    reference = order[np.repeat(first, np.diff(np.r_[first, len(order)]))]
    left, right = (torch.from_numpy(part).to(states.device) for part in (order, reference))
    return _agree(states[left], states[right], states)


def _of_each_kind(batches: Sequence[Batch], numbers: np.ndarray) -> list[int]:
    """Return one of these batches for each set of inputs that some have: a model may treat them differently."""
    first: dict[tuple[str, ...], int] = {}
    for number in np.random.default_rng(_SEED).permutation(numbers).tolist():
        first.setdefault(tuple(sorted(batches[number].inputs)), number)
    return [] if len(first) < 2 else list(first.values())


def _batches(groups: np.ndarray, chosen: np.ndarray, owner: np.ndarray, batches: Sequence[Batch]) -> list[int]:
    """Return the batches to try: one of each kind, and those of some of the groups that make the floor."""
    places = np.flatnonzero(chosen)
    places = np.random.default_rng(_SEED).permutation(places)
    places = places[np.argsort(groups[places], kind="stable")]  # groups together, each in an order drawn
    found = _of_each_kind(batches, np.unique(owner[chosen]))
    names, more = np.unique(groups[places]), 0
    for name in np.random.default_rng(_SEED).permutation(names)[:MAX_GROUPS]:
        begin = np.searchsorted(groups[places], name)
        end = np.searchsorted(groups[places], name, side="right")
        for number in dict.fromkeys(owner[places[begin:end]].tolist()):
            if number not in found and more < MAX_BATCHES:
                found, more = [*found, number], more + 1
    return found


@contextlib.contextmanager
def _kept(objective: Objective) -> Iterator[Callable[[], None]]:
    """Give a function that adds noise to the weights; weights, buffers and random state are put back at the end."""
    tensors = [tensor for part in objective.every_tensor() for tensor in part]
    held = [tensor.detach().clone() for tensor in tensors]

    def add_noise() -> None:
        generator = torch.Generator().manual_seed(_SEED)
        for tensor in objective.parameters:
            size = float(tensor.detach().square().mean().sqrt()) if tensor.numel() else 0.0
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.add_(NOISE * (size + NOISE) * noise.to(tensor))

    with noise.borrowed(noise.accelerators(tensors)), torch.no_grad():
        try:
            yield add_noise
        finally:
            for tensor, before in zip(tensors, held, strict=True):
                tensor.copy_(before)


def _bags(batch: Batch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the names of the inputs that belong to bags, each with where the bags start and how long they are."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    inputs = batch.inputs
    for name, offsets in inputs.items():
        prefix = name.removesuffix(OFFSETS)
        tokens, weights = inputs.get(f"{prefix}tokens"), inputs.get(f"{prefix}weights")
        if prefix == name or tokens is None or tokens.ndim != 1 or offsets.shape != (batch.num_examples,):
            continue
        starts = _numpy(offsets)
        lengths = np.diff(np.append(starts, len(tokens)))
        if starts.dtype.kind != "i" or starts[:1].any() or (lengths < 0).any():
            continue
        for part in ("tokens", "weights", OFFSETS):
            if part != "weights" or (weights is not None and weights.shape == tokens.shape):
                found[f"{prefix}{part}"] = starts.astype(np.int64), lengths.astype(np.int64)
    return found


def _numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
