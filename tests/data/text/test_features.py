"""Bags of words and pairs against scikit-learn's TfidfVectorizer."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from sklearn.feature_extraction.text import TfidfVectorizer

from thalweg.data.arrays.ragged import Ragged, Spill
from thalweg.data.text import features as features_module
from thalweg.data.text.features import BagFeatures
from thalweg.errors import InputError

VOCABULARY = 12  # ids 4 ... 11 are words
TEXTS = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=12), min_size=1, max_size=12)


def dense(features: BagFeatures, lists: list[list[int]]) -> np.ndarray:
    tokens, weights = features.transform(Ragged.from_lists(lists))
    assert (tokens.values.dtype, weights.values.dtype) == (np.int32, np.float32)
    assert tokens.offsets.tolist() == weights.offsets.tolist()
    result = np.zeros((len(lists), features.num_features))
    for row, (ids, values) in enumerate(zip(tokens, weights, strict=True)):
        assert (np.diff(ids) > 0).all()
        result[row, ids] = values
    return result


def reference(train: list[list[int]], new: list[list[int]], *, min_df: int, sublinear: bool) -> dict[str, np.ndarray]:
    """Columns by name; unknown words are kept in the texts so that pairs do not reach over them, and dropped after."""
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), token_pattern=r"\S+", min_df=1, sublinear_tf=sublinear, norm=None, lowercase=False
    )
    train_texts, new_texts = (
        [" ".join(f"w{i}" if i >= 4 else "?" for i in text) for text in lists] for lists in (train, new)
    )
    vectorizer.fit(train_texts)
    matrix = vectorizer.transform(new_texts).toarray()
    counts = (vectorizer.transform(train_texts).toarray() > 0).sum(axis=0)
    names = vectorizer.get_feature_names_out()
    kept = [
        place for place, name in enumerate(names) if "?" not in name and (" " not in name or counts[place] >= min_df)
    ]
    rows = matrix[:, kept]
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms == 0, 1, norms)
    return {names[place]: rows[:, column] for column, place in enumerate(kept)}


@given(TEXTS, TEXTS, st.integers(1, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_weights_are_those_of_scikit_learn(train, new, min_documents, sublinear):
    if not any(train):
        train = [*train, [4]]
    new = [[i for i in text if i < 4 or any(i in other for other in train)] for text in new]
    features = BagFeatures.fit(
        Ragged.from_lists(train), vocabulary_size=VOCABULARY, min_documents=min_documents, sublinear=sublinear
    )
    found = dense(features, new)
    expected = reference(train, new, min_df=min_documents, sublinear=sublinear)
    names = {" ".join(f"w{i}" for i in features.parts(f)): f for f in range(4, features.num_features)}
    assert {name for name in names if " " in name} == {name for name in expected if " " in name}
    for name, column in names.items():
        np.testing.assert_allclose(found[:, column], expected.get(name, np.zeros(len(new))), atol=1e-6)
    assert not found[:, :4].any()


def test_the_plain_vectorizer_of_scikit_learn_gives_the_same_numbers():
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven"]
    generator = np.random.default_rng(0)
    lists = [generator.integers(4, 12, generator.integers(3, 30)).tolist() for _ in range(200)]
    texts = [" ".join(words[i - 4] for i in text) for text in lists]
    expected = TfidfVectorizer(ngram_range=(1, 2), min_df=2).fit_transform(texts).toarray()
    features = BagFeatures.fit(Ragged.from_lists(lists), vocabulary_size=12, min_documents=2, sublinear=False)
    found = dense(features, lists)
    names = [" ".join(words[i - 4] for i in features.parts(f)) for f in range(4, features.num_features)]
    order = np.argsort(names)
    np.testing.assert_allclose(found[:, 4:][:, order], expected, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_chunks_change_nothing(monkeypatch, chunk, tmp_path):
    generator = np.random.default_rng(1)
    texts = Ragged.from_lists([generator.integers(0, 12, generator.integers(0, 9)) for _ in range(60)])
    whole = BagFeatures.fit(texts, vocabulary_size=12, max_bigrams=20)
    tokens, weights = whole.transform(texts)
    monkeypatch.setattr(features_module, "_CHUNK_TOKENS", chunk)
    parts = BagFeatures.fit(texts, vocabulary_size=12, max_bigrams=20)
    np.testing.assert_array_equal(parts.bigrams, whole.bigrams)
    np.testing.assert_array_equal(parts.idf, whole.idf)
    more_tokens, more_weights = parts.transform(texts, Spill(tmp_path, 0))
    assert isinstance(more_tokens.values, np.memmap)
    np.testing.assert_array_equal(more_tokens.values, tokens.values)
    np.testing.assert_array_equal(more_tokens.offsets, tokens.offsets)
    np.testing.assert_array_equal(more_weights.values, weights.values)


def test_the_pairs_in_the_most_texts_are_taken():
    lists = [[4, 5, 1, 6, 7]] * 3 + [[4, 5], [8, 9], [8, 9], [9, 8]]
    features = BagFeatures.fit(Ragged.from_lists(lists), vocabulary_size=10, max_bigrams=2)
    assert [features.parts(f) for f in (10, 11)] == [(4, 5), (6, 7)]
    assert BagFeatures.fit(Ragged.from_lists(lists), vocabulary_size=10, max_bigrams=0).num_features == 10
    every = BagFeatures.fit(Ragged.from_lists(lists), vocabulary_size=10)
    assert [every.parts(f) for f in range(10, every.num_features)] == [(4, 5), (6, 7), (8, 9)]


def test_counting_forgets_the_rarest_pairs_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(features_module, "_MAX_TRACKED", 8)
    monkeypatch.setattr(features_module, "_CHUNK_TOKENS", 32)
    generator = np.random.default_rng(2)
    lists = [[4, 5, *generator.integers(6, 100, 6)] for _ in range(200)]
    features = BagFeatures.fit(Ragged.from_lists(lists), vocabulary_size=100, max_bigrams=3)
    assert (4, 5) in [features.parts(f) for f in range(100, features.num_features)]
    counts = features_module._BigramCounts()
    for keys in np.arange(400).reshape(4, 100):
        counts.add(np.arange(100, dtype=np.int32), keys)
    assert len(counts.finish()[0]) <= 8


@pytest.mark.parametrize("largest", [50, 2**62])  # row and value in one number, and where that has no room for both
def test_a_value_comes_once_for_each_row_that_has_it(largest):
    generator = np.random.default_rng(0)
    rows = np.sort(generator.integers(0, 9, 200)).astype(np.int32)
    values = generator.choice(np.append(generator.integers(0, largest, 11), largest), 200)
    expected = sorted(value for _, value in set(zip(rows.tolist(), values.tolist(), strict=True)))
    assert features_module._each_once(rows, values).tolist() == expected


def test_pairs_are_found_by_hash_as_by_search():
    for num_pairs in [0, 1, 1000, 60_000]:
        generator = np.random.default_rng(3)
        pairs = np.unique(generator.integers(0, 2**40, num_pairs))
        keys = np.concatenate([generator.permutation(pairs), pairs + 1, generator.integers(0, 2**40, 1000)])
        known, places = features_module._Places(pairs).find(keys)
        np.testing.assert_array_equal(known, np.isin(keys, pairs))
        np.testing.assert_array_equal(pairs[places], keys[known])


def test_texts_without_words_have_no_features():
    features = BagFeatures.fit(Ragged.from_lists([[4, 5], [1, 1], []]), vocabulary_size=6)
    tokens, weights = features.transform(Ragged.from_lists([[], [1, 2], [5]]))
    assert [entry.tolist() for entry in tokens] == [[], [], [5]]
    assert weights.values.tolist() == [1.0]
    assert len(features.transform(Ragged.from_lists([]))[0]) == 0


def test_saved_features_come_back(tmp_path):
    texts = Ragged.from_lists([[4, 5, 4], [4, 5], [6]])
    for sublinear in (True, False):
        features = BagFeatures.fit(texts, vocabulary_size=7, sublinear=sublinear)
        (tmp_path / "features.safetensors").write_bytes(features.to_bytes())
        loaded = BagFeatures.load(tmp_path / "features.safetensors")
        assert (loaded.num_features, loaded.sublinear) == (features.num_features, sublinear)
        for ours, theirs in zip(loaded.transform(texts), features.transform(texts), strict=True):
            np.testing.assert_array_equal(ours.values, theirs.values)


def test_damaged_features_are_refused(tmp_path):
    for cut in [0, 7, 100, -1]:
        path = tmp_path / "features.safetensors"
        whole = BagFeatures.fit(Ragged.from_lists([[4, 5], [4, 5]]), vocabulary_size=6).to_bytes()
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"features\.safetensors is damaged"):
            BagFeatures.load(path)


def test_a_type_that_numpy_lacks_is_refused(tmp_path):
    path = tmp_path / "features.safetensors"
    header = b'{"bigrams":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    with pytest.raises(InputError, match=r"features\.safetensors is damaged .*float8_e4m3fn"):
        BagFeatures.load(path)


def test_missing_features_are_named(tmp_path):
    with pytest.raises(InputError, match=r"features\.safetensors is missing"):
        BagFeatures.load(tmp_path / "features.safetensors")


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one number per feature"):
        BagFeatures(5, np.array([3]), np.ones(5))


def vectors_for(num_ids, width=3, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(num_ids, width)).astype(np.float32)
    vectors[:4] = 0.0
    return vectors


def test_the_mean_of_word_vectors_is_read_beside_the_bag():
    train = Ragged.from_lists([[4, 5, 4], [5, 6], [5, 1]])
    plain = BagFeatures.fit(train, vocabulary_size=7)
    vectors = vectors_for(9)
    both = plain.beside(vectors)
    assert (both.num_ids, both.num_features, both.parts(both.num_features - 1)) == (9, plain.num_features + 3, ())
    texts = [[4, 5, 8, 4], [8, 7], [1, 0], []]
    found = dense(both, texts)
    np.testing.assert_array_equal(found[:1, : plain.num_features], dense(plain, [[4, 5, 1, 4]]))  # 8 is no word of it
    assert not found[1, : plain.num_features].any()
    most = plain.idf.max()
    first = 2 * vectors[4] * plain.idf[4] + vectors[5] * plain.idf[5] + vectors[8] * most
    second = (vectors[7] + vectors[8]) * most
    for row, expected in ((0, first), (1, second)):
        expected = features_module.VECTOR_LENGTH * expected / np.linalg.norm(expected)
        np.testing.assert_allclose(found[row, plain.num_features :], expected, rtol=1e-5)
    assert not found[2:].any()


def test_equal_bags_have_equal_vectors_to_the_last_bit(monkeypatch):
    generator = np.random.default_rng(5)
    texts = [generator.integers(0, 40, generator.integers(0, 20)).tolist() for _ in range(80)]
    texts += [generator.permutation(text).tolist() for text in texts]
    features = BagFeatures.fit(Ragged.from_lists(texts), vocabulary_size=30, max_bigrams=0).beside(vectors_for(40, 11))
    whole = dense(features, texts)
    np.testing.assert_array_equal(whole[:80], whole[80:])
    monkeypatch.setattr(features_module, "_CHUNK_ENTRIES", 7 * 11)
    np.testing.assert_array_equal(dense(features, texts), whole)
    np.testing.assert_array_equal(np.concatenate([dense(features, [text]) for text in texts]), whole)
    monkeypatch.setattr(features_module, "_SUM_TOKENS", 5)  # most texts have more
    parts = dense(features, texts)
    np.testing.assert_allclose(parts, whole, rtol=0.0, atol=1e-6)
    np.testing.assert_array_equal(parts[:80], parts[80:])
    np.testing.assert_array_equal(np.concatenate([dense(features, [text]) for text in texts]), parts)


def test_the_vectors_of_one_long_text_are_no_more_in_memory_than_those_of_its_words():
    features = BagFeatures.fit(Ragged.from_lists([[4, 5]]), vocabulary_size=6, max_bigrams=0)
    features = features.beside(vectors_for(6, 2_000))
    text = Ragged.from_lists([[4, 5] * 2_000])  # 4,000 x 2,000 numbers would be 64 MB
    tracemalloc.start()
    try:
        features.transform(text)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_vectors_as_large_as_float32_keep_their_directions():
    plain = BagFeatures.fit(Ragged.from_lists([[4, 5], [4]]), vocabulary_size=6, max_bigrams=0)
    vectors = vectors_for(6)
    large = vectors * np.float32(np.finfo(np.float32).max / np.abs(vectors).max() * 0.999)
    found, expected = dense(plain.beside(large), [[4, 5, 5]]), dense(plain.beside(vectors), [[4, 5, 5]])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_word_vectors_are_saved_and_a_damaged_file_is_refused(tmp_path):
    features = BagFeatures.fit(Ragged.from_lists([[4, 5], [4]]), vocabulary_size=6).beside(vectors_for(8))
    path = tmp_path / "features.safetensors"
    path.write_bytes(features.to_bytes())
    again = BagFeatures.load(path)
    np.testing.assert_array_equal(again.word_vectors, features.word_vectors)
    np.testing.assert_array_equal(dense(again, [[4, 7]]), dense(features, [[4, 7]]))
    wrong = [vectors_for(5), vectors_for(8).astype(np.float64), vectors_for(8)[0], np.full((8, 2), np.nan, np.float32)]
    for vectors in wrong:
        arrays = {"bigrams": features.bigrams, "idf": features.idf, "word_vectors": vectors}
        path.write_bytes(save(arrays, metadata={"vocabulary_size": "6", "sublinear": "1"}))
        with pytest.raises(InputError, match=r"damaged \(BagFeatures\(word_vectors"):
            BagFeatures.load(path)
