"""What the model reads: scales and conditioning of numbers, padding and variety of tokens; the order of labels."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from thalweg.batch import Batch
from thalweg.diagnosis.probes.parts import (
    affordable,
    float_names,
    inputs_of,
    losses_by_example,
    real_tokens,
    token_names,
)
from thalweg.diagnosis.probes.untouched import not_finite, probe
from thalweg.diagnosis.subject import Subject
from thalweg.errors import InputError

_SHUFFLED: Final = 256  # examples whose loss is computed with inputs of others
_COLUMNS: Final = 256  # whose figures are told
_CORRELATED: Final = 512  # columns of which the correlation matrix is decomposed
_UNKNOWN: Final = 1  # id of unknown tokens in the vocabularies of the tasks
_STEPS: Final = 20  # whose labels are compared with all


@probe(finite=False)
def inputs(subject: Subject) -> dict[str, Any]:
    """Measure the inputs of the training batches, and whether the loss depends on them.

    `numbers`: by input, mean, deviation, extremes and skewness of each column (the last dimension), the range of the
    deviations, and the condition number of the correlation matrix. `tokens`: by input, shares of padding and of unknown
    ids, and how many different ids and examples there are. `shuffled_loss`: the loss when each example gets the inputs
    of another one, and its difference from the real `loss` with a standard error.
    """
    batches = subject.train
    result: dict[str, Any] = {"examples": sum(batch.num_examples for batch in batches), "numbers": {}, "tokens": {}}
    for name in float_names(batches[0]):
        parts = [batch.inputs[name] for batch in batches if name in batch.inputs]
        result["numbers"][name] = of_columns(torch.cat([part.reshape(-1, part.shape[-1]) for part in parts]))
    for name in token_names(batches[0]):
        result["tokens"][name] = _of_tokens(subject, batches, name)
    for name in batches[0].inputs:
        if name.endswith("offsets") and f"{name.removesuffix('offsets')}tokens" in batches[0].inputs:
            result["tokens"][f"{name.removesuffix('offsets')}tokens"] = _of_bags(batches, name.removesuffix("offsets"))
    if not not_finite(subject):
        result |= _of_shuffling(subject)
    return result


def of_columns(rows: Tensor) -> dict[str, Any]:
    """Return figures of the columns of `[n, columns]`; numbers that are not finite are counted and left out.

    Example:
        >>> found = of_columns(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        >>> found["constant"], found["columns"][0]["mean"]
        ([1], 2.0)
    """
    rows = rows.detach().double()
    finite = rows.isfinite()
    count = finite.sum(0).clamp(min=1)
    clean = torch.where(finite, rows, 0.0)
    mean = clean.sum(0) / count
    centered = torch.where(finite, rows - mean, 0.0)
    deviation = (centered.square().sum(0) / count).sqrt()
    # A column of equal numbers has a deviation of rounding only.
    constant = deviation <= 1e-12 * clean.abs().amax(0).clamp(min=1e-300)
    low = torch.where(finite, rows, torch.inf).amin(0)
    high = torch.where(finite, rows, -torch.inf).amax(0)
    skew = (centered**3).sum(0) / count / deviation.clamp(min=1e-300) ** 3
    offset = mean.abs() / deviation.clamp(min=1e-300)
    varied = ~constant
    spread = deviation[varied]
    columns = [
        {
            "column": i,
            "mean": mean[i],
            "std": deviation[i],
            "min": low[i],
            "max": high[i],
            "skew": 0.0 if constant[i] else skew[i],
            "offset": None if constant[i] else offset[i],
        }
        for i in range(min(rows.shape[1], _COLUMNS))
    ]
    return {
        "columns": [{key: float(v) if isinstance(v, Tensor) else v for key, v in column.items()} for column in columns],
        "num_columns": rows.shape[1],
        "constant": constant.nonzero().squeeze(1).tolist(),
        "scale_range": float(spread.max() / spread.min()) if len(spread) else None,
        "largest_offset": float(offset[varied].max()) if len(spread) else None,
        "largest_skew": float(skew[varied].abs().max()) if len(spread) else None,
        "largest_value": float(clean.abs().max()) if clean.numel() else None,
        "condition": _condition(centered[:, varied] / spread),
        "non_finite": 1.0 - float(finite.double().mean()) if finite.numel() else 0.0,
    }


def _condition(rows: Tensor) -> float | None:
    """Return the condition number of the correlation matrix; None where there are too few rows to know it."""
    number, columns = rows.shape
    if columns < 2 or columns > _CORRELATED or number <= 2 * columns:
        return None
    values = torch.linalg.eigvalsh(rows.T @ rows / number)
    return float(values[-1] / values[0].clamp(min=1e-12 * float(values[-1])))


def _of_tokens(subject: Subject, batches: Sequence[Batch], name: str) -> dict[str, Any]:
    ids, padded, total, lengths = [], 0, 0, []
    rows: set[tuple[int, ...]] = set()
    for batch in batches:
        tokens, real = batch.inputs[name], real_tokens(batch, name, subject)
        real = torch.ones_like(tokens, dtype=torch.bool) if real is None else real
        ids.append(tokens[real])
        padded, total = padded + int((~real).sum()), total + real.numel()
        lengths += real.sum(1).tolist()
        rows |= {tuple(row[keep].tolist()) for row, keep in zip(tokens.cpu(), real.cpu(), strict=True)}
    every = torch.cat(ids)
    return {
        "padding_share": padded / max(total, 1),
        "unknown_share": float((every == _UNKNOWN).double().mean()) if subject.facts.task and len(every) else None,
        "distinct": len(every.unique()),
        "distinct_share": len(rows) / max(1, sum(batch.num_examples for batch in batches)),
        "longest": max(lengths, default=0),
        "mean_length": sum(lengths) / max(1, len(lengths)),
        "empty_share": sum(length == 0 for length in lengths) / max(1, len(lengths)),
        "most_frequent_share": float(every.unique(return_counts=True)[1].max() / len(every)) if len(every) else None,
    }


def _of_bags(batches: Sequence[Batch], prefix: str) -> dict[str, Any]:
    """Figures of texts as bags of features, `tokens` of all of them one after the other."""
    lengths, rows = [], set[tuple[int, ...]]()
    for batch in batches:
        tokens, offsets = batch.inputs[f"{prefix}tokens"], batch.inputs[f"{prefix}offsets"]
        ends = [*offsets.tolist()[1:], len(tokens)]
        bags = [tuple(tokens[begin:end].tolist()) for begin, end in zip(offsets.tolist(), ends, strict=True)]
        lengths += map(len, bags)
        rows |= set(bags)
    every = torch.cat([batch.inputs[f"{prefix}tokens"] for batch in batches])
    return {
        "distinct": len(every.unique()),
        "distinct_share": len(rows) / max(1, len(lengths)),
        "longest": max(lengths, default=0),
        "mean_length": sum(lengths) / max(1, len(lengths)),
        "empty_share": sum(length == 0 for length in lengths) / max(1, len(lengths)),
    }


def _of_shuffling(subject: Subject) -> dict[str, Any]:
    """Return the loss with each example's own inputs, and with those of another one of its batch."""
    objective = subject.objective()
    differences, losses, shuffled = [], [], []
    for batch in affordable(subject.train, _SHUFFLED):
        number = batch.num_examples
        if number < 2:
            continue
        exchanged = inputs_of(batch, torch.arange(number, device=batch.targets.device).roll(number // 2))
        if exchanged is None:
            return {}
        other = Batch(exchanged, batch.targets, batch.mask, batch.weights)
        try:
            (real, count, _), (wrong, _, _) = (losses_by_example(objective, given) for given in (batch, other))
        except InputError:
            return {}
        counted = count > 0
        differences.append((wrong - real)[counted] / count[counted])
        losses.append(real[counted] / count[counted])
        shuffled.append(wrong[counted] / count[counted])
    if not differences:
        return {}
    every = torch.cat(differences)
    return {
        "loss": float(torch.cat(losses).mean()),
        "shuffled_loss": float(torch.cat(shuffled).mean()),
        "shuffled_difference": float(every.mean()),
        "shuffled_error": float(every.std() / len(every) ** 0.5) if len(every) > 1 else None,
    }


@probe(finite=False)
def order(subject: Subject) -> dict[str, Any]:
    r"""Measure whether the labels of the first steps are mixed as those of all of them.

    With the counts $n_{bc}$ of class c in step b, the statistic of homogeneity over its degrees of freedom,
    $\sum_{bc} (n_{bc} - e_{bc})^2 / e_{bc} / ((B - 1)(C - 1))$, $e_{bc} = n_b n_c / n$: about 1 where examples are
    drawn at random, and below it where each class gets its share.

    Source: Pearson (1900), On the Criterion that a Given System of Deviations is Such that It Can Be Reasonably
    Supposed to Have Arisen from Random Sampling.
    """
    if subject.in_order is None:
        return {}
    steps = min(_STEPS, subject.facts.steps or _STEPS, subject.facts.steps_per_epoch or _STEPS)
    rows = []
    for step in range(steps):
        targets = [batch.targets for batch in subject.in_order(step)]
        if any(target.is_floating_point() or target.dim() != 1 for target in targets):
            return {}
        rows.append(torch.cat(targets).cpu())
    drawn = [batch.targets.cpu() for batch in subject.train if batch.targets.dim() == 1]
    if len(rows) < 2 or not drawn:
        return {}
    classes = torch.cat([*rows, *drawn]).unique()
    if len(classes) < 2:
        return {}
    counts = torch.stack([(row.unsqueeze(1) == classes).sum(0) for row in rows]).double()
    # The shares of all data, from batches that were drawn at random; half a count keeps a rare class from being none.
    share = (torch.cat(drawn).unsqueeze(1) == classes).sum(0).double() + 0.5
    expected = counts.sum(1, keepdim=True) * share / share.sum()
    statistic = float(((counts - expected).square() / expected).sum())
    return {
        "label_clumping": statistic / (len(rows) * (len(classes) - 1)),
        "steps": len(rows),
        "classes": len(classes),
        "one_label_share": float((counts.amax(1) == counts.sum(1)).double().mean()),
    }
