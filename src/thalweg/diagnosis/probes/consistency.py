"""Whether answers depend on what they should not: random numbers, padding, the other examples, tokens still to come."""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from thalweg.batch import Batch
from thalweg.diagnosis.probes.parts import (
    affordable,
    mask_of,
    mean_loss,
    real_tokens,
    some_of,
    token_names,
    trimmed,
    with_inputs,
)
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject
from thalweg.objective import Objective

_EXAMPLES: Final = 128
_PADDED: Final = 16  # examples of a batch whose padding is changed
_ALONE: Final = 4  # examples that are answered alone
_DRAWS: Final = 2  # losses in training mode
_COLUMNS: Final = 3  # of padding that are added
_SHIFTED: Final = 0.9  # of the targets that are the next token, in a task that predicts it


@probe()
def modes(subject: Subject) -> dict[str, Any]:
    """Measure what evaluation and training mode change: randomness that stays, and the loss in each."""
    objective = subject.objective()
    batches = affordable(subject.train, _EXAMPLES)
    first, second = (_prediction(objective, batches[0]) for _ in range(2))
    result: dict[str, Any] = {
        "random_in_evaluation": _change(second, first),
        "batch_norms": _names(subject, lambda module: isinstance(module, _BatchNorm)),
        "dropouts": {
            name: module.p
            for name, module in [*subject.model.named_modules(), *subject.head.named_modules(prefix="head")]
            if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0.0
        },
        "eval_loss": mean_loss(objective, batches),
    }
    subject.model.train()
    subject.head.train()
    try:
        losses = [mean_loss(objective, batches) for _ in range(_DRAWS)]
    except ValueError:  # batch norm of a batch of one
        losses = []
    result["train_mode_loss"] = sum(losses) / len(losses) if losses else None
    return result


@probe()
def padding(subject: Subject) -> dict[str, Any]:
    """Measure how far predictions change, relative to their size, with what should not matter to them.

    `padding_leak`: other ids at padding, and more columns of it. `batch_leak`: an example alone instead of among the
    others. `future_leak`: other tokens after a position, at the positions up to it, where targets are the next token.
    None where there is nothing to change.
    """
    objective = subject.objective()
    groups = [part for batch in subject.train if (part := some_of(batch, range(min(_PADDED, batch.num_examples))))]
    # Of texts those with the most even mixture of tokens and padding.
    batch = min(
        map(trimmed, groups or subject.train),
        key=lambda batch: abs((_share(batch, subject) or 1.0) - 0.5),
    )
    result: dict[str, Any] = {"batch_leak": _of_batch(objective, batch)}
    names = token_names(batch)
    if not names:
        return result
    before = _prediction(objective, batch)
    changes, wider, future, is_next = [], [], [], False
    for name in names:
        tokens, real = batch.inputs[name], real_tokens(batch, name, subject)
        if real is not None and not bool(real.all()):
            if mask_of(batch, name) is not None:
                others = torch.where(real, tokens, _others(tokens, real))
                changes.append(_on_real(objective, with_inputs(batch, **{name: others}), before, real))
            wider.append(_with_columns(objective, batch, name, before, real))
        if _predicts_next(batch, tokens):
            is_next = True
            future.append(_future(objective, batch, name, before))
    result["padding_leak"] = _largest([*changes, *wider])
    result["padding_values"], result["padding_columns"] = _largest(changes), _largest(wider)
    result["future_leak"] = _largest(future)
    result["is_next_token"] = is_next
    return result


def _prediction(objective: Objective, batch: Batch) -> Tensor:
    return objective.without_graph(lambda: [objective.prediction(batch)])[0].detach().double()


def _change(now: Tensor, before: Tensor) -> float:
    return float((now - before).norm() / before.norm().clamp(min=1e-30))


def _names(subject: Subject, fits: Callable[[nn.Module], bool]) -> list[str]:
    return [name for name, module in subject.model.named_modules() if fits(module)]


