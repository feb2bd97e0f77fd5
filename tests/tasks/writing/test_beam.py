"""Search and drawing against brute force on a toy model."""

import itertools
import math
from collections import Counter

import pytest
import torch
from tests.writers import BEGIN, END, Toy

from thalweg.heads.softmax import Softmax
from thalweg.tasks.writing.beam import beam_search, greedy, sampled
from thalweg.tasks.writing.rules import Rules
from thalweg.tasks.writing.sampling import Sampling


def all_texts(
    model: Toy, text: int, vocabulary_size: int, length: int, power: float, rules: Rules | None = None
) -> list[tuple[float, list[int]]]:
    """Every text that ends within `length` tokens or has just so many, and keeps the rules, best first."""
    log_p = torch.log_softmax(model.table[text], -1)
    found = []
    for n in range(1, length + 1):
        for ids in itertools.product(range(vocabulary_size), repeat=n):
            if END in ids[:-1] or (ids[-1] != END and n < length):
                continue
            if rules is not None and not keeps(list(ids), rules):
                continue
            total = sum(float(log_p[i, a, b]) for i, (a, b) in enumerate(itertools.pairwise((BEGIN, *ids))))
            found.append((total / n**power, list(ids)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("vocabulary_size", "length", "power"), [(3, 4, 0.7), (4, 3, 0.0), (4, 3, 1.0), (2, 5, 0.7), (5, 1, 1.0)]
)
def test_wide_beam_finds_what_exhaustive_search_finds(vocabulary_size: int, length: int, power: float) -> None:
    model, head = Toy(3, vocabulary_size, length), Softmax(None, vocabulary_size)
    width = vocabulary_size**length
    found = beam_search(
        model, head, model.start(3), width=width, first=BEGIN, end=END, length=length, length_power=power
    )
    for text in range(3):
        expected = all_texts(model, text, vocabulary_size, length, power)
        for place, (score, ids) in enumerate(expected):
            assert found.scores[text, place].item() == pytest.approx(score, abs=1e-5)
            assert found.tokens[text, place, : len(ids)].tolist() == ids
            assert not found.tokens[text, place, len(ids) :].any()
        assert (found.scores[text, len(expected) :] == -math.inf).all()


def keeps(ids: list[int], rules: Rules) -> bool:
    """Whether a text is as the rules want it, by their definition."""
    words = ids[:-1] if ids[-1] == END else ids
    n = rules.no_repeat
    runs = [tuple(ids[place : place + n]) for place in range(len(ids) - n + 1)] if n else []
    begins = all(one in allowed for one, allowed in zip(ids, rules.prefix, strict=False)) and len(ids) > len(
        rules.prefix
    )
    return len(set(runs)) == len(runs) and (ids[-1] != END or len(words) >= rules.min_length) and begins


@pytest.mark.parametrize(
    "rules",
    [
        Rules(min_length=2),
        Rules(no_repeat=1),
        Rules(no_repeat=2),
        Rules(prefix=((2,), (1, 2))),
        Rules(no_repeat=2, min_length=3, prefix=((3, 2),)),
    ],
    ids=str,
)
def test_wide_beam_finds_what_exhaustive_search_finds_among_the_texts_that_keep_the_rules(rules: Rules) -> None:
    size, length = 4, 4
    model, head = Toy(2, size, length), Softmax(None, size)
    found = beam_search(
        model, head, model.start(2), width=size**length, first=BEGIN, end=END, length=length, rules=rules
    )
    for text in range(2):
        expected = all_texts(model, text, size, length, 1.0, rules)
        assert expected
        given = [ids for ids, score in zip(found.tokens[text].tolist(), found.scores[text].tolist(), strict=True)
                 if score > -math.inf]  # fmt: skip
        assert len(given) == len(expected)
        for place, (score, ids) in enumerate(expected):
            assert found.scores[text, place].item() == pytest.approx(score, abs=1e-5)
            assert given[place][: len(ids)] == ids


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("rules", [Rules(), Rules(no_repeat=2, min_length=3), Rules(repetition_penalty=1.7)], ids=str)
def test_the_log_probabilities_are_those_of_the_model(width: int, rules: Rules) -> None:
    model, head = Toy(9, 6, 12, seed=5), Softmax(None, 6)
    for power in (0.0, 1.0, 0.6):
        options = {"first": BEGIN, "end": END, "length": 8, "rules": rules, "length_power": power}
        for found in (
            beam_search(model, head, model.start(9), width=width, **options),
            sampled(model, head, model.start(9), sampling=Sampling(1.0), seeds=[list(range(width))] * 9, **options),
        ):
            for text in range(9):
                for row, gains, score in zip(
                    found.tokens[text].tolist(), found.log_probabilities[text].tolist(), found.scores[text].tolist(),
                    strict=True,
                ):  # fmt: skip
                    ids = row[: row.index(END) + 1] if END in row else row
                    log_p = torch.log_softmax(model.table[text], -1)
                    exact = [float(log_p[i, a, b]) for i, (a, b) in enumerate(itertools.pairwise((BEGIN, *ids)))]
                    assert gains[: len(ids)] == pytest.approx(exact, abs=1e-5)
                    assert not any(gains[len(ids) :])
                    assert score == pytest.approx(sum(exact) / len(ids) ** power, abs=1e-5)


def test_drawn_texts_have_the_probabilities_of_the_model() -> None:
    model, head = Toy(1, 3, 3, seed=1), Softmax(None, 3)
    num = 20_000
    options = {"first": BEGIN, "end": END, "length": 3}
    found = sampled(model, head, model.start(1), sampling=Sampling(1.0), seeds=[list(range(num))], **options)
    counts = Counter(tuple(row) for row in found.tokens[0].tolist())
    exact = {tuple([*ids, 0, 0][:3]): math.exp(score) for score, ids in all_texts(model, 0, 3, 3, 0.0)}
    assert sum(exact.values()) == pytest.approx(1.0)
    assert counts.keys() <= exact.keys()
    statistic = sum((counts[ids] - num * p) ** 2 / (num * p) for ids, p in exact.items())
    assert statistic < len(exact) + 4 * math.sqrt(2 * len(exact))


@pytest.mark.parametrize("seed", range(2))
def test_beam_of_one_writes_what_greedy_writes(seed: int) -> None:
    model, head = Toy(20, 6, 12, seed=seed), Softmax(None, 6)
    options = {"first": BEGIN, "end": END, "length": 12}
    expected = greedy(model, head, model.start(20), **options).tokens[:, 0]
    found = beam_search(model, head, model.start(20), width=1, **options)
    size = found.tokens.shape[-1]
    assert torch.equal(found.tokens[:, 0], expected[:, :size])
    assert not expected[:, size:].any()
    # Greedy itself against the definition, one text at a time.
    for text in range(20):
        ids, last = [], BEGIN
        while len(ids) < 12 and last != END:
            last = int(model.table[text, len(ids), last].argmax())
            ids.append(last)
        assert [*ids, *[0] * 12][: expected.shape[1]] == expected[text].tolist()


def test_wider_beams_never_lose_when_lengths_do_not_differ() -> None:
    # Without an end in sight all texts have one length, and a wider beam loses nothing on average.
    model, head = Toy(50, 5, 6, seed=3), Softmax(None, 5)
    best = [
        beam_search(model, head, model.start(50), width=width, first=BEGIN, end=99, length=6).scores[:, 0].mean()
        for width in (1, 2, 5, 25)
    ]
    assert best[0] < best[1] < best[2] <= best[3]


def test_texts_in_a_batch_do_not_disturb_each_other() -> None:
    model, head = Toy(6, 5, 8, seed=1), Softmax(None, 5)
    options = {"width": 3, "first": BEGIN, "end": END, "length": 8}
    together = beam_search(model, head, model.start(6), **options)
    for text in range(6):
        alone = beam_search(model, head, tuple(part[text : text + 1] for part in model.start(6)), **options)
        size = min(alone.tokens.shape[-1], together.tokens.shape[-1])
        assert torch.equal(alone.tokens[0, :, :size], together.tokens[text, :, :size])
        assert torch.allclose(alone.scores[0], together.scores[text], atol=1e-6)


def test_forbidden_ids_are_not_written() -> None:
    model, head = Toy(8, 5, 10, seed=2), Softmax(None, 5)
    options = {"first": BEGIN, "end": END, "length": 10, "rules": Rules((3, 4))}
    found = beam_search(model, head, model.start(8), width=4, **options)
    real = found.tokens[found.scores > -math.inf]
    assert not ((real == 3) | (real == 4)).any()
    written = greedy(model, head, model.start(8), **options).tokens
    assert not ((written == 3) | (written == 4)).any()
    assert (real == 2).any()


def test_search_stops_when_every_text_has_ended() -> None:
    model, head = Toy(4, 3, 100, seed=0), Softmax(None, 3)
    model.table[..., END] += 8.0  # an end is nearly certain at once
    assert greedy(model, head, model.start(4), first=BEGIN, end=END, length=100).tokens.shape == (4, 1, 1)
    model.num_calls = 0
    beam_search(model, head, model.start(4), width=2, first=BEGIN, end=END, length=100)
    assert model.num_calls < 5


def test_numbers_out_of_range_are_refused() -> None:
    model, head = Toy(1, 3, 3), Softmax(None, 3)
    with pytest.raises(ValueError, match="width >= 1"):
        beam_search(model, head, model.start(1), width=0, first=BEGIN, end=END, length=3)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        greedy(model, head, model.start(1), first=BEGIN, end=END, length=0)
    with pytest.raises(ValueError, match="zero or positive; got -1"):
        greedy(model, head, model.start(1), first=BEGIN, end=END, length=3, length_power=-1)
    with pytest.raises(ValueError, match="as many seeds for each"):
        sampled(model, head, model.start(1), first=BEGIN, end=END, length=3, sampling=Sampling(), seeds=[[]])
