"""The only table from strings to constructors.

Inside the library parts are composed as objects. Recipes and command lines hold strings; here, and nowhere else, they
become objects. Entries are import paths, so reading the table (for `--help`) imports nothing heavy.
"""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from thalweg.errors import InputError
from thalweg.optim import catalog
from thalweg.tasks.spec import PRETRAINED, ModelSpec, TaskSpec

# The whole list of tasks: each is a folder with a `spec.py`, and a line here.
TASKS = {
    "classify": "thalweg.tasks.classify.spec:SPEC",
    "tag": "thalweg.tasks.tag.spec:SPEC",
    "score": "thalweg.tasks.score.spec:SPEC",
    "forecast": "thalweg.tasks.forecast.spec:SPEC",
    "language": "thalweg.tasks.language.spec:SPEC",
    "translate": "thalweg.tasks.translate.spec:SPEC",
}

ACTIVATIONS = {
    "sigmoid": "torch.nn:Sigmoid",
    "tanh": "torch.nn:Tanh",
    "relu": "torch.nn:ReLU",
    "leaky_relu": "torch.nn:LeakyReLU",
    "gelu": "torch.nn:GELU",
    "silu": "torch.nn:SiLU",
}

SKIPS = {
    "none": "thalweg.models.skips:NoSkip",
    "residual": "thalweg.models.skips:Residual",
    "prenorm": "thalweg.models.skips:PreNorm",
    "highway": "thalweg.models.skips:Highway",
    "rezero": "thalweg.models.skips:ReZero",
}

INITIALIZATIONS = {
    "default": "",
    "xavier": "thalweg.models.initialize:Xavier",
    "he": "thalweg.models.initialize:He",
    "orthogonal": "thalweg.models.initialize:Orthogonal",
    "lsuv": "thalweg.models.initialize:LSUV",
    "tfixup": "thalweg.models.initialize:TFixup",
}

SCHEDULES = {
    name: f"thalweg.optim.schedules:{name}"
    for name in (
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_min_lr", "cosine_warmup_with_min_lr",
        "cosine_with_restarts", "polynomial", "inverse_sqrt", "warmup_stable_decay", "step", "exponential",
    )
}  # fmt: skip
# Those that follow the score of the validation examples, not the steps.
SCORED_SCHEDULES = {
    name: f"thalweg.optim.plateau:{name}" for name in ("reduce_on_plateau", "reduce_lr_on_plateau", "greedy")
}
SCHEDULES |= SCORED_SCHEDULES

AUTOMATIC = "auto"  # no optimizer, but the wish that one be chosen: see thalweg.optim.auto
OPTIMIZER = AUTOMATIC  # the usual one
# Those that are right on parameters of which each process has some rows: entry by entry, or with rules for that.
DIVISIBLE = ("adamw", "adam", "nadam", "radam", "adamax", "adadelta", "adagrad", "rmsprop", "asgd", "sgd", "muon")
SEARCHED_OPTIMIZER = "adamw"  # that of a line search, or of options, where no optimizer is named
# Those of this library that are used like the ones of torch.optim, which go by their names in lower case.
OPTIMIZERS = catalog.OPTIMIZERS

