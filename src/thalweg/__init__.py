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
    from thalweg.errors import InputError
    from thalweg.heads.base import AbstractHead
    from thalweg.heads.bernoulli import Bernoulli
    from thalweg.heads.softmax import Softmax
    from thalweg.heads.squared import Squared
    from thalweg.models.mlp import MLP
    from thalweg.objective import Objective
    from thalweg.status import Status
    from thalweg.training.api import train
    from thalweg.training.certifying import certify
    from thalweg.training.fit import fit
    from thalweg.training.run import Run, load

_HOMES = {
    "AbstractHead": "thalweg.heads.base",
    "Batch": "thalweg.batch",
    "Bernoulli": "thalweg.heads.bernoulli",
    "Certificate": "thalweg.certify.interval",
    "InputError": "thalweg.errors",
    "Interval": "thalweg.certify.interval",
    "MLP": "thalweg.models.mlp",
    "Objective": "thalweg.objective",
    "Proof": "thalweg.certify.interval",
    "Run": "thalweg.training.run",
    "Softmax": "thalweg.heads.softmax",
    "Squared": "thalweg.heads.squared",
    "Status": "thalweg.status",
    "fit": "thalweg.training.fit",
    "load": "thalweg.training.run",
    "train": "thalweg.training.api",
}
# Parts of the package that are named for what they do: `thalweg.certify(run)` calls the function.
_VERBS = {"certify": "thalweg.training.certifying"}

__all__ = [
    "MLP",
    "AbstractHead",
    "Batch",
    "Bernoulli",
    "Certificate",
    "InputError",
    "Interval",
    "Objective",
    "Proof",
    "Run",
    "Softmax",
    "Squared",
    "Status",
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
