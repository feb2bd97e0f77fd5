"""What tasks that write text have in common: one tokenizer, whose ids are what the head predicts."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import IN_MEMORY, Spill
from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.heads.base import AbstractHead
from thalweg.tasks.base import AbstractTask, HeadOptions, Settings
from thalweg.tasks.growing import tokenizer_from
from thalweg.tasks.writing.token_head import token_counts, token_head


@dataclasses.dataclass(eq=False, repr=False)
class AbstractWritingTask(AbstractTask):
    """A task whose targets are the tokens of a text."""

    target: ClassVar[str]  # the column of the examples that holds them
    min_pair_count: ClassVar[int]  # subwords ("bpe") are joined only where they meet so often

    normalizer: Normalizer
    tokenizer: Tokenizer
    max_length: int
    _: dataclasses.KW_ONLY
    spill: Spill = IN_MEMORY

    @property
    @override
    def vocabulary(self) -> Tokenizer:
        return self.tokenizer

    @override
    def token_counts(self, examples: Examples) -> Tensor:
        return token_counts(examples.columns[self.target], self.tokenizer.vocabulary_size)

    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a softmax over the vocabulary, on request tied to the model's embedding, or continuous outputs."""
        return token_head(model, self.tokenizer, options)

    @abstractmethod
    def text(self, ids: list[int]) -> str:
        """Return the text of some ids."""

    @property
    @override
    def selects_by(self) -> tuple[str, str]:
        return "loss", "lower"

    @classmethod
    def train_tokenizer(cls, texts: Iterable[str], settings: Settings) -> Tokenizer:
        """Return a tokenizer for normalized training texts."""
        min_count = cls.min_pair_count if settings.tokenizer == "bpe" else 1
        old = None if settings.start is None else settings.start.vocabulary
        size = settings.vocabulary_size
        return tokenizer_from(old, lambda: Tokenizer.train(texts, settings.tokenizer, size, min_count=min_count), size)
