"""The numbers that an option may be. Imports no torch.

Wide enough for whatever anybody trains, and narrow enough that no sum, product or conversion to float32 overflows.
"""

from dataclasses import dataclass
from typing import Final, final

MOST: Final = 1_000_000_000  # of what is counted: examples, steps, tokens
WIDEST: Final = 32_768  # units
DEEPEST: Final = 250  # layers
LARGEST: Final = 1e30  # of an amount: its square, too, is far from the largest float64
SMALLEST: Final = 1 / LARGEST


@final
@dataclass(frozen=True)
class Range:
    """The numbers that an option may be, and how to say so."""

    says: str
    least: float
    most: float
    off: bool = False  # whether 0 is allowed, too

    def holds(self, value: float) -> bool:
        """Return whether a value is one of them; NaN is none.

        Example:
            >>> AMOUNT.holds(0.0), AMOUNT.holds(1e-320), COUNT.holds(10**9), COUNT.holds(10**9 + 1)
            (True, False, True, False)
        """
        return self.least <= value <= self.most or (self.off and value == 0)


COUNT: Final = Range(f"must lie between 1 and {MOST:,}", 1, MOST)
FROM_ZERO: Final = Range(f"must lie between 0 and {MOST:,}", 0, MOST)
WIDTH: Final = Range(f"must lie between 1 and {WIDEST:,}", 1, WIDEST)
DEPTH: Final = Range(f"must lie between 0 and {DEEPEST:,}", 0, DEEPEST)
POSITIVE: Final = Range("must lie between 1e-30 and 1e30", SMALLEST, LARGEST)
AMOUNT: Final = Range("must be 0 (off), or lie between 1e-30 and 1e30", SMALLEST, LARGEST, off=True)
LENGTH: Final = Range(f"must be 0 (off), or lie between 1e-9 and {MOST:,}", 1e-9, MOST, off=True)
RATIO: Final = Range(f"must be 0 (any), or lie between 1 and {MOST:,}", 1, MOST, off=True)
SEED: Final = Range("must lie in [0, 2**63)", 0, 2**63 - 1)
FRACTION: Final = Range("must lie in [0, 1)", 0, 1 - 2**-53)
UNIT: Final = Range("must be 0, or lie between 1e-30 and 1", SMALLEST, 1, off=True)
