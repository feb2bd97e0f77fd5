"""How probable given texts are under a language model."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, final

import torch
from torch import nn
from typing_extensions import override

from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering
from thalweg.tasks.questions import AbstractAnswering, AnswerOptions, text_problem
from thalweg.tasks.writing.scoring import KEYS, batches_by_length, measured, score_line, windows


class Reader(Protocol):
    """What is asked of a language task here."""

    max_length: int
    tokenizer: AnyTokenizer

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a prompt."""
        ...


@final
class ScoredTexts(AbstractAnswering):
    """Measures texts in place of continuing them; each is taken for what follows an empty prompt.

    A text of more tokens than the model sees at once is read in windows, as it would be written.

    Args:
        task: reads the texts.
    """

    name: ClassVar[str] = "language"
    inputs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, task: Reader) -> None:
        self._task = task

    @override
    def problem(self, value: Any, options: AnswerOptions) -> str:
        return text_problem(value) or ("" if value else "expected a text to measure, got an empty one")

    @property
    @override
    def answer_keys(self) -> tuple[str, ...]:
        return "text", *KEYS

    @override
    def table_columns(self, top: int) -> tuple[str, ...]:
        return "text", *KEYS[:3]

    @override
    def lines_of(self, answer: Mapping[str, Any], top: int = 0) -> list[str]:
        return [score_line(answer)]

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Return `{"text", "log_probability", "score", "perplexity", "tokens", "log_probabilities"}` for each text."""
        self.check(inputs, options)
        begin = self._task.prompt("")
        texts = [self._task.prompt(text) for text in inputs]
        pieces = [  # the text, what the model reads of it, and what it predicts
            (row, (begin + ids)[a:b], (begin + ids)[new + 1 : b + 1])
            for row, ids in enumerate(texts)
            for a, b, new in windows(len(begin) + len(ids) - 1, self._task.max_length)
        ]
        found: list[list[float]] = [[] for _ in pieces]
        with answering(model, head) as parameter:
            for places in batches_by_length([len(read) for _, read, _ in pieces]):
                longest = max(len(pieces[place][1]) for place in places)
                rows = [pieces[place][1] + [0] * (longest - len(pieces[place][1])) for place in places]
                hidden = model(tokens=torch.tensor(rows).to(parameter.device))
                sizes = [len(pieces[place][2]) for place in places]
                ends = [len(pieces[place][1]) for place in places]
                own = [hidden[row, end - size : end] for row, (size, end) in enumerate(zip(sizes, ends, strict=True))]
                targets = [token for place in places for token in pieces[place][2]]
                ids = torch.tensor(targets, device=hidden.device)
                values = head.log_probability_from_hidden(torch.cat(own), ids).double()
                for place, part in zip(places, values.split(sizes), strict=True):
                    found[place] = part.tolist()
        gains: list[list[float]] = [[] for _ in texts]
        for (row, _, _), values in zip(pieces, found, strict=True):
            gains[row] += values
        answers = []
        for text, ids, values in zip(inputs, texts, gains, strict=True):
            known = len(values) - len(ids)  # tokens of the empty prompt that are predicted, too
            answers.append({"text": text, **measured(self._task.tokenizer, ids, values[known:])})
        return answers
