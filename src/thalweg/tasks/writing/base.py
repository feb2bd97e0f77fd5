"""What tasks that write text have in common: one tokenizer, whose ids are what the head predicts."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from torch import Tensor, nn
from typing_extensions import override

from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import IN_MEMORY, Spill
from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.data.text.subwords.given import KIND as GIVEN
from thalweg.data.text.subwords.vocabularies import load_given, read_given
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.models.shape import ModelShape
from thalweg.tasks.answering import LOOKED_AT, typed_example
from thalweg.tasks.base import AbstractTask, HeadOptions, Prepared, Settings
from thalweg.tasks.growing import tokenizer_from
from thalweg.tasks.reading.text_reader import TOKENIZER, check_length
from thalweg.tasks.writing.token_head import token_counts, token_head

MOST_UNKNOWN: Final = 0.5  # of the tokens of validation texts


@dataclasses.dataclass(eq=False, repr=False)
class AbstractWritingTask(AbstractTask):
    """A task whose targets are the tokens of a text."""

    target: ClassVar[str]  # the column of the examples that holds them
    min_pair_count: ClassVar[int]  # subwords ("bpe") are joined only where they meet so often

    normalizer: Normalizer
    tokenizer: AnyTokenizer
    max_length: int
    _: dataclasses.KW_ONLY
    spill: Spill = IN_MEMORY
    pretrained: PretrainedFolder | None = None  # the model that the tokenizer belongs to

    @property
    @override
    def vocabulary(self) -> AnyTokenizer:
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

    @property
    def vocabulary_shape(self) -> ModelShape:
        """What the vocabulary, and a pretrained model, ask of a network."""
        size, config = self.tokenizer.vocabulary_size, None if self.pretrained is None else self.pretrained.config
        return ModelShape(vocabulary_size=size, max_length=self.max_length, config=config)

    def vocabulary_files(self) -> dict[str, bytes]:
        """Return what `read_vocabulary` reads."""
        return {TOKENIZER: self.tokenizer.to_bytes()} if self.pretrained is None else self.pretrained.files()

    @classmethod
    def read_vocabulary(cls, folder: Path, settings: Settings) -> dict[str, Any]:
        """Return the arguments about the vocabulary of a task in a run's folder."""
        if not settings.pretrained:
            return {"tokenizer": cls.read_tokenizer(folder / TOKENIZER, settings)}
        return cls._pretrained(PretrainedFolder.load(folder), settings)

    @classmethod
    def read_tokenizer(cls, path: Path, settings: Settings) -> AnyTokenizer:
        """Return a tokenizer of a task in a run's folder."""
        return load_given(path) if settings.tokenizer == GIVEN else Tokenizer.load(path)

    def of_vocabulary(self, settings: Settings) -> list[str]:
        """Return a sentence where subwords are fewer than they might be, since pairs of them meet too seldom."""
        size, most = self.tokenizer.vocabulary_size, settings.vocabulary_size
        if settings.tokenizer != "bpe" or settings.pretrained or not 0 < size < most:
            return []
        least = settings.min_frequency or self.min_pair_count
        return [
            f"The vocabulary has {size:,} subwords of at most {most:,}: pairs that meet fewer than {least} times are "
            "not joined (--min-frequency)."
        ]

    @classmethod
    def learn_vocabulary(cls, texts: Iterable[str], settings: Settings) -> dict[str, Any]:
        """Return the arguments about the vocabulary: of normalized training texts, or of a pretrained model."""
        old = settings.start
        if settings.pretrained:
            found = PretrainedFolder.open(settings.pretrained) if old is None else old.pretrained
            return cls._pretrained(found, settings)
        return {"tokenizer": cls.learn_tokenizer(texts, settings, None if old is None else old.vocabulary)}

    @classmethod
    def learn_tokenizer(cls, texts: Iterable[str], settings: Settings, before: Any) -> AnyTokenizer:
        """Return the tokenizer of normalized training texts; `before` is the one of the run that training starts from.

        Its entries come first. Where a vocabulary is given, nothing is learned.
        """
        if settings.tokenizer == GIVEN:
            return read_given(settings.vocabulary) if before is None else before
        min_count, size = 1, settings.vocabulary_size
        if settings.tokenizer == "bpe":
            min_count = settings.min_frequency or cls.min_pair_count
        kind = "spaced" if settings.tokenizer == "word" else settings.tokenizer
        if before is not None and before.has_words:
            kind = before.kind  # runs of earlier versions have words without their spaces

        def train() -> Tokenizer:
            return Tokenizer.train(texts, kind, size, min_count=min_count)

        return tokenizer_from(before, train, size)

    @override
    def settle(self, model: nn.Module, head: AbstractHead, prepared: Prepared) -> tuple[list[str], dict[str, bytes]]:
        """Choose nothing; say where most tokens of the validation texts are not in the vocabulary."""
        del model, head
        if self.pretrained is not None or not len(prepared.valid):
            return [], {}
        values, ids = prepared.valid.ragged(self.target).values, self.tokenizer
        known = int((~np.isin(values, (ids.pad, ids.begin, ids.end, ids.unknown))).sum())
        unknown = int((values == ids.unknown).sum())
        if unknown <= MOST_UNKNOWN * (known + unknown):
            return [], {}
        remedy = "raise --vocabulary-size, or take --tokenizer bpe"
        if ids.kind in ("list", GIVEN):
            remedy = "give one of these texts' words, or leave --vocabulary out and have one learned"
        said = f"{unknown / (known + unknown):.0%} of the tokens of the validation texts are not in the vocabulary"
        return [f"{said}, so the figures say little about them; {remedy}."], {}

    @override
    def example(self, valid: Examples) -> str:
        """Return the beginning of a source, or of a line of the text that is to be written on."""
        if "source_text" in valid.columns:
            sources = valid.ragged("source_text")
            read = (sources[place].tobytes().decode("utf-8", "replace") for place in range(len(sources)))
            return typed_example(read)
        chunks, unknown = valid.ragged(self.target), self.tokenizer.unknown
        known = (chunks[place][chunks[place] != unknown] for place in range(min(len(chunks), LOOKED_AT)))
        lines = (self.text(ids.tolist()).split("\n") for ids in known)
        return typed_example(line for part in lines for line in part[1:] or part)

    @classmethod
    def _pretrained(cls, found: PretrainedFolder, settings: Settings) -> dict[str, Any]:
        if not (found.is_translator if "source" in cls.inputs else found.is_decoder):
            wanted = "an encoder and a decoder, such as T5" if "source" in cls.inputs else "a decoder, such as GPT-2"
            raise InputError(
                f"--task {cls.name} needs a pretrained model with {wanted}; got a {found.config['model_type']} model."
            )
        check_length(found, settings.max_length)
        return {"tokenizer": found.tokenizer.bare(), "pretrained": found}
