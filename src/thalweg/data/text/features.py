"""Texts as bags of words and bigrams, weighted by TF-IDF, with the mean of word vectors beside them; all in numpy."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from thalweg.data.arrays.ragged import IN_MEMORY, Ragged, RaggedBuilder, Spill
from thalweg.data.text.codecs import SPECIALS
from thalweg.errors import InputError

# What reading a damaged safetensors file, or one with tensors of a type that numpy lacks, may raise.
UNREADABLE: Final = (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError)

_CHUNK_TOKENS: Final = 2**20  # tokens at a time
_CHUNK_ENTRIES: Final = 2**22  # of texts' vectors at a time
_SUM_TOKENS: Final = 2**14  # whose vectors are added up at a time
_MAX_TRACKED: Final = 2**21  # distinct bigrams that are counted at the same time
_NUM_SPECIALS: Final = len(SPECIALS)
VECTOR_LENGTH: Final = 1.5  # of a text's word vector, beside a bag of length one (benchmarks/word_vector_features.py)
_MULTIPLIERS: Final = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)  # odd, without pattern


@final
@dataclass(frozen=True, eq=False)
class BagFeatures:
    r"""Words and bigrams as features, with weights whose squares sum to one in each text.

    $$w_{d,f} = \frac{u_{d,f}}{\sqrt{\sum_g u_{d,g}^2}}, \quad
    u_{d,f} = t_{d,f} \Bigl(\ln\frac{1 + n}{1 + n_f} + 1\Bigr)$$

    where $n$ is the number of training texts, $n_f$ of those with feature $f$, and $t_{d,f}$ how often $f$ is in text
    $d$; with `sublinear` one plus the logarithm of that. Features 0 ... `vocabulary_size` - 1 are the words, by their
    ids; bigrams come after them. The special ids 0 to 3, unknown words among them, are not features, nor part of one.

    With word vectors, as many features follow as a vector is wide: the sum of the vectors of all words of the text,
    each as often as it is there, scaled to the length `VECTOR_LENGTH`. Words have vectors that are no features: their
    ids are `vocabulary_size` and more.

    Args:
        vocabulary_size: number of word ids that are features.
        bigrams: the bigrams (first, second) that are features, as `first * vocabulary_size + second`, int64, rising.
        idf: the factor in parentheses for each feature, float64 `[num_features]`.
        sublinear: whether repetitions count by their logarithm.
        word_vectors: a vector for each word id, float32 `[num_ids, width]`, `num_ids` at least `vocabulary_size`; zeros
            for words without one. None: there are none.

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
    bigrams: np.ndarray
    idf: np.ndarray
    sublinear: bool = True
    word_vectors: np.ndarray | None = None

    def __post_init__(self) -> None:
        size, bigrams, idf = self.vocabulary_size, self.bigrams, self.idf
        if self.word_vectors is not None:
            _check_vectors(self.word_vectors, size)
        if (bigrams.dtype, idf.dtype, bigrams.ndim, idf.ndim) != (np.int64, np.float64, 1, 1):
            raise ValueError("BagFeatures(bigrams=..., idf=...) needs a row of int64 and a row of float64.")
        if size < _NUM_SPECIALS or len(idf) != size + len(bigrams) or (np.diff(bigrams) <= 0).any():
            raise ValueError("BagFeatures(idf=...) needs one number per feature, and increasing bigrams.")
        if len(bigrams) and not 0 <= bigrams[0] <= bigrams[-1] < size**2:
            raise ValueError("BagFeatures(bigrams=...) needs pairs of its words.")
        if not (np.isfinite(idf) & (idf > 0.0)).all():
            raise ValueError("BagFeatures(idf=...) needs finite numbers above 0.")

    @property
    def num_features(self) -> int:
        """Number of features: words, bigrams, and entries of a word vector."""
        return self._num_bag + (0 if self.word_vectors is None else self.word_vectors.shape[1])

    @property
    def _num_bag(self) -> int:
        """Number of words and bigrams."""
        return self.vocabulary_size + len(self.bigrams)

    @property
    def num_ids(self) -> int:
        """Number of ids that texts may have: those of words that are features, or have vectors."""
        return self.vocabulary_size if self.word_vectors is None else len(self.word_vectors)

    def parts(self, feature: int) -> tuple[int, ...]:
        """Return the word ids that a feature consists of: one, two for a bigram, none for an entry of a vector."""
        if feature < self.vocabulary_size:
            return (feature,)
        if feature >= self._num_bag:
            return ()
        first, second = divmod(int(self.bigrams[feature - self.vocabulary_size]), self.vocabulary_size)
        return first, second

    @classmethod
    def fit(
        cls,
        texts: Ragged,
        *,
        vocabulary_size: int,
        max_bigrams: int = 200_000,
        min_documents: int = 2,
        sublinear: bool = True,
    ) -> "BagFeatures":
        """Choose the bigrams, and count in how many texts each feature is.

        Args:
            texts: word ids of the training texts, in [0, vocabulary_size).
            vocabulary_size: number of word ids.
            max_bigrams: maximum number of bigrams; those in the most texts are taken. 0 for words alone.
            min_documents: a bigram in fewer texts is left out.
            sublinear: count repetitions by their logarithm.

        Where the texts have more than 2^21 distinct bigrams, the rarest are dropped now and then, so that memory stays
        bounded; a count may then be too low by a few.
        """
        counts = np.zeros(vocabulary_size, dtype=np.int64)
        bigram_counts = _BigramCounts()
        for part in _chunks(texts):
            rows, words, is_word = _words(part, vocabulary_size)
            counts += np.bincount(_each_once(rows[is_word], words[is_word]), minlength=vocabulary_size)
            if max_bigrams:
                is_bigram = is_word[:-1] & is_word[1:] & (rows[:-1] == rows[1:])
                first, second = words[:-1][is_bigram].astype(np.int64), words[1:][is_bigram]
                bigram_counts.add(rows[:-1][is_bigram], first * vocabulary_size + second)
        bigrams, numbers = bigram_counts.finish()
        frequent = numbers >= min_documents
        bigrams, numbers = bigrams[frequent], numbers[frequent]
        chosen = np.sort(np.argsort(-numbers, kind="stable")[:max_bigrams])
        all_counts = np.concatenate([counts, numbers[chosen]])
        return cls(vocabulary_size, bigrams[chosen], np.log((1 + len(texts)) / (1 + all_counts)) + 1.0, sublinear)

    def beside(self, vectors: np.ndarray) -> "BagFeatures":
        """Return the features with word vectors beside them.

        A rare word's vector counts more, by the same factor as the word; one that no training text has by the largest.

        Args:
            vectors: a vector for each id, float32 `[num_ids, width]`, `num_ids` at least `vocabulary_size`.
        """
        most = np.full(len(vectors) - self.vocabulary_size, self.idf.max())
        factors = np.concatenate([self.idf[: self.vocabulary_size], most])
        weighted = vectors * factors[:, None]
        weighted /= max(1.0, float(np.abs(weighted).max(initial=0.0) / np.finfo(np.float32).max))  # directions stay
        return replace(self, word_vectors=weighted.astype(np.float32))

    def has_vectors_of(self, other: "BagFeatures") -> bool:
        """Return whether the word vectors are those of other features, number by number; or neither has any."""
        if self.word_vectors is None or other.word_vectors is None:
            return self.word_vectors is other.word_vectors
        return np.array_equal(self.word_vectors, other.word_vectors)

    def begun_from(self, old: "BagFeatures", max_bigrams: int) -> "BagFeatures":
        """Return the old features with the new ones of these.

        The old ones keep their weights, the new ones have those of these features.

        Args:
            old: features whose words have the same ids, and are at most as many.
            max_bigrams: new bigrams have the room that the old ones leave; those in the most texts get it.
        """
        size, before = self.vocabulary_size, old.vocabulary_size
        kept = self._keys_of(old)
        new = np.flatnonzero(~np.isin(self.bigrams, kept))
        chosen = np.argsort(self.idf[size:][new], kind="stable")[: max(0, max_bigrams - len(kept))]
        new = np.sort(new[chosen])
        bigrams = np.concatenate([kept, self.bigrams[new]])
        order = np.argsort(bigrams, kind="stable")
        idf = np.concatenate([old.idf[before:], self.idf[size:][new]])[order]
        words = np.concatenate([old.idf[:before], self.idf[before:size]])
        return BagFeatures(size, bigrams[order], np.concatenate([words, idf]), self.sublinear)

    def rows_of(self, old: "BagFeatures") -> np.ndarray:
        """Return where each of the features that these were begun from is, int64 `[old.num_features]`."""
        bigrams = self.vocabulary_size + np.searchsorted(self.bigrams, self._keys_of(old))
        return np.concatenate([np.arange(old.vocabulary_size), bigrams])

    def _keys_of(self, old: "BagFeatures") -> np.ndarray:
        """Return the bigrams of smaller features as they are written here."""
        return old.bigrams // old.vocabulary_size * self.vocabulary_size + old.bigrams % old.vocabulary_size

    def transform(self, texts: Ragged, spill: Spill = IN_MEMORY) -> tuple[Ragged, Ragged]:
        """Return the features of each text, int32, each once and in increasing order; and their weights, float32.

        Args:
            texts: word ids, in [0, vocabulary_size).
            spill: where large results go.
        """
        tokens = RaggedBuilder(np.int32, spill)
        weights = RaggedBuilder(np.float32, spill)
        places = _Places(self.bigrams)
        width = 1 if self.word_vectors is None else self.word_vectors.shape[1]
        for part in _chunks(texts, max(1, _CHUNK_ENTRIES // width)):
            rows, features, values = self._weighted(part, places)
            if self.word_vectors is not None:
                rows, features, values = self._with_vectors(part, rows, features, values)
            lengths = np.bincount(rows, minlength=len(part))
            tokens.extend_flat(features, lengths)
            weights.extend_flat(values.astype(np.float32), lengths)
        return tokens.finish(), weights.finish()

    def _with_vectors(
        self, part: Ragged, rows: np.ndarray, features: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the entries of the texts with those of their vectors, by text; a text without a vector has none."""
        assert self.word_vectors is not None
        sums = np.concatenate([_sums(texts, self.word_vectors) for texts in _chunks(part, num_tokens=_SUM_TOKENS)])
        norms = np.linalg.norm(sums, axis=1)
        known = np.flatnonzero(norms > 0.0)
        means, width = sums[known] * (VECTOR_LENGTH / norms[known])[:, None], sums.shape[1]
        rows = np.concatenate([rows, np.repeat(known.astype(np.int32), width)])
        order = np.argsort(rows, kind="stable")
        entries = np.tile(np.arange(self._num_bag, self._num_bag + width, dtype=np.int32), len(known))
        features = np.concatenate([features, entries])
        return rows[order], features[order], np.concatenate([values, means.reshape(-1)])[order]

    def _weighted(self, part: Ragged, places: "_Places") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, feature and weight of every entry that is not zero."""
        rows, words, is_word = _words(part, self.vocabulary_size)
        entry_rows, features = [rows[is_word]], [words[is_word]]
        if len(self.bigrams):
            is_bigram = is_word[:-1] & is_word[1:] & (rows[:-1] == rows[1:])
            first, second = words[:-1][is_bigram].astype(np.int64), words[1:][is_bigram]
            known, found = places.find(first * self.vocabulary_size + second)
            entry_rows.append(rows[:-1][is_bigram][known])
            features.append((self.vocabulary_size + found).astype(np.int32))
        bits = self.num_features.bit_length()
        keys = np.concatenate(entry_rows).astype(np.int64) << bits
        keys |= np.concatenate(features)
        keys.sort()
        starts = np.flatnonzero(_is_new(keys))
        frequency = np.diff(starts, append=len(keys)).astype(np.float64)
        keys = keys[starts]
        rows, chosen = (keys >> bits).astype(np.int32), (keys & ((1 << bits) - 1)).astype(np.int32)
        if self.sublinear:
            frequency = 1.0 + np.log(frequency)
        values = frequency * self.idf[chosen]
        norms = np.sqrt(np.bincount(rows, weights=values * values, minlength=len(part)))
        return rows, chosen, values / norms[rows]

    def to_bytes(self) -> bytes:
        """Return the content of one safetensors file."""
        arrays = {"bigrams": self.bigrams, "idf": self.idf}
        arrays |= {} if self.word_vectors is None else {"word_vectors": self.word_vectors}
        kept = {"vocabulary_size": str(self.vocabulary_size), "sublinear": str(int(self.sublinear))}
        return save(arrays, metadata=kept)

    @classmethod
    def load(cls, path: str | Path) -> "BagFeatures":
        """Read a file that holds what `to_bytes` gave.

        Raises:
            InputError: if the file is missing or damaged.
        """
        if not Path(path).is_file():
            raise InputError(f"{path} is missing; restore it or train again.")
        try:
            with safe_open(str(path), framework="numpy") as saved:
                kept = saved.metadata()
                bigrams, idf = saved.get_tensor("bigrams"), saved.get_tensor("idf")
                vectors = saved.get_tensor("word_vectors") if "word_vectors" in saved.keys() else None  # noqa: SIM118
            return cls(int(kept["vocabulary_size"]), bigrams, idf, kept["sublinear"] == "1", vectors)
        except UNREADABLE as error:
            raise InputError(f"{path} is damaged ({error}); restore it or train again.") from None


@final
class _BigramCounts:
    """In how many texts each bigram is, in increasing order; new ones are merged when they are half of the known."""

    def __init__(self) -> None:
        self._kept = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_pending = 0

    def add(self, rows: np.ndarray, bigrams: np.ndarray) -> None:
        """Count these bigrams once more, each once in a row (rows non-decreasing)."""
        found = _each_once(rows, bigrams)
        starts = np.flatnonzero(_is_new(found))
        self._pending.append((found[starts], np.diff(starts, append=len(found)).astype(np.int32)))
        self._num_pending += len(starts)
        if self._num_pending > max(_CHUNK_TOKENS, len(self._kept[0]) // 2):
            self._merge()

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the bigrams, increasing, and their counts; both int64."""
        self._merge()
        bigrams, counts = self._kept
        return bigrams, counts.astype(np.int64)

    def _merge(self) -> None:
        bigrams, counts = (np.concatenate(column) for column in zip(self._kept, *self._pending, strict=True))
        self._pending, self._num_pending = [], 0  # here, so that the parts need no memory any more
        order = np.argsort(bigrams, kind="stable")  # of runs that are in order already, which it merges
        bigrams, counts = bigrams[order], counts[order]
        starts = np.flatnonzero(_is_new(bigrams))
        if len(starts):
            counts = np.add.reduceat(counts, starts)
        bigrams, least = bigrams[starts], 1
        while len(counts) > _MAX_TRACKED:
            bigrams, counts = bigrams[counts > least], counts[counts > least]
            least += 1
        self._kept = bigrams, counts


@final
class _Places:
    """Where keys are in a sorted list, by two tables of hashes: much faster than a binary search for each."""

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys
        self._bits = max(10, (4 * len(keys)).bit_length())
        self._table = np.zeros(2**self._bits, dtype=np.int32)
        slots = self._slots(keys, _MULTIPLIERS[0])
        self._table[slots] = np.arange(len(keys))
        # Of keys with one slot the last has it; the others are few, and searched for where a second hash says so.
        self._others = np.flatnonzero(self._table[slots] != np.arange(len(keys)))
        self._may_be_other = np.zeros(2**self._bits, dtype=bool)
        self._may_be_other[self._slots(keys[self._others], _MULTIPLIERS[1])] = True

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which keys (int64) are in the list, bool `[len(keys)]`, and the places of those."""
        places = self._table[self._slots(keys, _MULTIPLIERS[0])]
        if not len(self._keys):
            return np.zeros(len(keys), dtype=bool), np.empty(0, dtype=np.int32)
        known = self._keys[places] == keys
        rest = np.flatnonzero(self._may_be_other[self._slots(keys, _MULTIPLIERS[1])] & ~known)
        if len(self._others):
            others = self._keys[self._others]
            found = np.minimum(np.searchsorted(others, keys[rest]), len(others) - 1)
            places[rest] = self._others[found]
            known[rest] = others[found] == keys[rest]
        return known, places[known]

    def _slots(self, keys: np.ndarray, multiplier: int) -> np.ndarray:
        mixed = keys.astype(np.uint64) * np.uint64(multiplier)
        return (mixed >> np.uint64(64 - self._bits)).astype(np.int64)


def _words(part: Ragged, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the row of each word (int32), its id (int32), and which are words that are features."""
    rows = np.repeat(np.arange(len(part), dtype=np.int32), part.lengths)
    words = np.asarray(part.values)
    return rows, words, (words >= _NUM_SPECIALS) & (words < size)


def _sums(texts: Ragged, vectors: np.ndarray) -> np.ndarray:
    """Return the sum of the vectors of each text's words, float64 `[texts, width]`, in the order of their ids."""
    rows = np.repeat(np.arange(len(texts)), texts.lengths)
    words = np.asarray(texts.values)
    rows, words = rows[words >= _NUM_SPECIALS], words[words >= _NUM_SPECIALS]
    order = np.lexsort((words, rows))  # equal bags have equal sums, to the last bit
    rows, words = rows[order], words[order]
    places = np.flatnonzero(_is_new(rows, words))
    counts = np.diff(places, append=len(rows)).astype(np.float64)
    rows, words = rows[places], words[places]
    sums = np.zeros((len(texts), vectors.shape[1]))
    for start in range(0, len(rows), _SUM_TOKENS):  # of one text alone, where there are more
        block = slice(start, start + _SUM_TOKENS)
        begins = np.flatnonzero(_is_new(rows[block]))
        sums[rows[block][begins]] += np.add.reduceat(vectors[words[block]] * counts[block, None], begins, axis=0)
    return sums


def _check_vectors(vectors: np.ndarray, size: int) -> None:
    if vectors.dtype != np.float32 or vectors.ndim != 2 or not vectors.shape[1]:
        raise ValueError("BagFeatures(word_vectors=...) needs a matrix of float32.")
    if len(vectors) < size or not np.isfinite(vectors).all():
        raise ValueError("BagFeatures(word_vectors=...) needs a row of finite numbers for each word.")


def _chunks(texts: Ragged, num_rows: int = _CHUNK_TOKENS, num_tokens: int = _CHUNK_TOKENS) -> Iterator[Ragged]:
    """Cut the texts into parts of about so many tokens, and at most so many texts."""
    start = 0
    while start < len(texts):
        stop = int(np.searchsorted(texts.offsets, texts.offsets[start] + num_tokens, side="right")) - 1
        stop = min(max(stop, start + 1), start + num_rows, len(texts))
        yield texts[start:stop]
        start = stop


def _each_once(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values (not negative) in increasing order, each as often as there are rows (non-decreasing) with it.

    Sorting row and value as one number takes a fourth of the time of sorting by one and then the other.
    """
    bits = int(rows[-1]).bit_length() if len(rows) else 0
    if len(rows) and int(values.max()).bit_length() + bits > 63:
        order = np.lexsort((rows, values))
        return values[order][_is_new(rows[order], values[order])]
    keys = values.astype(np.int64) << bits
    keys |= rows
    keys.sort()
    return keys[_is_new(keys)] >> bits


def _is_new(*columns: np.ndarray) -> np.ndarray:
    """Return where a sorted table differs from its row before."""
    new = np.ones(len(columns[0]), dtype=bool)
    if len(new):
        new[1:] = False
        for column in columns:
            new[1:] |= column[1:] != column[:-1]
    return new
