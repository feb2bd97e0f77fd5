"""What a request asks: its JSON read within limits, or why it is refused."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn, final

from thalweg.errors import InputError, counted, shown
from thalweg.tasks.questions import AnswerOptions

INPUT, INPUTS, THRESHOLD, SCORE = "input", "inputs", "threshold", "score"
MAX_BEAM: Final = 64  # and samples


@final
@dataclasses.dataclass(frozen=True)
class Limits:
    """What is refused, so that one request cannot keep the others waiting or fill the memory.

    Args:
        body: bytes of a request.
        inputs: of a request.
        characters: of an input; each number in it counts as one.
        length: the largest `length` that may be asked for: tokens that a language model writes, or steps of a forecast.
        waiting: inputs of all requests that wait for an answer.
        seconds: for a request from its first byte to its answer.

    Raises:
        InputError: for a number that is not above 0.
    """

    body: int = 2**20
    inputs: int = 256
    characters: int = 100_000
    length: int = 1000
    waiting: int = 4096
    seconds: float = 30.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in vars(self).items():
            if not value > 0:
                raise InputError(f"The limit of {name} must be above 0; got {value:g}.")


@final
class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        sentence: why.
        headers: further ones.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, dict(headers or {})


@final
@dataclasses.dataclass(frozen=True)
class Asked:
    """A request that can be answered.

    Args:
        inputs: as `Run.predict` takes them.
        options: how to answer.
        threshold: see `Run.predict`.
        is_single: whether one input was asked for by itself, and not a list.
        score: whether given texts are measured.
    """

    inputs: tuple[Any, ...]
    options: AnswerOptions
    threshold: float | None
    is_single: bool
    score: bool = False

    @property
    def kind(self) -> tuple[Any, ...]:
        """What inputs must have in common to be answered together; drawn texts depend on their places in a request."""
        return self.options, self.threshold, self.score, id(self) if self.options.is_drawn else 0


def read_request(body: bytes, limits: Limits, read: Collection[str]) -> Asked:
    """Return what the body of a request asks for.

    Args:
        body: JSON: an object with "input" or "inputs", and options of answers.
        limits: what is too much.
        read: the options of answers that the run reads.

    Raises:
        RefusedError: with 400 for what is no JSON, 413 for too much of it, 422 for JSON of another form.

    Example:
        >>> read_request(b'{"inputs": ["fine", "bad"], "top": 1}', Limits(), {"top"}).options.top
        1
    """
    given = _json(body)
    if not isinstance(given, dict):
        raise RefusedError(422, f'Expected an object such as {{"{INPUTS}": [...]}}, got {_kind(given)}.')
    known = (INPUT, INPUTS, *sorted(read))
    if unknown := [key for key in given if key not in known]:
        raise RefusedError(422, f"Expected keys among {', '.join(known)}; got {shown(unknown[0])}.")
    if (INPUT in given) == (INPUTS in given):
        raise RefusedError(422, f'Expected either "{INPUT}" or "{INPUTS}", got {"both" if INPUT in given else "none"}.')
    inputs = given[INPUTS] if INPUTS in given else [given[INPUT]]
    if not isinstance(inputs, list):
        raise RefusedError(422, f'Expected a list as "{INPUTS}", got {_kind(inputs)}; one input is given as "{INPUT}".')
    if len(inputs) > limits.inputs:
        raise RefusedError(413, f"Expected at most {counted(limits.inputs, 'input')}, got {len(inputs):,}.")
    for place, value in enumerate(inputs, start=1):
        if _size(value) > limits.characters:
            raise RefusedError(
                413, f"Input {place}: expected at most {counted(limits.characters, 'character')}, got {_size(value):,}."
            )
    return Asked(tuple(inputs), _options(given, limits), _threshold(given), INPUT in given, _score(given))


def _json(body: bytes) -> Any:
    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number of JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]
        raise RefusedError(400, f"The request is no JSON ({said}).") from None


def _options(given: Mapping[str, Any], limits: Limits) -> AnswerOptions:
    names = [field.name for field in dataclasses.fields(AnswerOptions) if field.name != "places"]
    asked = {name: given[name] for name in names if name in given}
    for name, most in (("length", limits.length), ("beam", MAX_BEAM), ("samples", MAX_BEAM)):
        value = asked.get(name)
        if isinstance(value, int) and value > most:
            raise RefusedError(422, f'"{name}" may be at most {most:,} here; got {shown(value)}.')
    try:
        usual: dict[str, Any] = {"length": min(200, limits.length)}
        return AnswerOptions(**(usual | asked))
    except (InputError, TypeError) as error:
        raise RefusedError(422, str(error).replace("--", "")) from None


def _score(given: Mapping[str, Any]) -> bool:
    value = given.get(SCORE, False)
    others = [key for key in given if key not in (INPUT, INPUTS, SCORE)]
    if not isinstance(value, bool):
        raise RefusedError(422, f'"{SCORE}" must be true or false; got {shown(value)}.')
    if value and others:
        raise RefusedError(422, f'"{others[0]}" is for texts that are written, and "{SCORE}" measures given ones.')
    return value


def _threshold(given: Mapping[str, Any]) -> float | None:
    value = given.get(THRESHOLD)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
        raise RefusedError(422, f'"{THRESHOLD}" must be a number between 0 and 1; got {shown(value)}.')
    return float(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _size(value: Any) -> int:
    """Return how many characters and numbers a value of JSON has."""
    size, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
        else:
            size += 1
    return size
