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
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer, PretrainedTokenizer
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError, counted
from thalweg.models.bag_scores import BagScores
from thalweg.models.shape import ModelShape
from thalweg.storage.forms import AGAIN
from thalweg.tasks.growing import Growth, grown, tokenizer_from
from thalweg.tasks.reading.known_vectors import known_vectors
from thalweg.tasks.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from thalweg.tasks.reading.encoder import EncoderFeatures

IDS = "ids"  # the column with what a frozen model read
# Files of a run's folder.
TOKENIZER, FEATURES = "tokenizer.json", "features.safetensors"
BAGS = ("bag", "joint")  # layouts that take bags of words and bigrams
ENCODED = "encoded"  # the layout that takes what a frozen pretrained model says of a text
MAX_RAW = 200_000  # so many validation texts, at most, are kept as they are to show the worst examples of


@final
@dataclasses.dataclass
class TextReader:
    """From texts to what a pooled model takes."""

    normalizer: Normalizer
    tokenizer: AnyTokenizer
    features: "BagFeatures | EncoderFeatures | None"  # with weights, for layouts of bags; None for "padded"
    max_length: int  # longest text in tokens for "padded"; bags take all of a text
    spill: Spill = IN_MEMORY  # where arrays of ids go that are too large for memory
    pretrained: PretrainedFolder | None = None  # the model that the tokenizer belongs to

    @property
    def vocabulary_size(self) -> int:
        """Number of ids that the model must have an embedding for."""
        return self.tokenizer.vocabulary_size if self.features is None else self.features.num_features

    @property
    def is_closed(self) -> bool:
        """Whether the vocabulary takes no more words, because those that have vectors stand in it already."""
        return isinstance(self.features, BagFeatures) and self.features.word_vectors is not None

    @property
    def is_encoded(self) -> bool:
        """Whether the features are what a frozen pretrained model says of a text."""
        return self.features is not None and self.pretrained is not None

    @classmethod
    def fit(cls, texts: Iterable[list[str]], settings: Settings) -> "TextReader":
        """Make a reader from chunks of normalized training texts; features come later, with `fit_features`."""
        if settings.pretrained:
            return cls.of_pretrained(settings)
        old = None if settings.start is None else settings.start.vocabulary
        all_texts = (text for chunk in texts for text in chunk)
        size = settings.vocabulary_size
        tokenizer = tokenizer_from(old, lambda: Tokenizer.train(all_texts, settings.tokenizer, size), size)
        return cls(settings.normalizer(), tokenizer, None, settings.max_length, settings.spill)

    @classmethod
    def of_pretrained(cls, settings: Settings) -> "TextReader":
        """Make the reader of a pretrained model: that of the run to start from, or of its folder."""
        old = None if settings.start is None else settings.start.reader
        found = PretrainedFolder.open(settings.pretrained) if old is None else old.pretrained
        assert found is not None
        if settings.pooling != "auto":
            found = dataclasses.replace(found, pooling=settings.pooling)
        check_length(found, settings.max_length)
        return cls(settings.normalizer(), found.tokenizer, None, settings.max_length, settings.spill, found)

    def encode(self, chunks: Iterable[Sequence[str]]) -> Ragged:
        """Return the ids of chunks of normalized texts."""
        builder = RaggedBuilder(np.int32, self.spill)
        for chunk in chunks:
            builder.extend_flat(*self.tokenizer.encode_many(list(chunk)))
        return builder.finish()

    def fit_features(self, train: Ragged, settings: Settings) -> None:
        """Choose words and bigrams from the training texts, when the layout is one of bags; read word vectors."""
        old = None if settings.start is None else settings.start.reader.features
        if settings.layout in BAGS and settings.start is not None and settings.start.reader.is_closed:
            self.features = old
        elif settings.layout in BAGS:
            features = BagFeatures.fit(
                train, vocabulary_size=self.tokenizer.vocabulary_size, max_bigrams=settings.bigrams
            )
            if settings.word_vectors:
                self.tokenizer, vectors = known_vectors(
                    settings.word_vectors, settings.normalize_vectors, self.normalizer, self.tokenizer,
                    settings.vocabulary_size,
                )  # fmt: skip
                features = features.beside(vectors)
            self.features = features if old is None else features.begun_from(old, settings.bigrams)
        if settings.layout == ENCODED:
            assert self.pretrained is not None
            encoder = old or _encoder().open(self.pretrained, settings.pretrained, settings.device)
            encoder.tell = settings.tell
            self.features = encoder

    def shape(self) -> ModelShape:
        """Return what the texts ask of a model."""
        shape = ModelShape(vocabulary_size=self.vocabulary_size, max_length=self.max_length)
        if self.pretrained is None or self.features is not None:
            return shape
        return dataclasses.replace(shape, config=self.pretrained.config, pooling=self.pretrained.pooling)

    def growth(self, old: "TextReader") -> Growth:
        """Return where the words (and bigrams) of the reader that this one was begun from are."""
        if not isinstance(self.features, BagFeatures) or not isinstance(old.features, BagFeatures):
            return grown("word", old.vocabulary_size, self.vocabulary_size)
        if self.features is old.features:
            return grown("feature", old.vocabulary_size, self.vocabulary_size)
        what = "feature" if len(self.features.bigrams) else "word"
        return Growth(what, old.vocabulary_size, self.vocabulary_size, self.features.rows_of(old.features))

    def columns(self, ids: Ragged, prefix: str = "") -> tuple[dict[str, Any], list[str]]:
        """Return the columns of `Examples` for these ids, and notes about what was cut."""
        if isinstance(self.features, BagFeatures):
            tokens, weights = self.features.transform(ids, self.spill)
            return {f"{prefix}tokens": tokens, f"{prefix}weights": weights}, []
        num_long = int((ids.lengths > self.max_length).sum())
        if isinstance(self.tokenizer, PretrainedTokenizer):
            ids = shortened(ids, self.max_length, self.tokenizer.num_after)
        share = num_long / max(1, len(ids))
        note = f"{num_long:,} texts ({share:.1%}) exceed {self.max_length} tokens and were truncated (--max-length)."
        notes = [note] if num_long else []
        if self.features is None:
            return {f"{prefix}tokens": ids}, notes
        tokens, weights = self.features.transform(ids, self.spill)
        return {f"{prefix}tokens": tokens, f"{prefix}weights": weights, f"{prefix}{IDS}": ids}, notes

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
        padded, mask = pad(tokens, indices, max_length=self.max_length, padding=self.tokenizer.pad)
        return {f"{prefix}tokens": padded, f"{prefix}mask": mask}

    def view_columns(self, examples: Examples, prefix: str = "") -> list[Column]:
        """Return what the model sees of these examples, for `thalweg.data.arrays.equal.same_rows`."""
        tokens = examples.ragged(f"{prefix}tokens")
        if isinstance(self.features, BagFeatures):
            weights = examples.ragged(f"{prefix}weights")
            return [_parts(tokens), _parts(weights)]
        if self.features is not None:  # equal ids have equal features, of this model and of any other
            return [_parts(examples.ragged(f"{prefix}{IDS}"))]
        lengths = np.minimum(tokens.lengths, self.max_length)
        return [(tokens.values[flat_positions(tokens.offsets[:-1], lengths)], lengths)]

    def describes(self, texts: str = "a text") -> str:
        """Return what the model sees of one or two texts, as the end of "a model that sees only ..."."""
        size = self.tokenizer.vocabulary_size
        if isinstance(self.features, BagFeatures):
            num_bigrams = len(self.features.bigrams)
            seen, known = "words", counted(self.features.vocabulary_size, "word")
            if num_bigrams:
                seen, known = "words and bigrams", f"{known} and {counted(num_bigrams, 'bigram')}"
            means, vectors = "", ""
            if self.features.word_vectors is not None:
                means = " and the direction of the mean of each text's word vectors"
                vectors = f", the vectors of {counted(size, 'word')}"
            return (
                f"the known {seen} of {texts} with their weights{means} (fixed: the normalization, the vocabulary of "
                f"{known}, the weights{vectors})"
            )
        if self.pretrained is not None:
            return (
                f"the first {self.max_length:,} tokens of {texts}, as the tokenizer of a pretrained model makes them "
                "(fixed: the normalization, the tokenizer, the maximum length)"
            )
        return (
            f"the first {self.max_length:,} tokens of {texts}, with out-of-vocabulary words all alike (fixed: the "
            f"normalization, the vocabulary of {size:,} tokens, the maximum length)"
        )

    def about(self) -> dict[str, str]:
        """Return what statements about the training texts call them and their features."""
        if self.features is None:
            return {"examples": "training texts"}
        if not isinstance(self.features, BagFeatures):
            return {"examples": "training texts", "features": self.features.described()}
        parts = "words and bigrams" if len(self.features.bigrams) else "words"
        parts += "" if self.features.word_vectors is None else ", and the direction of the mean of word vectors,"
        return {
            "examples": "training texts",
            "features": f"features ({parts} of this run's vocabulary, as it normalizes, counts and weights them)",
        }

    def read(self, texts: Sequence[str], prefix: str = "") -> dict[str, Any]:
        """Return the columns of `Examples` for new texts."""
        return self.columns(self.encode([self.normalizer.many(list(texts))]), prefix)[0]

    def files(self) -> dict[str, bytes]:
        """Return `tokenizer.json`, and `features.safetensors` for bags."""
        if self.pretrained is not None:
            encoder: Any = self.features
            return self.pretrained.files() | ({} if encoder is None else encoder.files())
        features = {FEATURES: self.features.to_bytes()} if isinstance(self.features, BagFeatures) else {}
        return {TOKENIZER: self.tokenizer.to_bytes(), **features}

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> "TextReader":
        """Read back what `files` gave."""
        if settings.pretrained:
            found = PretrainedFolder.load(folder)
            check_length(found, settings.max_length)
            encoder = _encoder().load(found, folder, settings.device) if settings.layout == ENCODED else None
            return cls(settings.normalizer(), found.tokenizer, encoder, settings.max_length, IN_MEMORY, found)
        features = BagFeatures.load(folder / FEATURES) if settings.layout in BAGS else None
        tokenizer = Tokenizer.load(folder / TOKENIZER)
        if features is not None and features.num_ids != tokenizer.vocabulary_size:
            raise InputError(f"{folder / FEATURES} is damaged (it is about another vocabulary); {AGAIN}.")
        return cls(settings.normalizer(), tokenizer, features, settings.max_length)


