"""The loss of an objective from one pass over all its data in float64; where there is no time for it, an estimate."""

import dataclasses
import math
import time
from typing import Final, final

import numpy as np
import torch

from thalweg.certificates.attempts import Clock, TooLongError, Watch
from thalweg.certificates.floors.targets import Targets, collect_targets
from thalweg.certificates.linear.forms import require_mean
from thalweg.certificates.linear.last_layer import FormRows, split_last_layer
from thalweg.certificates.linear.stored import give_back
from thalweg.errors import InputError, is_out_of_memory
from thalweg.objective import Objective

SHARE: Final = 0.05  # of the time, for an estimate
_SEED: Final = 0
_WHAT: Final = "Evaluating the loss on the rest of the training data, which every bound of it begins with,"


@final
@dataclasses.dataclass(eq=False)
class Evaluated:
    """What is certified, and its loss from one pass over all the data."""

    objective: Objective  # in float64 and evaluation mode
    loss: float
    targets: Targets | None
    reason: str  # why there are no targets
    rows: FormRows | None  # what the output layer is given and is to answer
    why: str  # why there are none
    seconds: float  # of the pass
    too_long: str = ""  # why there was no time for the pass
    sample: str = ""  # then: what the loss was estimated from


def evaluated(objective: Objective, clock: Clock) -> Evaluated:
    """Copy an objective into float64 and evaluate it; on some batches only where all of them would take too long.

    It raises an InputError if the model cannot be evaluated, or the loss is not finite.
    """
    require_mean(objective.head)
    try:
        found = _evaluated(objective, clock)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"A copy of the model cannot be evaluated in float64, which certificates are computed in: {error}"
        ) from error
    if not np.isfinite(found.loss):
        raise InputError(f"The loss is {found.loss:g} at these weights, so there is nothing to certify.")
    give_back()
    return found


def _evaluated(objective: Objective, clock: Clock) -> Evaluated:
    targets, reason, rows, why = None, "", None, ""
    exact = objective.copied(torch.float64)
    try:
        rows = FormRows(split_last_layer(exact))
    except InputError as error:
        why = str(error)
    except Exception:  # it comes up again in the level itself
        rows = None
    start = time.perf_counter()
    try:
        watch = Watch(clock, exact.batches, _WHAT)
        try:
            if rows is not None:
                try:
                    targets = collect_targets(rows.objective, rows.add, watch, rows.layer)
                except TooLongError:
                    raise
                except InputError as error:  # the model may yet be looked at as a whole
                    rows, why, watch = None, str(error), Watch(clock, exact.batches, _WHAT)
            targets = collect_targets(exact, None, watch) if targets is None else targets
            loss = targets.loss
        except TooLongError:
            raise
        except InputError as error:
            reason, rows, why = str(error), None, why or str(error)
            start, watch = time.perf_counter(), Watch(clock, exact.batches, _WHAT)
            loss = _mean(exact, range(len(exact.batches)), watch)[0]
    except TooLongError as error:
        begin = time.perf_counter()
        order = np.random.default_rng(_SEED).permutation(len(exact.batches)).tolist()
        loss, number = _mean(exact, order, end=begin + max(clock.grace, SHARE * clock.seconds))
        total = sum(batch.num_examples for batch in exact.batches)
        return Evaluated(exact, loss, None, "", None, "", 0.0, str(error), f"{number:,} of {total:,} examples")
    return Evaluated(exact, loss, targets, reason, rows, why, time.perf_counter() - start)


def _mean(
    objective: Objective, order: "range | list[int]", watch: Watch | None = None, end: float = math.inf
) -> tuple[float, int]:
    """Return the loss on batches in this order, at least one and none that begins past `end`, and their examples."""
    total, count, number = 0.0, 0.0, 0
    with torch.no_grad():
        for place in order:
            batch = objective.batches[place]
            part, divisor = objective.sum_and_count(batch)
            total, count, number = total + float(part), count + float(divisor), number + batch.num_examples
            if watch is not None:
                watch()
            if time.perf_counter() > end and count > 0.0:
                break
    squares = sum(float(tensor.detach().square().sum()) for tensor in objective.penalized)
    return (total / count + 0.5 * objective.l2 * squares if count > 0.0 else math.nan), number