# Directions that are composed with a step size; every optimizer of torch.optim can be one, too, with a --line-search.
METHODS = {
    "gradient": "thalweg.optim.directions:Gradient",
    "bfgs": "thalweg.optim.quasi_newton:BFGS",
    "self-scaled-bfgs": "thalweg.optim.quasi_newton:SelfScaledBFGS",
    "self-scaled-broyden": "thalweg.optim.quasi_newton:SelfScaledBroyden",
    "newton": "thalweg.optim.newton:Newton",
    "newton-cg": "thalweg.optim.newton_cg:NewtonCG",
    "levenberg-marquardt": "thalweg.optim.levenberg_marquardt:LevenbergMarquardt",
    "kfac": "thalweg.optim.kfac:KFAC",
    "sophia": "thalweg.optim.sophia:Sophia",
}
# Of them; they are for batches and a schedule, like first-order optimizers, unless a search wants one function. With
# the peak learning rate to try first.
MINI_BATCH_METHODS = {"kfac": 1.0, "sophia": 3e-3}
MINI_BATCH_SEARCHES = ("", "none", "stochastic")
QUASI_NEWTON = ("bfgs", "self-scaled-bfgs", "self-scaled-broyden")  # of them; they want a Wolfe search
# Methods for one kind of model, which prove how far from the global optimum they are.
LINEAR_SOLVER, LINEAR_MODEL = "linear-newton", "linear"
SOLVERS = {
    "factored-newton": "thalweg.certificates.factored.optimizer:FactoredNewton",
    LINEAR_SOLVER: "thalweg.certificates.ridge.optimizer:LinearNewton",
    "least-squares": "thalweg.certificates.linear.least_squares:LeastSquares",
}
# Its name is one of torch.optim's as well: the composed one is meant where a --line-search is named.
LBFGS = "thalweg.optim.lbfgs:LBFGS"

# Options of those methods that are objects, too.
PARTS = {
    "initial": {
        "automatic": "thalweg.optim.lbfgs:AutomaticInitial",
        "scaled-identity": "thalweg.optim.lbfgs:ScaledIdentity",
        "diagonal": "thalweg.optim.initial:InverseDiagonal",
        "gauss-newton": "thalweg.optim.initial:InverseGaussNewton",
    },
    "eigenvalues": {
        "absolute": "thalweg.optim.newton:Absolute",
        "floor": "thalweg.optim.newton:Floor",
        "shift": "thalweg.optim.newton:Shift",
    },
    "curvature": {
        "hessian": "thalweg.curvature.hessian:Hessian",
        "gauss-newton": "thalweg.curvature.gauss_newton:GaussNewton",
    },
    "polar": {
        "automatic": "thalweg.optim.polar:Automatic",
        "exact": "thalweg.optim.polar:Exact",
        "newton-schulz": "thalweg.optim.polar:Polynomial",
        "polar-express": "thalweg.optim.polar:polar_express",
    },
    "preconditioner": {
        "jacobi": "thalweg.optim.preconditioner:Jacobi",
        "kronecker": "thalweg.optim.preconditioner:KroneckerFactored",
        "none": "thalweg.optim.preconditioner:NoPreconditioner",
    },
}

LINE_SEARCHES = {
    "none": "thalweg.optim.line_search:Fixed",
    "armijo": "thalweg.optim.line_search:Armijo",
    "wolfe": "thalweg.optim.wolfe:StrongWolfe",
    "stochastic": "thalweg.optim.stochastic:StochasticArmijo",
    "trust-region": "thalweg.optim.trust_region:TrustRegion",
}

# Which weights of a training are evaluated and saved; "none": its last ones.
SCHEDULE_FREE = "schedule-free"
AVERAGES = {
    "none": "",
    SCHEDULE_FREE: "thalweg.optim.schedule_free:ScheduleFree",
    "ema": "thalweg.optim.weight_average:ExponentialAverage",
    "last": "thalweg.optim.weight_average:LastAverage",
}

