"""Answers of a run to questions, one for each, whatever is wrong with some of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from thalweg.data.containers.opening import open_any
from thalweg.data.containers.places import is_there
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.tasks.base import AbstractTask
from thalweg.tasks.questions import AnswerOptions, Question

ERROR = "error"  # the key of the reason in what stands in place of an answer
BATCH = 256

Networks = tuple[nn.Module, AbstractHead]


def answers_to(
    task: AbstractTask, networks: Networks, questions: Sequence[Question], options: AnswerOptions
) -> list[dict[str, Any]]:
    """Return an answer to each question; one that cannot be answered has None for every key, and the reason as "error".

    Questions are answered together; only where a task refuses them without saying which, one at a time.
    """
    problems = [question.problem or task.problem(question.value, options) for question in questions]
    asked = [question.value for question, problem in zip(questions, problems, strict=True) if not problem]
    found: Iterator[dict[str, Any] | str]
    try:
        found = iter(task.predict(*networks, asked, options) if asked else [])
    except InputError:
        found = iter([_one(task, networks, value, options) for value in asked])
    answers = []
    for problem in problems:
        answer = problem or next(found)
        answers.append({**dict.fromkeys(task.answer_keys), ERROR: answer} if isinstance(answer, str) else answer)
    return answers


def _one(task: AbstractTask, networks: Networks, value: Any, options: AnswerOptions) -> dict[str, Any] | str:
    try:
        return task.predict(*networks, [value], options)[0]
    except InputError as error:
        return str(error)


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


def to_answer(data: str | Path) -> AbstractSource:
    """Open data for the answers to its rows; a text that names no file was meant as an input, perhaps."""
    if isinstance(data, str) and " " in data and not is_there(data):
        raise InputError(f"There is no file {data[:200]!r} to answer; inputs are given as a list, also a single one.")
    return open_any(data, skip_bad_rows=True)


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
