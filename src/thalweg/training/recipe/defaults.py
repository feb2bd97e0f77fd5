"""Defaults of options that follow from other options, and what makes an option idle. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from thalweg import names

Values = Mapping[str, Any]  # options by name


def sees_all_data(values: Values) -> bool:
    """Whether the optimizer is a direction of this package that wants all data in every step."""
    if values["optimizer"] in names.MINI_BATCH_METHODS:
        return values["line_search"] not in names.MINI_BATCH_SEARCHES
    return values["optimizer"] in names.METHODS or (values["optimizer"] == "lbfgs" and bool(values["line_search"]))


def optimizer(values: Values) -> str:
    """An option that speaks of its parts, or divides its memory, means the one that the tasks' rates are for."""
    spoken = values["line_search"] or values["optimizer_options"] or values["shard"]
    return names.SEARCHED_OPTIMIZER if values["optimizer"] == names.AUTOMATIC and spoken else values["optimizer"]


def tokenizer(values: Values) -> str:
    """A vocabulary that is given has its own."""
    return names.GIVEN_TOKENIZER if values["vocabulary"] else values["tokenizer"]


def carry(values: Values) -> int:
    """The gradient leaves out what the weights do to a carried state; losses that are compared would not."""
    return 0 if one_function(values) else values["carry"]


def one_function(values: Values) -> str:
    """Return the option by which a step evaluates its loss at several points, or differentiates it twice; "": none."""
    if values["line_search"]:
        return f"--line-search {values['line_search']}"
    name = values["optimizer"]
    return f"--optimizer {name}" if name in (*names.METHODS, *names.SOLVERS, "lbfgs") else ""


def line_search(values: Values) -> str:
    """A quasi-Newton direction wants the strong Wolfe conditions, the others Armijo's."""
    if values["optimizer"] not in names.METHODS or values["optimizer"] in names.MINI_BATCH_METHODS:
        return values["line_search"]
    return "wolfe" if values["optimizer"] in names.QUASI_NEWTON else "armijo"


def targets(values: Values) -> str:
    """Contrastive heads train their vectors."""
    return "trained" if values["head"] in names.CONTRASTIVE_HEADS else values["targets"]


def target_width(values: Values) -> int:
    """Vectors that are learned with the embedding are as wide as it."""
    learned = values["targets"] == "embedding" or (values["targets"] == "trained" and values["tie"])
    return values["width"] if learned and values["head"] != "softmax" else values["target_width"]


def tie(values: Values) -> bool:
    """Only trained vectors can be the embedding's."""
    return values["tie"] and (values["head"] == "softmax" or values["targets"] == "trained")


def tie_source(values: Values) -> bool:
    """Two sides with a vocabulary each have nothing to share."""
    return values["tie_source"] and values["vocabularies"] == "joint"


def label_smoothing(values: Values) -> float:
    """No other loss has a distribution over words to smooth."""
    return values["label_smoothing"] if values["head"] in ("softmax", *names.CONTRASTIVE_HEADS) else 0.0


def schedule(values: Values) -> str:
    """A line search sets the step, so no schedule does; nor does one beside an average for it."""
    if values["line_search"]:
        return "constant"
    return "constant_with_warmup" if values["average"] == names.SCHEDULE_FREE else values["schedule"]


def warmup(values: Values) -> float:
    """Nor does a warmup."""
    return 0.0 if values["line_search"] else values["warmup"]


def no_warmup(values: Values) -> str:
    """Why a schedule reads no warmup."""
    schedule = values["schedule"]
    return f"on --schedule {schedule}" if schedule in ("constant", *names.SCORED_SCHEDULES) and values["warmup"] else ""


def no_lengths(values: Values) -> str:
    """Why texts are not put together by their lengths."""
    return "on --batch-size full" if not values["batch_size"] else ""


def on_linear(values: Values) -> str:
    """A linear model is as wide as there are labels, and nothing is dropped from scores."""
    if values["freeze"]:
        return "with --freeze"
    return "on --model linear" if values["model"] == "linear" else ""


def select(given: Values) -> str:
    """What validation has to choose: what was not given."""
    if given.get("l2"):
        return "none"
    return "penalty" if "model" in given or "width" in given else "model"


def no_solver(values: Values) -> str:
    """Why an option of the solver has no effect."""
    return "" if values["optimizer"] in names.SOLVERS else f"on --optimizer {values['optimizer']}"


def no_selection(values: Values) -> str:
    """Why a selection has no effect; one by written texts needs no solver."""
    return "" if values["select"] in names.WRITTEN_METRICS else no_solver(values)
