"""Comparisons that are ready to run by the name of their built-in data. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final


@final
@dataclass(frozen=True)
class Study:
    """What a built-in set is compared on where no entrants are named.

    Args:
        optimizers: the entrants.
        options: options of training that are the same for all.
        steps: of each run.
        trials: settings tried of each entrant.
        num_seeds: final runs of each.
        scored_on: whose loss counts.
    """

    optimizers: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    trials: int = 0
    num_seeds: int = 20
    scored_on: Literal["valid", "train"] = "train"


_FIRST_ORDER = "batch_size=full:schedule=constant:clip=0"
_START = 'initial={name="gauss-newton",damping=1e-3,refresh=30}'

# A network 10-5-1 on the yearly sunspots, 100 iterations with all years but the last three from 20 random starts: the
# classroom's question is how low each method comes on the data it sees (docs/sunspots.md).
STUDIES: Final[dict[str, Study]] = {
    "sunspots": Study(
        optimizers=(
            f'sgd:lr=0.1:{_FIRST_ORDER}:label="gradient descent, rate 0.1"',
            'gradient:label="gradient descent, Armijo"',
            f'adam:lr=0.01:{_FIRST_ORDER}:label="Adam, rate 0.01"',
            'bfgs:label="BFGS"',
            f'bfgs:{_START}:label="BFGS from Gauss-Newton"',
            f'self-scaled-broyden:{_START}:label="self-scaled Broyden from Gauss-Newton"',
            'lbfgs:label="L-BFGS"',
            'newton:damping=1:label="Newton"',
            'newton-cg:line_search=stochastic:label="Newton-CG"',
            'levenberg-marquardt:label="Levenberg-Marquardt"',
        ),
        options={
            "model": "mlp", "lags": 10, "hidden": 5, "activation": "tanh", "scaling": "range", "dropout": 0.0,
            "l2": 0.0, "weight_decay": 0.0, "precision": "float64", "valid_share": 0.01,
        },
        steps=100,
    )
}  # fmt: skip
