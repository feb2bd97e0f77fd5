"""Numeric columns to a common scale, and the way back."""

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from thalweg.errors import InputError

KINDS: Final = ("standard", "range", "none")
_SMALLEST: Final = 1e-300  # a smaller range counts as none: the scale could vanish


@final
@dataclass(frozen=True, eq=False)
class Standardizer:
    r"""One shift and one scale for each column, in float64.

    $$z = (x - \text{shift}) / \text{scale}, \qquad x = \text{shift} + \text{scale} \cdot z$$

    Args:
        shift: float64 `[columns]`.
        scale: float64 `[columns]`, never 0.

    Raises:
        ValueError: if the two have different shapes, or a scale is 0 or not finite.

    Example:
        >>> values = np.array([[1.0, 10.0], [3.0, 30.0]])
        >>> scaling = Standardizer.fit(values)
        >>> scaling.forward(values).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
        >>> scaling.inverse(scaling.forward(values)).tolist()
        [[1.0, 10.0], [3.0, 30.0]]
        >>> Standardizer.fit(values, "range", low=0.0, high=1.0).forward(values).tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """

    shift: np.ndarray
    scale: np.ndarray

    def __post_init__(self) -> None:
        if self.shift.ndim != 1 or self.shift.shape != self.scale.shape:
            raise ValueError(
                f"Standardizer(shift, scale) needs two 1-d arrays of one length; got {self.shift.shape} and "
                f"{self.scale.shape}."
            )
        if not np.isfinite(self.shift).all() or not np.isfinite(self.scale).all() or not self.scale.all():
            raise ValueError("Standardizer(shift, scale) needs finite numbers, and no scale of 0.")

    @classmethod
    def fit(cls, values: np.ndarray, kind: str = "standard", *, low: float = -1.0, high: float = 1.0) -> "Standardizer":
        """Return the scaling that these values ask for; fit it on training data only.

        Args:
            values: `[rows, columns]`, or `[rows]` for one column; at least one row, all finite.
            kind: "standard" gives each column mean 0 and variance 1 (the population's: divided by the number of rows);
                "range" puts its smallest value at `low` and its largest at `high`; "none" leaves the numbers alone.
                A constant column, which has no variance and no range, is only shifted: to 0, or to the middle between
                `low` and `high`.
            low: lower end for "range".
            high: upper end for "range", above `low`.

        Raises:
            ValueError: for an unknown kind, or if `low` is not below `high`.
            InputError: if there is no row, or a value is NaN or infinite; the column and row are named.
        """
        if kind not in KINDS:
            raise ValueError(f"Standardizer.fit(kind=...) must be one of {', '.join(KINDS)}; got {kind!r}.")
        if not low < high:
            raise ValueError(f"Standardizer.fit(low=..., high=...) needs low < high; got {low} and {high}.")
        values = np.asarray(values, dtype=np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or not len(values):
            raise InputError(f"Expected rows of numbers to fit a scaling to; got an array of shape {values.shape}.")
        _check_finite(values)
        smallest, largest = values.min(axis=0), values.max(axis=0)
        if kind == "none":
            return cls(np.zeros(values.shape[1]), np.ones(values.shape[1]))
        # Halves are subtracted, so that the range of numbers near the largest float64 does not overflow.
        half = largest / 2 - smallest / 2
        middle = smallest / 2 + largest / 2
        is_constant = half < _SMALLEST
        if kind == "range":
            factor = (high - low) / 2
            scale = np.where(is_constant, 1.0, half / factor)
            return cls(middle - (low + high) / 2 * scale, scale)
        # Measured from the middle in half ranges, sums and squares lose no digits, and neither overflow nor vanish.
        unit = np.where(is_constant, 1.0, half)
        places = (values - middle) / unit
        deviation = places.std(axis=0) * unit
        return cls(middle + places.mean(axis=0) * unit, np.where(is_constant, 1.0, deviation))

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Return the scaled values, float64 `[..., columns]`."""
        return (np.asarray(values, dtype=np.float64) - self.shift) / self.scale

    def inverse(self, scaled: np.ndarray) -> np.ndarray:
        """Return the values in their own unit, float64 `[..., columns]`."""
        return np.asarray(scaled, dtype=np.float64) * self.scale + self.shift

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, as plain JSON values; nothing is rounded."""
        return {"shift": self.shift.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Standardizer":
        """Return the scaling that `to_dict` was called on.

        Raises:
            InputError: if something is missing or no number.
        """
        try:
            return cls(*(np.array(saved[name], dtype=np.float64) for name in ("shift", "scale")))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"Expected a saved scaling with 'shift' and 'scale', one number per column; {error}."
            ) from None


def _check_finite(values: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0].tolist()
        raise InputError(
            f"Expected finite numbers, got {values[row, column]} in row {row + 1}, column {column + 1}; "
            "fill it in, or leave the row out."
        )
