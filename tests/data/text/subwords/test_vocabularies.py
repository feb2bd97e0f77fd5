"""Vocabularies from files: ids as theirs behind our special ones, texts as their program gives them, bad files."""

import io
import json

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from thalweg.data.text.subwords import vocabularies
from thalweg.data.text.subwords.given import GivenTokenizer
from thalweg.data.text.subwords.vocabularies import load_given, read_given
from thalweg.data.text.tokenizer import SPECIALS, Tokenizer
from thalweg.errors import InputError

TEXTS = ["the river finds the valley", "Déjà vu: the valley keeps 35 rivers!", "a line\nand another"] * 20
ODD = ["the river", "  the   valley ", "Zürich 😀", "", "a\nb", "</s> <s> [UNK] <pad>", "日本"]


def byte_level(path):
    """A file as GPT-2's."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>", "<mask>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    inner.train_from_iterator(TEXTS, trainer)
    inner.save(str(path / "tokenizer.json"))
    return path / "tokenizer.json", inner


def word_piece(path):
    """A file as BERT's, which knows some letters alone and no capitals."""
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    inner.train_from_iterator(TEXTS, trainer)
    inner.save(str(path / "tokenizer.json"))
    return path / "tokenizer.json", inner


class PieceLibrary:
    """SentencePiece with the names of `tokenizers`."""

    def __init__(self, model):
        self.inner = model

    def get_vocab(self):
        return {self.inner.id_to_piece(index): index for index in range(self.inner.get_piece_size())}

    def encode(self, text, add_special_tokens=False):
        del add_special_tokens
        return type("Encoding", (), {"ids": self.inner.encode(text)})

    def decode(self, ids, skip_special_tokens=False):
        del skip_special_tokens
        return self.inner.decode(ids)


def piece_model(path, kind="unigram"):
    library, model = pytest.importorskip("sentencepiece"), io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=60, model_type=kind, minloglevel=2,
        user_defined_symbols=["[X]"], pad_id=3, hard_vocab_limit=False,
    )  # fmt: skip
    (path / "own.model").write_bytes(model.getvalue())
    return path / "own.model", PieceLibrary(library.SentencePieceProcessor(model_proto=model.getvalue()))


def pair_model(path):
    return piece_model(path, "bpe")


MAKERS = [byte_level, word_piece, piece_model, pair_model]


@pytest.mark.parametrize("maker", MAKERS)
def test_texts_are_cut_and_joined_as_their_program_does_it(tmp_path, maker):
    path, inner = maker(tmp_path)
    tokenizer = read_given(path)
    assert isinstance(tokenizer, GivenTokenizer)
    ids = inner.get_vocab()
    names = {index: name for name, index in ids.items()}
    for text in [*TEXTS[:3], *ODD]:
        if text.startswith("</s>"):
            continue  # there are special entries in it
        theirs = inner.encode(text, add_special_tokens=False).ids
        ours = tokenizer.encode(text)
        assert [name if (name := tokenizer.token(index)) != "<unk>" else None for index in ours] == [
            None if names[index] in ("[UNK]", "<unk>") else names[index] for index in theirs
        ]
        assert tokenizer.decode([2, *ours, 3, 0]) == inner.decode(theirs, skip_special_tokens=False)
    values, lengths = tokenizer.encode_many(ODD)
    assert values.tolist() == [index for text in ODD for index in tokenizer.encode(text)]
    assert (values.dtype, lengths.tolist()) == (np.int32, [len(tokenizer.encode(text)) for text in ODD])
    assert not {0, 2, 3} & set(values.tolist())
    assert max(values) < tokenizer.vocabulary_size == len(SPECIALS) + len(tokenizer.entries)
    assert all(tokenizer.id_of(tokenizer.token(index)) == index for index in range(4, tokenizer.vocabulary_size))
    tokenizer.encode("half \ud800 a pair")