# What splits texts into words for BLEU, by sacreBLEU's names; "spm" is another name of flores101.
BLEU_TOKENIZERS = ("13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "spBLEU-1K", "none")
WRITTEN_METRICS = ("bleu", "chrf")  # of written texts, by which the best weights can be picked

CHAIN_HEAD = "crf"  # of tags that depend on each other
# Output layers; those after the first two are for tasks that write text. "softmax" is the task's own.
HEADS = {"softmax": "", CHAIN_HEAD: ""} | {
    name: f"thalweg.heads.presets:{name.replace('-', '_')}"
    for name in (
        "vmf", "vmf-reg1", "vmf-reg2", "vmf-log", "l2", "cosine", "power-spherical", "margin", "syn-margin", "triplet",
        "contrastive", "sampled", "analytic",
    )
}  # fmt: skip
# Losses in which other words push where one pulls, so that their targets can be trained.
CONTRASTIVE_HEADS = ("contrastive", "sampled", "analytic")

# Where the vectors of words come from; anything else is a file of word vectors or the folder of a run.
TARGETS = {
    "random": "thalweg.tasks.writing.target_sources:random_targets",
    "hypercube": "thalweg.tasks.writing.target_sources:hypercube_targets",
}
DISPERSIONS = {
    "none": "",
    "sliced": "thalweg.heads.dispersion:Sliced",
    "kernel": "thalweg.heads.dispersion:Kernel",
    "koleo": "thalweg.heads.dispersion:KoLeo",
}

PRETRAINED_TOKENIZER = "pretrained"  # the one that a pretrained model came with
GIVEN_TOKENIZER = "file"  # that of `--vocabulary`
TOKENIZERS = ("word", "bpe", "char", "byte", PRETRAINED_TOKENIZER, GIVEN_TOKENIZER)
POOLINGS = ("auto", "mean", "cls", "last")
PAIR_READINGS = ("auto", "cross", "bi")

# What else gets the history of a run (`--log`).
TRACKERS = {
    "tensorboard": "thalweg.training.trackers.tensorboard:TensorBoard",
    "wandb": "thalweg.training.trackers.wandb:Wandb",
    "mlflow": "thalweg.training.trackers.mlflow:MLflow",
}

SCALINGS = ("standard", "range", "none")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("float32", "float64", "bfloat16")
VECTOR_STEPS = ("none", "length", "center", "top")


def task_spec(name: str) -> TaskSpec:
    """Return what is known of a task before its code is imported; raise an InputError if there is none of that name."""
    return find(TASKS, name, "task")


def model_spec(task: str, model: str, *, freeze: bool = False) -> ModelSpec:
    """Return what is known of a task's model; raise an InputError if it has none of that name."""
    spec = task_spec(task)
    found = spec.model(model, freeze=freeze)
    if found is not None:
        return found
    if model.startswith(PRETRAINED):
        able = [name for name in TASKS if task_spec(name).model(model, freeze=freeze) is not None]
        raise InputError(
            f"Task '{task}' takes no pretrained model{' with --freeze' if freeze else ''} (--model {PRETRAINED}PATH); "
            f"{', '.join(able)} do."
        )
    check(spec.models, model, f"model of task '{task}'")
    raise AssertionError(model)


def task_columns(name: str) -> Any:
    """Return the `thalweg.data.columns.choice.TaskColumns` of a task: what it reads, and how it is recognized."""
    return load(task_spec(name).columns)


def all_task_columns() -> list[Any]:
    """Return the columns of every task, to guess which one a file is for."""
    return [task_columns(name) for name in TASKS]


def models() -> list[str]:
    """Return the names of the models of all tasks, each once."""
    return list(dict.fromkeys(model for task in TASKS for model in task_spec(task).models))


def task_class(name: str) -> Any:
    """Return a task's class (this imports torch)."""
    return load(task_spec(name).task)


def find(table: dict[str, str], name: str, what: str) -> Any:
    """Return the constructor behind a name in one of the tables above; `what` it is ("schedule") is for `check`."""
    check(table, name, what)
    return load(table[name])


def load(path: str) -> Any:
    """Return what an import path `module:attribute` names."""
    module, attribute = path.split(":")
    return getattr(importlib.import_module(module), attribute)


def check(table: Iterable[str], name: str, what: str) -> None:
    """Raise an InputError that lists the names, and the nearest one, unless the table has the name."""
    table = tuple(table)
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise InputError(f"There is no {what} '{name}'; expected one of {', '.join(filter(None, table))}.{hint}")
