"""Answers of a run to questions, one for each, whatever is wrong with some of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from thalweg import names
from thalweg.data.columns.facts import kind_of
from thalweg.data.containers.memory import is_data
from thalweg.data.containers.opening import open_like
from thalweg.data.containers.places import is_there
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.tasks.questions import NOT_FINITE, AbstractAnswering, AnswerOptions, Predict, Question, are_questions
from thalweg.training.folder.columns import check_reading

if TYPE_CHECKING:
    from torch import nn

    from thalweg.heads.base import AbstractHead

ERROR = "error"  # the key of the reason in what stands in place of an answer
BATCH = 256
_LISTED: Final = "inputs are given as a list, also a single one"


def answers_to(
    task: AbstractAnswering,
    networks: tuple[nn.Module, AbstractHead] | Predict,
    questions: Sequence[Question],
    options: AnswerOptions,
    *,
    first: int = 0,
) -> list[dict[str, Any]]:
    """Return an answer to each question; one that cannot be answered has None for every key, and the reason as "error".

    Questions are answered together; only where a task refuses them without saying which, one at a time. `first` is the
    place of the first of them among all that are asked. An InputError tells of options that no question could be
    answered with.
    """
    task.check_options(options)
    predict: Predict = networks if callable(networks) else partial(task.predict, *networks)
    problems = [question.problem or task.problem(question.value, options) for question in questions]
    places = tuple(place for place, problem in enumerate(problems) if not problem)
    asked = [questions[place].value for place in places]
    found: Iterator[dict[str, Any] | str]

    def at(*those: int) -> AnswerOptions:
        return dataclasses.replace(options, places=tuple(first + place for place in those))

    try:
        found = iter(predict(asked, at(*places)) if asked else [])
    except InputError:
        found = iter([_one(predict, value, at(place)) for place, value in zip(places, asked, strict=True)])
    answers = []
    for problem in problems:
        answer = problem or next(found)
        answer = answer if isinstance(answer, str) or is_finite(answer) else NOT_FINITE
        answers.append({**dict.fromkeys(task.answer_keys), ERROR: answer} if isinstance(answer, str) else answer)
    return answers


def _one(predict: Predict, value: Any, options: AnswerOptions) -> dict[str, Any] | str:
    try:
        return predict([value], options)[0]
    except InputError as error:
        return str(error)


def is_finite(answer: Any) -> bool:
    """Whether no number of an answer is NaN or infinite."""
    if isinstance(answer, Mapping):
        return all(map(is_finite, answer.values()))
    if isinstance(answer, list | tuple):
        return all(map(is_finite, answer))
    return not isinstance(answer, float) or math.isfinite(answer)


def require_finite(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return answers as they are; an InputError says that there is a number in them which is NaN or infinite."""
    if not is_finite(answers):
        raise InputError(f"{NOT_FINITE}.")
    return answers


def is_answer(answer: Mapping[str, Any]) -> bool:
    """Whether an answer is one, and not the reason why there is none."""
    return ERROR not in answer


def refuse(name: str, questions: Sequence[Question], answers: Sequence[Mapping[str, Any]]) -> None:
    """Raise an InputError that tells of the first row of the source `name` that could not be answered."""
    for question, answer in zip(questions, answers, strict=True):
        if not is_answer(answer):
            raise InputError(
                f"{name}{', ' if question.line else ''}{question.where or ': '}{answer[ERROR]}; correct it, or use "
                'errors="null" for the answers to the others.'
            )


def to_answer(inputs: Any, own: Mapping[str, Any], named: Mapping[str, Any]) -> AbstractSource | list[Any]:
    """Return what is to be answered: the rows of a file or of data with columns, or single inputs as a list.

    Args:
        inputs: as for `Run.predict`.
        own: the options that say how the training data were read.
        named: those that were given for this file.

    Raises:
        InputError: if it is neither.
    """
    inputs = list(inputs) if isinstance(inputs, Iterator) else inputs  # it can be read only once
    if is_data(inputs) and not are_questions(inputs):
        return open_like(own, inputs, named, skip_bad_rows=True)
    if isinstance(inputs, str | Path):
        if isinstance(inputs, str) and " " in inputs and not is_there(inputs):  # it was meant as an input, perhaps
            raise InputError(f"There is no file {inputs[:200]!r} to answer; {_LISTED}.")
        return open_like(own, inputs, named, skip_bad_rows=True)
    if isinstance(inputs, bytes | bytearray) or not isinstance(inputs, Iterable):
        raise InputError(f"Expected inputs to answer, got {kind_of(inputs)}; {_LISTED}.")
    return [_plain(value) for value in inputs]


def answer_options(task: str, given: Mapping[str, Any], *, score: bool = False) -> AnswerOptions:
    """Return the options that say how a run of a task answers.

    An InputError tells of one that there is not, of one that the task does not read, and of any where given texts are
    measured (`score`).
    """
    known = [field.name for field in dataclasses.fields(AnswerOptions) if field.name != "places"]
    check_reading("predict", given, [*known, "threshold", "score"])
    require_read(task, given)
    require_alone(given, score=score)
    return AnswerOptions(**given)


def require_read(task: str, given: Iterable[str], *, is_online: bool = False) -> None:
    """Raise an InputError that names an option of answers that a run of a task does not read.

    `is_online` says that it has learned from a stream, and has no threshold.
    """
    read = {one: names.task_spec(one).answers - ({"threshold"} if is_online else set()) for one in names.TASKS}
    lost = next((name for name in given if name not in read[task]), None)
    if lost is not None:
        readers = [one for one in read if lost in read[one]]
        own = ", ".join(map(_flag, sorted(read[task]))) or "no such option"
        raise InputError(
            f"{_flag(lost)} is for {' and '.join(readers) or 'runs of thalweg train'}; this "
            f"{'model, which learns from a stream,' if is_online else 'run'} is of task {task} and reads {own}. Leave "
            f"{_flag(lost)} out."
        )


def require_alone(given: Iterable[str], *, score: bool) -> None:
    """Raise an InputError that names an option of writing where given texts are measured."""
    lost = next(iter(given), None) if score else None
    if lost is not None:
        raise InputError(
            f"{_flag(lost)} is for texts that are written, and --score measures given ones; leave one out."
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _plain(value: Any) -> Any:
    """Return an array of words or texts as a list of them; anything else as it is."""
    return value.tolist() if getattr(getattr(value, "dtype", None), "kind", "") in ("O", "U", "T") else value


def batches(questions: Iterable[Question | None], size: int = BATCH) -> Iterator[list[Question]]:
    """Yield questions in batches; None among them says that nothing more is there yet.

    Where reading breaks off with an InputError, what was read before is given first.
    """
    batch: list[Question] = []
    try:
        for question in questions:
            if question is not None:
                batch.append(question)
            if batch and (question is None or len(batch) == size):
                yield batch
                batch = []
    except InputError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
