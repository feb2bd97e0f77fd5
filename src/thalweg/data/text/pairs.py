"""Pairs of texts as features of a linear model: how much they share, bent and multiplied, and which words."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save
from scipy import sparse

from thalweg.data.arrays.ragged import Ragged, flat_positions
from thalweg.data.text.features import UNREADABLE
from thalweg.data.text.overlap import NAMES, ORDERS, Overlap
from thalweg.data.text.spelling import BUCKETS
from thalweg.errors import InputError

# Those of the overlap numbers that are multiplied with each other.
FACTORS: Final = (
    "words", "word pairs", "characters 3", "characters 5", "first covered", "second covered", "length ratio", "length",
    "first spelled", "second spelled",
)  # fmt: skip
MAX_KNOTS: Final = 8
LARGEST: Final = 4.0  # deviations from the mean that a number is cut at
# How much a penalty spares each kind of feature; chosen by cross-validation on the training part of STS-B, where the
# best penalty is then 1 / the number of pairs (docs/training.md).
SCALES: Final = {"numbers": 0.1, "products": 0.05, "shared": 2.0, "not shared": 0.5, "direction": 0.25, "crossed": 3.0}
MAX_CROSSES: Final = 200_000  # word against word; those in the most training pairs
MIN_PAIRS: Final = 3  # a cross in fewer training pairs is left out
_MAX_UNMATCHED: Final = 32  # words of a text that are crossed with such words of the other
_PAIRS: Final = 16_384  # at a time

Bags = tuple[tuple[Ragged, Ragged], tuple[Ragged, Ragged]]
"""Tokens and weights of the first and of the second texts (see `BagFeatures.transform`)."""


@final
@dataclass(frozen=True, eq=False)
class PairFeatures:
    r"""A bag of features for each pair of texts, so that a linear model of them can follow curves and interactions.

    - Each number $x$ of `Overlap`, standardized over the training pairs and cut at four deviations; the same as a point
      between two of eight quantiles (a piecewise linear function of $x$ is a linear one of these); and the products
      of ten of the numbers, squares among them.
    - Of the two texts' bags $u$ and $v$, word by word: $u \odot v$, $|u - v|$, and $u - v$, so that the order of the
      texts can be told.
    - For a word $i$ that the second text lacks and a word $j$ that the first one lacks, $u_i v_j$: which words stand
      for each other is learned where they meet often enough. Which of the texts has which makes no difference.

    Features are numbered in this order; each kind has a factor of `SCALES`, which says how much a penalty spares it.

    Args:
        overlap: counts of words and n-grams.
        means: of the numbers, float64 `[len(NAMES)]`.
        deviations: of the numbers, above 0.
        knots: quantiles of each number, rising, float64 `[len(NAMES), MAX_KNOTS]`.
        products: means and deviations of the products, float64 `[2, products]`.
        num_words: features of a text's bag.
        crosses: the pairs of words, smaller id first, as `first * num_words + second`, int64, rising.

    Source: piecewise linear bases as in Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning,
    chapter 5; products and differences as in Conneau et al. (2017), Supervised Learning of Universal Sentence
    Representations from Natural Language Inference Data.
    """

    overlap: Overlap
    means: np.ndarray
    deviations: np.ndarray
    knots: np.ndarray
    products: np.ndarray
    num_words: int
    crosses: np.ndarray

    @classmethod
    def fit(cls, overlap: Overlap, numbers: np.ndarray, bags: Bags, num_words: int) -> "PairFeatures":
        """Take means, deviations and quantiles from the numbers of the training pairs, and the crosses from their bags.

        The arguments are those of `transform`.
        """
        means, deviations = numbers.mean(axis=0), _deviations(numbers)
        knots = np.quantile(numbers, np.linspace(0.0, 1.0, MAX_KNOTS), axis=0).T
        products = _products(_cut((numbers - means) / deviations))
        fitted = np.stack([products.mean(axis=0), _deviations(products)])
        return cls(overlap, means, deviations, knots, fitted, num_words, _frequent_crosses(bags, num_words))

    @property
    def num_features(self) -> int:
        """Number of features."""
        return self._num_dense + 3 * self.num_words + len(self.crosses)

    @property
    def _num_dense(self) -> int:
        return len(NAMES) * (1 + MAX_KNOTS) + self.products.shape[1]

    def transform(self, numbers: np.ndarray, bags: Bags) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield features (int32), their values (float32) and the number of features of each pair, part by part.

        Args:
            numbers: of `overlap`, float64 `[pairs, NAMES]`.
            bags: both texts' tokens and weights (see `BagFeatures.transform`).
        """
        for start in range(0, len(numbers), _PAIRS):
            part = slice(start, start + _PAIRS)
            one, other = _matrices(bags, part, self.num_words)
            words = [*_by_word(one, other), self._crossed(one, other)]
            rows: Any = sparse.hstack([*self._dense(numbers[part]), *words], format="csr")
            rows.eliminate_zeros()
            yield rows.indices.astype(np.int32), rows.data.astype(np.float32), np.diff(rows.indptr).astype(np.int64)

    def _dense(self, numbers: np.ndarray) -> list[Any]:
        standard = _cut((numbers - self.means) / self.deviations)
        means, deviations = self.products
        products = _cut((_products(standard) - means) / deviations)
        hats = [_hats(column, knots) for column, knots in zip(numbers.T, self.knots, strict=True)]
        scale = SCALES["numbers"]
        return [
            sparse.csr_array(scale * standard),
            *(scale * one for one in hats),
            sparse.csr_array(SCALES["products"] * products),
        ]

    def _crossed(self, one: Any, other: Any) -> Any:
        """Return the known crosses of each pair, CSR `[pairs, crosses]`."""
        pair, keys, values = _crosses(one, other)
        shape = (one.shape[0], len(self.crosses))
        if not len(self.crosses):
            return sparse.csr_array(shape)
        places = np.minimum(np.searchsorted(self.crosses, keys), len(self.crosses) - 1)
        known = self.crosses[places] == keys
        entries = SCALES["crossed"] * values[known], (pair[known], places[known])
        return sparse.coo_array(entries, shape=shape).tocsr()

    def to_bytes(self) -> bytes:
        """Return the content of one safetensors file."""
        arrays = {
            "hashes": self.overlap.hashes, "counts": self.overlap.counts, "gram_counts": self.overlap.gram_counts,
            "means": self.means, "deviations": self.deviations, "knots": self.knots, "products": self.products,
            "crosses": self.crosses,
        }  # fmt: skip
        sizes = {"num_texts": str(self.overlap.num_texts), "num_words": str(self.num_words)}
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=sizes)

    @classmethod
    def load(cls, path: str | Path) -> "PairFeatures":
        """Read a file that holds what `to_bytes` gave.

        Raises:
            InputError: if the file is missing or damaged.
        """
        if not Path(path).exists():
            raise InputError(f"{path} is missing; restore it or train again.")
        try:
            with safe_open(str(path), framework="numpy") as file:
                sizes, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            counts = arrays["hashes"], arrays["counts"], arrays["gram_counts"], int(sizes["num_texts"])
            means, deviations, knots, products = (arrays[name] for name in ("means", "deviations", "knots", "products"))
            _require_form(arrays, int(sizes["num_texts"]), int(sizes["num_words"]))
            return cls(Overlap(*counts), means, deviations, knots, products, int(sizes["num_words"]), arrays["crosses"])
        except UNREADABLE as error:
            raise InputError(f"{path} is damaged ({error}); restore it or train again.") from None


