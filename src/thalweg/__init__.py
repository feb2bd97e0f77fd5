"""thalweg: train networks on text, and learn how far from the best possible they are.

The names below are imported when they are first used, so that `import thalweg` costs nothing beyond what is used.
"""

import importlib
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.batch import Batch
    from thalweg.certify.interval import Certificate, Interval, Proof
    from thalweg.curvature.gauss_newton import EmpiricalFisher, Fisher, GaussNewton
    from thalweg.curvature.hessian import Hessian
    from thalweg.errors import InputError
    from thalweg.heads.analytic import AnalyticSoftmax
    from thalweg.heads.base import AbstractHead
    from thalweg.heads.bernoulli import Bernoulli
    from thalweg.heads.contrastive import Contrastive, SampledSoftmax
    from thalweg.heads.distance import Cosine
    from thalweg.heads.softmax import Softmax
    from thalweg.heads.squared import Squared
    from thalweg.heads.targets import Targets
    from thalweg.heads.vmf import VonMisesFisher
    from thalweg.models.mlp import MLP
    from thalweg.objective import Objective
    from thalweg.optim.descent import Descent
    from thalweg.optim.directions import Gradient, Update
    from thalweg.optim.lbfgs import LBFGS
    from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
    from thalweg.optim.line_search import Armijo, Fixed
    from thalweg.optim.newton import Newton
    from thalweg.optim.newton_cg import NewtonCG
    from thalweg.optim.quasi_newton import BFGS, SelfScaledBFGS, SelfScaledBroyden
    from thalweg.optim.stochastic import StochasticArmijo
    from thalweg.optim.trust_region import TrustRegion
    from thalweg.optim.wolfe import StrongWolfe
    from thalweg.status import Status
    from thalweg.training.api import train
    from thalweg.training.certifying import certify
    from thalweg.training.fit import fit
    from thalweg.training.run import Run, load

_HOMES = {
    "AbstractHead": "thalweg.heads.base",
    "AnalyticSoftmax": "thalweg.heads.analytic",
    "Armijo": "thalweg.optim.line_search",
    "BFGS": "thalweg.optim.quasi_newton",
    "Batch": "thalweg.batch",
    "Bernoulli": "thalweg.heads.bernoulli",
    "Certificate": "thalweg.certify.interval",
    "Contrastive": "thalweg.heads.contrastive",
    "Cosine": "thalweg.heads.distance",
    "Descent": "thalweg.optim.descent",
    "EmpiricalFisher": "thalweg.curvature.gauss_newton",
    "Fisher": "thalweg.curvature.gauss_newton",
    "Fixed": "thalweg.optim.line_search",
    "GaussNewton": "thalweg.curvature.gauss_newton",
    "Gradient": "thalweg.optim.directions",
    "Hessian": "thalweg.curvature.hessian",
    "InputError": "thalweg.errors",
    "Interval": "thalweg.certify.interval",
    "LBFGS": "thalweg.optim.lbfgs",
    "LevenbergMarquardt": "thalweg.optim.levenberg_marquardt",
    "MLP": "thalweg.models.mlp",
    "Newton": "thalweg.optim.newton",
    "NewtonCG": "thalweg.optim.newton_cg",
    "Objective": "thalweg.objective",
    "Proof": "thalweg.certify.interval",
    "Run": "thalweg.training.run",
    "SampledSoftmax": "thalweg.heads.contrastive",
    "SelfScaledBFGS": "thalweg.optim.quasi_newton",
    "SelfScaledBroyden": "thalweg.optim.quasi_newton",
    "Softmax": "thalweg.heads.softmax",
    "Squared": "thalweg.heads.squared",
    "Status": "thalweg.status",
    "StochasticArmijo": "thalweg.optim.stochastic",
    "StrongWolfe": "thalweg.optim.wolfe",
    "Targets": "thalweg.heads.targets",
    "TrustRegion": "thalweg.optim.trust_region",
    "Update": "thalweg.optim.directions",
    "VonMisesFisher": "thalweg.heads.vmf",
    "fit": "thalweg.training.fit",
    "load": "thalweg.training.run",
    "train": "thalweg.training.api",
}
# Parts of the package that are named for what they do: `thalweg.certify(run)` calls the function.
_VERBS = {"certify": "thalweg.training.certifying"}

__all__ = [
    "BFGS",
    "LBFGS",
    "MLP",
    "AbstractHead",
    "AnalyticSoftmax",
    "Armijo",
    "Batch",
    "Bernoulli",
    "Certificate",
    "Contrastive",
    "Cosine",
    "Descent",
    "EmpiricalFisher",
    "Fisher",
    "Fixed",
    "GaussNewton",
    "Gradient",
    "Hessian",
    "InputError",
    "Interval",
    "LevenbergMarquardt",
    "Newton",
    "NewtonCG",
    "Objective",
    "Proof",
    "Run",
    "SampledSoftmax",
    "SelfScaledBFGS",
    "SelfScaledBroyden",
    "Softmax",
    "Squared",
    "Status",
    "StochasticArmijo",
    "StrongWolfe",
    "Targets",
    "TrustRegion",
    "Update",
    "VonMisesFisher",
    "certify",
    "fit",
    "load",
    "train",
]


class _Verb(types.ModuleType):
    """A part of the package that can also be called."""

    @property
    def _function(self) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module(_VERBS[name]), name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._function(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self._function.__doc__


class _Package(types.ModuleType):
    """This package; a part of it that is named for a verb becomes callable as soon as it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _VERBS and type(value) is types.ModuleType:
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name in _VERBS:
        return importlib.import_module(f"thalweg.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'thalweg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
