"""What the networks answer: the loss example by example, the classes predicted, and a better output layer."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.batch import Batch
from thalweg.diagnosis.probes.network.representations import states_of
from thalweg.diagnosis.probes.parts import affordable, grouped, losses_by_example
from thalweg.diagnosis.probes.untouched import probe
from thalweg.diagnosis.subject import Subject
from thalweg.heads.base import ConvexLoss, LinearForm, expand_to
from thalweg.models.mlp import MaskedLinear
from thalweg.objective import Objective

_EXAMPLES: Final = 1024
_SHOWN: Final = 20
_HARD: Final = 0.05  # of the examples
_SURE: Final = 0.9  # probability of an answer
_CLASSES: Final = 200  # whose figures are told one by one
_MOST_CLASSES: Final = 100_000
_NUMBERS: Final = 2**25  # states times width times classes, for the output layer that is fitted
_FIT_STEPS: Final = 20
_FEWEST_SHARES: Final = 8
_SUM: Final = 1e-2  # how far the sum of an example's shares, in bfloat16 too, may be from 1
_RIDGE: Final = 1e-4  # of the fitted layer's weights, which a separable half has no best ones without


@probe()
def examples(subject: Subject) -> dict[str, Any]:
    """Measure the loss of each example, on training and validation batches.

    `hardest` are the examples with the largest losses: place in all batches one after the other, batch and row in it,
    loss, target, prediction and its probability where the answers are classes. `hard_share` is the share of the whole
    loss that the hardest twentieth of the examples has. `sure_mistakes` are wrong answers with a probability above
    0.9, the surest first.
    """
    objective = subject.objective()
    result = {}
    for name, batches in (("train", subject.train), ("valid", subject.valid)):
        if batches and (found := _losses(objective, batches)):
            result[name] = found
    return result


@probe()
def predictions(subject: Subject) -> dict[str, Any]:
    """Measure how often each class is predicted and how often it is right, on validation data where there are some.

    Entropies are in nats. For answers that are one class of many at each place. Of numbers: means and deviations of
    targets and answers, and the share of the targets' variance that the answers explain.
    """
    objective = subject.objective()
    batches = _first(subject.valid or subject.train)
    with torch.no_grad():
        outputs = [objective.prediction(batch) for batch in batches]
        answered = [_classes(objective, *pair) for pair in zip(batches, outputs, strict=True)]
    if (numeric := _of_numbers(batches, outputs)) or not answered or any(part is None for part in answered):
        return numeric
    best, targets = (torch.cat([part[i] for part in answered if part is not None]) for i in (0, 1))
    number = max(int(targets.max()) + 1, int(best.max()) + 1, subject.facts.num_classes or 0) if len(targets) else 0
    if not 2 <= number <= _MOST_CLASSES:
        return {}
    predicted, labels = torch.bincount(best, minlength=number), torch.bincount(targets, minlength=number)
    right = torch.bincount(targets[best == targets], minlength=number)
    never = ((predicted == 0) & (labels > 0)).nonzero().squeeze(1)
    never = never[labels[never].argsort(descending=True, stable=True)]
    result: dict[str, Any] = {
        "of": "valid" if subject.valid else "train",
        "answers": len(targets),
        "classes": int((labels > 0).sum()),
        "accuracy": float((best == targets).double().mean()),
        "accuracy_over_majority": float((best == targets).double().mean() - labels.max() / labels.sum()),
        "prediction_entropy": _entropy(predicted),
        "label_entropy": _entropy(labels),
        "top_prediction": int(predicted.argmax()),
        "top_prediction_share": float(predicted.max() / predicted.sum()),
        "top_label": int(labels.argmax()),
        "top_label_share": float(labels.max() / labels.sum()),
        "rarest_share": float(labels[labels > 0].min() / labels.sum()),
        "never_predicted": [[int(i), int(labels[i])] for i in never[:_SHOWN]],
        "never_predicted_share": float(labels[never].sum() / labels.sum()),
    }
    if number <= _CLASSES:
        result["by_class"] = [
            {"class": i, "labels": a, "predicted": b, "right": c}
            for i, (a, b, c) in enumerate(zip(labels.tolist(), predicted.tolist(), right.tolist(), strict=True))
        ]
    return result


@probe()
def capacity(subject: Subject) -> dict[str, Any]:
    """Measure the loss and accuracy on training and validation data, and the loss with a better output layer.

    `narrowest` is the smallest number of units of a layer, `width` that of the hidden states.
    `refitted_head_loss` is the loss, on one half of the training states, of an output layer that was fitted to the
    other half from the present one on; `present_head_loss` is that of the present layer on the same half. Far below it,
    the layer is not trained yet. For a softmax, linear, and states that are more than twice the width.
    """
    objective = subject.objective()
    train, valid = _first(subject.train), _first(subject.valid)
    result: dict[str, Any] = {"narrowest": _narrowest(subject)}
    forms: list[LinearForm | None] = []
    for name, batches in (("train", train), ("valid", valid)):
        sums, counts, right, answers = 0.0, 0.0, 0, 0
        for batch in batches:
            with torch.no_grad():
                hidden = objective.without_graph(lambda batch=batch: [objective.hidden(batch)])[0]
                total, count = objective.head.loss_from_hidden(hidden, batch.targets, batch.mask, batch.weights)
                found = _classes(objective, batch, objective.head(hidden))
                if name == "train":
                    forms.append(objective.head.linear_form(hidden, batch.targets, batch.mask, batch.weights))
            result["width"] = hidden.shape[-1]
            sums, counts = sums + float(total), counts + float(count)
            if found is not None:
                right, answers = right + int((found[0] == found[1]).sum()), answers + len(found[0])
        divisor = counts if objective.head.averages else 1.0
        result[f"{name}_loss"] = sums / divisor if batches and divisor > 0.0 else None
        result[f"{name}_accuracy"] = right / answers if answers else None
    result |= _shares(forms)
    if any(f is None or f.loss is not ConvexLoss.SOFTMAX or f.targets.is_floating_point() for f in forms):
        return result
    known = [form for form in forms if form is not None]
    layer = known[0].layer
    states = torch.cat([form.features for form in known])
    targets = torch.cat([form.targets for form in known])
    if layer is None:
        found = [states_of(objective, batch) for batch in train]
        if found[0][1] == "the model's output" or sum(len(rows) for rows, _ in found) != len(targets):
            return result
        return result | _refitted(torch.cat([rows for rows, _ in found]), targets, states.float(), states.shape[1])
    number = max(1, _NUMBERS // (states.shape[1] * layer.out_features))
    states, targets = states[:number], targets[:number]
    with torch.no_grad():
        logits = F.linear(states.to(layer.weight.dtype), layer.weight, layer.bias).float()
    return result | _refitted(states.float(), targets, logits, layer.out_features)


def _shares(forms: Sequence[LinearForm | None]) -> dict[str, Any]:
    """Return what a loss of scores cannot get below, where a model gives it probabilities; nothing where it does not.

    It is least where the probabilities are those of the right answers, 0 and 1.
    """
    known = [form for form in forms if form is not None]
    if not known or len(known) < len(forms) or any(form.layer is not None for form in known):
        return {}
    scores, targets = torch.cat([form.features for form in known]).float(), torch.cat([form.targets for form in known])
    if scores.numel() < _FEWEST_SHARES or not bool(((scores >= 0.0) & (scores <= 1.0 + _SUM)).all()):
        return {}
    kinds = {form.loss for form in known}
    if kinds == {ConvexLoss.SOFTMAX} and bool(((scores.sum(-1) - 1.0).abs() < _SUM).all()):
        return {"shares_add_up": True, "floor_of_shares": math.log1p((scores.shape[-1] - 1) / math.e)}
    # Scores of a network that has learned nothing may lie there, too, but close to each other.
    if kinds == {ConvexLoss.LOGISTIC} and float(scores.max() - scores.min()) > 0.5:
        share = float(targets.float().mean())
        return {"shares_add_up": False, "floor_of_shares": share * math.log1p(1 / math.e) + (1 - share) * math.log(2)}
    return {}


def _narrowest(subject: Subject) -> int | None:
    """Return the smallest number of units of any layer before the output; None where there is no layer."""
    widths: list[int] = []
    linear: list[int] = []
    for module in subject.model.modules():
        if isinstance(module, nn.Linear | MaskedLinear):
            linear.append(int(module.out_features))
        elif isinstance(module, nn.RNNBase):
            widths.append((module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1))
        elif isinstance(module, nn.Embedding | nn.EmbeddingBag) and subject.facts.family != "linear":
            widths.append(module.embedding_dim)
    if not any(True for _ in subject.head.parameters()):
        linear = linear[:-1]  # the output layer
    return min([*widths, *linear], default=None)


def _refitted(states: Tensor, targets: Tensor, logits: Tensor, num_classes: int) -> dict[str, float]:
    """Return the mean cross-entropy on every other state: as it is, and with a layer that is fitted to the rest."""
    number, width = states.shape
    number = min(number, max(1, _NUMBERS // (width * num_classes)))
    if number < 4 * width:
        return {}
    states, targets, logits = states[:number], targets[:number], logits[:number]
    center, scale = states.mean(0), states.std(0).clamp(min=1e-6 * float(states.abs().max().clamp(min=1e-30)))
    inputs = (states - center) / scale
    # What is fitted is added to the present layer, so that it starts there.
    weight = states.new_zeros(num_classes, width).requires_grad_()
    bias = states.new_zeros(num_classes).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_FIT_STEPS, max_eval=2 * _FIT_STEPS, line_search_fn="strong_wolfe"
    )
    fitted, held_out = slice(0, None, 2), slice(1, None, 2)

    def loss_of(part: slice) -> Tensor:
        return F.cross_entropy(logits[part] + F.linear(inputs[part], weight, bias), targets[part])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(fitted) + _RIDGE * weight.square().sum()
        loss.backward()
        return loss.detach()

    with torch.no_grad():
        present = float(loss_of(held_out))
    optimizer.step(closure)
    with torch.no_grad():
        return {"present_head_loss": present, "refitted_head_loss": float(loss_of(held_out)), "refitted_on": number}


def _first(batches: Sequence[Batch]) -> list[Batch]:
    return affordable(batches, _EXAMPLES) if batches else []


def _losses(objective: Objective, batches: Sequence[Batch]) -> dict[str, Any]:
    places: list[dict[str, Any]] = []
    mistakes: list[dict[str, Any]] = []
    starts = [0, *itertools.accumulate(batch.num_examples for batch in batches)]
    for group in grouped(batches, _EXAMPLES):
        sums, counts, prediction = losses_by_example(objective, group.batch)
        known = _answers(objective, group.batch, prediction)
        for i, (row, total, count) in enumerate(zip(group.rows, sums.tolist(), counts.tolist(), strict=True)):
            if count <= 0.0:
                continue
            place = {"index": starts[group.place] + row, "batch": group.place, "row": row, "loss": total / count}
            if known is not None:
                answer, chance, target = (part[i] for part in known)
                place |= {"target": target, "prediction": answer, "probability": chance}
                if answer != target and chance > _SURE:
                    mistakes.append(place)
            places.append(place)
    if not places:
        return {}
    losses = sorted((place["loss"] for place in places), reverse=True)
    hard = max(1, round(_HARD * len(losses)))
    total = sum(losses)
    return {
        "examples": len(losses),
        "mean": total / len(losses),
        "median": losses[len(losses) // 2],
        "largest": losses[0],
        "hard_share": sum(losses[:hard]) / total if total > 0.0 else None,
        "hardest": sorted(places, key=lambda place: -place["loss"])[:_SHOWN],
        "num_sure_mistakes": len(mistakes),
        "sure_mistakes": sorted(mistakes, key=lambda place: -place["probability"])[:_SHOWN],
        "losses": [losses[round(q * (len(losses) - 1) / 20)] for q in range(21)],
    }


def _answers(objective: Objective, batch: Batch, prediction: Tensor) -> tuple[list[int], list[float], list[int]] | None:
    """Return of each example the answer, its probability and the target, where they are one class of many."""
    if batch.targets.is_floating_point() or batch.targets.dim() != 1 or prediction.dim() != 2:
        return None
    try:
        ids, chances = objective.head.decode(prediction, 1)
    except (ValueError, RuntimeError, NotImplementedError):
        return None
    return ids[:, 0].tolist(), chances[:, 0].double().exp().tolist(), batch.targets.tolist()


def _classes(objective: Objective, batch: Batch, prediction: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return answers and targets of the real places, where they are one class of many."""
    targets = batch.targets
    if targets.is_floating_point() or targets.dtype == torch.bool:
        return None
    mask = None if batch.mask is None else expand_to(batch.mask, targets.shape, "mask")
    try:
        best = objective.head.best_ids(prediction, mask)
    except (ValueError, RuntimeError, NotImplementedError):
        return None
    if best.shape != targets.shape:
        return None
    real = targets >= 0
    real = real if mask is None else real & mask
    return best[real], targets[real].long()


def _of_numbers(batches: Sequence[Batch], predictions: Sequence[Tensor]) -> dict[str, Any]:
    """Return figures of answers that are numbers, one for each target; nothing of others."""
    pairs = list(zip(batches, predictions, strict=True))
    if any(not b.targets.is_floating_point() or b.targets.numel() != p.numel() or b.mask is not None for b, p in pairs):
        return {}
    if not pairs:
        return {}
    targets = torch.cat([batch.targets.reshape(-1).double() for batch in batches])
    answers = torch.cat([prediction.reshape(-1).double() for prediction in predictions])
    variance = float(targets.var(correction=0))
    if not variance > 0.0:
        return {}
    return {
        "answers": len(targets),
        "target_mean": float(targets.mean()),
        "target_std": math.sqrt(variance),
        "answer_mean": float(answers.mean()),
        "answer_std": float(answers.std(correction=0)),
        "explained": 1.0 - float((targets - answers).square().mean()) / variance,
    }


def _entropy(counts: Tensor) -> float:
    share = counts.double() / counts.sum()
    return float(torch.special.entr(share).sum()) if math.isfinite(float(share.sum())) else math.nan
