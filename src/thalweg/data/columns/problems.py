"""What is wrong with data, in sentences that inspecting a file and diagnosing a run have in common."""

import math
from collections.abc import Sequence
from typing import Final

from thalweg.errors import counted

FEW_EXAMPLES: Final = 100  # fewer validation examples than these show differences of many points only
MAX_NAMES: Final = 5


def smallest_difference(number: int, share: float = 0.5) -> float:
    r"""Return the difference of two accuracies, in points, below which it may be chance on so many examples.

    $100 \cdot 1.96 \sqrt{2 p (1 - p) / n}$: the normal approximation, for two samples of `number` examples each. Two
    models on the *same* examples can be told apart by less, as far as they are right and wrong together.

    Args:
        number: examples of each, > 0.
        share: of right answers, in [0, 1].

    Example:
        >>> round(smallest_difference(200), 1), round(smallest_difference(200, 0.9), 1)
        (9.8, 5.9)
    """
    return 100.0 * 1.96 * math.sqrt(2.0 * share * (1.0 - share) / number)


def few_examples(number: int) -> str:
    """Return the sentence about so few validation examples."""
    points = smallest_difference(number)
    return (
        f"On {counted(number, 'validation example')}, differences of accuracy below {points:.0f} points may be chance."
    )


def constant_columns(names: Sequence[str]) -> str:
    """Return the sentence about numeric columns with one value only.

    Example:
        >>> constant_columns(["a"]), constant_columns(["a", "b"])
        ('1 numeric input column never changes: a.', '2 numeric input columns never change: a; b.')
    """
    verb = "never changes" if len(names) == 1 else "never change"
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{counted(len(names), 'numeric input column')} {verb}: {'; '.join(names[:MAX_NAMES])}{more}."


def trained_on(share: float) -> str:
    """Return the clause about validation texts that are among the training texts.

    Example:
        >>> trained_on(0.0312)
        '3.1% of the validation texts are trained on'
    """
    return f"{share:.1%} of the validation texts are trained on"
