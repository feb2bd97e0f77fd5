"""Parts of batches: some of the examples, which inputs are token ids, and where their padding is."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.diagnosis.subject import Subject
from thalweg.errors import InputError
from thalweg.objective import Objective

# Inputs in whole numbers that are no token ids, as Hugging Face's tokenizers name them.
_NO_TOKENS = {"token_type_ids", "position_ids", "attention_mask"}
_BAG = ("tokens", "offsets", "weights")
_TARGETS = 8192  # tokens with a target each, every one of which takes the whole output layer
_GROUP = 8  # texts of similar length that are computed together


def some_of(batch: Batch, rows: Sequence[int] | Tensor) -> Batch | None:
    """Return a batch of some of the examples, in the order given; None where inputs don't come example by example.

    Example:
        >>> batch = Batch({"x": torch.tensor([[1.0], [2.0], [3.0]])}, torch.tensor([0, 1, 2]))
        >>> some_of(batch, [2, 0]).inputs["x"].tolist()
        [[3.0], [1.0]]
    """
    if batch.targets.dim() == 0:
        return None
    rows = torch.as_tensor(rows, device=batch.targets.device)
    inputs = inputs_of(batch, rows)
    if inputs is None:
        return None
    return Batch(inputs, batch.targets[rows], _rows(batch.mask, rows), _rows(batch.weights, rows))


def inputs_of(batch: Batch, rows: Tensor) -> dict[str, Tensor] | None:
    """Return the inputs of some examples, in the order given; None where they don't come example by example."""
    inputs: dict[str, Tensor] = {}
    bags = [name.removesuffix("offsets") for name in batch.inputs if name.endswith("offsets")]
    for prefix in bags:
        if not _is_bag(batch, prefix):
            return None
        inputs |= _of_bag(batch, prefix, rows)
    for name, tensor in batch.inputs.items():
        if name not in inputs and not any(name == f"{prefix}{part}" for prefix in bags for part in _BAG):
            if tensor.dim() == 0 or len(tensor) != batch.num_examples:
                return None
            inputs[name] = tensor[rows]
    return {name: inputs[name] for name in batch.inputs}


def require_part(batch: Batch, rows: Sequence[int] | Tensor) -> Batch:
    """Return a batch of some of the examples, or refuse a batch that cannot be cut."""
    part = some_of(batch, rows)
    if part is None:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in batch.inputs.items())
        raise InputError(
            f"Inputs must have one row for each of the {batch.num_examples} examples to be looked at one by one; "
            f"got {shapes}."
        )
    return part


