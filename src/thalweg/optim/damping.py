"""Damping: a multiple of the identity added to a curvature matrix, which follows the gain ratio."""

import dataclasses
import math
from typing import Final, final

from thalweg.errors import require
from thalweg.optim.base import State

_LARGEST: Final = 1e30  # steps have vanished long before, and single precision still has it


@final
@dataclasses.dataclass(frozen=True)
class Damping:
    r"""Adds $\mu I$ to a curvature matrix; mu falls while the model predicts well, and rises while it doesn't.

    With the gain ratio $\rho$ (decrease of the loss over that predicted), mu becomes

    $$\mu \max\left(\text{fall}, 1 - (2\rho - 1)^3\right) \quad\text{for } \rho > 0, \qquad
      \mu \nu \quad\text{otherwise},$$

    where nu is 2, 4, 8 ... on failures in a row, and mu rises up to 1e30.

    Args:
        initial: first mu, as a fraction of the largest diagonal entry of the first matrix; positive.
        fall: smallest factor of one step, in (0, 1); near a minimum 0.1 converges faster than the usual 1/3.
        smallest: mu never falls below this fraction of the largest diagonal entry of the first matrix; positive.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> Damping(initial=1e-2).fall
        0.2

    Source: Nielsen, "Damping parameter in Marquardt's method" (1999).
    """

    initial: float = 1e-3
    fall: float = 0.2
    smallest: float = 1e-14

    def __post_init__(self) -> None:
        require(0.0 < self.fall < 1.0, "Damping(fall=...) must lie in (0, 1)", self.fall)
        for name in ("initial", "smallest"):
            value = getattr(self, name)
            require(0.0 < value < math.inf, f"Damping({name}=...) must be positive and finite", value)

    def value(self, state: State, scale: float) -> float:
        """Return mu, made from the scale of the matrix at the first call.

        Args:
            state: the direction's memory.
            scale: largest diagonal entry of the matrix.
        """
        if "damping" not in state:
            scale = scale if 0.0 < scale < math.inf else 1.0
            state.update(damping=self.initial * scale, least=self.smallest * scale, rise=2.0)
        return state["damping"]

    def learn(self, state: State, gain: float | None) -> None:
        """Let mu follow a gain ratio; None, one that was not measured, changes nothing."""
        if gain is None or "damping" not in state:
            return
        if not gain > 0.0:
            self.increase(state)
            return
        factor = max(self.fall, 1.0 - (2.0 * min(gain, 1.0) - 1.0) ** 3)
        state.update(damping=max(state["damping"] * factor, state["least"]), rise=2.0)

    def increase(self, state: State) -> None:
        """Let mu rise after a failure."""
        if "damping" in state:
            raised = min(state["damping"] * state["rise"], _LARGEST)
            state.update(damping=max(state["damping"], raised), rise=min(2.0 * state["rise"], _LARGEST))
