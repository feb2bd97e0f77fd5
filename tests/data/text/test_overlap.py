"""How much two texts share: against slow formulas in Python, and what must hold of any two texts."""

import math
from collections import Counter

import numpy as np
import pytest

from thalweg.data.text.overlap import NAMES, ORDERS, Overlap
from thalweg.data.text.words import split_words

TRAIN = (
    ["a man plays a flute", "the dog runs", "two men are running", "prices rose 3 percent", "我喜歡猫"],
    ["a man is playing the flute", "a cat sleeps", "three men run", "prices fell 4 percent", "我喜歡狗"],
)
PAIRS = [
    ("a man plays a flute", "a man is playing the flute"),
    ("the dog runs", "the dogs run in 2019 and 2020"),
    ("the dogs run in 2019", "the dog runs"),
    ("prices rose 3 percent", "prices rose 4 percent"),
    ("我喜歡猫", "我喜歡狗"),
    ("unheard words", "words unheard"),
    ("été", "ete"),
    ("A", "a"),
    ("same same", "same same"),
]


@pytest.fixture(scope="module")
def fitted():
    return Overlap.fit([TRAIN])


def marked(word, order):
    text = f" {word} "
    return [text[i : i + order] for i in range(max(1, len(text) - order + 1))]


def idf(pieces_of):
    texts = [*TRAIN[0], *TRAIN[1]]
    words = Counter(word for text in texts for word in set(split_words(text)))
    counts = Counter()
    for word, number in words.items():
        for piece in set(pieces_of(word)):
            counts[piece] += number
    return lambda piece: math.log((1 + len(texts)) / (1 + min(counts[piece], len(texts))))


def slow_cosine(first, second, pieces_of):
    weight = idf(pieces_of)
    bags = [Counter(piece for word in split_words(text) for piece in pieces_of(word)) for text in (first, second)]
    u, v = ({p: (1 + math.log(c)) * (1 + weight(p)) for p, c in bag.items()} for bag in bags)
    dot = sum(u[piece] * v.get(piece, 0.0) for piece in u)
    return dot / math.sqrt(sum(x * x for x in u.values()) * sum(x * x for x in v.values()))


def slow_shares(first, second):
    weight = idf(lambda word: [word])
    one, other = set(split_words(first)), set(split_words(second))

    def alike(word, another):
        left, right = ({(n, p) for n in (2, 3, 4) for p in marked(w, n)} for w in (word, another))
        return len(left & right) / math.sqrt(len(left) * len(right))

    def covered(these, those):
        lonely, mass = those - these, sum(map(weight, these))
        best = {w: max((alike(w, x) for x in lonely), default=0.0) for w in these - those}
        near = sum(weight(w) * best[w] for w in best)
        shared = sum(weight(w) for w in these & those)
        return (shared / mass, (shared + near) / mass) if mass else (float(not best), float(not best))

    (a, near_a), (b, near_b) = covered(one, other), covered(other, one)
    return {
        "Jaccard": len(one & other) / len(one | other),
        "first covered": a,
        "second covered": b,
        "first spelled": near_a,
        "second spelled": near_b,
    }


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_numbers_are_those_of_the_slow_formulas(fitted, first, second):
    found = dict(zip(NAMES, fitted.numbers([first], [second])[0].tolist(), strict=True))
    assert found["words"] == pytest.approx(slow_cosine(first, second, lambda word: [word]))
    for order in ORDERS:
        slow = slow_cosine(first, second, lambda word, order=order: marked(word, order))
        assert found[f"characters {order}"] == pytest.approx(slow), order
    for name, value in slow_shares(first, second).items():
        assert found[name] == pytest.approx(value), name


def test_a_pair_has_the_same_numbers_alone_and_among_others(fitted):
    firsts, seconds = zip(*PAIRS, strict=True)
    together = fitted.numbers(firsts, seconds)
    alone = np.concatenate([fitted.numbers([one], [other]) for one, other in PAIRS])
    assert together == pytest.approx(alone, abs=1e-12)
    assert Overlap.fit([TRAIN]).numbers(firsts, seconds) == pytest.approx(together, abs=0.0)


def test_chunks_do_not_matter():
    parts = Overlap.fit([([one], [other]) for one, other in zip(*TRAIN, strict=True)])
    whole = Overlap.fit([TRAIN])
    assert parts.num_texts == whole.num_texts == 10
    assert parts.hashes.tolist() == whole.hashes.tolist()
    assert parts.counts.tolist() == whole.counts.tolist()
    assert parts.gram_counts == pytest.approx(whole.gram_counts)


SHARES = [place for place, name in enumerate(NAMES) if name.startswith(("words", "characters", "Jaccard", "first"))]
ONE_SIDED = ("covered", "spelled", "only in the", "numbers of the")
SWAPPED = [
    next(
        place
        for place, other in enumerate(NAMES)
        if other == (name.replace("first", "*").replace("second", "first").replace("*", "second"))
    )
    for name in NAMES
]


def test_the_other_order_of_the_texts_has_the_mirrored_numbers(fitted):
    firsts, seconds = zip(*PAIRS, strict=True)
    there, back = fitted.numbers(firsts, seconds), fitted.numbers(seconds, firsts)
    signs = np.where(np.array(NAMES) == "length ratio", -1.0, 1.0)
    assert back == pytest.approx(there[:, SWAPPED] * signs, abs=1e-12)


def test_equal_and_empty_texts(fitted):
    texts = ["", "a man plays a flute", "unheard", "我喜歡猫", "2 3", "!"]
    equal = fitted.numbers(texts, texts)
    assert equal[:, SHARES] == pytest.approx(np.ones((len(texts), len(SHARES))))
    nothing = fitted.numbers(["", "a man plays"], ["a man plays", ""])
    assert np.isfinite(nothing).all()
    assert nothing[:, [NAMES.index(name) for name in ("words", "characters 3", "Jaccard")]] == pytest.approx(0.0)
    assert fitted.numbers([], []).shape == (0, len(NAMES))


def test_numbers_and_scripts_without_spaces(fitted):
    found = {name: fitted.numbers(*zip(*PAIRS, strict=True))[:, place] for place, name in enumerate(NAMES)}
    assert found["numbers of the first"][[2, 3]].tolist() == [0.0, 0.0]
    assert found["numbers of the second"][1] == 0.0
    assert found["numbers of the first"][1] == 1.0  # it has none
    assert 0.5 < found["words"][4] < 1.0
    assert found["word pairs"][4] > 0.2


def test_long_texts_are_quick(fitted):
    long = " ".join(f"word{i}" for i in range(20_000))
    found = fitted.numbers([long, long], [long[::-1], long])
    assert found[1, NAMES.index("words")] == pytest.approx(1.0)
    assert np.isfinite(found).all()