def divided(batches: Sequence[Batch], smallest: int = 1, most: int = 16) -> list[Batch]:
    """Return batches cut into halves, until there are `most` or parts would be below `smallest`.

    Batches that cannot be cut, and those that are small, are left whole; of more than `most` the first are taken.
    """
    batches = list(batches)[:most]
    while len(batches) < most:
        largest = max(range(len(batches)), key=lambda i: batches[i].num_examples)
        number = batches[largest].num_examples
        if number < 2 * smallest:
            break
        halves = [some_of(batches[largest], range(*ends)) for ends in ((0, number // 2), (number // 2, number))]
        if halves[0] is None or halves[1] is None:
            break
        batches[largest : largest + 1] = [halves[0], halves[1]]
    return batches


def token_names(batch: Batch) -> list[str]:
    """Return which inputs are token ids `[batch, time]`."""
    return [
        name
        for name, tensor in batch.inputs.items()
        if tensor.dim() == 2
        and tensor.dtype in (torch.int64, torch.int32)
        and len(tensor) == batch.num_examples
        and name not in _NO_TOKENS
        and "mask" not in name
    ]


def real_tokens(batch: Batch, name: str, subject: Subject) -> Tensor | None:
    """Return where token ids are no padding, bool of their shape; None where nothing says so.

    Said by the mask that belongs to the input (`mask`, `other_mask`, `attention_mask`), else by that of the targets
    where these have the shape of the tokens, else by the id that the model's tables know as padding, else by an id 0
    that stands at the ends of rows alone.
    """
    tokens = batch.inputs[name]
    shape = tokens.shape
    mask = mask_of(batch, name)
    if mask is not None:
        return mask
    if batch.mask is not None and batch.mask.shape == shape and batch.targets.shape == shape:
        return batch.mask
    known = {module.padding_idx for module in subject.model.modules() if isinstance(module, nn.Embedding)} - {None}
    padding = next(iter(known)) if len(known) == 1 else 0
    filled = tokens != padding
    ends = filled.flip(1).cumsum(1).flip(1) == 0
    if bool((ends == ~filled).all()) and bool(ends.any()) and not bool(ends.all()):
        return filled
    return None


def float_names(batch: Batch) -> list[str]:
    """Return which inputs are numbers of examples, `[batch, ..., columns]`."""
    return [
        name
        for name, tensor in batch.inputs.items()
        if tensor.is_floating_point() and tensor.dim() >= 2 and len(tensor) == batch.num_examples
    ]


def losses_by_example(objective: Objective, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return of each example the summed loss and what it is divided by, float64 `[batch]` each, and the prediction.

    The network sees the whole batch at once, the head each example alone.

    Raises:
        InputError: where the predictions do not come example by example.
    """
    with torch.no_grad():
        prediction = objective.prediction(batch)
        if prediction.dim() == 0 or len(prediction) != batch.num_examples:
            raise InputError(
                f"The prediction must have one row for each of the {batch.num_examples} examples; got the shape "
                f"{list(prediction.shape)}."
            )
        sums, counts = [], []
        for i in range(batch.num_examples):
            one = slice(i, i + 1)
            total, count = objective.head.loss(
                prediction[one], batch.targets[one], _rows(batch.mask, one), _rows(batch.weights, one)
            )
            sums.append(total.double())
            counts.append(count.double())
    return torch.stack(sums), torch.stack(counts), prediction


def mean_loss(objective: Objective, batches: Iterable[Batch]) -> float:
    """Return the loss without its penalty over some batches, sums divided once; NaN where nothing counts."""
    total, count = 0.0, 0.0
    with torch.no_grad():
        for batch in batches:
            pair = objective.without_graph(lambda batch=batch: list(objective.sum_and_count(batch)))
            total, count = total + float(pair[0]), count + float(pair[1])
    if not objective.head.averages:
        return total
    return total / count if count > 0.0 else math.nan


@final
@dataclasses.dataclass(frozen=True)
class Group:
    """Some examples of a batch.

    Args:
        place: of the batch among all.
        rows: of the examples in it, one for each example of `batch`.
        batch: the examples.
    """

    place: int
    rows: list[int]
    batch: Batch


def affordable(batches: Sequence[Batch], examples: int, tokens: int | None = None) -> list[Batch]:
    """Return about so many examples of batches, from the first on, and as few as make at most so many tokens.

    Examples of a batch of texts are regrouped by length and padding that no text needs is left out, which costs less.
    Batches that cannot be cut are taken whole; at least one part of a batch is returned. Where each token has a target,
    there are at most 8192 tokens in any case.
    """
    return [group.batch for group in grouped(batches, examples, tokens)]


def grouped(batches: Sequence[Batch], examples: int, tokens: int | None = None) -> list[Group]:
    """Return what `affordable` does, with the place of every example."""
    groups: list[Group] = []
    left = examples
    for place, batch in enumerate(batches):
        rows = list(range(min(left, batch.num_examples)))
        part = batch if len(rows) == batch.num_examples else some_of(batch, rows)
        if part is None:
            part, rows = batch, list(range(batch.num_examples))
        groups += [Group(place, [rows[i] for i in order], some) for order, some in _by_length(part)]
        left -= batch.num_examples
        if left <= 0:
            break
    parts = [group.batch for group in groups]
    size = sum(part.inputs[name].numel() for part in parts for name in token_names(part))
    limits = [tokens] if tokens is not None else []
    if any(part.targets.dim() >= 2 and not part.targets.is_floating_point() for part in parts):
        limits.append(_TARGETS)
    number = min(examples, sum(part.num_examples for part in parts))
    if limits and size > min(limits) and number > 1:
        return grouped(batches, number // 2, tokens)
    return groups


def trimmed(batch: Batch) -> Batch:
    """Return a batch of texts without the columns at its end that are padding in all of them.

    Only where a mask of the inputs says what is padding.
    """
    names = token_names(batch)
    if len(names) != 1 or (mask := mask_of(batch, names[0])) is None:
        return batch
    width = batch.inputs[names[0]].shape[1]
    length = int(mask.sum(1).max()) if len(mask) else 0
    # A column is left out only if it and all after it are padding: masks may have holes.
    needed = int(mask.any(0).nonzero().max()) + 1 if length else 1
    if needed >= width:
        return batch

    def cut(tensor: Tensor | None) -> Tensor | None:
        return tensor if tensor is None or tensor.dim() < 2 or tensor.shape[1] != width else tensor[:, :needed]

    inputs = {name: tensor[:, :needed] for name, tensor in batch.inputs.items() if tensor.shape == mask.shape}
    if len(inputs) < len(batch.inputs):
        return batch
    targets = cut(batch.targets)
    assert targets is not None
    return Batch(inputs, targets, cut(batch.mask), cut(batch.weights))


def _by_length(batch: Batch) -> list[tuple[list[int], Batch]]:
    """Return the examples of a batch of texts in groups of similar length with their rows, else the batch."""
    whole = list(range(batch.num_examples if batch.targets.dim() else 1))
    names = token_names(batch)
    mask = mask_of(batch, names[0]) if len(names) == 1 else None
    if mask is None or batch.targets.shape[1:2] not in ((), mask.shape[1:]):
        return [(whole, trimmed(batch))]
    orders = mask.sum(1).argsort(stable=True).split(_GROUP)
    groups = [(rows.tolist(), part) for rows in orders if (part := some_of(batch, rows)) is not None]
    return [(rows, trimmed(part)) for rows, part in groups] or [(whole, batch)]


def with_inputs(batch: Batch, **inputs: Tensor) -> Batch:
    """Return the batch with some inputs exchanged."""
    return dataclasses.replace(batch, inputs={**batch.inputs, **inputs})


def mask_of(batch: Batch, name: str) -> Tensor | None:
    """Return the mask among the inputs that belongs to token ids, as bool."""
    prefix = name.removesuffix("tokens") if name.endswith("tokens") else ""
    for candidate in (f"{prefix}mask", f"{prefix}attention_mask", "attention_mask"):
        mask = batch.inputs.get(candidate)
        if mask is not None and mask.shape == batch.inputs[name].shape:
            return mask.bool()
    return None


def _rows(tensor: Tensor | None, rows: Tensor | slice) -> Tensor | None:
    return None if tensor is None else tensor[rows]


def _is_bag(batch: Batch, prefix: str) -> bool:
    tokens, offsets = batch.inputs.get(f"{prefix}tokens"), batch.inputs[f"{prefix}offsets"]
    return tokens is not None and tokens.dim() == 1 and offsets.dim() == 1 and len(offsets) == batch.num_examples


def _of_bag(batch: Batch, prefix: str, rows: Tensor) -> dict[str, Tensor]:
    """Return the features of some texts, one after the other, and where each begins."""
    tokens, offsets = batch.inputs[f"{prefix}tokens"], batch.inputs[f"{prefix}offsets"]
    ends = torch.cat([offsets[1:], offsets.new_tensor([len(tokens)])])
    lengths = (ends - offsets)[rows]
    begins = lengths.cumsum(0) - lengths
    places = torch.arange(int(lengths.sum()), device=tokens.device)
    places = places + torch.repeat_interleave(offsets[rows] - begins, lengths)
    parts = {f"{prefix}tokens": tokens[places], f"{prefix}offsets": begins.to(offsets.dtype)}
    weights = batch.inputs.get(f"{prefix}weights")
    return parts if weights is None else parts | {f"{prefix}weights": weights[places]}
