"""Questions put to a network: what a row or a line stands for, or why it stands for none, and how to answer."""

import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Final, final

from thalweg.data.columns.facts import as_text, is_text, kind_of
from thalweg.errors import InputError, shown

NOT_FINITE: Final = (
    "What the network computes from it is not a finite number; give numbers like those of the training data, or train "
    "again with a smaller --lr"
)
"""Why there is no answer, where weights or inputs are so large that the network's numbers overflow."""

# Each within what some hundred answers at once have memory for, whatever else is asked.
_WHOLE: Final = {"top": (1, 1_000), "length": (0, 100_000), "beam": (1, 1_000), "seed": (0, 2**63 - 1)}
COLDEST: Final = 1e-6  # temperature: log-probabilities divided by it are numbers in float32


@final
@dataclasses.dataclass(frozen=True)
class Question:
    """An input, or why there is none, and where it stands.

    Args:
        value: the input, in the form that the task's `predict` takes; None where there is none.
        line: the line of the file on which it starts, from 1; None: it is from no file.
        problem: why it cannot be answered, as half a sentence; "" where nothing speaks against it.
        cells: the values of its row, in the order of the source's columns; empty where no row could be read.
        notes: what is odd about the rows that it is made of, as sentences.

    Example:
        >>> Question(line=51, problem="expected 2 columns, got 3").where
        'line 51: '
    """

    value: Any = None
    line: int | None = None
    problem: str = ""
    cells: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Its line as the beginning of a sentence; nothing where it stands on none."""
        return "" if self.line is None else f"line {self.line}: "


def are_questions(inputs: object) -> bool:
    """Whether dictionaries are questions about numbers, each with a list or text of them, and not rows of a table.

    Example:
        >>> are_questions([{"values": [1.0, 2.0], "steps": 5}]), are_questions([{"values": 1.0}, {"values": 2.0}])
        (True, False)
    """
    if not isinstance(inputs, list | tuple) or not inputs:
        return False
    values = [entry.get("values") if isinstance(entry, Mapping) else None for entry in inputs]
    return all(isinstance(one, str | Sequence) or hasattr(one, "__array__") for one in values)


def text_problem(value: object, what: str = "a text") -> str:
    """Why a value is not `what`, a text, as half a sentence; "" if it is one."""
    return "" if isinstance(value, str) else f"expected {what}, got {kind_of(value)}"


def texts_in(cells: Sequence[Any]) -> tuple[list[str], str]:
    """Return the texts in some cells of a row as training reads them, and why one of them holds none ("" if all do).

    An empty text is a text; null is none.
    """
    missing = next((cell for cell in cells if not is_text(cell)), "")
    return [as_text(cell) for cell in cells], text_problem(missing)


def joined(names: Sequence[str], known: Sequence[str]) -> str | list[str]:
    """Return several labels as one text, with a character between them that no label has; a list where all do.

    Example:
        >>> joined(["a", "b"], ["a", "b", "c;d"])
        'a|b'
    """
    between = next((mark for mark in ";|," if not any(mark in name for name in known)), None)
    return list(names) if between is None else between.join(names)


def flat(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return the entries `names` of ranked rows side by side: "label_1", "probability_1", "label_2" ...

    Example:
        >>> flat([{"label": "good", "probability": 0.9}], ["label", "probability"])
        {'label_1': 'good', 'probability_1': 0.9}
    """
    return {f"{name}_{place}": row[name] for place, row in enumerate(rows, start=1) for name in names}


@final
@dataclasses.dataclass(frozen=True)
class AnswerOptions:
    """How to answer.

    Args:
        top: how many candidates to give where there is a ranking, at most 1,000.
        length: longest text to generate, in tokens, at most 100,000.
        temperature: of sampled text, from 1e-6 to 1e6; 0 takes the most probable token each time.
        top_p: of sampled text: only the fewest most probable tokens that together have this probability, in (0, 1].
        beam: candidates kept while translating, at most 1,000; 1 is greedy.
        length_penalty: a in the score of a translation of n tokens, log-probability / n^a, from 0 (which favors short
            ones) to 10.
        seed: seed of sampling.
    """

    top: int = 3
    length: int = 200
    temperature: float = 0.8
    top_p: float = 1.0
    beam: int = 4
    length_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the types and the ranges."""
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
                raise InputError(f"--{name} must be a whole number from {least} to {most:,}; got {shown(value)}.")
        heat = self.temperature
        if not isinstance(heat, Real) or not (heat == 0.0 or COLDEST <= heat <= 1.0 / COLDEST):
            raise InputError(
                f"--temperature must be 0 (greedy), or lie between {COLDEST:g} and {1 / COLDEST:g}; got {shown(heat)}."
            )
        if not isinstance(self.top_p, Real) or not 0.0 < self.top_p <= 1.0:
            raise InputError(f"--top-p must be a number above 0 and at most 1; got {shown(self.top_p)}.")
        if not isinstance(self.length_penalty, Real) or not 0.0 <= self.length_penalty <= 10.0:
            raise InputError(f"--length-penalty must be a number from 0 to 10; got {shown(self.length_penalty)}.")
