"""The gradient at fixed weights: its size by layer, its noise between batches, and what it does not reach."""

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.batch import Batch
from thalweg.diagnosis.probes.parts import divided, some_of, token_names, trimmed
from thalweg.diagnosis.probes.untouched import not_finite, probe
from thalweg.diagnosis.subject import Subject
from thalweg.objective import Objective
from thalweg.training.steps.gauges import layer_names

MOST: Final = 16  # batches, each with a gradient of its own
_NUMBERS: Final = 2**27  # of all gradients that are kept, half a gigabyte
_EXAMPLES, _TEXTS = 4096, 128  # in all of them, of numbers or bags of features, and of sequences of tokens
_SMALLEST: Final = 2  # examples of a part: batch norm needs two in training mode


@probe(finite=False)
def gradients(subject: Subject) -> dict[str, Any]:
    r"""Measure the gradient of single batches at fixed weights, in training mode.

    With gradients $g_b$ of K batches of $n_b$ examples, N in all, and their mean G weighted by examples,

    $$\operatorname{tr} S = \frac{1}{K - 1} \sum_b n_b \lVert g_b - G \rVert^2, \qquad
      \lvert G \rvert^2_{\text{unbiased}} = \lVert G \rVert^2 - \frac{\operatorname{tr} S}{N}, \qquad
      B = \frac{\operatorname{tr} S}{\lvert G \rvert^2_{\text{unbiased}}},$$

    the simple noise scale in examples: at that batch size noise and gradient are equally large. For batches of one size
    these are the estimates from two batch sizes. Errors are standard errors of the delete-one jackknife.

    Source: McCandlish, Kaplan, Amodei et al. (2018), An Empirical Model of Large-Batch Training.
    """
    names = dict(zip(map(id, (named := _named(subject)).values()), named, strict=True))
    every = sum(tensor.numel() for tensor in _every(subject))
    frozen = [(name, tensor.numel()) for name, tensor in _all_named(subject) if not tensor.requires_grad]
    result: dict[str, Any] = {
        "frozen": [name for name, _ in frozen],
        "frozen_share": sum(number for _, number in frozen) / max(every, 1),
        "num_parameters": every,
        "non_finite": {"parameters": not_finite(subject), "gradients": []},
    }
    objective = subject.objective()
    parameters = objective.parameters
    if result["non_finite"]["parameters"] or not parameters:
        return result
    subject.model.train()
    subject.head.train()
    limit = max(2, min(MOST, _NUMBERS // max(1, sum(tensor.numel() for tensor in parameters))))
    batches = _parts(subject, limit)
    rows, counts, reached = _of_batches(objective, parameters, batches)
    bad = {i for row in rows for i, part in enumerate(vectors.split(row, parameters)) if not vectors.is_finite([part])}
    result["non_finite"]["gradients"] = [names[id(parameters[i])] for i in sorted(bad)]
    touched = (torch.stack([row != 0 for row in rows]).any(0)).to(torch.uint8)
    moving = [bool(part.any()) for part in vectors.split(touched, [p.to(torch.uint8) for p in parameters])]
    result["without_gradient"] = [names[id(p)] for p, moves in zip(parameters, moving, strict=True) if not moves]
    still = {name.rpartition(".")[0] for name in result["without_gradient"]}
    alive = {names[id(p)].rpartition(".")[0] for p, moves in zip(parameters, moving, strict=True) if moves}
    result["without_gradient_layers"] = sorted(still - alive)
    result["unreached"] = [names[id(p)] for p, is_in in zip(parameters, reached, strict=True) if not is_in]
    if bad:
        return result
    sizes = torch.tensor([float(batch.num_examples) for batch in batches], dtype=torch.float64)
    mean = sum(row * float(size / sizes.sum()) for row, size in zip(rows, sizes, strict=True))
    assert isinstance(mean, Tensor)
    for row in rows:
        row -= mean
    mean += _penalty(objective, parameters)
    result["layers"] = _layers(subject, parameters, mean)
    result["norm"] = float(mean.norm())
    step = subject.facts.batch_size or float(sizes.mean())
    result |= _noise(mean, rows, sizes, float(step))
    result["targets_per_example"] = float(counts.sum() / sizes.sum())
    scale = result.get("noise_scale")
    result["noise_scale_targets"] = None if scale is None else scale * result["targets_per_example"]
    return result


def _parts(subject: Subject, most: int) -> list[Batch]:
    """Return parts of the training batches, as random as these are: so many, of few examples each."""
    first = subject.train[0]
    every = _TEXTS if token_names(first) else _EXAMPLES
    every = every // 2 if token_names(first) and first.targets.dim() >= 2 else every
    examples = max(1, every // max(1, min(most, len(subject.train))))
    some = [
        (some_of(batch, range(examples)) if batch.num_examples > examples else None) or batch
        for batch in subject.train[:most]
    ]
    return [trimmed(part) for part in divided(some, smallest=_SMALLEST, most=most)]


def _all_named(subject: Subject) -> list[tuple[str, Tensor]]:
    """Return all parameters with their names, tied ones once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for prefix, module in (("", subject.model), ("head.", subject.head)):
        for name, tensor in module.named_parameters():
            found.setdefault(id(tensor), (f"{prefix}{name}", tensor))
    return list(found.values())


def _named(subject: Subject) -> dict[str, Tensor]:
    return dict(_all_named(subject))


def _every(subject: Subject) -> list[Tensor]:
    return [tensor for _, tensor in _all_named(subject)]


def _of_batches(
    objective: Objective, parameters: Sequence[Tensor], batches: Sequence[Batch]
) -> tuple[list[Tensor], Tensor, list[bool]]:
    """Return each batch's gradient as a flat row, the number of its targets, and which parameters any of them reach."""
    rows, counts, reached = [], [], [False] * len(parameters)
    for batch in batches:
        total, count = objective.sum_and_count(batch)
        if total.requires_grad:
            total.backward()
        divisor = objective.head.divisor(count) if float(count) > 0.0 else torch.ones_like(count)
        found = []
        for i, parameter in enumerate(parameters):
            gradient, parameter.grad = parameter.grad, None
            reached[i] |= gradient is not None
            dense = torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
            found.append(dense.detach() / divisor.to(dense))
        rows.append(vectors.flatten(found))
        counts.append(float(batch.num_targets))
    return rows, torch.tensor(counts, dtype=torch.float64), reached


def _penalty(objective: Objective, parameters: Sequence[Tensor]) -> Tensor:
    strengths = objective.penalties(parameters)
    return vectors.flatten([tensor.detach() * l2 for tensor, l2 in zip(parameters, strengths, strict=True)])


def _layers(subject: Subject, parameters: Sequence[Tensor], gradient: Tensor) -> dict[str, dict[str, float]]:
    """Return norm and root mean square of the gradient of each layer, and those of its weights."""
    parts = dict(zip(map(id, parameters), vectors.split(gradient, parameters), strict=True))
    layers = {}
    for name, tensors in layer_names(subject.model, subject.head).items():
        numbers = sum(tensor.numel() for tensor in tensors)
        norm = float(vectors.norm([parts[id(tensor)] for tensor in tensors]))
        weight = float(vectors.norm([tensor.detach() for tensor in tensors]))
        root = math.sqrt(max(numbers, 1))
        layers[name] = {
            "norm": norm,
            "rms": norm / root,
            "weight_norm": weight,
            "weight_rms": weight / root,
            "numbers": numbers,
        }
    return layers


def _noise(mean: Tensor, centered: Sequence[Tensor], sizes: Tensor, step: float) -> dict[str, float | None]:
    """Return the noise scale and its two pieces, with their standard errors."""
    number = len(centered)
    if number < 2:
        return {}
    rows = torch.stack([mean, *centered]).double() if mean.numel() < 2**22 else torch.stack([mean, *centered])
    products = (rows @ rows.T).double().cpu()

    def pieces(kept: Tensor) -> tuple[float, float]:
        """Noise trace and unbiased squared gradient, from some of the batches."""
        weights = sizes[kept] / sizes[kept].sum()
        of_mean, among = products[0, 1:][kept], products[1:, 1:][kept][:, kept]
        shift = float(weights @ among @ weights)
        spread = float((sizes[kept] * among.diagonal()).sum()) - float(sizes[kept].sum()) * shift
        trace = max(spread, 0.0) / (len(kept) - 1)
        square = float(products[0, 0]) + 2.0 * float(weights @ of_mean) + shift
        return trace, square - trace / float(sizes[kept].sum())

    everything = torch.arange(number)
    trace, square = pieces(everything)
    errors = {"noise_trace_error": math.nan, "gradient_square_error": math.nan, "error": math.nan}
    if number > 2:
        without = [pieces(everything[everything != i]) for i in range(number)]
        errors["noise_trace_error"] = _jackknife([part[0] for part in without])
        errors["gradient_square_error"] = _jackknife([part[1] for part in without])
        if all(part[1] > 0.0 for part in without):
            errors["error"] = _jackknife([part[0] / part[1] for part in without])
    high = square + 2.0 * errors["gradient_square_error"]
    low = square - 2.0 * errors["gradient_square_error"]
    return {
        "noise_trace": trace,
        "gradient_square": square,
        "noise_scale": trace / square if square > 0.0 else None,
        "noise_scale_low": trace / high if high > 0.0 else None,
        "noise_scale_high": trace / low if low > 0.0 else None,
        **errors,
        "snr": square * step / trace if trace > 0.0 else None,
        "num_batches": number,
        "examples": float(sizes.sum()),
    }


def _jackknife(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt((len(values) - 1) / len(values) * sum((value - mean) ** 2 for value in values))