def _encoder() -> "type[EncoderFeatures]":
    """Return the class whose network takes PyTorch, which readers of words do without."""
    from thalweg.tasks.reading.encoder import EncoderFeatures

    return EncoderFeatures


def _parts(ragged: Ragged) -> Column:
    return ragged.values[: int(ragged.offsets[-1])], ragged.lengths


def scores_of(bag: BagScores, examples: Examples) -> np.ndarray:
    """Return the scores of texts that were read as bags, `[texts, outputs]`."""
    tokens, weights = examples.ragged("tokens"), examples.ragged("weights")
    return bag(tokens.values, tokens.offsets, weights.values)


def shortened(ids: Ragged, length: int, num_after: int) -> Ragged:
    """Return sequences of at most `length` ids, of which the last `num_after` are kept.

    Example:
        >>> shortened(Ragged.from_lists([[1, 5, 6, 7, 2], [1, 2]]), 4, 1).values.tolist()
        [1, 5, 6, 2, 1, 2]
    """
    long = np.flatnonzero(ids.lengths > length)
    if not len(long):
        return ids
    keep = np.ones(len(ids.values), dtype=bool)
    for row in long.tolist():
        start, end = int(ids.offsets[row]), int(ids.offsets[row + 1])
        keep[start + length - num_after : end - num_after] = False
    return Ragged.from_lengths(ids.values[keep], np.minimum(ids.lengths, length))


def check_length(pretrained: PretrainedFolder, length: int) -> None:
    """Raise an InputError where sequences may be longer than a model can read, or shorter than what frames a text."""
    most, frame = pretrained.num_positions, pretrained.tokenizer.num_before + pretrained.tokenizer.num_after
    if most is not None and length > most:
        raise InputError(
            f"--max-length {length}: the pretrained model reads {most} tokens at most; give --max-length {most}."
        )
    if length <= frame:
        raise InputError(f"--max-length {length}: the pretrained model puts {frame} tokens around a text; give more.")
