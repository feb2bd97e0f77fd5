"""Texts as bags of words and pairs of adjacent words, weighted by TF-IDF; all in numpy, in chunks."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from thalweg.data.codecs import SPECIALS
from thalweg.data.ragged import Ragged, RaggedBuilder
from thalweg.errors import InputError

_CHUNK_TOKENS: Final = 2**20  # tokens at a time
_MAX_TRACKED: Final = 2**24  # distinct pairs that are counted at the same time
_NUM_SPECIALS: Final = len(SPECIALS)


@final
@dataclass(frozen=True, eq=False)
class BagFeatures:
    r"""Words and pairs of adjacent words as features, with weights whose squares sum to one in each text.

    $$w_{d,f} = \frac{u_{d,f}}{\sqrt{\sum_g u_{d,g}^2}}, \quad
    u_{d,f} = t_{d,f} \Bigl(\ln\frac{1 + n}{1 + n_f} + 1\Bigr)$$

    where $n$ is the number of training texts, $n_f$ of those with feature $f$, and $t_{d,f}$ how often $f$ is in text
    $d$; with `sublinear` one plus the logarithm of that. Features 0 ... `vocabulary_size` - 1 are the words, by their
    ids; the pairs come after them. The special ids 0 to 3, unknown words among them, are no features, nor in a pair.

    Args:
        vocabulary_size: number of word ids.
        pairs: the pairs (first, second) that are features, as `first * vocabulary_size + second`, int64, rising.
        idf: the factor in parentheses for each feature, float64 `[num_features]`.
        sublinear: whether repetitions count by their logarithm.

    Raises:
        ValueError: if the sizes do not fit together.

    Example:
        >>> texts = Ragged.from_lists([[4, 5, 4, 5], [4, 5], [6]])
        >>> features = BagFeatures.fit(texts, vocabulary_size=7)
        >>> features.num_features, features.parts(7)  # of (4, 5) and (5, 4) only the first is in two texts
        (8, (4, 5))
        >>> tokens, weights = features.transform(texts)
        >>> tokens[1].tolist(), weights[1].astype(float).round(3).tolist()
        ([4, 5, 7], [0.577, 0.577, 0.577])

    Source: Salton and Buckley (1988), Term-weighting approaches in automatic text retrieval; the smooth logarithm is
    that of scikit-learn's TfidfVectorizer.
    When not to use it: where the order of the words matters beyond neighbors.
    """

    vocabulary_size: int
    pairs: np.ndarray
    idf: np.ndarray
    sublinear: bool = True

    def __post_init__(self) -> None:
        if len(self.idf) != self.num_features or (np.diff(self.pairs) <= 0).any():
            raise ValueError("BagFeatures(idf=...) needs one number a feature, and the pairs must rise.")

    @property
    def num_features(self) -> int:
        """Number of features: words and pairs."""
        return self.vocabulary_size + len(self.pairs)

    def parts(self, feature: int) -> tuple[int, ...]:
        """Return the word ids that a feature consists of: one, or two for a pair."""
        if feature < self.vocabulary_size:
            return (feature,)
        first, second = divmod(int(self.pairs[feature - self.vocabulary_size]), self.vocabulary_size)
        return first, second

    @classmethod
    def fit(
        cls,
        texts: Ragged,
        *,
        vocabulary_size: int,
        max_pairs: int = 200_000,
        min_documents: int = 2,
        sublinear: bool = True,
    ) -> "BagFeatures":
        """Choose the pairs, and count in how many texts each feature is.

        Args:
            texts: word ids of the training texts, in [0, vocabulary_size).
            vocabulary_size: number of word ids.
            max_pairs: most pairs; those in the most texts are taken. 0 for words alone.
            min_documents: a pair in fewer texts is left out.
            sublinear: count repetitions by their logarithm.

        Where the texts have more than 2^24 different pairs, the rarest are forgotten now and then, so that memory stays
        bounded; a pair may then be counted too low by a few.
        """
        counts = np.zeros(vocabulary_size, dtype=np.int64)
        pair_counts = _PairCounts()
        for part in _chunks(texts, vocabulary_size * vocabulary_size):
            rows = np.repeat(np.arange(len(part)), part.lengths)
            words, is_word = _words(part)
            counts += np.bincount(
                _unique(rows[is_word] * vocabulary_size + words[is_word]) % vocabulary_size, minlength=vocabulary_size
            )
            if max_pairs:
                is_pair = is_word[:-1] & is_word[1:] & (rows[:-1] == rows[1:])
                keys = (words[:-1] * vocabulary_size + words[1:])[is_pair]
                square = vocabulary_size * vocabulary_size
                pair_counts.add(_unique(rows[:-1][is_pair] * square + keys) % square)
        pairs, numbers = pair_counts.finish()
        frequent = numbers >= min_documents
        pairs, numbers = pairs[frequent], numbers[frequent]
        chosen = np.sort(np.argsort(-numbers, kind="stable")[:max_pairs])
        all_counts = np.concatenate([counts, numbers[chosen]])
        return cls(vocabulary_size, pairs[chosen], np.log((1 + len(texts)) / (1 + all_counts)) + 1.0, sublinear)

    def transform(
        self, texts: Ragged, *, spill_bytes: int = 256 * 2**20, folder: str | Path | None = None
    ) -> tuple[Ragged, Ragged]:
        """Return the features of each text, int32, each once and in rising order; and their weights, float32.

        Args:
            texts: word ids, in [0, vocabulary_size).
            spill_bytes: bytes kept in memory, see `RaggedBuilder`.
            folder: where files go beyond that; None: everything stays in memory.
        """
        tokens = RaggedBuilder(np.int32, spill_bytes, folder)
        weights = RaggedBuilder(np.float32, spill_bytes, folder)
        for part in _chunks(texts, self.num_features):
            rows, features, values = self._weighted(part)
            lengths = np.bincount(rows, minlength=len(part))
            tokens.extend_flat(features.astype(np.int32), lengths)
            weights.extend_flat(values.astype(np.float32), lengths)
        return tokens.finish(), weights.finish()

    def _weighted(self, part: Ragged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, feature and weight of every entry that is not zero."""
        rows = np.repeat(np.arange(len(part)), part.lengths)
        words, is_word = _words(part)
        entries = [(rows * self.num_features + words)[is_word]]
        if len(self.pairs):
            is_pair = is_word[:-1] & is_word[1:] & (rows[:-1] == rows[1:])
            keys = (words[:-1] * self.vocabulary_size + words[1:])[is_pair]
            places = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
            known = self.pairs[places] == keys
            pair_rows = rows[:-1][is_pair][known]
            entries.append(pair_rows * self.num_features + self.vocabulary_size + places[known])
        found = np.sort(np.concatenate(entries))
        starts = np.flatnonzero(_is_new(found))
        rows, features = np.divmod(found[starts], self.num_features)
        frequency = np.diff(starts, append=len(found)).astype(np.float64)
        if self.sublinear:
            frequency = 1.0 + np.log(frequency)
        values = frequency * self.idf[features]
        norms = np.sqrt(np.bincount(rows, weights=values * values, minlength=len(part)))
        return rows, features, values / norms[rows]

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        arrays = {"pairs": self.pairs, "idf": self.idf}
        kept = {"vocabulary_size": str(self.vocabulary_size), "sublinear": str(int(self.sublinear))}
        save_file(arrays, str(path), metadata=kept)

    @classmethod
    def load(cls, path: str | Path) -> "BagFeatures":
        """Read what `save` wrote.

        Raises:
            InputError: if the file is missing or damaged.
        """
        if not Path(path).is_file():
            raise InputError(f"{path} is missing; restore it or train again.")
        try:
            with safe_open(str(path), framework="numpy") as saved:
                kept = saved.metadata()
                pairs, idf = saved.get_tensor("pairs"), saved.get_tensor("idf")
            return cls(int(kept["vocabulary_size"]), pairs, idf, kept["sublinear"] == "1")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}); restore it or train again.") from None


