"""Decoding against brute force on a toy model that looks the next token's distribution up in a table."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from thalweg.heads.softmax import Softmax
from thalweg.models import presets
from thalweg.tasks.writing.generate import Sampling, beam_search, continue_texts, greedy

END, BEGIN = 0, 1


class Toy(nn.Module):
    """Logits of the next token depend on the text's number, the last token and the number of tokens so far."""

    def __init__(
        self, num_texts: int, vocabulary_size: int, length: int, *, seed: int = 0, spread: float = 1.0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shape = num_texts, length + 1, vocabulary_size, vocabulary_size
        self.table = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.num_calls = 0

    def start(self, batch_size: int) -> tuple[Tensor, ...]:
        return torch.arange(batch_size) % len(self.table), torch.zeros(batch_size, dtype=torch.long)

    def advance(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        self.num_calls += 1
        text, place = state
        return self.table[text, place.clamp(max=self.table.shape[1] - 1), tokens], (text, place + 1)


def all_texts(model: Toy, text: int, vocabulary_size: int, length: int, power: float) -> list[tuple[float, list[int]]]:
    """Every text that ends within `length` tokens or has just so many, with its score, best first."""
    log_p = torch.log_softmax(model.table[text], -1)
    found = []
    for n in range(1, length + 1):
        for ids in itertools.product(range(vocabulary_size), repeat=n):
            if END in ids[:-1] or (ids[-1] != END and n < length):
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


@pytest.mark.parametrize("seed", range(2))
def test_beam_of_one_writes_what_greedy_writes(seed: int) -> None:
    model, head = Toy(20, 6, 12, seed=seed), Softmax(None, 6)
    options = {"first": BEGIN, "end": END, "length": 12}
    expected = greedy(model, head, model.start(20), **options)
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
        assert torch.equal(alone.scores[0], together.scores[text])


def test_forbidden_ids_are_not_written() -> None:
    model, head = Toy(8, 5, 10, seed=2), Softmax(None, 5)
    options = {"first": BEGIN, "end": END, "length": 10, "forbidden": (3, 4)}
    found = beam_search(model, head, model.start(8), width=4, **options)
    real = found.tokens[found.scores > -math.inf]
    assert not ((real == 3) | (real == 4)).any()
    written = greedy(model, head, model.start(8), **options)
    assert not ((written == 3) | (written == 4)).any()
    assert (real == 2).any()


def test_search_stops_when_every_text_has_ended() -> None:
    model, head = Toy(4, 3, 100, seed=0), Softmax(None, 3)
    model.table[..., END] += 8.0  # an end is nearly certain at once
    assert greedy(model, head, model.start(4), first=BEGIN, end=END, length=100).shape == (4, 1)
    model.num_calls = 0
    beam_search(model, head, model.start(4), width=2, first=BEGIN, end=END, length=100)
    assert model.num_calls < 5


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0), [0.5, 0.25, 0.15, 0.1]),
        (Sampling(0.5), [0.25 / 0.345, 0.0625 / 0.345, 0.0225 / 0.345, 0.01 / 0.345]),
        (Sampling(1.0, top_p=0.6), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(1.0, top_p=0.01), [1, 0, 0, 0]),
        (Sampling(1.0, num_candidates=3), [5 / 9, 2.5 / 9, 1.5 / 9, 0]),
        (Sampling(1.0, forbidden=(0,)), [0, 0.5, 0.3, 0.2]),
        (Sampling(0.0, forbidden=(0,)), [0, 1, 0, 0]),
        (Sampling(0.0), [1, 0, 0, 0]),
    ],
)
def test_sampled_shares_are_those_of_the_definition(sampling: Sampling, expected: list[float]) -> None:
    num = 20_000
    prediction = torch.log(torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64)).expand(num, 4)
    uniform = (torch.arange(num) + 0.5) / num  # evenly spread, so that the shares are exact to 1 / num
    drawn = sampling.pick(Softmax(None, 4), prediction, uniform)
    shares = torch.bincount(drawn, minlength=4) / num
    torch.testing.assert_close(shares, torch.tensor(expected, dtype=torch.float32), atol=2e-4, rtol=0.0)


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-24])
def test_extreme_random_numbers_draw_tokens_that_can_occur(uniform: float) -> None:
    prediction = torch.tensor([[-math.inf, 0.0, -1.0, -math.inf]])
    drawn = Sampling(1.0).pick(Softmax(None, 4), prediction, torch.tensor([uniform]))
    assert drawn.item() in (1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -1.0}, r"temperature=.*must be zero or positive; got -1.0"),
        ({"temperature": math.nan}, r"temperature=.*must be zero or positive; got nan"),
        ({"top_p": 0.0}, r"top_p=.*must lie in \(0, 1\]; got 0.0"),
        ({"num_candidates": 0}, r"num_candidates=.*at least 1; got 0"),
    ],
)
def test_sampling_refuses_numbers_out_of_range(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**arguments)  # pyright: ignore[reportArgumentType]