@pytest.mark.parametrize("maker", MAKERS)
def test_the_run_keeps_what_it_needs(tmp_path, maker):
    path, _ = maker(tmp_path)
    tokenizer = read_given(path)
    (tmp_path / "kept.json").write_bytes(tokenizer.to_bytes())
    path.unlink()
    again = load_given(tmp_path / "kept.json")
    assert (again.entries, again.knows_lines) == (tokenizer.entries, tokenizer.knows_lines)
    assert [again.encode(text) for text in ODD] == [tokenizer.encode(text) for text in ODD]
    for damaged in (b"{}", b"[1]", tokenizer.to_bytes()[:-9], b'{"sentencepiece": "AAAA"}'):
        (tmp_path / "kept.json").write_bytes(damaged)
        with pytest.raises(InputError, match=r"kept\.json is damaged: it is not a tokenizer"):
            load_given(tmp_path / "kept.json")


def test_a_byte_level_file_gives_back_everything_and_special_names_are_text(tmp_path):
    tokenizer = read_given(byte_level(tmp_path)[0])
    assert tokenizer.knows_lines
    for text in [*TEXTS[:3], *ODD]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.unknown_bytes([text]) == 0


def test_what_is_unknown_is_counted_in_bytes(tmp_path):
    for maker, text, lost in ((word_piece, "the 日本 river", 6), (piece_model, "the 日本 river", 6)):
        tokenizer = read_given(maker(tmp_path)[0])
        assert tokenizer.unknown_bytes([text, "the river"]) == lost
        assert not tokenizer.knows_lines


@pytest.mark.parametrize(
    ("content", "entries"),
    [("the\nriver\n", ["the", "river"]), ("the 12\nriver 3\n", ["the", "river"]), ("the\n\n35\nthe", ["the", "35"]),
     ("\ufeffthe\r\nriver\r\n", ["the", "river"])],
)  # fmt: skip
def test_a_list_has_a_word_a_line_with_or_without_its_count(tmp_path, content, entries):
    path = tmp_path / "words.txt"
    path.write_bytes(content.encode())
    tokenizer = read_given(path)
    assert (tokenizer.kind, tokenizer.entries) == ("list", entries)
    assert tokenizer.decode(tokenizer.encode(f"{entries[0]}  x")) == f"{entries[0]} <unk>"
    path.write_bytes(tokenizer.to_bytes())
    assert load_given(path).entries == entries
    assert isinstance(load_given(path), Tokenizer)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the river\nfinds the valley\n", "line 1 holds more than a word"),
        (b"the 1\nriver\nof x\n", "line 1 has a count and line 2 none; either all lines have one, or none"),
        (b"the\nriver\nof 3\n", "line 3 has a count and line 1 none; either all lines have one, or none"),
        (b"", "it is empty"),
        (b"{}", "expected a model of SentencePiece, a tokenizer.json"),
        (b'{"model": {"type": "BPE"', "expected a model of SentencePiece"),
        (b'{"model": {"type": "WordLevel", "vocab": {}, "unk_token": "x"}}', "it has no entries"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_given(tmp_path / "x")


@pytest.mark.parametrize("name", ["bad.model", "bad.SPM"])
def test_a_text_that_is_called_a_model_of_sentencepiece_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"expected a model of SentencePiece, as its ending says, got a text"):
        read_given(tmp_path / name)


def test_bytes_of_something_else_are_refused(tmp_path):
    pytest.importorskip("sentencepiece")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\0\0" * 9)
    with pytest.raises(InputError, match="expected a model of SentencePiece"):
        read_given(tmp_path / "x.png")
    with pytest.raises(InputError, match="is missing"):
        read_given(tmp_path / "none")


def test_without_its_package_a_model_is_refused_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "own.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    with pytest.raises(InputError, match=r"own.model is a model of SentencePiece, .* pip install 'thalweg\[sentence"):
        read_given(tmp_path / "own.model")


def test_large_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(vocabularies, "MOST_BYTES", 10)
    (tmp_path / "x").write_bytes(json.dumps({"a": "b" * 99}).encode())
    with pytest.raises(InputError, match="expected a file of at most 10 bytes"):
        read_given(tmp_path / "x")
