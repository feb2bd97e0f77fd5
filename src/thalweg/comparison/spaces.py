"""What is tuned of each optimizer and in which range, one line each, and which settings are tried. Imports no torch.

The ranges of learning rates reach from a tenth to ten times what is usual for small networks, wider for SGD, whose rate
has no natural scale. What a method does not need (its learning rate, where a line search finds the step) is not tuned.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from thalweg import names
from thalweg.training.recipe.defaults import Values, sees_all_data


@final
@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`, evenly on a logarithmic scale or (log=False) a linear one."""

    low: float
    high: float
    log: bool = True

    def at(self, place: float) -> float:
        """Return the number at a place in [0, 1), to four digits."""
        if self.log:
            return float(f"{math.exp(math.log(self.low) + place * math.log(self.high / self.low)):.4g}")
        return float(f"{self.low + place * (self.high - self.low):.4g}")

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"low": self.low, "high": self.high, "log": self.log}


@final
@dataclass(frozen=True)
class Choices:
    """One of some values."""

    choices: tuple[Any, ...]

    def at(self, place: float) -> Any:
        """Return the value at a place in [0, 1)."""
        return self.choices[min(int(place * len(self.choices)), len(self.choices) - 1)]

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"choices": list(self.choices)}


Space = Mapping[str, Interval | Choices]

_DECAY = Interval(1e-3, 0.3)
_ADAM_BETAS = Choices(([0.9, 0.999], [0.9, 0.95]))

# Options of the recipe ("lr", "weight_decay") or, where it has none of that name, of the optimizer ("betas").
SPACES: Final[dict[str, Space]] = {
    "adamw": {"lr": Interval(3e-4, 3e-2), "weight_decay": _DECAY, "betas": _ADAM_BETAS},
    "adam": {"lr": Interval(3e-4, 3e-2), "betas": _ADAM_BETAS},
    "nadam": {"lr": Interval(3e-4, 3e-2), "betas": _ADAM_BETAS},
    "radam": {"lr": Interval(3e-4, 3e-2), "betas": _ADAM_BETAS},
    "sgd": {"lr": Interval(1e-2, 10.0), "momentum": Choices((0.9, 0.0, 0.99))},
    "muon": {"lr": Interval(2e-3, 0.2), "weight_decay": _DECAY},
    "polar-muon": {"lr": Interval(5e-4, 5e-2), "weight_decay": _DECAY},
    "normuon": {"lr": Interval(5e-4, 5e-2), "weight_decay": _DECAY},
    "soap": {"lr": Interval(3e-4, 3e-2), "weight_decay": _DECAY},
    "shampoo": {"lr": Interval(3e-4, 3e-2), "weight_decay": _DECAY},
    "kfac": {"lr": Interval(0.1, 3.0), "damping": Interval(3e-3, 0.3)},
    "sophia": {"lr": Interval(3e-4, 3e-2), "rho": Interval(3e-3, 0.3)},
    "adagrad": {"lr": Interval(3e-3, 1.0)},
    "rmsprop": {"lr": Interval(1e-4, 1e-2), "alpha": Choices((0.99, 0.9))},
}
# What a bare name means here, where it means something else in training (L-BFGS on mini-batches goes astray).
IMPLIED: Final[dict[str, dict[str, Any]]] = {"lbfgs": {"line_search": "wolfe"}}
DEFAULT_OPTIMIZERS: Final = ("adamw", names.AUTOMATIC, "soap", "sgd")


def space_of(values: Values, default_lr: float) -> Space:
    """Return what is tuned of a complete recipe's optimizer, in which ranges.

    Args:
        values: the recipe's options by name.
        default_lr: its usual learning rate; another package's optimizer is tuned from a tenth to ten times of it.

    Example:
        >>> list(space_of({"optimizer": "adamw", "line_search": ""}, 3e-3))
        ['lr', 'weight_decay', 'betas']
        >>> space_of({"optimizer": "newton", "line_search": "armijo"}, 1.0)
        {}
    """
    name, line_search = values["optimizer"], values["line_search"]
    if name in names.SOLVERS or name == names.AUTOMATIC:
        return {}
    usual: Space = {"lr": Interval(float(f"{default_lr / 10:.3g}"), float(f"{default_lr * 10:.3g}"))}
    if sees_all_data(values):
        return usual if line_search == "none" else {}
    space = SPACES.get(name.lower(), usual)
    if line_search not in ("", "none"):  # the search finds the step
        return {option: one for option, one in space.items() if option != "lr"}
    return space


def points(space: Space, number: int, seed: int) -> list[dict[str, Any]]:
    """Return the settings of `number` trials: none (the defaults) first, then those of a scrambled Halton sequence.

    They are a function of space, seed and place alone: more trials begin with those of fewer, and it does not matter
    which process takes which. Spaces of as many options get the same points of the unit cube.

    Args:
        space: what is tuned; where it is empty nothing is tried.
        number: how many, >= 0.
        seed: of the scrambling.

    Example:
        >>> points({"lr": Interval(0.001, 1.0)}, 3, seed=0)
        [{}, {'lr': 0.1323}, {'lr': 0.004185}]

    Source: Bousquet et al. (2017), Critical Hyper-Parameters: No Random, No Cry; Dahl et al. (2023), Benchmarking
    Neural Network Training Algorithms, who tune by Halton points as well.
    """
    from scipy.stats import qmc  # only now: the command line's help reads this file

    if not space or number < 1:
        return []
    found: list[dict[str, Any]] = [{}]
    if number > 1:
        cube = qmc.Halton(len(space), rng=seed).random(number - 1)
        found += [
            {option: one.at(float(place)) for (option, one), place in zip(space.items(), row, strict=True)}
            for row in cube
        ]
    return found