@final
@dataclass
class _PairCounts:
    """In how many texts each pair is, as sorted arrays; what comes is merged when it is as much as what is there."""

    keys: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    counts: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    pending: list[np.ndarray] = field(default_factory=list)
    num_pending: int = 0

    def add(self, keys: np.ndarray) -> None:
        """Count each of these keys once more."""
        self.pending.append(keys)
        self.num_pending += len(keys)
        if self.num_pending > max(_CHUNK_TOKENS, len(self.keys)):
            self._merge()

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs, rising, and their counts."""
        self._merge()
        return self.keys, self.counts

    def _merge(self) -> None:
        added = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *self.pending]))
        starts = np.flatnonzero(_is_new(added))
        keys = np.concatenate([self.keys, added[starts]])
        counts = np.concatenate([self.counts, np.diff(starts, append=len(added))])
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        starts = np.flatnonzero(_is_new(keys))
        self.keys = keys[starts]
        self.counts = np.add.reduceat(counts, starts) if len(starts) else counts
        self.pending, self.num_pending = [], 0
        least = 1
        while len(self.keys) > _MAX_TRACKED:
            kept = self.counts > least
            self.keys, self.counts = self.keys[kept], self.counts[kept]
            least += 1


def _words(part: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat ids as int64, and which of them are words."""
    words = part.values.astype(np.int64)
    return words, words >= _NUM_SPECIALS


def _chunks(texts: Ragged, largest: int) -> Iterator[Ragged]:
    """Cut the texts into parts of about a million tokens, with so few rows that `rows * largest` fits into int64."""
    max_rows = max(1, min(2**20, 2**62 // largest))
    start = 0
    while start < len(texts):
        stop = int(np.searchsorted(texts.offsets, texts.offsets[start] + _CHUNK_TOKENS, side="right")) - 1
        stop = min(max(stop, start + 1), start + max_rows, len(texts))
        yield texts[start:stop]
        start = stop


def _unique(values: np.ndarray) -> np.ndarray:
    values = np.sort(values)
    return values[_is_new(values)]


def _is_new(values: np.ndarray) -> np.ndarray:
    """Return where a sorted array differs from its entry before."""
    new = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return new
