"""Tokenizers: exact round trips, the library's own results, and damaged files."""

import json
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from thalweg.data.text.codecs import BYTE_LETTERS
from thalweg.data.text.tokenizer import BOS, EOS, KINDS, PAD, SPECIALS, UNK, Tokenizer
from thalweg.data.text.words import UNKNOWN
from thalweg.errors import InputError

CORPUS = [
    "It's a film to remember, isn't it? <pad> <unk>",
    "Ein schöner Film: 3,50 € – für 2 Personen_x!",
    "好电影，好看。 これはペンです。",
    "नमस्ते दुनिया। 😀👍🏽 e\u0301te\u0301",
    "the cat sat on the mat. the cat sat.",
    "",
]
TRAINED = {kind: Tokenizer.train(CORPUS, kind, 400) for kind in KINDS}
EXACT = ("bpe", "char", "byte")
SCRIPTS = [
    "l'eau, c'est 3.5 % (« peut\u00a0être »)", "我爱 你，真的。 a你", "これは ペンです", "مرحبًا، كيف", "नमस्ते। दुनिया",
    "👨\u200d👩\u200d👧 👍🏽❤\ufe0f",
    "if x:\n\t    return  y[1]  # a",
    "a\x00b\u200bc\u2028d\ufeff", "<unk>", " ", " " * 31, "\n", "\t", "e\u0301",
]  # fmt: skip
MIXED = st.lists(st.sampled_from([piece for text in SCRIPTS for piece in (text, *text)]), max_size=12).map("".join)
TEXT = (
    st.text(max_size=30)
    | MIXED
    | st.lists(st.sampled_from([*CORPUS[0].split(), "😀", "<s>", "\n", "<0x41>"])).map(" ".join)
)