def _require_form(arrays: Mapping[str, np.ndarray], num_texts: int, num_words: int) -> None:
    """Raise a ValueError unless the arrays are as `PairFeatures` and `Overlap` need them."""
    known, num_crosses = len(arrays["hashes"]), len(arrays["crosses"])
    num_products = len(FACTORS) * (len(FACTORS) + 1) // 2
    expected: dict[str, tuple[tuple[int, ...], type]] = {
        "hashes": ((known,), np.uint64), "counts": ((known,), np.int64), "crosses": ((num_crosses,), np.int64),
        "gram_counts": ((len(ORDERS), BUCKETS), np.float64), "means": ((len(NAMES),), np.float64),
        "deviations": ((len(NAMES),), np.float64), "knots": ((len(NAMES), MAX_KNOTS), np.float64),
        "products": ((2, num_products), np.float64),
    }  # fmt: skip
    for name, (shape, dtype) in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != dtype:
            raise ValueError(f"'{name}' has another form")
        if dtype is np.float64 and not np.isfinite(arrays[name]).all():
            raise ValueError(f"'{name}' has numbers that are not finite")
    if num_texts < 0 or num_words < 0 or (arrays["counts"] < 0).any() or (arrays["gram_counts"] < 0.0).any():
        raise ValueError("a count is negative")
    if arrays["counts"].max(initial=0) > num_texts:
        raise ValueError("a word is in more texts than there are")
    if (arrays["deviations"] <= 0.0).any() or (arrays["products"][1] <= 0.0).any():
        raise ValueError("a deviation is not above 0")
    rising = arrays["hashes"], arrays["crosses"]
    if any((one[1:] <= one[:-1]).any() for one in rising) or (np.diff(arrays["knots"], axis=1) < 0.0).any():
        raise ValueError("numbers that rise do not")
    if num_crosses and not 0 <= arrays["crosses"][0] <= arrays["crosses"][-1] < num_words**2:
        raise ValueError("a cross is of words that there are not")


