"""What the size of the data decides in a recipe: trained on at once, or read in blocks; width, penalty, epochs."""

import dataclasses
import math
from collections.abc import Callable
from typing import Final, final

from thalweg import names
from thalweg.certificates.linear import packed
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.blocks.shards import parts_of, why_not
from thalweg.data.columns.reading import ReadSource
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options, Recipe
from thalweg.training.session.reading import Opened
from thalweg.training.steps.device import choose_device

MIN_DEFAULT_STEPS: Final = 300
MAX_DEFAULT_EPOCHS: Final = 100.0
MOST_LABELS_OF_BAG: Final = 20
MAX_BYTES: Final = 3 * 2**30
MAX_SECONDS: Final = 600.0
MOST_IN_MEMORY: Final = 2**30  # bytes of files that are read into memory unless --streaming says otherwise
_LINEAR_PRODUCTS = 180  # of a linear model, with all else that its steps take: 111 to 236 on four problems, docs/log.md
MEASURED_SECONDS: Final = 15.0  # by the constants here; where a million features or more take longer, it is measured
LINEAR_L2: Final = 0.3  # of the sum over all words; chosen on WNUT17's and English EWT's development parts
_PRODUCTS, _SPARSE_RATE, _DENSE_RATE = 400, 1e9, 1.6e10  # products of a usual run; terms a second on one core


@final
@dataclasses.dataclass(frozen=True)
class Estimate:
    """What training on all data at once would take."""

    num_bytes: float = 0.0  # beside the data
    seconds: float | None = None  # None: so little that it was not measured
    obstacle: str = ""  # a sentence that says why it cannot be done; or nothing


def estimate(
    recipe: Recipe, task: AbstractTask, prepared: Prepared, measure: Callable[[Recipe, AbstractTask, Prepared], float]
) -> Estimate:
    """Return what a solver would take on all data at once, and whether that is too much.

    `recipe` is what suits it; `measure` returns the seconds that it takes, and is asked where they may be many.
    """
    if choose_device(recipe.run.device).type == "mps":
        return Estimate(obstacle="This device does not support float64.")
    if not task.shape().vocabulary_size:
        return Estimate()
    outputs, features = _num_outputs(task), task.shape().vocabulary_size
    terms, rows = _num_terms(prepared), len(prepared.train)
    copies = 60 if terms <= packed.LEAST else 8 if outputs > packed.FEW else 0
    memory = copies * terms + 80 * features * outputs + 130 * rows * outputs
    seconds = _LINEAR_PRODUCTS * 2 * terms * outputs / _SPARSE_RATE
    if recipe.training.optimizer != names.LINEAR_SOLVER:
        dense = 6 * features * outputs * min(outputs, features) / _DENSE_RATE
        seconds = _PRODUCTS * (2 * terms * outputs / _SPARSE_RATE + dense)
    size = f"{rows:,} texts with {features:,} features and {outputs:,} labels would take about"
    if memory > MAX_BYTES:
        return Estimate(memory, obstacle=f"{size} {memory / 2**30:.1f} GB to train on all at once.")
    measured = None
    if seconds > MEASURED_SECONDS and terms > packed.LEAST // 8:
        seconds = measured = measure(recipe, task, prepared)
    if seconds > MAX_SECONDS:
        return Estimate(memory, measured, f"{size} {seconds / 60:.0f} minutes to train on all at once.")
    return Estimate(memory, measured)


def is_large(task: AbstractTask, prepared: Prepared) -> bool:
    """Whether the data are so large that the cheapest model is trained on them, unless another was named."""
    return names.LINEAR_MODEL in names.task_spec(task.name).models and _num_terms(prepared) > packed.LEAST


def for_solver(recipe: Recipe, options: Options, task: AbstractTask, prepared: Prepared) -> Recipe:
    """Return the recipe with the width and the penalty that suit a solver on these data, where they were not given."""
    if not task.shape().vocabulary_size:
        return recipe
    outputs, rows = _num_outputs(task), len(prepared.train)
    several = bool(getattr(task, "multilabel", False))
    if recipe.training.optimizer == names.LINEAR_SOLVER:
        return recipe.with_(l2=options.get("l2", linear_l2(rows, _num_labels(task), several=several)))
    width = options.get("width", outputs)  # the best solution has no higher rank
    return recipe.with_(width=width, l2=options.get("l2", default_l2(rows, outputs, several=several)))


def for_candidate(recipe: Recipe, name: str, task: AbstractTask) -> Recipe:
    """Return the recipe of a model that validation may choose."""
    solver = names.model_spec(task.name, name, freeze=recipe.model.freeze).solver
    width = recipe.model.width
    if recipe.training.select == "model":
        usual = OPTIONS["width"].by_model.get(name, OPTIONS["width"].default)
        width = usual if solver == names.LINEAR_SOLVER else _num_outputs(task)
    return recipe.with_(model=name, optimizer=solver, width=width)


def not_worth_it(name: str, task: AbstractTask) -> str:
    """Return why validation does not try a model, as the end of a sentence; or nothing."""
    outputs = _num_outputs(task)
    if name != "bag":
        return ""
    if outputs <= 2:
        return "with two labels it has the linear model's solutions"
    if outputs > MOST_LABELS_OF_BAG:
        return f"with {outputs} labels it would take several times as long"
    return ""


