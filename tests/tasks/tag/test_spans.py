"""Spans: hand-computed cases of the conlleval rules, a brute-force reader, and the vectorized score against both."""

import random

import pytest
import torch

from thalweg.tasks.tag.spans import Span, SpanScore, is_bio, spans_of, split_tag

CASES = [
    # tags, spans as (start, end, type)
    ("", []),
    ("O O", []),
    ("B-a", [(0, 1, "a")]),
    ("B-a I-a I-a O", [(0, 3, "a")]),
    ("B-a B-a", [(0, 1, "a"), (1, 2, "a")]),
    ("B-a I-b", [(0, 1, "a"), (1, 2, "b")]),
    ("I-a I-a O I-a", [(0, 2, "a"), (3, 4, "a")]),
    ("I-a B-a I-a", [(0, 1, "a"), (1, 3, "a")]),
    ("O I-a I-b O", [(1, 2, "a"), (2, 3, "b")]),
    ("B-a O I-a", [(0, 1, "a"), (2, 3, "a")]),
    ("S-a S-a", [(0, 1, "a"), (1, 2, "a")]),
    ("B-a E-a I-a", [(0, 2, "a"), (2, 3, "a")]),
    ("B-a I-a E-a B-a E-a", [(0, 3, "a"), (3, 5, "a")]),
    ("B-a I-a L-a U-a", [(0, 3, "a"), (3, 4, "a")]),
    ("B-a M-a E-a S-b", [(0, 3, "a"), (3, 4, "b")]),
    ("B-geo-loc I-geo-loc", [(0, 2, "geo-loc")]),
    ("B I O B", [(0, 2, ""), (3, 4, "")]),
]


def brute_force(tags):
    """All (start, end) pairs that satisfy the definition, one by one."""
    tags = ["O", *tags, "O"]

    def kind(i):
        return tags[i].partition("-")[2]

    def starts(i):
        if tags[i] == "O":
            return False
        return tags[i][0] in "BSUW" or tags[i - 1] == "O" or tags[i - 1][0] in "ESLUW" or kind(i - 1) != kind(i)

    found = set()
    for i in range(1, len(tags) - 1):
        for j in range(i + 1, len(tags)):
            inside = starts(i) and all(tags[k] != "O" and not starts(k) for k in range(i + 1, j))
            if inside and (tags[j] == "O" or starts(j)):
                found.add((i - 1, j - 1, kind(i)))
    return found


def test_spans_of_hand_computed_cases():
    for tags, expected in CASES:
        assert spans_of(tags.split()) == [Span(*span) for span in expected], tags


def test_spans_of_equal_brute_force_on_random_tags():
    rng = random.Random(0)
    alphabet = ["O", "B-a", "I-a", "B-b", "I-b", "E-a", "S-b"]
    for _ in range(500):
        tags = rng.choices(alphabet, k=rng.randrange(0, 9))
        assert {(s.start, s.end, s.type) for s in spans_of(tags)} == brute_force(tags), tags


def test_is_bio():
    for tags in ("O B-a", "O I-a", "B-a I-a", "B I O", "B-a I-a E-a S-a O"):
        assert is_bio(tags.split()), tags
    for tags in ("O", "I O", "NOUN VERB O", "O B-a X-a", ""):
        assert not is_bio(tags.split()), tags


def test_split_tag_keeps_hyphens_of_the_type():
    assert split_tag("B-creative-work") == ("B", "creative-work")


def _score(tags, true, predicted):
    ids = {tag: i for i, tag in enumerate(tags)}
    length = max(len(s) for s in true)
    score = SpanScore(tags)
    target = torch.zeros(len(true), length, dtype=torch.long)
    guess = torch.full((len(true), length), ids["B-a"])  # what is predicted at padding must not count
    mask = torch.zeros(len(true), length, dtype=torch.bool)
    for row, (t, p) in enumerate(zip(true, predicted, strict=True)):
        target[row, : len(t)] = torch.tensor([ids[x] for x in t])
        guess[row, : len(t)] = torch.tensor([ids[x] for x in p])
        mask[row, : len(t)] = True
    half = len(true) // 2
    for part in (slice(0, half), slice(half, None)):
        if len(target[part]):
            score.update(guess[part], target[part], mask[part])
    return score


def test_span_score_equals_counting_sets_of_spans_on_random_sentences():
    rng = random.Random(1)
    tags = ["O", "B-a", "I-a", "B-b", "I-b", "E-a", "S-b"]
    true = [rng.choices(tags, k=rng.randrange(1, 8)) for _ in range(200)]
    predicted = [[t if rng.random() < 0.7 else rng.choice(tags) for t in sentence] for sentence in true]
    scores = _score(tags, true, predicted).compute()
    t = {(i, *s) for i, x in enumerate(true) for s in brute_force(x)}
    p = {(i, *s) for i, x in enumerate(predicted) for s in brute_force(x)}
    assert scores["span_precision"] == pytest.approx(len(t & p) / len(p), abs=1e-12)
    assert scores["span_recall"] == pytest.approx(len(t & p) / len(t), abs=1e-12)
    assert scores["span_f1"] == pytest.approx(2 * len(t & p) / (len(t) + len(p)), abs=1e-12)
    for kind in "ab":
        tk, pk = ({s for s in spans if s[3] == kind} for spans in (t, p))
        assert scores[f"span_f1 {kind}"] == pytest.approx(2 * len(tk & pk) / (len(tk) + len(pk)), abs=1e-12)


def test_span_score_by_hand():
    # One right, one with a wrong end, one missed, one invented.
    true = [["B-a", "I-a", "O", "B-b"], ["B-a", "I-a", "I-a", "O"], ["O", "O"]]
    predicted = [["B-a", "I-a", "O", "O"], ["B-a", "I-a", "O", "O"], ["B-b", "O"]]
    score = _score(["O", "B-a", "I-a", "B-b"], true, predicted)
    assert score.compute() == pytest.approx(
        {"span_f1": 1 / 3, "span_precision": 1 / 3, "span_recall": 1 / 3, "span_f1 a": 0.5, "span_f1 b": 0.0}
    )
    assert score.table() == [["a", 0.5, 0.5, 0.5, 2, 2], ["b", 0.0, 0.0, 0.0, 1, 1]]


def test_span_score_without_any_span_is_zero():
    score = _score(["O", "B-a", "I-a"], [["O", "O"]], [["O", "O"]])
    assert score.compute() == {"span_f1": 0.0, "span_precision": 0.0, "span_recall": 0.0, "span_f1 a": 0.0}