def _deviations(numbers: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each column; 1 where it is nothing but rounding."""
    spread = numbers.std(axis=0)
    return np.where(spread > 1e-9 * np.abs(numbers).max(axis=0, initial=1.0), spread, 1.0)


def _cut(standard: np.ndarray) -> np.ndarray:
    return np.clip(standard, -LARGEST, LARGEST)


def _products(standard: np.ndarray) -> np.ndarray:
    """Return the products of each two of `FACTORS`, and their squares, `[pairs, products]`."""
    chosen = standard[:, [NAMES.index(name) for name in FACTORS]]
    first, second = zip(*itertools.combinations_with_replacement(range(len(FACTORS)), 2), strict=True)
    return chosen[:, first] * chosen[:, second]


def _hats(values: np.ndarray, knots: np.ndarray) -> Any:
    """Return numbers as the shares of the two knots around them, CSR `[values, MAX_KNOTS]`.

    Beyond the outer knots a number is like the nearest; of equal knots the last counts.
    """
    values = np.clip(values, knots[0], knots[-1])
    left = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, len(knots) - 2)
    width = knots[left + 1] - knots[left]
    share = np.where(width > 0.0, (values - knots[left]) / np.where(width > 0.0, width, 1.0), 1.0)
    places = np.stack([left, left + 1], axis=1).ravel()
    data = np.stack([1.0 - share, share], axis=1).ravel()
    return sparse.csr_array((data, places, np.arange(0, 2 * len(values) + 1, 2)), shape=(len(values), len(knots)))


def _rows(tokens: Ragged, weights: Ragged, num_words: int) -> Any:
    """Return bags as a matrix, CSR `[texts, num_words]`."""
    size, data = int(tokens.offsets[-1]), weights.values.astype(np.float64)
    return sparse.csr_array((data[:size], tokens.values[:size], tokens.offsets), shape=(len(tokens), num_words))


def _matrices(bags: Bags, part: slice, num_words: int) -> tuple[Any, Any]:
    """Return both texts' bags of some pairs as matrices."""
    (first, first_weights), (second, second_weights) = bags
    return _rows(first[part], first_weights[part], num_words), _rows(second[part], second_weights[part], num_words)


def _crosses(one: Any, other: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each cross of words that only one text of a pair has: the pair, the cross as a number, and its value."""
    (left, values, rows), (right, other_values, columns) = _unmatched(one, other), _unmatched(other, one)
    counts = rows * columns
    pair = np.repeat(np.arange(len(counts)), counts)
    within = flat_positions(np.zeros_like(counts), counts)
    i = (np.cumsum(rows) - rows)[pair] + within // np.maximum(columns, 1)[pair]
    j = (np.cumsum(columns) - columns)[pair] + within % np.maximum(columns, 1)[pair]
    first, second = np.minimum(left[i], right[j]), np.maximum(left[i], right[j])
    return pair, first * one.shape[1] + second, values[i] * other_values[j]


def _unmatched(side: Any, other: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the words that the other text lacks, one text after the other, their weights, and how many of each."""
    present = other.copy()
    present.data[:] = 1.0
    lonely = (side - side.multiply(present)).tocsr()
    lonely.eliminate_zeros()
    lengths = np.minimum(np.diff(lonely.indptr), _MAX_UNMATCHED).astype(np.int64)
    places = flat_positions(lonely.indptr[:-1].astype(np.int64), lengths)
    return lonely.indices[places].astype(np.int64), lonely.data[places], lengths


def _frequent_crosses(bags: Bags, num_words: int) -> np.ndarray:
    """Return the crosses that are in the most training pairs, rising."""
    keys, counts = np.zeros(0, dtype=np.int64), np.zeros(0)
    for start in range(0, len(bags[0][0]), _PAIRS):
        _, found, _ = _crosses(*_matrices(bags, slice(start, start + _PAIRS), num_words))
        new, numbers = np.unique(found, return_counts=True)
        keys, places = np.unique(np.concatenate([keys, new]), return_inverse=True)
        counts = np.bincount(places, weights=np.concatenate([counts, numbers]), minlength=len(keys))
    keys, counts = keys[counts >= MIN_PAIRS], counts[counts >= MIN_PAIRS]
    return np.sort(keys[np.argsort(-counts, kind="stable")[:MAX_CROSSES]])


def _by_word(one: Any, other: Any) -> list[Any]:
    """Return what two bags share of each word, what they don't, and which has more."""
    difference = one - other
    return [
        SCALES["shared"] * one.multiply(other),
        SCALES["not shared"] * abs(difference),
        SCALES["direction"] * difference,
    ]