@pytest.mark.parametrize("kind", EXACT)
@given(TEXT)
def test_any_text_comes_back_exactly(kind, text):
    tokenizer = TRAINED[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([BOS, *ids, EOS, PAD, PAD]) == text
    assert all(index > EOS for index in ids)


@given(TEXT)
def test_a_text_whose_words_are_known_comes_back_with_all_its_spaces(text):
    tokenizer = Tokenizer.train([text], "spaced")
    ids = tokenizer.encode(text)
    assert tokenizer.decode([BOS, *ids, EOS, PAD]) == text
    assert UNK not in ids or UNKNOWN in text
    assert "".join(tokenizer.pieces(text)).replace(" ", "") == text.replace(" ", "")


def test_marks_take_the_spaces_beside_them_and_words_none():
    tokenizer = Tokenizer.train(["l'eau, (c'est 3.5"], "spaced")
    assert tokenizer.pieces("l'eau, (c'est 3.5") == ["l", "'", "eau", ", ", "(", "c", "'", "est", "3", ".", "5"]
    assert tokenizer.pieces("我 爱你  x" + 7 * " " + "y") == ["我 ", "爱", "你 ", " ", "x", 4 * " ", "  ", " ", "y"]
    assert tokenizer.decode(tokenizer.encode("eau l'été c'est")) == "eau l'<unk> c'est"


@pytest.mark.parametrize("kind", KINDS)
@given(TEXT)
def test_ids_are_those_of_the_saved_tokenizer(kind, text):
    inner = tokenizers.Tokenizer.from_str(TRAINED[kind]._inner.to_str())
    assert TRAINED[kind].encode(text) == inner.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", KINDS)
def test_special_entries_have_their_ids_and_are_never_read_from_a_text(kind):
    tokenizer = TRAINED[kind]
    assert [tokenizer.token(index) for index in range(4)] == list(SPECIALS)
    assert [tokenizer.id_of(name) for name in SPECIALS] == [None] * 4
    assert not {PAD, BOS, EOS} & set(tokenizer.encode(" ".join(SPECIALS)))


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(TEXT, max_size=5))
def test_many_texts_are_encoded_as_one_by_one(kind, texts):
    tokenizer = TRAINED[kind]
    values, lengths = tokenizer.encode_many(texts)
    assert (values.dtype, lengths.dtype) == (np.int32, np.int64)
    assert values.tolist() == list(chain.from_iterable(map(tokenizer.encode, texts)))
    assert lengths.tolist() == [len(tokenizer.encode(text)) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_more_texts_than_a_chunk_are_joined(kind):
    texts = [f"the cat {number}" for number in range(4100)]
    values, lengths = TRAINED[kind].encode_many(texts)
    assert len(lengths) == 4100
    assert values[-lengths[-1] :].tolist() == TRAINED[kind].encode(texts[-1])
    assert values.sum() == sum(sum(TRAINED[kind].encode(text)) for text in texts)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_does_no_harm(kind):
    texts = ["the \ud800cat", "x"]
    tokenizer = Tokenizer.train(texts, kind, 300)
    assert tokenizer.decode(tokenizer.encode(texts[0])) == ("the cat" if kind == "word" else "the ?cat")
    tokenizer.encode_many(texts)


def test_the_vocabulary_holds_the_most_frequent_words_in_order():
    tokenizer = Tokenizer.train(["b a c", "a b d", "a"], "word", 7)
    assert [tokenizer.token(index) for index in range(7)] == [*SPECIALS, "a", "b", "c"]
    assert tokenizer.encode("d a <unk>")[:2] == [UNK, 4]
    assert Tokenizer.train(["b a c", "a b d"], "word", min_count=2).vocabulary_size == 6
    assert tokenizer.decode([BOS, 4, UNK, 5, EOS, PAD]) == "a <unk> b"
    assert tokenizer.decode(np.array([4, 5])) == "a b"


def test_rare_characters_are_left_to_their_bytes():
    tokenizer = Tokenizer.train(["aaabbé"], "char", 262)
    assert tokenizer.vocabulary_size == 262
    assert tokenizer.encode("ab") == [260, 261]
    assert tokenizer.encode("é") == [4 + byte for byte in "é".encode()]
    assert Tokenizer.train(["aaabbé"], "char", 300, min_count=2).vocabulary_size == 262


def test_bytes_are_numbered_from_four():
    assert TRAINED["byte"].encode("aé") == [4 + byte for byte in "aé".encode()]
    assert TRAINED["byte"].vocabulary_size == 260
    assert TRAINED["byte"].decode([4 + 0xC3]) == "\ufffd"


def test_byte_letters_are_those_of_the_library():
    assert sorted(BYTE_LETTERS) == sorted(pre_tokenizers.ByteLevel.alphabet())
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for code in (*range(0x80), 0xE9, 0x4E2D, 0x1F600):
        letters = "".join(BYTE_LETTERS[byte] for byte in chr(code).encode())
        assert splitter.pre_tokenize_str(chr(code))[0][0] == letters


def test_subwords_join_frequent_pairs():
    tokenizer = Tokenizer.train(["low low low lower lower lowest"] * 5, "bpe", 264)
    assert tokenizer.vocabulary_size == 264
    assert len(tokenizer.encode("low low")) <= 3


def test_subwords_are_the_same_in_another_process():
    program = (
        "import json; from thalweg.data.text.tokenizer import Tokenizer;"
        "t = Tokenizer.train(['to be or not to be, that is the question ' * 3, 'a sea of troubles'] * 50, 'bpe', 320);"
        "print(json.dumps([t.token(i) for i in range(t.vocabulary_size)]))"
    )
    runs = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1


def test_given_words_keep_their_order():
    tokenizer = Tokenizer.from_vocabulary(["New York", "b", "<pad>", "b"])
    assert tokenizer.kind == "list"
    assert tokenizer.encode_words(["b", "New York", "x", "<pad>", "<unk>"]) == [5, 4, UNK, UNK, UNK]
    assert tokenizer.encode("b  x") == [5, UNK]
    assert tokenizer.id_of("New York") == 4


@pytest.mark.parametrize("kind", [*KINDS, "list"])
def test_a_saved_tokenizer_comes_back(tmp_path, kind):
    tokenizer = TRAINED[kind] if kind in TRAINED else Tokenizer.from_vocabulary(["a b", "é"])
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.to_bytes())
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.kind == kind
    assert [loaded.token(i) for i in range(loaded.vocabulary_size)] == [
        tokenizer.token(i) for i in range(tokenizer.vocabulary_size)
    ]
    for text in CORPUS:
        assert loaded.encode(text) == tokenizer.encode(text)
        assert loaded.decode(loaded.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size() == loaded.vocabulary_size


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer\.json is missing"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_truncated_file_is_refused(tmp_path):
    for cut in [0, 1, 0.5, 0.99]:
        path = tmp_path / "tokenizer.json"
        content = TRAINED["bpe"].to_bytes()
        path.write_bytes(content[: int(cut * len(content)) if cut < 1 else cut])
        with pytest.raises(InputError, match=r"tokenizer\.json is damaged"):
            Tokenizer.load(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    for content in [b"[]", b"{}", b"\xff\xfe", b'{"model": 3, "pre_tokenizer": null}', b'{"model": {}}']:
        path = tmp_path / "tokenizer.json"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"tokenizer\.json is damaged"):
            Tokenizer.load(path)


def _renamed(saved):
    saved["model"]["vocab"] = {f"{name}!": index for name, index in saved["model"]["vocab"].items()}


def _holed(saved):
    saved["model"]["vocab"]["more"] = 10**6


def _split_otherwise(saved):
    saved["pre_tokenizer"]["pattern"] = {"Regex": "[a-z]+"}


def _with_added(saved):
    saved["added_tokens"] = [{"id": 4, "content": "x", "special": True}]


def test_a_tokenizer_of_another_make_is_refused(tmp_path):
    for change in [_renamed, _holed, _split_otherwise, _with_added]:
        path = tmp_path / "tokenizer.json"
        saved = json.loads(TRAINED["word"].to_bytes())
        change(saved)
        path.write_text(json.dumps(saved), encoding="utf-8")
        with pytest.raises(InputError, match="not a tokenizer written by this version of thalweg"):
            Tokenizer.load(path)


def test_a_vocabulary_without_room_is_refused():
    for kind, size in [("word", 3), ("bpe", 259), ("char", 100), ("byte", 259)]:
        with pytest.raises(InputError, match=f"tokenizer '{kind}', got {size}; raise --vocabulary-size"):
            Tokenizer.train(["a"], kind, size)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="must be one of word, spaced, bpe, char, byte; got 'words'"):
        Tokenizer.train([], "words")
    with pytest.raises(ValueError, match="must be list, word, spaced or char; got 'bpe'"):
        Tokenizer.from_vocabulary([], "bpe")