def test_search_refuses_numbers_out_of_range() -> None:
    model, head = Toy(1, 3, 3), Softmax(None, 3)
    with pytest.raises(ValueError, match="width >= 1"):
        beam_search(model, head, model.start(1), width=0, first=BEGIN, end=END, length=3)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        greedy(model, head, model.start(1), first=BEGIN, end=END, length=0)
    with pytest.raises(ValueError, match="at least one token and one seed"):
        continue_texts(model, head, [[]], length=1, window=4, sampling=Sampling(0.0), seeds=[0])
    with pytest.raises(ValueError, match="window >= 1"):
        continue_texts(model, head, [[1]], length=1, window=0, sampling=Sampling(0.0), seeds=[0])


@pytest.mark.parametrize("build", [presets.causal_lstm, presets.causal_transformer])
def test_continued_texts_follow_the_models_own_forward_pass(build) -> None:
    torch.manual_seed(0)
    shape, window = presets.ModelShape(vocabulary_size=9, max_length=8), 8
    model = build(shape, presets.ModelOptions(width=16, hidden=16, layers=2, heads=2)).double().eval()
    head = Softmax(model.width, 9).double().eval()
    with torch.no_grad():
        head.output.weight.mul_(20)
    prompts = [[4], [5, 6, 7], [8, 4, 5, 6, 7, 8, 4, 5, 6, 4]]
    found = continue_texts(model, head, prompts, length=15, window=window, sampling=Sampling(0.0), seeds=[0, 0, 0])
    assert [len(ids) for ids in found] == [15, 15, 15]
    longest = window  # prompts are cut to the window
    for prompt, ids in zip(prompts, found, strict=True):
        text = prompt[-window:] + ids
        # Which tokens are in sight: all since the start, and from then on the last half whenever the window was full.
        begin = 0
        for place in range(len(text) - 1):
            if place - begin == window:
                begin = place - window // 2
            if place + 1 >= len(prompt[-window:]):
                with torch.no_grad():
                    hidden = model(torch.tensor([text[begin : place + 1]]))[:, -1]
                assert int(head(hidden).argmax()) == text[place + 1]
    assert longest == window


def test_what_follows_a_prompt_depends_on_it_and_its_seed_alone() -> None:
    model, head = Toy(1, 7, 60, seed=4), Softmax(None, 7)

    def write(prompts: list[list[int]], seeds: list[int]) -> list[list[int]]:
        return continue_texts(model, head, prompts, length=30, window=60, sampling=Sampling(1.0), seeds=seeds)

    together = write([[2], [3, 4, 5], [2], [2]], [0, 1, 0, 2])
    assert together[0] == together[2] == write([[2]], [0])[0]
    assert together[1] == write([[3, 4, 5]], [1])[0]
    assert together[3] != together[0]


def test_nothing_to_write_is_no_mistake() -> None:
    model, head = Toy(1, 3, 3), Softmax(None, 3)
    assert continue_texts(model, head, [], length=5, window=4, sampling=Sampling(0.0), seeds=[]) == []
    assert continue_texts(model, head, [[1]], length=0, window=4, sampling=Sampling(0.0), seeds=[0]) == [[]]
