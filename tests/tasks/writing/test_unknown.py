"""Words without an entry: copied from where the network looked."""

import pytest
import torch

from thalweg.data.text.tokenizer import Tokenizer
from thalweg.tasks.writing.unknown import UnknownWords

TOKENIZER = Tokenizer.train(["a b c", "(a), b. c"], "spaced")


class Looking:
    """Looks at given places of the source, one for each token written."""

    def __init__(self, places):
        self.places = places

    def attention(self, tokens, decoder_tokens, mask):
        assert decoder_tokens[0, 0] == TOKENIZER.begin
        assert mask.shape == tokens.shape
        return torch.eye(tokens.shape[1])[self.places[: decoder_tokens.shape[1]]][None] * 0.9 + 0.01


def found(text, written, places, source=TOKENIZER):
    ids = [*source.encode(text), source.end]
    tokens = torch.tensor([ids])
    unknown = UnknownWords(source, TOKENIZER, [text])
    words = unknown.find(Looking(places), tokens, tokens > 0, torch.tensor([[written]]), [0])
    return words[0][0]


A, B, UNK = TOKENIZER.id_of("a"), TOKENIZER.id_of("b"), TOKENIZER.unknown


@pytest.mark.parametrize(
    ("text", "written", "places", "words"),
    [
        ("a Tom b", [A, UNK, B], [0, 1, 2], ["Tom"]),
        ("a Tom Ann", [UNK, UNK, A], [2, 1, 0], ["Ann", "Tom"]),
        ("a Tom b", [UNK, A], [0, 0], ["Tom"]),  # the only word that has no entry, wherever it looked
        ("a b", [UNK], [1], ["b"]),  # all are known: the one it looked at
        ("a b", [UNK], [2], ["a"]),  # the end of the text is no word
        ("\t\t", [UNK], [0], [""]),
        ("a Tom b", [A, B], [0, 1], []),
    ],
)
def test_the_word_that_was_looked_at_is_copied(text, written, places, words):
    assert found(text, written, places) == words


def test_what_is_copied_stands_in_the_text_with_its_spaces():
    ids = [*TOKENIZER.encode("(Tom), b. Ann a"), TOKENIZER.end]
    assert TOKENIZER.decode_with(ids, ["Eve", "Bob"]) == "(Eve), b. Bob a"
    assert TOKENIZER.decode_with(ids, ["Eve"]) == "(Eve), b. <unk> a"
    assert TOKENIZER.decode_with(ids, ["", "Bob"]) == "(), b. Bob a"


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_where_nothing_is_unknown_nothing_is_looked_up(kind):
    other = Tokenizer.train([], kind, 300)
    assert UnknownWords(other, other, ["a"]).is_idle
    assert UnknownWords(TOKENIZER, TOKENIZER, []).is_idle
    assert not UnknownWords(TOKENIZER, TOKENIZER, ["a"]).is_idle
    assert found("a", [UNK], [0], source=other) == []
