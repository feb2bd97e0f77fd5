"""From a run to the arrays that certificates are made of, and back into its folder."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np
from torch import nn

from thalweg.certificates.attempts import Clock
from thalweg.certificates.certificate.interval import Interval
from thalweg.certificates.certificate.ladder import ladder_section
from thalweg.certificates.levels import Groups, certify_objective
from thalweg.data.arrays.equal import Prefixes
from thalweg.data.containers.opening import open_any, reading_like, reading_of
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective
from thalweg.report.page import render_report
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.certified.new_texts import level_or_reason, require_untouched, with_new_texts
from thalweg.training.folder.again import read_again
from thalweg.training.folder.report import make_report
from thalweg.training.folder.run import Run
from thalweg.training.integrity.run_files import CERTIFICATE, CERTIFICATE_ARRAYS, REPORT
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.steps.device import choose_device, choose_precision
from thalweg.training.steps.feed import in_order

BATCH_SIZE = 64

Say = Callable[[str], None]


def certify(
    what: "Run | Objective | str | Path",
    *,
    seconds: float = 20.0,
    radius: float | None = None,
    test: str | Path | None = None,
    say: Say = lambda sentence: None,  # noqa: ARG005
) -> Interval:
    r"""Return an interval $[L, f(\hat\theta)]$ for the best possible loss, with a proof for its lower end.

    $L \le \min_\theta f(\theta) \le f(\hat\theta)$, where $f$ is the training loss with its L2 penalty and
    $\hat\theta$ the weights as they are. Every level that applies gives a bound of its own (floors of the data, the
    best head on these features, the best linear model of any width ...); the interval takes the best one that holds
    for every training of this configuration.

    Args:
        what: a run, its folder, or an objective on all training data.
        seconds: for everything, above 0. What would take longer is left out, and says how long it takes.
        radius: of an objective: a length that the features below the head never exceed, whatever the weights; None:
            nobody knows one.
        test: of a run: a file with the columns of its training data that nothing was chosen by, for the level about
            new data; None: its validation examples.
        say: takes sentences about what is being done.

    Returns:
        The interval; `interval.bound`, `interval.levels`, `interval.scope`, `interval.proof`, `interval.save(path)`.

    Raises:
        InputError: if the run's data has changed or cannot be read, or the loss is not finite.

    Example:
        >>> import torch
        >>> x, y = torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([0, 1, 1])
        >>> model = nn.Linear(1, 2)
        >>> interval = certify(Objective(model, nn.CrossEntropyLoss(), x, y))
        >>> round(interval.bound, 4)  # the first two inputs are equal: 2 log(2) / 3
        0.4621

    It speaks of the training loss, of which a low one promises nothing for new data; for a run that is right or wrong
    on an example, the level "held_out" says between which limits its error on new data lies.
    """
    if isinstance(what, Objective):
        return certify_objective(what, seconds=seconds, radius=radius, say=say)
    run = what if isinstance(what, Run) else Run(what)
    return certify_run(run, seconds=seconds, test=None if test is None else Path(test), say=say).interval


@final
@dataclasses.dataclass(frozen=True)
class Certified:
    """A certified run: the interval, and what it was made from (the training loss on all training data)."""

    interval: Interval
    objective: Objective
    task: AbstractTask
    prepared: Prepared


@final
@dataclasses.dataclass(frozen=True)
class Opened:
    """A run whose data have been read again."""

    run: Run
    task: AbstractTask
    prepared: Prepared
    test: Path | None = None  # a file that nothing was chosen by, for the level about new data
    reading: Mapping[str, Any] = dataclasses.field(
        default_factory=dict
    )  # options of how it is read; for others the run's own

    def certified(self, clock: Clock, say: Say) -> Certified:
        """Certify the run's weights as they are now."""
        recipe = self.run.recipe
        objective, view = training_objective(recipe, self.task, self.trained, self.run.model, self.run.head)
        # First, because it takes little and is what most people ask for.
        new = level_or_reason(self.run, self.task, self.prepared, self.test, clock, self.reading)
        interval = certify_objective(
            objective, view, clock=clock, notes=notes_of(recipe), about=self.task.about(), say=say
        )
        return Certified(with_new_texts(interval, new), objective, self.task, self.prepared)

    @functools.cached_property
    def trained(self) -> Prepared:
        """The data with everything that the weights were trained on as training examples."""
        return self.prepared.with_validation() if self.run.is_refitted else self.prepared


