import itertools
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest

from thalweg.data.text.hashing import HashingOptions, TextHasher, pair_hash, stable_hash
from thalweg.errors import InputError
from thalweg.online.hashed_rows import RowHasher, RunningScales

PROGRAM = """
from thalweg.online.hashed_rows import RowHasher
from thalweg.data.text.hashing import HashingOptions
features = RowHasher(HashingOptions()).features({"text": "the same words in every process", "city": "Bern", "ok": True})
print(sorted(features.buckets.tolist()))
"""


def hasher(**options) -> RowHasher:
    return RowHasher(HashingOptions(**options))


def feed(rows: RowHasher, *examples: dict) -> None:
    for example in examples:
        rows.observe(rows.features(example))


def test_stable_hash_is_the_crc_of_the_published_polynomial():
    value = 0xFFFFFFFF
    for byte in "Grüße".encode():  # bit by bit, reflected polynomial 0xEDB88320
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0xEDB88320 if value & 1 else 0)
    assert stable_hash("Grüße") == value ^ 0xFFFFFFFF == zlib.crc32("Grüße".encode())


def test_features_are_the_same_in_processes_with_other_hash_seeds():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(next(iter(outputs)).split(",")) == 6 + 5 + 2


def test_pairs_depend_on_the_order_of_their_words():
    assert pair_hash(1, 2) != pair_hash(2, 1)
    assert 0 <= pair_hash(2**32 - 1, 2**32 - 1) < 2**32


@pytest.mark.parametrize(("ngrams", "num_features"), [(1, 3), (2, 6)])
def test_text_features_match_a_direct_computation(ngrams: int, num_features: int):
    options = HashingOptions(num_buckets=2**20, ngrams=ngrams, bigram_weight=0.5)
    buckets, values, truncated = TextHasher(options)("To be, to be")
    words = ["to", "be", ",", "to", "be"]
    hashes = [zlib.crc32(word.encode()) for word in words]
    expected = {h % 2**20: 1.0 for h in hashes}
    if ngrams == 2:
        for a, b in itertools.pairwise(hashes):
            expected.setdefault(pair_hash(a, b) % 2**20, 0.5)
    length = np.sqrt(sum(value**2 for value in expected.values()))
    assert len(expected) == num_features
    assert not truncated
    assert dict(zip(buckets.tolist(), values.tolist(), strict=True)) == pytest.approx(
        {bucket: value / length for bucket, value in expected.items()}, rel=1e-6
    )


def test_buckets_stay_in_the_budget_and_collisions_leave_no_bucket_twice():
    rows = hasher(num_buckets=7)
    example = {"text": "a b c d e f g h", "title": "i j k", "x": 1.0, "kind": "z"}
    feed(rows, example, example | {"x": 2.0})
    features = rows.features(example)
    assert features.buckets.max() < 7
    assert len(set(features.buckets.tolist())) == features.buckets.size == features.values.size


def test_word_cache_has_a_bound_and_changes_no_feature():
    small, large = TextHasher(HashingOptions(), cache_size=3), TextHasher(HashingOptions())
    for text in ("one two three four five", "four five six", "one " + "x" * 100, "seven"):
        np.testing.assert_array_equal(small(text)[0], large(text)[0])
        assert len(small._cache) <= 3


def test_long_text_is_cut_and_told():
    text = TextHasher(HashingOptions(max_words=10, num_buckets=2**20, ngrams=1))
    words = [f"w{i}" for i in range(50)]
    buckets, _, truncated = text(" ".join(words))
    assert truncated
    np.testing.assert_array_equal(buckets, text(" ".join(words[:10]))[0])
    assert text("x" * 10**6)[2]
    assert not text(" ".join(words[:10]))[2]


def test_empty_text_has_no_features():
    for text in ["", "   ", "\n\t"]:
        features = hasher().features({"text": text})
        assert features.buckets.size == features.values.size == 0


def test_text_columns_have_words_of_their_own_and_a_bare_text_is_the_first():
    rows = hasher()
    feed(rows, {"question": "what is it", "answer": "what is it"})
    both = rows.features({"question": "what is it", "answer": "what is it"})
    first, second = rows.features({"question": "what is it"}), rows.features({"answer": "what is it"})
    assert not set(first.buckets) & set(second.buckets)
    assert set(both.buckets) == set(first.buckets) | set(second.buckets)
    np.testing.assert_array_equal(rows.features("what is it").buckets, first.buckets)


def test_features_change_nothing_until_they_are_observed():
    rows = hasher()
    feed(rows, {"x": 1.0}, {"x": 3.0})
    before = {name: array.copy() for name, array in rows.scales.arrays().items()}
    for example in ({"x": 100.0, "new": 5.0, "text": "some words"}, {"other": "thing"}):
        rows.features(example)
    assert rows.kinds == {"x": "number"}
    assert rows.number_columns == ["x"]
    for name, array in rows.scales.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_numbers_are_standardized_by_the_rows_before():
    rng = np.random.default_rng(0)
    values = rng.normal(50, 7, size=25)
    rows = hasher(bins=0)
    for number, value in enumerate(values):
        features = rows.features({"x": float(value)})
        if number >= 2:
            before = values[:number]
            expected = np.clip((value - before.mean()) / before.std(), -4, 4)
            assert features.values == pytest.approx([expected], rel=1e-5, abs=1e-6)
        rows.observe(features)


