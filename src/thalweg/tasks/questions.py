"""Questions put to a network: what a row or a line stands for, or why it stands for none, and how to answer."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from thalweg.data.columns.facts import as_text, is_text, kind_of
from thalweg.errors import InputError, shown

if TYPE_CHECKING:
    from torch import nn

    from thalweg.data.files.base import AbstractSource
    from thalweg.heads.base import AbstractHead

NOT_FINITE: Final = (
    "What the network computes from it is not a finite number; give numbers like those of the training data, or train "
    "again with a smaller --lr"
)
"""Why there is no answer, where weights or inputs are so large that the network's numbers overflow."""

# Each within what some hundred answers at once have memory for, whatever else is asked.
_WHOLE: Final = {
    "top": (1, 1_000),
    "length": (0, 100_000),
    "min_length": (0, 100_000),
    "samples": (1, 1_000),
    "top_k": (1, 10_000_000),
    "no_repeat": (0, 1_000),
    "beam": (1, 1_000),
    "seed": (0, 2**63 - 1),
}
_REAL: Final[dict[str, tuple[float, float]]] = {"repetition_penalty": (0.01, 100.0), "length_penalty": (0.0, 10.0)}
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
    """How to answer. An InputError tells of a value out of its range, and of wishes that contradict each other.

    Args:
        top: how many candidates to give where there is a ranking, at most 1,000.
        length: longest text to generate, in tokens, at most 100,000.
        min_length: tokens before the end of a translation, or before `stop` is looked for.
        temperature: of sampled text, from 1e-6 to 1e6; 0 takes the most probable token each time. None: 0.8 for
            continuations; a translation is drawn, at 1, only where `samples`, `top_k` or `top_p` are asked for.
        top_p: of sampled text: only the fewest most probable tokens that together have this probability, in (0, 1].
        top_k: of sampled text: only so many of the most probable tokens; None: the whole vocabulary.
        samples: texts drawn for each input, at most 1,000.
        repetition_penalty: factor of the log-probabilities of tokens that have come before, from 0.01 to 100; above 1
            makes repetitions rarer.
        no_repeat: n of n-grams of tokens that may not come twice; 0: all may.
        stop: texts before which a continuation ends; a single one may be given as it is.
        prefix: what a translation begins with.
        beam: candidates kept while translating, at most 1,000; 1 is greedy. None: 4 (or `top`, if
            more), of drawn ones 1.
        length_penalty: a in the score of a translation of n tokens, log-probability / n^a, from 0 (which favors short
            ones) to 10.
        seed: seed of sampling; each input and each of its samples has random numbers of its own.
        places: where each input stands among all that are asked for, from 0, which its random numbers depend on; None:
            they are all.
    """

    top: int = 3
    length: int = 200
    min_length: int = 0
    temperature: float | None = None
    top_p: float = 1.0
    top_k: int | None = None
    samples: int = 1
    repetition_penalty: float = 1.0
    no_repeat: int = 0
    stop: tuple[str, ...] = ()
    prefix: str = ""
    beam: int | None = None
    length_penalty: float = 1.0
    seed: int = 0
    places: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Check the types, the ranges, and what goes together."""
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            if value is None and name in ("top_k", "beam"):
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
                raise InputError(f"{_flag(name)} must be a whole number from {least} to {most:,}; got {shown(value)}.")
        heat = self.temperature
        if heat is not None and (not isinstance(heat, Real) or not (heat == 0.0 or COLDEST <= heat <= 1.0 / COLDEST)):
            raise InputError(
                f"--temperature must be 0 (greedy), or lie between {COLDEST:g} and {1 / COLDEST:g}; got {shown(heat)}."
            )
        if not isinstance(self.top_p, Real) or not 0.0 < self.top_p <= 1.0:
            raise InputError(f"--top-p must be a number above 0 and at most 1; got {shown(self.top_p)}.")
        for name, (low, high) in _REAL.items():
            value: Any = getattr(self, name)
            if not isinstance(value, Real) or not low <= value <= high:  # type: ignore[operator]
                raise InputError(f"{_flag(name)} must be a number from {low:g} to {high:g}; got {shown(value)}.")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        if not isinstance(stop, list | tuple) or not all(isinstance(text, str) and text for text in stop):
            raise InputError(f"--stop must be a text that is not empty, or several; got {shown(self.stop)}.")
        object.__setattr__(self, "stop", tuple(stop))
        if not isinstance(self.prefix, str):
            raise InputError(f"--prefix must be a text; got {shown(self.prefix)}.")
        self._check_together()

    def _check_together(self) -> None:
        drawn = {"samples": self.samples > 1, "top_k": self.top_k is not None, "top_p": self.top_p < 1.0}
        asked = next((_flag(name) for name, is_asked in drawn.items() if is_asked), None)
        if self.temperature == 0.0 and asked is not None:
            raise InputError(f"{asked} is for drawn texts, and --temperature 0 draws none; leave one of them out.")
        if self.beam is not None and self.beam > 1 and (asked is not None or self.temperature):
            raise InputError(
                f"--beam {self.beam} searches for the best texts, and {asked or '--temperature'} draws some; leave one "
                "of them out."
            )

    @property
    def is_drawn(self) -> bool:
        """Whether translations are drawn, and not searched for."""
        return bool(self.temperature) or self.samples > 1 or self.top_k is not None or self.top_p < 1.0

    def places_of(self, number: int) -> Sequence[int]:
        """Return where each of so many inputs stands among all."""
        return range(number) if self.places is None else self.places


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


Predict = Callable[[Sequence[Any], AnswerOptions], list[dict[str, Any]]]
"""Inputs, how to answer -> the answers, as `AbstractAnswering.predict` gives them."""


class AbstractAnswering(ABC):
    """Questions in, answers out."""

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    """Roles of the columns that `predict` reads, in the order of an input's parts; none: a file's first column."""
    streams: ClassVar[bool] = False
    """Whether an answer is written piece by piece."""

    @property
    def reads_pairs(self) -> bool:
        """Whether an input is two texts."""
        return False

    @abstractmethod
    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Answer new inputs (each a text, a tuple of texts, or numbers); one JSON-able dictionary for each.

        Raises:
            InputError: if an input has the wrong form.
        """

    def stream(self, model: nn.Module, head: AbstractHead, value: Any, options: AnswerOptions) -> Iterator[str]:
        """Yield the answer to an input, as lines, in pieces as they are written; by default all at once."""
        yield "\n".join(self.lines_of(self.predict(model, head, [value], options)[0], options.top))

    def parse_input(self, text: str, length: int | None) -> Any:
        """Return the input that an argument or a line of standard input stands for: by default the text as it is.

        Args:
            text: what was typed.
            length: how long an answer was asked for (`--length`); None: nothing was said.
        """
        del length
        return text

    def input_of(self, cells: Sequence[Any], *, plain: bool) -> tuple[Any, str]:
        """Return the input that the cells of a row stand for, and why they stand for none ("" if they do).

        By default they are texts.

        Args:
            cells: those of the columns of the roles `inputs`, in that order.
            plain: whether they are plain text, such as the lines of a file, in place of the columns of training.
        """
        del plain
        texts, problem = texts_in(cells)
        return (texts[0] if len(texts) == 1 else tuple(texts)), problem

    def questions_of(
        self, source: AbstractSource, columns: Mapping[str, Any], length: int | None, *, plain: bool = False
    ) -> Iterator[Question]:
        """Yield a question for each row of a file, in their order, those that cannot be read among them.

        Args:
            source: the file, opened with `skip_bad_rows`.
            columns: role -> column, as `Settings.columns`.
            length: see `parse_input`.
            plain: see `input_of`.

        Raises:
            InputError: if a column is missing.
        """
        from thalweg.data.files.base import BadRow

        del length
        wanted = [columns[role] for role in self.inputs or ("text",) if role in columns]
        if source.kind == "text" or not wanted:
            wanted, plain = list(source.columns[:1]), True
        for name in wanted:
            if name not in source.columns:
                raise InputError(
                    f"{source.name} has no column '{name}', which the run was trained on; it has "
                    f"{', '.join(source.columns)}."
                )
        places = [source.columns.index(name) for name in wanted]
        for row in source.all_rows():
            if isinstance(row, BadRow):
                yield Question(line=row.line, problem=row.reason)
            else:
                value, problem = self.input_of([row.values[place] for place in places], plain=plain)
                yield Question(value, row.line, problem, row.values)

    def problem(self, value: Any, options: AnswerOptions) -> str:
        """Return why an input cannot be answered, as half a sentence; "" where nothing is known to be wrong with it."""
        del value, options
        return ""

    def check_options(self, options: AnswerOptions) -> None:
        """Raise an InputError for options that this task cannot fulfil, whatever is asked; by default it can."""
        del options

    @final
    def check(self, inputs: Sequence[Any], options: AnswerOptions) -> None:
        """Raise an InputError that names the place of the first input that cannot be answered."""
        for place, value in enumerate(inputs, start=1):
            if problem := self.problem(value, options):
                raise InputError(f"Input {place}: {problem}.")

    @property
    def answer_keys(self) -> tuple[str, ...]:
        """The keys that all answers have, in their order; they are None where there is no answer."""
        return ()

    def table_columns(self, top: int) -> tuple[str, ...]:
        """Return the columns of a table of answers; `top` candidates are asked for, 0 by nobody."""
        del top
        return self.answer_keys

    def table_rows(self, answer: Mapping[str, Any], top: int) -> list[dict[str, Any]]:
        """Return an answer as rows of that table: by default one, with what the answer has."""
        del top
        return [dict(answer)]

    def lines_of(self, answer: Mapping[str, Any], top: int = 0) -> list[str]:
        """Return one of `predict`'s answers as lines for a terminal: by default its values without the inputs.

        `top` candidates were asked for, 0 by nobody, who then gets one line.
        """
        del top
        from thalweg.tasks.answering import figure_lines

        return figure_lines(answer, self.inputs)
