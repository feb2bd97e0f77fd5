"""What is wrong with data, in sentences that inspecting a file and diagnosing a run have in common."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, final

from thalweg.data.columns.facts import is_missing
from thalweg.data.columns.notation import number_of
from thalweg.errors import counted

FEW_EXAMPLES: Final = 100  # fewer validation examples than these show differences of many points only
MAX_NAMES: Final = 5
MAX_NUMBERS: Final = 20  # more labels that are all numbers are rather amounts
MIN_ONCE: Final = 20  # labels that come once each, and may be identifiers


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


# What programs write for a missing number: nines, the ends of 16 and 32 bits, and what data formats fill with.
_NINES: Final = (9.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0, 99.9, 99.99, 999.9, 999.99, 9999.9, 9999.99)
_FILLS: Final = (
    -32768.0,
    32767.0,
    -2147483648.0,
    2147483647.0,
    1e20,
    1e30,
    9.969209968386869e36,
    -3.4028234663852886e38,
)
STAND_INS: Final = frozenset((*_NINES[1:], *(-one for one in _NINES), *_FILLS))
MIN_OTHERS: Final = 5  # numbers that show what the others are like


@final
class StandIns:
    """Counts the numbers of a column that may stand for missing ones: repeated, and farther out than all others span.

    Example:
        >>> found = StandIns("load")
        >>> for number in [3.0, 4.5, -999.0, 5.0, 4.0, 3.5, -999.0]:
        ...     found.add(number)
        >>> found.sentence[:76]
        "2 values of 'load' are -999, far outside the others (3 to 5), as what stands"
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._found: Counter[float] = Counter()
        self._num_others, self._low, self._high = 0, math.inf, -math.inf

    def add(self, number: float) -> None:
        """Take a number; NaN is left out."""
        if number in STAND_INS:
            self._found[number] += 1
        elif not math.isnan(number):
            self._num_others += 1
            self._low, self._high = min(self._low, number), max(self._high, number)

    @property
    def sentence(self) -> str:
        """The sentence about the most frequent one; "" where there is none."""
        width = self._high - self._low
        far = [
            (count, number)
            for number, count in self._found.items()
            if count > 1 and not self._low - width <= number <= self._high + width
        ]
        if not far or self._num_others < MIN_OTHERS:
            return ""
        count, number = max(far)
        return (
            f"{counted(count, 'value')} of {self._column!r} are {number:g}, far outside the others ({self._low:g} to "
            f"{self._high:g}), as what stands for a missing value; if it does, leave these fields empty."
        )


def one_label(labels: Sequence[str], column: str, noun: str = "label") -> str:
    """Return the sentence about data with one label (tag) or none, with which there is nothing to learn.

    Example:
        >>> one_label(["a"], "topic")[:82]
        "expected at least two different labels in column 'topic', got only one label ('a')"
    """
    got = f"only one {noun} ({labels[0]!r})" if labels else f"no {noun}s"
    return (
        f"expected at least two different {noun}s in column {column!r}, got {got}; there is nothing to learn here. Is "
        "it the right column (--label-column)?"
    )


def label_sentences(labels: Mapping[str, int], column: str, noun: str = "label") -> list[str]:
    """Return sentences about labels (tags) that may not be what they look like, by label with its number of rows.

    They are about labels that differ only in how they are written, words such as "NA", and labels that are all numbers.

    Example:
        >>> label_sentences({"spam": 3, "Spam": 2, "ham": 5}, "label")[0][:68]
        "Labels in column 'label' differ only in how they are written: 'spam'"
    """
    sentences = []
    groups = alike(labels)
    if groups:
        shown = "; ".join(", ".join(f"{name!r} ({labels[name]:,})" for name in group) for group in groups[:MAX_NAMES])
        more = f"; and {len(groups) - MAX_NAMES} more" if len(groups) > MAX_NAMES else ""
        sentences.append(
            f"{noun.capitalize()}s in column {column!r} differ only in how they are written: {shown}{more}. They are "
            f"different {noun}s; if they mean the same, write them alike."
        )
    words = [name for name in labels if is_missing(name)]
    if words and noun == "label":
        shown = ", ".join(f"{name!r} ({counted(labels[name], 'row')})" for name in words[:MAX_NAMES])
        verb = "is a label, no missing value" if len(words) == 1 else "are labels, no missing values"
        sentences.append(f"In column {column!r} {shown} {verb}; leave the field empty where there is no label.")
    if len(labels) > MAX_NUMBERS and noun == "label" and all(number_of(name) is not None for name in labels):
        sentences.append(
            f"The {len(labels):,} labels in column {column!r} are all numbers; --task score predicts them as numbers."
        )
    return sentences


def alike(labels: Iterable[str]) -> list[list[str]]:
    """Return the groups of labels that are the same but for case, spaces, code points, or decimals of a whole number.

    Example:
        >>> alike(["Spam", "ham", "spam", "1", "1.0", "two  words", "two words"])
        [['Spam', 'spam'], ['1', '1.0'], ['two  words', 'two words']]
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(_bare(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def all_once(counts: Iterable[int], column: str) -> str:
    """Return the sentence about labels that come once each, as identifiers do; nothing where one comes twice.

    Example:
        >>> all_once([1, 2], "id"), all_once([1] * 300, "id")[:59]
        ('', "all 300 labels in column 'id' come once, as an identifier's")
    """
    counts = list(counts)
    if len(counts) < MIN_ONCE or max(counts) > 1:
        return ""
    return (
        f"all {len(counts):,} labels in column {column!r} come once, as an identifier's do, so that there is nothing "
        "to learn; name another column with --label-column, or the task with --task (score for numbers)."
    )


def _bare(label: str) -> str:
    number = number_of(label)
    if number is not None:
        return f"{number:.17g}"
    text = unicodedata.normalize("NFKC", label).casefold()
    return " ".join("".join(one for one in text if unicodedata.category(one) != "Cf").split())
