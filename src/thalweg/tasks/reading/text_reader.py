"""Reading text: normalize -> tokenize -> (features) -> model inputs, for both layouts of pooled models."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.equal import Column
from thalweg.data.arrays.ragged import IN_MEMORY, Ragged, RaggedBuilder, Spill, flat_positions
from thalweg.data.text.features import BagFeatures
from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError, counted
from thalweg.models.bag_scores import BagScores
from thalweg.storage.forms import AGAIN
from thalweg.tasks.growing import Growth, grown, tokenizer_from
from thalweg.tasks.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

# Files of a run's folder.
TOKENIZER, FEATURES = "tokenizer.json", "features.safetensors"
BAGS = ("bag", "joint")  # layouts that take bags of words and bigrams
MAX_RAW = 200_000  # so many validation texts, at most, are kept as they are to show the worst examples of


@final
@dataclasses.dataclass
class TextReader:
    """From texts to what a pooled model takes."""

    normalizer: Normalizer
    tokenizer: Tokenizer
    features: BagFeatures | None  # words and bigrams with weights, for layouts of bags; None for "padded"
    max_length: int  # longest text in tokens for "padded"; bags take all of a text
    spill: Spill = IN_MEMORY  # where arrays of ids go that are too large for memory

    @property
    def vocabulary_size(self) -> int:
        """Number of ids that the model must have an embedding for."""
        return self.tokenizer.vocabulary_size if self.features is None else self.features.num_features

    @classmethod
    def fit(cls, texts: Iterable[list[str]], settings: Settings) -> "TextReader":
        """Make a reader from chunks of normalized training texts; features come later, with `fit_features`."""
        old = None if settings.start is None else settings.start.vocabulary
        all_texts = (text for chunk in texts for text in chunk)
        size = settings.vocabulary_size
        tokenizer = tokenizer_from(old, lambda: Tokenizer.train(all_texts, settings.tokenizer, size), size)
        return cls(settings.normalizer(), tokenizer, None, settings.max_length, settings.spill)

    def encode(self, chunks: Iterable[Sequence[str]]) -> Ragged:
        """Return the ids of chunks of normalized texts."""
        builder = RaggedBuilder(np.int32, self.spill)
        for chunk in chunks:
            builder.extend_flat(*self.tokenizer.encode_many(list(chunk)))
        return builder.finish()

    def fit_features(self, train: Ragged, settings: Settings) -> None:
        """Choose words and bigrams from the training texts, when the layout is one of bags."""
        if settings.layout in BAGS:
            self.features = BagFeatures.fit(
                train, vocabulary_size=self.tokenizer.vocabulary_size, max_bigrams=settings.bigrams
            )
            if settings.start is not None:
                self.features = self.features.begun_from(settings.start.reader.features, settings.bigrams)

    def growth(self, old: "TextReader") -> Growth:
        """Return where the words (and bigrams) of the reader that this one was begun from are."""
        if self.features is None or old.features is None:
            return grown("word", old.vocabulary_size, self.vocabulary_size)
        what = "feature" if len(self.features.bigrams) else "word"
        return Growth(what, old.vocabulary_size, self.vocabulary_size, self.features.rows_of(old.features))

    def columns(self, ids: Ragged, prefix: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return the columns of `Examples` for these ids, and notes about what was cut."""
        if self.features is not None:
            tokens, weights = self.features.transform(ids, self.spill)
            return {f"{prefix}tokens": tokens, f"{prefix}weights": weights}, []
        num_long = int((ids.lengths > self.max_length).sum())
        share = num_long / max(1, len(ids))
        note = f"{num_long:,} texts ({share:.1%}) exceed {self.max_length} tokens and were truncated (--max-length)."
        return {f"{prefix}tokens": ids}, [note] if num_long else []

    def words_of(self, examples: Examples) -> tuple[Ragged, Ragged, int]:
        """Return texts as bags of words and bigrams, chosen from these texts where the model reads them otherwise."""
        tokens = examples.ragged("tokens")
        if self.features is not None:
            return tokens, examples.ragged("weights"), self.features.num_features
        features = BagFeatures.fit(tokens, vocabulary_size=self.tokenizer.vocabulary_size)
        return *features.transform(tokens, self.spill), features.num_features

    def inputs(self, examples: Examples, indices: np.ndarray, prefix: str = "") -> "dict[str, Tensor]":
        """Return the model's keywords for these examples."""
        from thalweg.data.arrays.collate import flat, pad  # tensors; reading a text needs none

        tokens = examples.ragged(f"{prefix}tokens")
        if self.features is not None:
            flat_tokens, offsets, weights = flat(tokens, examples.ragged(f"{prefix}weights"), indices)
            return {f"{prefix}tokens": flat_tokens, f"{prefix}offsets": offsets, f"{prefix}weights": weights}
        padded, mask = pad(tokens, indices, max_length=self.max_length)
        return {f"{prefix}tokens": padded, f"{prefix}mask": mask}

    def view_columns(self, examples: Examples, prefix: str = "") -> list[Column]:
        """Return what the model sees of these examples, for `thalweg.data.arrays.equal.same_rows`."""
        tokens = examples.ragged(f"{prefix}tokens")
        if self.features is not None:
            weights = examples.ragged(f"{prefix}weights")
            return [_parts(tokens), _parts(weights)]
        lengths = np.minimum(tokens.lengths, self.max_length)
        return [(tokens.values[flat_positions(tokens.offsets[:-1], lengths)], lengths)]

    def describes(self, texts: str = "a text") -> str:
        """Return what the model sees of one or two texts, as the end of "a model that sees only ..."."""
        size = self.tokenizer.vocabulary_size
        if self.features is not None:
            num_bigrams = self.features.num_features - self.features.vocabulary_size
            seen, known = "words", counted(size, "word")
            if num_bigrams:
                seen, known = "words and bigrams", f"{known} and {counted(num_bigrams, 'bigram')}"
            return (
                f"the known {seen} of {texts} with their weights (fixed: the normalization, the vocabulary of {known}, "
                "the weights)"
            )
        return (
            f"the first {self.max_length:,} tokens of {texts}, with out-of-vocabulary words all alike (fixed: the "
            f"normalization, the vocabulary of {size:,} tokens, the maximum length)"
        )

    def about(self) -> dict[str, str]:
        """Return what statements about the training texts call them and their features."""
        if self.features is None:
            return {"examples": "training texts"}
        parts = "words and bigrams" if len(self.features.bigrams) else "words"
        return {
            "examples": "training texts",
            "features": f"features ({parts} of this run's vocabulary, as it normalizes, counts and weights them)",
        }

    def read(self, texts: Sequence[str], prefix: str = "") -> dict[str, Any]:
        """Return the columns of `Examples` for new texts."""
        return self.columns(self.encode([self.normalizer.many(list(texts))]), prefix)[0]

    def files(self) -> dict[str, bytes]:
        """Return `tokenizer.json`, and `features.safetensors` for bags."""
        features = {} if self.features is None else {FEATURES: self.features.to_bytes()}
        return {TOKENIZER: self.tokenizer.to_bytes(), **features}

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> "TextReader":
        """Read back what `files` gave."""
        features = BagFeatures.load(folder / FEATURES) if settings.layout in BAGS else None
        tokenizer = Tokenizer.load(folder / TOKENIZER)
        if features is not None and features.vocabulary_size != tokenizer.vocabulary_size:
            raise InputError(f"{folder / FEATURES} is damaged (it is about another vocabulary); {AGAIN}.")
        return cls(settings.normalizer(), tokenizer, features, settings.max_length)


def _parts(ragged: Ragged) -> Column:
    return ragged.values[: int(ragged.offsets[-1])], ragged.lengths


def scores_of(bag: BagScores, examples: Examples) -> np.ndarray:
    """Return the scores of texts that were read as bags, `[texts, outputs]`."""
    tokens, weights = examples.ragged("tokens"), examples.ragged("weights")
    return bag(tokens.values, tokens.offsets, weights.values)
