"""How probable given translations of given texts are."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, final

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from thalweg.data.arrays.collate import pad
from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering
from thalweg.tasks.questions import AbstractAnswering, AnswerOptions
from thalweg.tasks.translate.pairs import tokens_of
from thalweg.tasks.writing.scoring import KEYS, batches_by_length, measured, score_line

_WANTED = "expected a text and its translation"


class Reader(Protocol):
    """What is asked of a translation task here."""

    max_length: int
    normalizer: Normalizer
    tokenizer: AnyTokenizer

    @property
    def source_vocabulary(self) -> AnyTokenizer:
        """The tokenizer of the sources."""
        ...


@final
class ScoredPairs(AbstractAnswering):
    """Measures translations in place of writing them; the inputs are pairs of a text and its translation.

    Args:
        task: reads the texts.
    """

    name: ClassVar[str] = "translate"
    inputs: ClassVar[tuple[str, ...]] = ("source", "target")

    def __init__(self, task: Reader) -> None:
        self._task = task

    @property
    @override
    def reads_pairs(self) -> bool:
        return True

    @override
    def parse_input(self, text: str, length: int | None) -> Any:
        parts = text.split("\t")
        if len(parts) != 2:
            raise InputError(f"{_WANTED}, with one tab between them; got {len(parts) - 1} tabs")
        return tuple(parts)

    @override
    def problem(self, value: Any, options: AnswerOptions) -> str:
        if not isinstance(value, tuple | list) or len(value) != 2 or not all(isinstance(one, str) for one in value):
            return f"{_WANTED}, two texts"
        return "" if all(one.strip() for one in value) else f"{_WANTED}, got an empty one"

    @property
    @override
    def answer_keys(self) -> tuple[str, ...]:
        return "source", "target", *KEYS

    @override
    def table_columns(self, top: int) -> tuple[str, ...]:
        return "source", "target", *KEYS[:3], "note"

    @override
    def lines_of(self, answer: Mapping[str, Any], top: int = 0) -> list[str]:
        return [score_line(answer)]

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Return `{"source", "target", "log_probability", "score", "perplexity", "tokens", "log_probabilities"}` each.

        The end is a token of a translation. A text that was cut has a "note".
        """
        self.check(inputs, options)
        task, sides = self._task, (self._task.source_vocabulary, self._task.tokenizer)
        texts = (task.normalizer.many([pair[side] for pair in inputs]) for side in (0, 1))
        read, written = (tokens_of(*one, task.max_length) for one in zip(sides, texts, strict=True))
        source, target, tokenizer = read.ids, written.ids, task.tokenizer
        found: list[list[float]] = [[] for _ in inputs]
        with answering(model, head) as parameter:
            for places in batches_by_length(np.maximum(source.lengths, target.lengths).tolist()):
                rows = np.array(places)
                tokens, mask = (one.to(parameter.device) for one in pad(source, rows, padding=sides[0].pad))
                wanted, is_real = (one.to(parameter.device) for one in pad(target, rows))
                first = torch.full_like(wanted[:, :1], tokenizer.begin)
                hidden = model(tokens=tokens, mask=mask, decoder_tokens=torch.cat([first, wanted[:, :-1]], 1))
                values = head.log_probability_from_hidden(hidden[is_real], wanted[is_real]).double()
                for place, part in zip(places, values.split(is_real.sum(1).tolist()), strict=True):
                    found[place] = part.tolist()
        answers = []
        is_cut = (read.is_cut | written.is_cut).tolist()
        for pair, cut, ids, values in zip(inputs, is_cut, target, found, strict=True):
            answer = {"source": pair[0], "target": pair[1], **measured(tokenizer, ids.tolist(), values)}
            if cut:
                answer["note"] = f"truncated to {task.max_length} tokens"
            answers.append(answer)
        return answers
