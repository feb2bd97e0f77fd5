"""Pairs as bags of features: against dense formulas, saved and read, and damaged files."""

import itertools

import numpy as np
import pytest

from thalweg.data.arrays.ragged import Ragged
from thalweg.data.text.overlap import NAMES, Overlap
from thalweg.data.text.pairs import FACTORS, LARGEST, MAX_KNOTS, MIN_PAIRS, SCALES, PairFeatures
from thalweg.errors import InputError

WORDS = 6


@pytest.fixture(scope="module")
def numbers():
    drawn = np.random.default_rng(0).normal(size=(200, len(NAMES)))
    drawn[:, 0] = drawn[:, 0] > 0.5  # two values
    drawn[:, 1] = 0.3  # one value
    return drawn


def weights():
    draw = np.random.default_rng(1)
    return [draw.random((200, WORDS)) * (draw.random((200, WORDS)) > 0.8) for _ in range(2)]


@pytest.fixture(scope="module")
def fitted(numbers):
    return PairFeatures.fit(Overlap.fit([(["a b"], ["b c"])]), numbers, tuple(map(bag, weights())), WORDS)


def bag(rows):
    tokens = Ragged.from_lists([[place for place, value in enumerate(row) if value] for row in rows])
    values = np.array([value for row in rows for value in row if value], dtype=np.float32)
    return tokens, Ragged(values, tokens.offsets)


def dense(fitted, numbers, bags):
    rows = np.zeros((len(numbers), fitted.num_features))
    start = 0
    for features, values, lengths in fitted.transform(numbers, bags):
        for length in lengths.tolist():
            rows[start, features[:length]] = values[:length]
            features, values, start = features[length:], values[length:], start + 1
    assert start == len(numbers)
    return rows


def test_features_are_those_of_dense_formulas(fitted, numbers):
    u, v = weights()
    found = dense(fitted, numbers, (bag(u), bag(v)))
    spread = np.where(numbers.std(0) > 1e-12, numbers.std(0), 1.0)
    standard = np.clip((numbers - numbers.mean(0)) / spread, -LARGEST, LARGEST)
    hats = []
    for column in numbers.T:
        knots = np.quantile(column, np.linspace(0, 1, MAX_KNOTS))
        hats.append(np.array([[_hat(x, knots, k) for k in range(MAX_KNOTS)] for x in column]))
    chosen = standard[:, [NAMES.index(name) for name in FACTORS]]
    pairs = list(itertools.combinations_with_replacement(range(len(FACTORS)), 2))
    products = np.stack([chosen[:, i] * chosen[:, j] for i, j in pairs], 1)
    deviations = np.where(products.std(0) > 1e-12, products.std(0), 1.0)
    products = np.clip((products - products.mean(0)) / deviations, -LARGEST, LARGEST)
    words = [SCALES["shared"] * u * v, SCALES["not shared"] * abs(u - v), SCALES["direction"] * (u - v)]
    crossed = []
    for i, j in itertools.combinations(range(WORDS), 2):
        lonely = [np.where(v > 0, 0, u), np.where(u > 0, 0, v)]
        value = lonely[0][:, i] * lonely[1][:, j] + lonely[0][:, j] * lonely[1][:, i]
        if (value > 0).sum() >= MIN_PAIRS:
            crossed.append(SCALES["crossed"] * value)
    assert 3 < len(crossed) == len(fitted.crosses)
    scaled = [SCALES["numbers"] * part for part in (standard, *hats)]
    expected = np.concatenate([*scaled, SCALES["products"] * products, *words, np.stack(crossed, 1)], axis=1)
    assert found.shape == expected.shape
    assert found == pytest.approx(expected, abs=1e-6)


def _hat(x, knots, place):
    """The share of a knot in a number, by interpolation of the knot's own indicator; ties go to the last knot."""
    if (knots == knots[place]).sum() > 1 and place < np.flatnonzero(knots == knots[place])[-1]:
        after = np.flatnonzero(knots > knots[place])
        return 0.0 if len(after) or knots[place] == knots[-1] else 1.0
    distinct, at = np.unique(knots), knots[place]
    return float(np.interp(x, distinct, (distinct == at).astype(float)))


def test_new_numbers_stay_in_the_range_of_the_training_pairs(fitted, numbers):
    far = np.full((2, len(NAMES)), 1e9) * np.array([[1.0], [-1.0]])
    empty = bag(np.zeros((2, WORDS)))
    found = dense(fitted, far, (empty, empty))
    assert np.isfinite(found).all()
    assert abs(found).max() <= SCALES["numbers"] * LARGEST + 1e-6


def test_save_and_load_give_the_same_features(fitted, numbers, tmp_path):
    (tmp_path / "pairs.safetensors").write_bytes(fitted.to_bytes())
    again = PairFeatures.load(tmp_path / "pairs.safetensors")
    empty = bag(np.zeros((200, WORDS)))
    assert dense(again, numbers, (empty, empty)).tolist() == dense(fitted, numbers, (empty, empty)).tolist()
    texts = ["a b c d"], ["b d"]
    assert again.overlap.numbers(*texts).tolist() == fitted.overlap.numbers(*texts).tolist()


def test_missing_and_damaged_files_are_refused_by_name(fitted, tmp_path):
    path = tmp_path / "pairs.safetensors"
    with pytest.raises(InputError, match=r"pairs\.safetensors is missing; restore it or train again"):
        PairFeatures.load(path)
    header = b'{"means":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    for damaged in (fitted.to_bytes()[:200], len(header).to_bytes(8, "little") + header + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"pairs\.safetensors is damaged .*; restore it or train again"):
            PairFeatures.load(path)