def _share(batch: Batch, subject: Subject) -> float | None:
    """Return the share of padding in a batch; None where there is none or nothing says where."""
    for name in token_names(batch):
        real = real_tokens(batch, name, subject)
        if real is not None and not bool(real.all()):
            return 1.0 - float(real.float().mean())
    return None


def _others(tokens: Tensor, real: Tensor) -> Tensor:
    """Return for each place an id that is in use elsewhere in the batch."""
    known = tokens[real]
    chosen = torch.randint(len(known), tokens.shape, generator=torch.Generator().manual_seed(0))
    return known[chosen.to(tokens.device)]


def _on_real(objective: Objective, batch: Batch, before: Tensor, real: Tensor) -> float:
    """Return the relative change of predictions, of the real positions where there is one for each token."""
    now = _prediction(objective, batch)
    if before.shape[:2] == real.shape and before.dim() == 3:
        return _change(now[:, : real.shape[1]][real], before[real])
    return _change(now, before)


def _with_columns(objective: Objective, batch: Batch, name: str, before: Tensor, real: Tensor) -> float | None:
    """Return the change when the batch has more columns of padding; None where the model takes no longer input."""
    tokens = batch.inputs[name]
    padding = tokens[~real].mode().values
    longer: dict[str, Tensor] = {name: torch.cat([tokens, padding.expand(len(tokens), _COLUMNS)], 1)}
    for key, tensor in batch.inputs.items():
        if key != name and tensor.shape == tokens.shape and key not in token_names(batch):
            longer[key] = torch.cat([tensor, torch.zeros_like(tensor[:, :1]).expand(-1, _COLUMNS)], 1)
    try:
        now = _prediction(objective, with_inputs(batch, **longer))
    except (ValueError, RuntimeError, IndexError):
        return None
    if before.dim() == 3 and before.shape[:2] == real.shape:
        return _change(now[:, : real.shape[1]][real], before[real])
    return _change(now, before) if now.shape == before.shape else None


def _of_batch(objective: Objective, batch: Batch) -> float | None:
    """Return how far the predictions of examples alone are from those in the batch."""
    number = min(_ALONE, batch.num_examples)
    if batch.num_examples < 2 or some_of(batch, [0]) is None:
        return None
    before, worst = _prediction(objective, batch), 0.0
    if before.dim() == 0 or len(before) != batch.num_examples:
        return None
    for i in range(number):
        alone = some_of(batch, [i])
        assert alone is not None
        now, then = _prediction(objective, alone)[0], before[i]
        if batch.mask is not None and batch.mask.dim() == 2 and then.dim() == 2:
            now, then = now[batch.mask[i]], then[batch.mask[i]]
        worst = max(worst, _change(now, then))
    return worst


def _predicts_next(batch: Batch, tokens: Tensor) -> bool:
    """Whether the targets are the tokens after these."""
    if batch.targets.shape != tokens.shape or batch.targets.is_floating_point() or tokens.shape[1] < 3:
        return False
    real = torch.ones_like(tokens, dtype=torch.bool) if batch.mask is None else batch.mask.expand_as(tokens)
    both = real[:, :-1] & real[:, 1:]
    equal = batch.targets[:, :-1] == tokens[:, 1:]
    same = batch.targets[:, :-1] == tokens[:, :-1]  # of constant tokens nothing can be said
    return bool(both.any()) and float(equal[both].float().mean()) > _SHIFTED and not bool(same[both].all())


def _future(objective: Objective, batch: Batch, name: str, before: Tensor) -> float | None:
    """Return the change of the first half of the predictions when the other half of the tokens is exchanged."""
    tokens = batch.inputs[name]
    half = tokens.shape[1] // 2
    if before.dim() != 3 or before.shape[:2] != tokens.shape or half < 1:
        return None
    real = torch.ones_like(tokens, dtype=torch.bool) if batch.mask is None else batch.mask.expand_as(tokens)
    others = tokens.clone()
    others[:, half:] = torch.where(real, _others(tokens, real), tokens)[:, half:]
    now, seen = _prediction(objective, with_inputs(batch, **{name: others})), real[:, :half]
    return _change(now[:, :half][seen], before[:, :half][seen])


def _largest(values: list[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