def test_running_scales_match_numpy_and_survive_one_wild_number():
    rng = np.random.default_rng(1)
    data = rng.normal([5.0, -1e6], [0.1, 300.0], size=(200, 2))
    scales = RunningScales()
    scales.add_column()
    scales.add_column()
    where = np.array([0, 1])
    for row in data:
        scales.observe(where, row)
    np.testing.assert_allclose(scales.means, data.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(1 / scales.scales, data.std(axis=0), rtol=1e-9)
    scales.observe(where, np.array([1e30, -1e30]))
    assert (1 / scales.scales < 2 * data.std(axis=0)).all()


def test_constant_column_gives_zero():
    rows = hasher(bins=0)
    feed(rows, *[{"x": 1e6}] * 50)
    assert rows.features({"x": 1e6}).values.tolist() == [0.0]
    assert rows.features({"x": 2e6}).values.tolist() == [0.0]


def test_intervals_of_a_number_cover_two_deviations_each_way():
    rows = hasher(bins=4, num_buckets=2**20)
    feed(rows, {"x": -1.0}, {"x": 1.0})  # mean 0, deviation 1
    chosen = [rows.features({"x": x}).buckets[1] for x in (-9.0, -1.5, -0.5, 0.5, 1.5, 9.0)]
    assert chosen[0] == chosen[1]
    assert chosen[4] == chosen[5]
    assert len(set(chosen)) == 4


def test_kind_of_a_column_is_read_off_its_first_value():
    for column, first, kind in [
        ("x", 1, "number"),
        ("x", "1.5e3", "number"),
        ("x", "two words", "text"),
        ("text", "one", "text"),
        ("Title", "7", "text"),
        ("city", "Bern", "category"),
        ("flag", True, "category"),
    ]:
        rows = hasher()
        feed(rows, {column: None}, {column: "?"}, {column: first})
        assert rows.kinds == {column: kind}


def test_category_becomes_text_with_the_first_white_space():
    rows = hasher()
    feed(rows, {"note": "hello"}, {"subject": "two words"}, {"note": "hello again"})
    assert rows.kinds == {"subject": "text", "note": "text"}
    np.testing.assert_array_equal(rows.features("hello").buckets, rows.features({"subject": "hello"}).buckets)


def test_missing_number_gives_nothing():
    for missing in [None, "", " ", "?", "NA", "n/a", "null"]:
        rows = hasher()
        feed(rows, {"x": 1.0, "y": 2.0}, {"x": 2.0, "y": 3.0})
        np.testing.assert_array_equal(
            rows.features({"x": 1.5, "y": missing}).buckets, rows.features({"x": 1.5}).buckets
        )


def test_bad_value_is_refused_and_named():
    for kinds, row, message in [
        ({"x": 1.0}, {"x": float("nan")}, "Column 'x': expected a finite number"),
        ({"x": 1.0}, {"x": "inf"}, "Column 'x': expected a finite number"),
        ({"x": 1.0}, {"x": 1e31}, "at most 1e\\+30"),
        ({"x": 1.0}, {"x": 10**5000}, "a very large integer"),
        ({"x": 1.0}, {"x": "high"}, "got 'high'"),
        ({"x": 1.0}, {"x": True}, "got True"),
        ({"x": 1.0}, {"x": [1.0]}, "expected a finite number"),
        ({"text": "a b"}, {"text": ["a"]}, "expected a text or a finite number"),
        ({"text": "a b"}, {"text": float("nan")}, "expected a text or a finite number"),
        ({}, {"new": {"a": 1}}, "expected a text or a finite number"),
        ({}, {"new": float("inf")}, "Column 'new': expected a finite number"),
    ]:
        rows = hasher()
        feed(rows, kinds)
        before = dict(rows.kinds)
        with pytest.raises(InputError, match=message):
            rows.features(row)
        assert rows.kinds == before


def test_number_in_a_text_column_is_read_as_a_word():
    rows = hasher()
    feed(rows, {"text": "a b"})
    np.testing.assert_array_equal(rows.features({"text": 42}).buckets, rows.features({"text": "42"}).buckets)


def test_too_many_columns_are_refused():
    rows = hasher(max_columns=2)
    feed(rows, {"a": 1, "b": 2})
    with pytest.raises(InputError, match="one more than the 2 columns"):
        rows.features({"a": 1, "c": 2})


def test_only_the_named_columns_are_read():
    rows = hasher(columns=("text",))
    feed(rows, {"text": "a b", "id": [1], "x": float("nan")})
    assert rows.kinds == {"text": "text"}


def test_odd_characters_are_hashed_and_do_not_fail():
    rows = hasher()
    feed(rows, {"text": "\ud800 lone \0 zero 🏔", "\udfff": "category"})
    assert rows.features("\ud800 lone").buckets.size == 1  # half a surrogate pair is no word
    assert rows.kinds == {"text": "text", "\udfff": "category"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_buckets": 1}, r"HashingOptions\(num_buckets=...\) must be 2 or more; got 1"),
        ({"ngrams": 3}, r"HashingOptions\(ngrams=...\) must be 1 or 2; got 3"),
        ({"bigram_weight": 0.0}, r"HashingOptions\(bigram_weight=...\) must be above 0"),
        ({"bins": -1}, r"HashingOptions\(bins=...\) must be 0 or more"),
        ({"max_words": 0}, r"must be 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        HashingOptions(**options)
