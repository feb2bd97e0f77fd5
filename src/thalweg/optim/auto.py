"""Which optimizer a problem wants where nobody names one: a decision from facts, with the reason in words."""

import dataclasses
import statistics
from typing import Any, Final, final

from torch import nn

from thalweg.models.tuning import pretrained_in
from thalweg.optim.roles import roles_of

MOST_PARAMETERS: Final = 1000  # of a network whose curvature is looked at as a whole
MOST_ENTRIES: Final = 20_000_000  # of the matrix of all rows' derivatives
RATE: Final = 0.02  # of matrices with a longer axis of RATE_WIDTH, by benchmarks/time_to_target.py
RATE_WIDTH: Final = 64
LEAST_WIDTH: Final = 32  # narrower ones get no higher rate
WARMUP: Final = 0.05
PRETRAINED_WARMUP: Final = 0.1
DEVIATIONS: Final = 2.5
POLAR_STEPS: Final = 3
UNKNOWN_STEPS: Final = 1000
MOST_TIMES: Final = 8  # that a batch is enlarged
FEWEST_BATCHES: Final = 16  # of a pass over the data


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What the decision is made of.

    Args:
        num_parameters: trainable numbers of model and head.
        num_rows: training examples.
        long_axis: longer axis of the matrices inside the model, the median over them; 0: there are none.
        short_axis: the same for the shorter axis.
        batch_rows: rows that a matrix is multiplied with in a step: tokens where there are some, else examples.
        num_batches: steps of a pass over the data.
        may_enlarge_batch: whether the batch may be another; not where it was given.
        total_steps: steps of the run; None: not known yet.
        is_pretrained: whether the network has weights that other data taught it.
        is_plain: whether the network is made of linear layers alone, so that derivatives by row are cheap.
        takes_all_data: whether all examples may be one batch: nothing random in the network, one process, and nobody
            asked for mini-batches.
    """

    num_parameters: int
    num_rows: int
    long_axis: int
    short_axis: int
    batch_rows: int
    num_batches: int
    may_enlarge_batch: bool
    is_plain: bool
    takes_all_data: bool
    total_steps: int | None = None
    is_pretrained: bool = False


@final
@dataclasses.dataclass(frozen=True)
class Choice:
    """An optimizer with all its settings, by the names that they have as options of a recipe.

    Args:
        settings: option -> value.
        why: the reason, a sentence.
        searches_rate: whether the rate is to be tried at the start (see `thalweg.optim.rate_search`).
        batch_factor: what the size of the batch is to be multiplied with.
    """

    settings: dict[str, Any]
    why: str
    searches_rate: bool
    batch_factor: int = 1


def facts_of(
    model: nn.Module,
    head: nn.Module,
    *,
    num_rows: int,
    batch_rows: int,
    num_batches: int = 1,
    takes_all_data: bool = False,
    may_enlarge_batch: bool = False,
    total_steps: int | None = None,
) -> Facts:
    """Return the facts about a network, with those about its data put in.

    Example:
        >>> model = nn.Sequential(nn.Linear(10, 16), nn.Tanh())
        >>> facts = facts_of(model, nn.Linear(16, 1), num_rows=268, batch_rows=32)
        >>> facts.num_parameters, facts.long_axis, facts.short_axis, facts.is_plain
        (193, 16, 10, True)
    """
    roles = roles_of(model, head)
    axes = [(len(matrix) // roles.pieces.get(id(matrix), 1), matrix[0].numel()) for matrix in roles.matrices]
    axes = [pair for pair in axes if min(pair) > 1]
    layers = [module for module in model.modules() if next(iter(module.parameters(recurse=False)), None) is not None]
    return Facts(
        num_parameters=sum(parameter.numel() for parameter in roles.all()),
        num_rows=num_rows,
        long_axis=round(statistics.median(map(max, axes))) if axes else 0,
        short_axis=round(statistics.median(map(min, axes))) if axes else 0,
        batch_rows=batch_rows,
        num_batches=num_batches,
        is_plain=all(type(layer).__name__ in ("Linear", "MaskedLinear") for layer in layers),
        takes_all_data=takes_all_data,
        may_enlarge_batch=may_enlarge_batch,
        total_steps=total_steps,
        is_pretrained=any(True for _ in pretrained_in(model)),
    )


def choose(facts: Facts) -> Choice:
    r"""Return what suits the facts.

    - Small networks of linear layers whose data are one batch: Levenberg-Marquardt with Armijo's search. It needs no
      rate, and no batches that are drawn.
    - Networks with matrices inside, on mini-batches: NorMuon for the matrices, AdamW for everything else, both at the
      rate $0.02 \sqrt{64 / a}$ with the median $a$ of the matrices' longer axes, at least 32 (a step then changes what
      a layer makes of its input about as much in wide layers as in narrow ones); warmup over 5 % of the run, then a
      straight line to zero, and gradients clipped by the norms before. Such a step costs about $3 m / b$ times as much
      as the gradient, for matrices with a shorter axis $m$ and batches of $b$ rows. Where that is more than 1, and
      nobody gave a batch or steps, the batch is doubled, up to 8 times, as long as a pass has 16 steps; the rate is
      multiplied with the fourth root. The momentum is $1 - 100 / T$ for $T$ steps, between 0.8 and 0.95.
    - Pretrained networks: AdamW at the rate that the caller knows, under the same schedule with a longer warmup.
    - Networks without matrices inside: AdamW, at the rate that the caller knows, under the same schedule.

    Example:
        >>> model = nn.Sequential(nn.Embedding(100, 256), nn.Linear(256, 256))
        >>> chosen = choose(facts_of(model, nn.Linear(256, 100), num_rows=10_000, batch_rows=1024))
        >>> chosen.settings["optimizer"], chosen.settings["lr"]
        ('normuon', 0.01)
        >>> facts = facts_of(nn.Linear(10, 16), nn.Linear(16, 1), num_rows=268, batch_rows=32, takes_all_data=True)
        >>> choose(facts).settings["optimizer"]
        'levenberg-marquardt'

    Source: Li et al., "NorMuon: Making Muon more efficient and scalable" (2025); Liu et al., "Muon is Scalable for LLM
    Training" (2025), for one rate of matrices and everything else; Bergsma et al., "Straight to Zero" (2025).
    """
    entries = facts.num_rows * facts.num_parameters
    is_small = facts.num_parameters <= MOST_PARAMETERS and entries <= MOST_ENTRIES
    if is_small and facts.is_plain and facts.takes_all_data:
        why = f"{facts.num_parameters:,} parameters and {facts.num_rows:,} examples are few, so each step sees all data"
        return Choice(
            {
                "optimizer": "levenberg-marquardt", "line_search": "armijo", "lr": 1.0, "schedule": "constant",
                "warmup": 0.0, "clip": 0.0, "clip_running": 0.0, "weight_decay": 0.0, "batch_size": 0,
            },
            why,
            searches_rate=False,
        )  # fmt: skip
    settings: dict[str, Any] = {"schedule": "linear", "warmup": WARMUP, "clip": 0.0, "clip_running": DEVIATIONS}
    if facts.is_pretrained:
        why = "the network is pretrained, and small steps keep what it knows"
        clipped = {"clip": 1.0, "clip_running": 0.0, "warmup": PRETRAINED_WARMUP}
        return Choice({"optimizer": "adamw", **settings, **clipped}, why, searches_rate=False)
    if not facts.long_axis:
        why = "the model has no weight matrices between input and output"
        return Choice({"optimizer": "adamw", **settings}, why, searches_rate=True)
    factor = _batch_factor(facts)
    rate = RATE * (RATE_WIDTH / max(facts.long_axis, LEAST_WIDTH)) ** 0.5 * factor**0.25
    steps = facts.total_steps or UNKNOWN_STEPS
    momentum = round(min(0.95, max(0.8, 1 - 100 / steps)), 3)
    options = {"polar_steps": POLAR_STEPS, "momentum": momentum, "adam_betas": [0.9, 0.99]}
    settings |= {"optimizer": "normuon", "optimizer_options": options, "lr": float(f"{rate:.2g}")}
    why = "there are weight matrices inside the model"
    if factor > 1:
        why += f", and batches {factor} times as large make up for the cost of a step"
    return Choice(settings, why, searches_rate=True, batch_factor=factor)


def _batch_factor(facts: Facts) -> int:
    """How much larger the batch should be, so that a step of the matrices is no dearer than the gradient."""
    factor = 1
    while (
        facts.may_enlarge_batch
        and factor < MOST_TIMES
        and POLAR_STEPS * facts.short_axis > factor * facts.batch_rows
        and facts.num_batches >= 2 * factor * FEWEST_BATCHES
    ):
        factor *= 2
    return factor
