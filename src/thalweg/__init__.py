"""thalweg: train networks on text, and learn how far from the best possible they are.

The names below are imported when they are first used, so that `import thalweg` costs nothing beyond what is used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.batch import Batch
    from thalweg.errors import InputError
    from thalweg.heads.base import AbstractHead
    from thalweg.heads.bernoulli import Bernoulli
    from thalweg.heads.softmax import Softmax
    from thalweg.heads.squared import Squared
    from thalweg.models.mlp import MLP
    from thalweg.objective import Objective
    from thalweg.status import Status
    from thalweg.training.api import train
    from thalweg.training.fit import fit
    from thalweg.training.run import Run, load

_HOMES = {
    "AbstractHead": "thalweg.heads.base",
    "Batch": "thalweg.batch",
    "Bernoulli": "thalweg.heads.bernoulli",
    "InputError": "thalweg.errors",
    "MLP": "thalweg.models.mlp",
    "Objective": "thalweg.objective",
    "Run": "thalweg.training.run",
    "Softmax": "thalweg.heads.softmax",
    "Squared": "thalweg.heads.squared",
    "Status": "thalweg.status",
    "fit": "thalweg.training.fit",
    "load": "thalweg.training.run",
    "train": "thalweg.training.api",
}

__all__ = [
    "MLP",
    "AbstractHead",
    "Batch",
    "Bernoulli",
    "InputError",
    "Objective",
    "Run",
    "Softmax",
    "Squared",
    "Status",
    "fit",
    "load",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'thalweg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
