"""Binary files of word vectors: what is read, and what is refused in a sentence, whatever bytes there are."""

import json
import random

import numpy as np
import pytest
from safetensors.numpy import save_file

from thalweg.data.text.word_vector_files import FASTTEXT, binary_entries, is_binary
from thalweg.data.text.word_vectors import read_word_vectors, width_of_vectors, word_vector_shards
from thalweg.errors import InputError

WORDS = ["river", "New York", "été", "stone"]  # a word of word2vec has no space
VECTORS = np.arange(12, dtype="<f4").reshape(4, 3) - 5.5


def word2vec(words=("river", "été", "stone"), vectors=VECTORS, head=None, end=b"\n"):
    body = b"".join(word.encode() + b" " + row.tobytes() + end for word, row in zip(words, vectors, strict=False))
    return (head or f"{len(words)} {vectors.shape[1]}\n".encode()) + body


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_bin_file_is_read_as_text_is(tmp_path, end):
    path = tmp_path / "vectors.bin"
    path.write_bytes(word2vec(end=end))
    found = read_word_vectors(path, ["stone", "river", "none"])
    assert found.words == ["river", "stone"]
    assert found.num_missing == 1
    np.testing.assert_array_equal(found.vectors, VECTORS[[0, 2]])
    assert width_of_vectors(path) == 3
    assert [shard.words for shard in word_vector_shards(path, 2)] == [["river", "été"], ["stone"]]
    assert is_binary(path)
    assert not is_binary("glove.txt")


def test_vectors_longer_than_a_block_are_read(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(40, 20_000)).astype("<f4")
    path = tmp_path / "wide.bin"
    path.write_bytes(word2vec([f"w{place}" for place in range(40)], vectors))
    np.testing.assert_array_equal(read_word_vectors(path).vectors, vectors)


def test_bytes_that_are_no_text_stand_for_a_sign(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"1 1\n\xff\xfe " + np.float32(2).tobytes())
    assert read_word_vectors(path).words == ["\ufffd\ufffd"]


ONE = word2vec()
BINS = {
    "empty": (b"", "expected a line 'words width'"),
    "text": (b"river 0.1 0.2\n", "expected a line 'words width'"),
    "fastText": (FASTTEXT + b"\x0c\0\0\0", "a model of fastText with its subwords"),
    "no words": (b"0 3\n", "expected some words and a width of at most"),
    "no width": (b"3 0\n", "expected some words and a width of at most"),
    "huge count": (b"999999999999 300\n" + ONE, "is cut off: its"),
    "huge width": (b"1 99999999999\n", "a width of at most 100,000"),
    "cut off": (ONE[:-4], "is cut off"),
    "more": (ONE + b"x", "has more behind the 3 words"),
    "a long word": (b"1 1\n" + b"x" * 20_000, "is longer than 10,000 bytes"),
    "not finite": (word2vec(vectors=VECTORS * np.float32("nan")), "word 1: expected finite numbers"),
}


@pytest.mark.parametrize(("content", "said"), BINS.values(), ids=BINS)
def test_other_bytes_are_refused(tmp_path, content, said):
    path = tmp_path / "bad.bin"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_word_vectors(path)


def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path):
    random_bytes, path = random.Random(0), tmp_path / "x.bin"
    for _ in range(300):
        content = bytearray(ONE)
        for _ in range(random_bytes.randrange(1, 6)):
            content[random_bytes.randrange(len(content))] = random_bytes.randrange(256)
        path.write_bytes(
            content[: random_bytes.randrange(len(content) + 1)] if random_bytes.random() < 0.3 else content
        )
        try:
            found = read_word_vectors(path)
        except InputError:
            continue
        assert found.vectors.shape == (len(found.words), found.width)


NAMES = {
    "vocab.json": {word: place for place, word in enumerate(WORDS)},
    "m.json": WORDS,
    "tokenizer.json": {"model": {"type": "Unigram", "vocab": [[word, -1.0] for word in WORDS]}},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["float32", "float16", "float64"])
def test_a_matrix_has_its_words_beside_it(tmp_path, name, kind):
    save_file({"embeddings": VECTORS.astype(kind), "scale": np.ones(3)}, tmp_path / "m.safetensors")
    (tmp_path / name).write_text(json.dumps(NAMES[name]))
    found = read_word_vectors(tmp_path / "m.safetensors", ["stone", "New York"])
    assert sorted(found.words) == ["New York", "stone"]
    np.testing.assert_array_equal(found.vectors[found.words.index("stone")], VECTORS[3])


MATRICES = {
    "no words": ({"e": VECTORS}, None, "has no words beside it; expected m.json, vocab.json, tokenizer.json"),
    "two": ({"e": VECTORS, "f": VECTORS}, "[]", "expected one matrix"),
    "integers": ({"e": VECTORS.astype(int)}, "[]", "expected real numbers"),
    "no JSON": ({"e": VECTORS}, "{", "is not the JSON of a vocabulary"),
    "no vocabulary": ({"e": VECTORS}, "[]", "expected a list of words"),
    "numbers": ({"e": VECTORS}, "[1, 2]", "expected a list of words"),
    "too many": ({"e": VECTORS}, '{"a": 4}', "has 4 rows, and the vocabulary gives 'a' the row 4"),
    "no row": ({"e": VECTORS}, '{"a": "b"}', "the row 'b'"),
}


@pytest.mark.parametrize(("tensors", "words", "said"), MATRICES.values(), ids=MATRICES)
def test_other_matrices_are_refused(tmp_path, tensors, words, said):
    save_file(tensors, tmp_path / "m.safetensors")
    if words is not None:
        (tmp_path / "vocab.json").write_text(words)
    with pytest.raises(InputError, match=said):
        list(binary_entries(tmp_path / "m.safetensors"))


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x05\0\0\0\0\0\0\0{}"])
def test_a_damaged_matrix_is_refused(tmp_path, content):
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_word_vectors(tmp_path / "m.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.bin: cannot be read"):
        read_word_vectors(tmp_path / "none.bin")
