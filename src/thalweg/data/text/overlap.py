"""How much two texts share, as plain numbers: words, word pairs, character n-grams, digits, and words spelled alike."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
from scipy import sparse

from thalweg.data.arrays.ragged import flat_positions
from thalweg.data.text.spelling import BUCKETS, Spelling, cosine, grams
from thalweg.data.text.word_index import WordHashes, word_hashes

Pairs = tuple[Sequence[str], Sequence[str]]
"""The first and the second texts of some pairs."""

ORDERS: Final = (2, 3, 4, 5)  # lengths of character n-grams
SPELLED: Final = (2, 3, 4)  # of those that tell words spelled alike
NAMES: Final = (
    "words", "word pairs", *(f"characters {order}" for order in ORDERS), "Jaccard",
    "first covered", "second covered", "only in the first", "only in the second",
    "length ratio", "length difference", "length", "numbers of the first", "numbers of the second",
    "first spelled", "second spelled",
)  # fmt: skip
_PAIRS: Final = 4096  # at a time
_MAX_UNMATCHED: Final = 32  # words of a text that are compared with all such words of the other by their spelling
_COMPARED: Final = 2**17  # words at a time


@final
@dataclass(frozen=True, eq=False)
class Overlap:
    r"""Numbers that say how much the two texts of a pair share, whatever the language.

    With the weight $w_t = \ln((1 + n) / (1 + n_t))$ of a word $t$ in $n_t$ of $n$ training texts, a text's words are
    weighted $(1 + \ln f_t) (1 + w_t)$ for $f_t$ occurrences; the numbers of a pair are, in the order of `NAMES`:

    - the cosine of words, of pairs of neighboring words, and of character n-grams inside words (2 to 5 of them);
    - Jaccard: shared words over all words;
    - coverage: which part of the sum of $w_t$ over a text's words is over words of the other, for both directions, and
      the logarithm of one plus what is not;
    - lengths: logarithm of the ratio of the numbers of words, its absolute value, logarithm of their sum;
    - which part of a text's numbers (words with a digit) the other has, for both directions;
    - spelling: coverage where a word that the other text lacks counts by its best cosine of character n-grams with the
      words there that are unmatched as well (at most 32 of a text).

    Where both texts have nothing to share they share all of it: two empty texts are alike, 1. An empty text and
    another share nothing, 0. Pieces of words stand in 65,536 buckets.

    Args:
        hashes: of the training texts' words, rising, uint64 `[num_words]`.
        counts: in how many texts each word is, int64 `[num_words]`.
        gram_counts: for each length of an n-gram the same by bucket, float64 `[len(ORDERS), buckets]`.
        num_texts: $n$.

    Example:
        >>> overlap = Overlap.fit([(["a cat", "the dog"], ["the cat", "a bird"])])
        >>> numbers = overlap.numbers(["a cat", ""], ["a cat", "a cat"])
        >>> numbers.shape, numbers[:, NAMES.index("words")].round(6).tolist()
        ((2, 18), [1.0, 0.0])

    Source: Bär, Biemann, Gurevych and Zesch (2012), UKP: Computing Semantic Textual Similarity by Combining Multiple
    Content Similarity Measures; Šarić et al. (2012), TakeLab: Systems for Measuring Semantic Text Similarity.
    When not to use it: where texts that mean the same have no words in common.
    """

    hashes: np.ndarray
    counts: np.ndarray
    gram_counts: np.ndarray
    num_texts: int

    @classmethod
    def fit(cls, chunks: Iterable[Pairs]) -> "Overlap":
        """Count words and n-grams in the training pairs; the texts are read once and not kept."""
        hashes, counts = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
        gram_counts, num_texts = np.zeros((len(ORDERS), BUCKETS)), 0
        for first, second in _parts(chunks):
            words = _Words.of([*first, *second])
            found = np.bincount(words.counts.indices, minlength=len(words.hashes))
            hashes, places = np.unique(np.concatenate([hashes, words.hashes]), return_inverse=True)
            # Counts stay below 2^53, so that sums of doubles are exact.
            counts = np.bincount(places, weights=np.concatenate([counts, found])).astype(np.int64)
            for row, order in zip(gram_counts, ORDERS, strict=True):
                pieces = grams(words.spelled, order)
                pieces.data[:] = 1.0
                row += pieces.T @ found
            num_texts += 2 * len(first)
        return cls(hashes, counts, gram_counts, num_texts)

    def numbers(self, first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """Return the numbers of each pair, float64 `[pairs, len(NAMES)]`."""
        parts = [self._numbers(*pairs) for pairs in _parts([(first, second)])]
        return np.concatenate(parts) if parts else np.zeros((0, len(NAMES)))

    def _numbers(self, first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        words, size = _Words.of([*first, *second]), len(first)
        weight = self._weights(words.hashes)
        found = [cosine(_weighted(words.counts, 1.0 + weight), size), cosine(_neighbors(words, 1.0 + weight), size)]
        for order, known in zip(ORDERS, self.gram_counts, strict=True):
            idf = 1.0 + self._idf(np.minimum(known, self.num_texts))
            found.append(cosine(_weighted(words.counts @ grams(words.spelled, order), idf), size))
        present = words.counts.copy()
        present.data[:] = 1.0
        one, other = present[:size], present[size:]
        both = one.multiply(other).tocsr()
        lengths = np.diff(words.counts.indptr), words.num_words
        shared, distinct = np.diff(both.indptr), (lengths[0][:size], lengths[0][size:])
        found.append(_share(shared, distinct[0] + distinct[1] - shared))
        mass, in_one, in_other = both @ weight, one @ weight, other @ weight
        found += [_share(mass, in_one, mass == in_other), _share(mass, in_other, mass == in_one)]
        found += [np.log1p(np.maximum(in_one - mass, 0.0)), np.log1p(np.maximum(in_other - mass, 0.0))]
        long, wide = np.log1p(lengths[1][:size]), np.log1p(lengths[1][size:])
        found += [long - wide, np.abs(long - wide), np.log1p(lengths[1][:size] + lengths[1][size:])]
        digits = words.has_digit.astype(np.float64)
        common = both @ digits
        found += [_share(common, one @ digits), _share(common, other @ digits)]
        found += _spelled(words, (one, other, both), weight)
        return np.stack(found, axis=1)

    def _weights(self, hashes: np.ndarray) -> np.ndarray:
        """Return the weights of words."""
        if not len(self.hashes):
            return self._idf(np.zeros(len(hashes)))
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return self._idf(np.where(self.hashes[places] == hashes, self.counts[places], 0))

    def _idf(self, counts: np.ndarray) -> np.ndarray:
        return np.log((1.0 + self.num_texts) / (1.0 + counts))


@final
class _Words(NamedTuple):
    """The distinct words of some texts, and how often they are in each."""

    hashes: np.ndarray  # uint64 [distinct], rising
    counts: Any  # CSR [texts, distinct]
    num_words: np.ndarray  # of each text
    places: np.ndarray  # which of the distinct words each word is, one text after the other
    spelled: Spelling
    has_digit: np.ndarray  # bool [distinct]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "_Words":
        found: WordHashes = word_hashes(texts)
        hashes, firsts, places = np.unique(found.hashes, return_index=True, return_inverse=True)
        ends = np.concatenate([[0], np.cumsum(found.words_of)])
        counts = sparse.csr_array((np.ones(len(places)), places.copy(), ends), shape=(len(texts), len(hashes)))
        counts.sum_duplicates()
        spelled = Spelling.of(found.characters, found.starts[firsts], found.lengths[firsts])
        return cls(hashes, counts, found.words_of, places, spelled, spelled.has_digit())


def _parts(chunks: Iterable[Pairs]) -> Iterable[Pairs]:
    """Cut chunks of pairs into parts of a few thousand."""
    for first, second in chunks:
        for start in range(0, len(first), _PAIRS):
            yield first[start : start + _PAIRS], second[start : start + _PAIRS]


def _weighted(counts: Any, weight: np.ndarray) -> Any:
    """Return repetitions by their logarithm, times the weight of each column."""
    data = (1.0 + np.log(counts.data)) * weight[counts.indices]
    return sparse.csr_array((data, counts.indices, counts.indptr), shape=counts.shape)


def _neighbors(words: _Words, weight: np.ndarray) -> Any:
    """Return pairs of neighboring words, each weighted by the sum of its words' weights, CSR `[texts, pairs]`."""
    text = np.repeat(np.arange(len(words.num_words)), words.num_words)
    inside = text[1:] == text[:-1]
    one, other = words.places[:-1][inside], words.places[1:][inside]
    keys, places = np.unique(one * max(1, len(weight)) + other, return_inverse=True)
    shape = (len(words.num_words), len(keys))
    # Repeated pairs are added up, which makes them count as often as they come.
    return sparse.coo_array((weight[one] + weight[other], (text[1:][inside], places)), shape=shape).tocsr()


