"""Features of words: what they are, which are kept, and that they are read back."""

import itertools
from collections import Counter

import pytest

from thalweg.errors import InputError
from thalweg.tasks.tag.features import FEATURES, WordFeatures, neighbor_features, spelling_features

SENTENCES = [["The", "U2", "concert"], ["The", "U2", "tour", "in", "Rome"], ["concert"]]


def fitted() -> WordFeatures:
    words = Counter(word for sentence in SENTENCES for word in sentence)
    return WordFeatures.fit(words, Counter(pair for words in SENTENCES for pair in itertools.pairwise(words)))


def names(features: WordFeatures, words: list[str]) -> list[set[str]]:
    """The names of each word's features."""
    known = list(features._ids)
    ids, counts = features.encode(words)
    ends = list(itertools.accumulate(counts, initial=0))
    return [{known[i] for i in ids[a:b]} for a, b in itertools.pairwise(ends)]


def test_features_say_spelling_neighbors_and_pairs():
    first, second, third = names(fitted(), SENTENCES[0])
    assert {"first", "bias", "0:word=the", "0:shape=Xxx", "1:word=u2", "0,1:the u2", "0,1:Xx|X0"} <= first
    assert {"0:form=U2", "0:digit", "-1:word=the", "-1,0:the u2", "1:word=concert"} <= second
    assert {"last", "-1:runs=X0", "-2:word=the", "0:end=ert"} <= third
    assert "last" not in second
    assert "first" not in second


def test_what_is_seen_once_is_left_out_and_unseen_words_have_what_is_known_of_them():
    features = fitted()
    assert "0:word=rome" not in features._ids
    (only,) = names(features, ["Concerts"])
    assert {"first", "last", "bias", "0:start=conc"} <= only
    assert not any(name.startswith(("0:word", "0:form")) for name in only)


def test_features_do_not_depend_on_the_order_of_the_data():
    backwards = WordFeatures.fit(
        Counter(word for sentence in reversed(SENTENCES) for word in reversed(sentence)),
        Counter(pair for words in reversed(SENTENCES) for pair in itertools.pairwise(words)),
    )
    assert list(backwards._ids) == list(fitted()._ids)


@pytest.mark.parametrize("word", ["", "a", "ß", "İstanbul", "3.14", "x" * 100, "-"])
def test_any_word_has_features_each_once(word):
    found = spelling_features(word)
    assert len(found) == len(set(found))
    assert neighbor_features(word, 2) == [f"word={word.lower()}"]


def test_saved_features_are_read_back_and_damage_is_refused(tmp_path):
    features = fitted()
    (tmp_path / FEATURES).write_bytes(features.to_bytes())
    again = WordFeatures.load(tmp_path)
    assert again.encode(SENTENCES[1]) == features.encode(SENTENCES[1])
    (tmp_path / FEATURES).write_text('{"features": ["a"]}')
    with pytest.raises(InputError, match=r"features.json is damaged"):
        WordFeatures.load(tmp_path)
