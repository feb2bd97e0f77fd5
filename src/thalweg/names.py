"""The only table from strings to constructors.

Inside the library parts are composed as objects. Recipes and command lines hold strings; here, and nowhere else, they
become objects. Entries are import paths, so reading the table (for `--help`) imports nothing heavy.
"""

import difflib
import importlib
from typing import Any

from thalweg.errors import InputError

TASKS = {
    "classify": "thalweg.tasks.classify.task:Classify",
    "tag": "thalweg.tasks.tag.task:Tag",
    "score": "thalweg.tasks.score.task:Score",
    "forecast": "thalweg.tasks.forecast.task:Forecast",
    "language": "thalweg.tasks.language.task:Language",
    "translate": "thalweg.tasks.translate.task:Translate",
}

# What a task reads: the family of its models, and the model a run takes when none is named.
MODELS = {
    "classify": {
        "bag": "thalweg.models.presets:pooled_bag",
        "mlp": "thalweg.models.presets:pooled_mlp",
        "lstm": "thalweg.models.presets:pooled_lstm",
        "gru": "thalweg.models.presets:pooled_gru",
        "transformer": "thalweg.models.presets:pooled_transformer",
    },
    "tag": {
        "lstm": "thalweg.models.presets:tokens_lstm",
        "transformer": "thalweg.models.presets:tokens_transformer",
    },
    "score": {
        "bag": "thalweg.models.presets:pooled_bag",
        "lstm": "thalweg.models.presets:pooled_lstm",
        "transformer": "thalweg.models.presets:pooled_transformer",
    },
    "score of pairs": {
        "bag": "thalweg.models.presets:pair_bag",
        "lstm": "thalweg.models.presets:pair_lstm",
        "transformer": "thalweg.models.presets:pair_transformer",
    },
    "forecast": {
        "mlp": "thalweg.models.presets:window_mlp",
        "lstm": "thalweg.models.presets:window_lstm",
    },
    "language": {
        "lstm": "thalweg.models.presets:causal_lstm",
        "transformer": "thalweg.models.presets:causal_transformer",
    },
    "translate": {
        "lstm": "thalweg.models.presets:translate_lstm",
        "transformer": "thalweg.models.presets:translate_transformer",
    },
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
        "constant",
        "constant_with_warmup",
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "inverse_sqrt",
        "warmup_stable_decay",
        "step",
        "exponential",
        "reduce_on_plateau",
    )
}

# Directions that are composed with a step size; every optimizer of torch.optim can be one, too, with a --line-search.
METHODS = {
    "gradient": "thalweg.optim.directions:Gradient",
    "bfgs": "thalweg.optim.quasi_newton:BFGS",
    "self-scaled-bfgs": "thalweg.optim.quasi_newton:SelfScaledBFGS",
    "self-scaled-broyden": "thalweg.optim.quasi_newton:SelfScaledBroyden",
    "newton": "thalweg.optim.newton:Newton",
    "newton-cg": "thalweg.optim.newton_cg:NewtonCG",
    "levenberg-marquardt": "thalweg.optim.levenberg_marquardt:LevenbergMarquardt",
}
# Methods for one kind of model, which prove how far from the best possible they are.
SOLVERS = {"factored-newton": "thalweg.certificates.factored.optimizer:FactoredNewton"}
# Its name is one of torch.optim's as well: the composed one is meant where a --line-search is named.
LBFGS = "thalweg.optim.lbfgs:LBFGS"

# Options of those methods that are objects, too.
PARTS = {
    "initial": {
        "scaled-identity": "thalweg.optim.initial:ScaledIdentity",
        "diagonal": "thalweg.optim.initial:InverseDiagonal",
        "gauss-newton": "thalweg.optim.initial:InverseGaussNewton",
    },
    "eigenvalues": {
        "absolute": "thalweg.optim.spectral:Absolute",
        "floor": "thalweg.optim.spectral:Floor",
        "shift": "thalweg.optim.spectral:Shift",
    },
    "curvature": {
        "hessian": "thalweg.curvature.hessian:Hessian",
        "gauss-newton": "thalweg.curvature.gauss_newton:GaussNewton",
    },
    "preconditioner": {
        "jacobi": "thalweg.optim.jacobi:Jacobi",
        "none": "thalweg.optim.jacobi:NoPreconditioner",
    },
}

LINE_SEARCHES = {
    "none": "thalweg.optim.line_search:Fixed",
    "armijo": "thalweg.optim.line_search:Armijo",
    "wolfe": "thalweg.optim.wolfe:StrongWolfe",
    "stochastic": "thalweg.optim.stochastic:StochasticArmijo",
    "trust-region": "thalweg.optim.trust_region:TrustRegion",
}

# Output layers of tasks that write text; "softmax" is the task's own.
HEADS = {"softmax": ""} | {
    name: f"thalweg.heads.presets:{name.replace('-', '_')}"
    for name in (
        "vmf",
        "vmf-reg1",
        "vmf-reg2",
        "vmf-log",
        "l2",
        "cosine",
        "power-spherical",
        "margin",
        "syn-margin",
        "triplet",
        "contrastive",
        "sampled",
        "analytic",
    )
}
HEAD_TASKS = ("language", "translate")

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

TOKENIZERS = ("word", "bpe", "char", "byte")
SCALINGS = ("standard", "range", "none")
PRECISIONS = ("float32", "float64", "bfloat16")
VECTOR_STEPS = ("none", "length", "center", "top")


def layout_of(task: str, model: str) -> str:
    """Return how a model of a task reads its input (see `thalweg.tasks.base.Settings`)."""
    if task == "forecast":
        return "window"
    if task == "language":
        return "causal"
    if task == "translate":
        return "translate"
    return "bag" if model in {"bag", "mlp"} else "padded"


def find(table: dict[str, str], name: str, what: str) -> Any:
    """Return the constructor behind a name.

    Args:
        table: one of the tables of this module.
        name: the name the user gave.
        what: what kind of thing it is, for the message ("model", "schedule").

    Raises:
        InputError: if the table has no such name; the message lists those it has.

    Example:
        >>> find(ACTIVATIONS, "tanh", "activation")
        <class 'torch.nn.modules.activation.Tanh'>
    """
    check(table, name, what)
    module, attribute = table[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def check(table: dict[str, str] | tuple[str, ...], name: str, what: str) -> None:
    """Raise an InputError unless the table has the name."""
    if name not in table:
        close = difflib.get_close_matches(name, list(table), n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise InputError(f"There is no {what} '{name}'; expected one of {', '.join(filter(None, table))}.{hint}")