def for_linear_tagger(recipe: Recipe, options: Options, prepared: Prepared) -> Recipe:
    """Return the recipe with the penalty that suits a linear model over many features, where none was given."""
    num_targets = int(prepared.train.ragged("tokens").lengths.sum())
    return recipe.with_(l2=options.get("l2", float(f"{LINEAR_L2 / num_targets:.2g}")))


def default_l2(num_examples: int, num_outputs: int, *, several: bool) -> float:
    """Return the penalty that is taken when none is given, to two digits.

    It falls with the number of texts, as the noise of their mean does, and with the number of labels; the figures
    were chosen by hand on held-out texts of a few data sets (docs/training.md).

    Example:
        >>> default_l2(1000, 2, several=False), default_l2(3162, 15, several=False)
        (0.0075, 4.2e-05)
    """
    strength = 5.0 / num_outputs if several else max(0.05, 30.0 / num_outputs**2)
    return float(f"{strength / num_examples:.2g}")


def linear_l2(num_examples: int, num_labels: int, *, several: bool) -> float:
    """Return the penalty of a linear model that is taken when none is given, to two digits.

    It is that of scikit-learn's logistic regression with C = 10, which does well on most texts. For numbers (no labels)
    it is that of its ridge with alpha = 1, which the features of pairs are scaled for.

    Example:
        >>> linear_l2(1000, 2, several=False), linear_l2(1000, 5, several=True), linear_l2(1000, 0, several=False)
        (0.0001, 2e-05, 0.001)
    """
    each = num_labels if several else 1  # the loss of several labels is their mean
    return float(f"{(0.1 if num_labels else 1.0) / (num_examples * each):.2g}")


def with_enough_epochs(recipe: Recipe, num_examples: int) -> Recipe:
    """Return the recipe with more epochs where its own would be a handful of steps."""
    training = recipe.training
    if not training.batch_size:
        return recipe
    steps_per_epoch = math.ceil(num_examples / ((training.batch_size or num_examples) * training.accumulate))
    enough = min(MAX_DEFAULT_EPOCHS, float(math.ceil(MIN_DEFAULT_STEPS / steps_per_epoch)))
    return recipe.with_(epochs=max(training.epochs, enough))


def with_streaming(opened: Opened, say: Callable[[str], None]) -> Opened:
    """Return the same with the decision whether the training data are read in blocks while training.

    They are where that was asked for; and, unless it was refused, where they are large and nothing speaks against it.
    An InputError tells why it cannot be done where it was asked for.
    """
    options, wanted = opened.options, opened.options.get("streaming", "auto")
    source = opened.source.source if isinstance(opened.source, ReadSource) else opened.source
    size = sum(part.lines.file.stat().st_size for part in parts_of(source)) if wanted != "no" else 0
    if wanted == "no" or (wanted == "auto" and size <= MOST_IN_MEMORY):
        return dataclasses.replace(opened, decided=opened.decided.with_(streaming="no"))
    reason = _against_streaming(opened, source)
    if reason and wanted == "yes":
        raise InputError(f"--streaming yes: {reason} Leave it out, or give --streaming no.")
    if reason:
        say(f"The data have {size / 2**30:.1f} GB and are read into memory as a whole: {reason}")
        return dataclasses.replace(opened, decided=opened.decided.with_(streaming="no"))
    decided = opened.decided.with_(streaming="yes")
    if _takes_all(decided):
        say("Data that are read in blocks are trained on in mini-batches, without a proof of optimality.")
        decided = _in_batches(decided)
    if not {"epochs", "steps"} & set(options):
        decided = decided.with_(epochs=1.0)
    return dataclasses.replace(opened, decided=decided)


def _against_streaming(opened: Opened, source: AbstractSource) -> str:
    """Return a sentence that says why data can't be read in blocks; "" where they can."""
    options = opened.options
    if "series" in names.task_spec(options["task"]).traits:
        return "A forecast learns from the order of all rows."
    if options.get("batch_tokens"):
        return "--batch-tokens takes the lengths of all texts."
    if options.get("optimizer") in names.SOLVERS or options.get("certify"):
        return "Training to a proved optimum takes all data at once."
    return why_not(source) or "This training takes all data in each step." * _takes_all(_in_batches(opened.decided))


def _takes_all(options: Options) -> bool:
    """Whether all data are trained on in each step."""
    training = complete(options).training
    return training.optimizer in names.SOLVERS or training.batch_size == 0


def _in_batches(options: Options) -> Options:
    """Return options of training in mini-batches, where those given do not say otherwise."""
    chooses = _takes_all(options) and "optimizer" not in options
    return options.with_(optimizer=names.OPTIMIZER) if chooses else options


def _num_terms(prepared: Prepared) -> int:
    tokens = prepared.train.columns.get("tokens")
    return int(tokens.offsets[-1]) if isinstance(tokens, Ragged) else 0


def _num_outputs(task: AbstractTask) -> int:
    return _num_labels(task) or 1


def _num_labels(task: AbstractTask) -> int:
    return len(getattr(task, "labels", ()))
