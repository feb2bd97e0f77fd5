"""Floors of contexts against tables of counts made by hand."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from thalweg.certificates.by_example.contexts import context_floors


def by_hand(chunks, k, *, exact):
    """Mean cross-entropy and accuracy of the best table of contexts: the last k symbols, or all of exactly k."""
    table = defaultdict(Counter)
    for chunk in chunks:
        for place in range(k, len(chunk)):
            if not exact or place == k:
                table[tuple(chunk[place - k : place])][chunk[place]] += 1
    num = sum(sum(counts.values()) for counts in table.values())
    nats = -sum(n * math.log(n / sum(counts.values())) for counts in table.values() for n in counts.values())
    return num, nats / num, sum(max(counts.values()) for counts in table.values()) / num


@pytest.mark.parametrize("seed", range(6))
def test_floors_are_those_of_tables_made_by_hand(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0 if seed else 1, 12, 30)
    text = rng.integers(0, 3, lengths.sum()) * (7 if seed == 5 else 1)
    chunks = [part.tolist() for part in np.split(text, np.cumsum(lengths)[:-1])]
    contexts = (1, 2, 4, 7, 50)
    found = context_floors(text, lengths, contexts)
    assert [one.context for one in found] == [k for k in contexts if k < lengths.max()]
    for one in found:
        num, nats, right = by_hand(chunks, one.context, exact=False)
        assert (one.num_targets, one.floor) == (num, pytest.approx(nats, abs=1e-12))
        assert one.accuracy == pytest.approx(right, abs=1e-12)
        num, nats, _ = by_hand(chunks, one.context, exact=True)
        assert (one.num_exact, one.exact_floor) == (num, pytest.approx(nats, abs=1e-12))


def test_nothing_is_said_of_contexts_that_no_chunk_has_room_for():
    assert context_floors(np.array([1, 2, 3]), np.array([1, 1, 1]), (1, 2)) == []
    assert context_floors(np.zeros(0, dtype=int), np.zeros(0, dtype=int), (1,)) == []
    assert context_floors(np.array([1, 2]), np.array([2]), ()) == []


@pytest.mark.parametrize("contexts", [(0, 1), (2, 1), (1, 1)])
def test_contexts_must_rise_from_one(contexts):
    with pytest.raises(ValueError, match="must be rising from 1"):
        context_floors(np.array([1, 2]), np.array([2]), contexts)


def test_lengths_must_be_those_of_all_symbols():
    with pytest.raises(ValueError, match="must add up to the number of symbols"):
        context_floors(np.array([0, 1, 0]), np.array([2]), (1,))
