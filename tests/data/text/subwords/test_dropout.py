"""BPE-dropout: against the library without it, against all ways by hand, and what a draw depends on."""

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from thalweg.data.text.subwords.dropout import Dropout, cut
from thalweg.data.text.tokenizer import Tokenizer

TEXTS = ["low lower lowest newest widest", "the newest river, 35 rivers – déjà vu 😀", "lower the river"] * 30
BPE = Tokenizer.train(TEXTS, "bpe", 320)
IDS = [np.array([*BPE.encode(text), BPE.end], dtype=np.int32) for text in TEXTS[:3]]


def drawn(probability=0.5, number=1, keys=(7, 8, 9), longest=999, ids=IDS):
    return [row.tolist() for row in Dropout(BPE, probability).drawn(ids, np.array(keys), number, longest)]


def test_without_dropout_words_are_cut_as_the_library_cuts_them():
    assert drawn(0.0) == [row.tolist() for row in IDS]
    ranks = {pair: rank for rank, pair in enumerate(BPE.merges)}
    for word in BPE.words(BPE.encode("unknown words: lowlow, newer-lower wide 353")):
        parts = [piece.value for piece in BPE._inner.model.tokenize(word)]
        assert cut(word, ranks, 0.0, random.Random(0)) == parts


def ways(parts, ranks, probability):
    """Return the probability of each result, by all cases of which merges drop out."""
    merges = [(ranks[a, b], place) for place, (a, b) in enumerate(pairwise(parts)) if (a, b) in ranks]
    found = Counter()
    for case in range(2 ** len(merges)):
        kept = [merge for bit, merge in enumerate(merges) if case >> bit & 1]
        chance = (1 - probability) ** len(kept) * probability ** (len(merges) - len(kept))
        if not kept:
            found[tuple(parts)] += chance
            continue
        _, place = min(kept)
        joined = [*parts[:place], parts[place] + parts[place + 1], *parts[place + 2 :]]
        for result, more in ways(joined, ranks, probability).items():
            found[result] += chance * more
    return found


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_ways_are_as_frequent_as_by_hand(probability):
    ranks = {("a", "b"): 0, ("b", "c"): 1, ("ab", "c"): 2, ("a", "bc"): 3}
    expected = ways(list("abcab"), ranks, probability)
    assert sum(expected.values()) == pytest.approx(1.0)
    draw, num = random.Random(0), 20_000
    seen = Counter(tuple(cut("abcab", ranks, probability, draw)) for _ in range(num))
    assert seen.keys() <= expected.keys()
    for result, chance in expected.items():
        assert seen[result] / num == pytest.approx(chance, abs=4 * (chance * (1 - chance) / num) ** 0.5 + 1e-9)


def test_the_text_stays_the_same_in_other_subwords():
    rows = drawn(0.5)
    assert [BPE.decode(row) for row in rows] == TEXTS[:3]
    assert all(row[-1] == BPE.end for row in rows)
    assert sum(map(len, rows)) > sum(map(len, IDS))
    assert rows == drawn(0.5)
    assert rows != drawn(0.5, number=2)
    assert len({tuple(drawn(0.5, keys=(key, 8, 9))[0]) for key in range(20)}) > 10


def test_a_draw_depends_on_the_example_and_not_on_those_beside_it():
    dropout = Dropout(BPE, 0.5)
    both = dropout.drawn(IDS, np.array([7, 8, 9]), 1, 999)
    alone = dropout.drawn(IDS[2:], np.array([9]), 1, 999)
    assert both[2].tolist() == alone[0].tolist()
    dropout._ways.clear()
    assert dropout.drawn(IDS, np.array([7, 8, 9]), 1, 999)[2].tolist() == alone[0].tolist()


def test_texts_that_were_cut_or_do_not_fit_stay_as_they_are():
    short = [IDS[0][:-1], np.array([BPE.end], dtype=np.int32), IDS[2]]
    assert drawn(0.9, ids=short, longest=len(IDS[2])) == [row.tolist() for row in short]


def test_words_of_many_bytes_are_cut_as_always():
    text = "lower" * 30
    ids = [np.array([*BPE.encode(text), BPE.end], dtype=np.int32)]
    assert drawn(0.9, ids=ids, keys=(1,)) == [ids[0].tolist()]


def test_words_have_no_merges():
    with pytest.raises(ValueError, match="must be of the kind 'bpe'; got 'word'"):
        Dropout(Tokenizer.train(["a"], "word"), 0.1)