def _share(part: np.ndarray, whole: np.ndarray, alike: np.ndarray | None = None) -> np.ndarray:
    """Return part / whole; where the whole is 0, whether the texts are `alike` (by default they are), as 0 or 1."""
    empty = np.ones(len(part)) if alike is None else alike.astype(np.float64)
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), empty)


def _spelled(words: _Words, parts: tuple[Any, Any, Any], weight: np.ndarray) -> list[np.ndarray]:
    """Return the coverage of both texts where unmatched words count by their most similar unmatched word."""
    one, other, both = parts
    left, right = (_unmatched(side, both) for side in (one, other))
    counts = left[1] * right[1]
    pair = np.repeat(np.arange(len(counts)), counts)
    within = flat_positions(np.zeros_like(counts), counts)
    starts = [np.cumsum(side[1]) - side[1] for side in (left, right)]
    i = starts[0][pair] + within // np.maximum(right[1], 1)[pair]
    j = starts[1][pair] + within % np.maximum(right[1], 1)[pair]
    alike = _alike(words.spelled.vectors(SPELLED), left[0][i], right[0][j])
    mass, shares = both @ weight, []
    for (chosen, lengths), places, side in ((left, i, one), (right, j, other)):
        best = np.zeros(len(chosen))
        np.maximum.at(best, places, alike)
        row = np.repeat(np.arange(len(lengths)), lengths)
        nearly = np.bincount(row, weights=best * weight[chosen], minlength=len(lengths))
        whole = side @ weight
        shares.append(_share(mass + nearly, whole, parts[1 if side is one else 0] @ weight == mass))
    return shares


def _unmatched(side: Any, both: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the words of each text that the other lacks, one text after the other, and how many of each text."""
    lonely = (side - both).tocsr()
    lonely.eliminate_zeros()
    lengths = np.minimum(np.diff(lonely.indptr), _MAX_UNMATCHED)
    return lonely.indices[flat_positions(lonely.indptr[:-1], lengths)], lengths


def _alike(vectors: Any, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the products of rows `left` and rows `right` of a sparse matrix, row by row."""
    found = np.zeros(len(left))
    for start in range(0, len(left), _COMPARED):
        part = slice(start, start + _COMPARED)
        found[part] = vectors[left[part]].multiply(vectors[right[part]]).sum(axis=1)
    return found
