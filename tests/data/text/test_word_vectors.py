"""Word vectors: files of both formats, damaged ones, and normalization."""

import numpy as np
import pytest

from thalweg.data.text.word_vectors import WordVectors, centered, read_word_vectors, unit_length, without_top
from thalweg.errors import InputError

LINES = ["the 0.5 -1 2e-1", "cat 1 2 3", ". . . 4 5 6", "2024 7 8 9", "naïve 0 0 1"]
WORDS = ["the", "cat", ". . .", "2024", "naïve"]
VALUES = [[0.5, -1, 0.2], [1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 1]]


def written(folder, text: str | bytes):
    path = folder / "vectors.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(("header", "end", "space"), [("", "\n", " "), ("5 3\n", " \n", "\t"), ("", "\r\n", "\t")])
def test_both_formats_are_read(tmp_path, header, end, space):
    text = header + "".join(line.replace(" ", space) + end for line in LINES)
    vectors = read_word_vectors(written(tmp_path, text))
    assert vectors.words == WORDS
    assert vectors.vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors.vectors, np.float32(VALUES))
    assert (vectors.width, len(vectors), vectors.num_missing) == (3, 5, 0)


def test_only_wanted_words_are_kept_and_the_missing_ones_counted(tmp_path):
    path = written(tmp_path, "\n".join(LINES))
    vectors = read_word_vectors(path, wanted={"cat": 1, ". . .": 2, "dog": 3, "<unk>": 4}.keys())
    assert vectors.words == ["cat", ". . ."]
    assert vectors.num_missing == 2
    none = read_word_vectors(path, wanted=["dog"])
    assert (none.vectors.shape, none.num_missing) == ((0, 3), 1)
    assert none.normalized("center").shape == (0, 3)


def test_of_a_word_that_comes_twice_the_first_vector_counts(tmp_path):
    vectors = read_word_vectors(written(tmp_path, "a 1 2\nb 3 4\na 5 6\n"))
    assert vectors.words == ["a", "b"]
    assert vectors.vectors.tolist() == [[1, 2], [3, 4]]


def test_a_damaged_file_is_refused_with_its_line(tmp_path):
    for text, match in [
        ("a 1 2\nb 3\n", "line 2: expected a word and 2 numbers, got 1 entries"),
        ("a 1 2\nb 3 4 5\n", "line 2: expected a word and 2 numbers, got 3 entries"),
        ("a 1 2\n\n", "line 2: expected a word and 2 numbers, got 0 entries"),
        ("2 2\na 1 2\nb 1\n", "line 3: expected a word and 2 numbers, got 1 entries"),
        ("2 3\na 1 2\n", "line 2: expected a word and 3 numbers, got 2 entries"),
        ("a 1 2\nb 3 x\n", "line 2: expected finite numbers, got 'x'"),
        ("a 1 2\nb 3 nan\n", "line 2: expected finite numbers, got 'nan'"),
        ("a 1 2\nb 1e39 2\n", "line 2: expected finite numbers, got '1e39'"),
        ("text,label\n", "line 1: expected a word and its numbers.*GloVe or word2vec"),
        ("a b c\n", "line 1: expected a word and its numbers"),
        ("", "got an empty file"),
        ("3 2\n", "expected 3 words, as its first line says, got 0"),
        ("3 2\na 1 2\nb 3 4\n", "expected 3 words, as its first line says, got 2; was the file truncated"),
        (f"3 {'9' * 5000}\na 1 2\n", "line 1: expected finite numbers"),
        (b"2 2\nab \x00\x01\xff\xfe\x80?\x00\x00cd \x9f\n", "line 2: expected"),
    ]:
        with pytest.raises(InputError, match=rf"vectors\.txt.*{match}"):
            read_word_vectors(written(tmp_path, text))


def test_what_never_ends_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="/dev/zero: expected a regular file, got a device"):
        read_word_vectors("/dev/zero")
    monkeypatch.setattr("thalweg.data.text.word_vectors._MAX_LINE", 10)
    with pytest.raises(InputError, match="line 2: expected a word and its numbers, got a line of more than 10 char"):
        read_word_vectors(written(tmp_path, "a 1 2\nb 3 4000000000\n"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt: cannot be read \(No such file"):
        read_word_vectors(tmp_path / "none.txt")


RANDOM = np.random.default_rng(0).normal(size=(200, 6)) * [5, 3, 1, 1, 0.5, 0.1] + 2.0


def test_unit_length_and_centering_do_what_they_say():
    np.testing.assert_allclose(np.linalg.norm(unit_length(RANDOM), axis=1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(RANDOM, axis=1, keepdims=True) * unit_length(RANDOM), RANDOM)
    np.testing.assert_allclose(centered(RANDOM).mean(axis=0), 0.0, atol=1e-12)


def test_the_top_directions_are_those_of_the_singular_value_decomposition():
    centered_vectors = RANDOM - RANDOM.mean(axis=0)
    u, s, v = np.linalg.svd(centered_vectors, full_matrices=False)
    for num_directions in (0, 1, 2, 5):
        kept = s * (np.arange(6) >= num_directions)
        np.testing.assert_allclose(without_top(RANDOM, num_directions), u @ np.diag(kept) @ v, atol=1e-9)


def test_steps_by_name():
    vectors = WordVectors([str(i) for i in range(200)], RANDOM.astype(np.float32))
    exact = vectors.vectors.astype(np.float64)
    for step, expected in {
        "none": exact,
        "length": unit_length(exact),
        "center": unit_length(centered(exact)),
        "top": unit_length(without_top(exact, 3)),
    }.items():
        result = vectors.normalized(step)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)
    vectors.normalized("none")[:] = 0  # a copy
    np.testing.assert_array_equal(vectors.vectors, RANDOM.astype(np.float32))


def test_unknown_steps_and_too_many_directions_are_refused():
    vectors = WordVectors(["a"], np.ones((1, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="one of none, length, center, top; got 'mean'"):
        vectors.normalized("mean")
    with pytest.raises(ValueError, match=r"must lie in \[0, 3\), the width; got 3"):
        without_top(np.ones((2, 3)), 3)
