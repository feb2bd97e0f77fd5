"""Splitting texts as training data did: alignment, learning, exceptions, saving."""

import pytest

from thalweg.errors import InputError
from thalweg.tasks.tag.splitting import SPLITTER, Splitter, cuts_of

SENTENCES = [
    ("I don't know.", ["I", "do", "n't", "know", "."]),
    ("We can't (yet), see www.a.org!", ["We", "ca", "n't", "(", "yet", ")", ",", "see", "www.a.org", "!"]),
    ("John's U.S. trip", ["John", "'s", "U.S.", "trip"]),
    ("They won't, at 3.5 pm.", ["They", "wo", "n't", ",", "at", "3.5", "pm", "."]),
    ("It's Mr. Smith", ["It", "'s", "Mr.", "Smith"]),
] * 4


@pytest.mark.parametrize(
    ("text", "words", "cuts"),
    [
        ("I don't.", ["I", "do", "n't", "."], [("I", ()), ("don't.", (2, 5))]),
        ("du vin", ["de", "le", "vin"], None),  # words that are not in the text
        ("a b", ["a"], None),
        ("a", ["a", "b"], None),
        ("ab", ["ab"], [("ab", ())]),
        ("", [], []),
    ],
)
def test_words_are_found_in_their_text(text, words, cuts):
    assert cuts_of(text, words) == cuts


def fitted(sentences=SENTENCES) -> Splitter:
    splitter = Splitter.fit(sentences)
    assert splitter is not None
    return splitter


def test_new_texts_are_split_in_the_same_way():
    splitter = fitted()
    assert all(splitter.split(text) == words for text, words in SENTENCES)
    assert splitter.split("We don't. (yet)!") == ["We", "do", "n't", ".", "(", "yet", ")", "!"]
    assert splitter.split("  ") == []


def test_nothing_is_learned_where_only_spaces_separate_words():
    assert Splitter.fit([("a b", ["a", "b"]), ("c", ["c"])] * 5) is None
    assert Splitter.fit([]) is None


def test_the_order_of_the_data_changes_nothing():
    first, second = fitted(), fitted(SENTENCES[::-1])
    assert first._weights.keys() == second._weights.keys()


def test_what_is_usual_in_training_and_not_learned_is_an_exception():
    odd = [("ab", ["a", "b"])] * 5 + [("ab cd", ["ab", "cd"])]
    splitter = fitted(SENTENCES + odd)
    assert splitter.split("ab") == ["a", "b"]


@pytest.mark.parametrize("content", ["[]", '{"weights": {}}', '{"weights": {}, "exceptions": {"ab": [2]}}'])
def test_saved_splitter_is_read_back_and_damage_is_refused(tmp_path, content):
    assert Splitter.load(tmp_path) is None
    splitter = fitted()
    (tmp_path / SPLITTER).write_bytes(splitter.to_bytes())
    again = Splitter.load(tmp_path)
    assert again is not None
    text = "We can't see (it)."
    assert again.split(text) == splitter.split(text)
    (tmp_path / SPLITTER).write_text(content)
    with pytest.raises(InputError, match=r"splitter.json is damaged"):
        Splitter.load(tmp_path)