def open_run(
    run: Run,
    say: Say = lambda sentence: None,  # noqa: ARG005
    test: Path | None = None,
    reading: Mapping[str, Any] = MappingProxyType({}),
) -> Opened:
    """Read a run's data again; it raises what `certify` does."""
    run.require_weights()
    if not run.finished:
        raise InputError(
            f"{run.folder} has not finished, so there is nothing to certify; repeat its `thalweg train` command."
        )
    if run.recipe.data.streaming == "yes":
        raise InputError(
            f"{run.folder} was trained on data that are read in blocks (--streaming yes), and a certificate is about "
            f"all training examples at once; the report has its held-out figures, and `thalweg evaluate {run.folder} "
            "FILE` those of another file."
        )
    if test is not None:
        open_any(test, **reading_of(reading_like(vars(run.recipe.data), test, reading)))
        require_untouched(run, test)
    say("Rereading the training data.")
    return Opened(run, *read_again(run), test, reading)


def certify_run(
    run: Run,
    *,
    seconds: float = 20.0,
    test: Path | None = None,
    say: Say = lambda sentence: None,  # noqa: ARG005
) -> Certified:
    """Read a run's data again and certify its weights, both within the time; it raises what `certify` does."""
    clock = Clock(seconds)
    return open_run(run, say, test).certified(clock, say)


def keep(run: Run, certified: Certified, *, report: bool, say: Say, more: Sequence[dict[str, Any]] = ()) -> None:
    """Write the certificate into its run, and the report once more, with the picture of the bounds and `more` first."""
    content, arrays = certified.interval.files()
    files = {CERTIFICATE: content, CERTIFICATE_ARRAYS: arrays}
    if report:
        say("Redrawing the report.")
        first = [ladder_section(certified.interval), *more]
        page = make_report(run, certified.task, certified.prepared, run.measured, run.result, first)
        files[REPORT] = render_report(page).encode(errors="replace")
    with run.changing("certified") as ledger:
        ledger.write(files)


def training_objective(
    recipe: Recipe, task: AbstractTask, prepared: Prepared, model: nn.Module, head: AbstractHead
) -> tuple[Objective, Groups | Prefixes | None]:
    """Return the loss that training minimizes, on all training data at once, and what the model sees of them."""
    parameter = next(iter((*model.parameters(), *head.parameters())))
    pairs = list(in_order(prepared.train, task.training_batch, BATCH_SIZE, parameter.device, parameter.dtype))
    _, autocast = choose_precision(recipe.run.precision, choose_device("cpu"))
    objective = Objective(model, head, [batch for _, batch in pairs], l2=recipe.training.l2, autocast=autocast)
    view = task.view(prepared.train)
    if view is None or isinstance(view, Prefixes):
        return objective, view
    return objective, Groups(np.concatenate([view.of(indices) for indices, _ in pairs]), view.describes)


def notes_of(recipe: Recipe) -> list[str]:
    """Return sentences about what a training did that is not part of its objective."""
    training, notes = recipe.training, []
    if training.weight_decay:
        notes.append(
            f"Training also used decoupled weight decay (--weight-decay {training.weight_decay:g}), which is not "
            "part of the objective; the certified loss is computed without it."
        )
    if recipe.model.freeze:
        notes.append(
            "The pretrained model is frozen: the bound 'linear' is about the output layer on what it says of the "
            "texts, and fine-tuning (without --freeze) changes that; the bounds 'floor' hold for whatever it becomes."
        )
    if recipe.run.precision == "bfloat16":
        notes.append("Training ran its forward pass in bfloat16; the certified loss is computed in float64.")
    return notes
