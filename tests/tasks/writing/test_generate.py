"""Writing on from prompts, against the model's own forward pass."""

import pytest
import torch
from tests.writers import Toy

from thalweg.heads.softmax import Softmax
from thalweg.models import presets
from thalweg.tasks.writing.generate import continue_texts
from thalweg.tasks.writing.rules import Rules
from thalweg.tasks.writing.sampling import Sampling


def test_numbers_out_of_range_are_refused() -> None:
    model, head = Toy(1, 3, 3), Softmax(None, 3)
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
    assert [len(one.tokens) for one in found] == [15, 15, 15]
    longest = window  # prompts are cut to the window
    for prompt, one in zip(prompts, found, strict=True):
        text = prompt[-window:] + one.tokens
        # Which tokens are in sight: all since the start, and from then on the last half whenever the window was full.
        begin = 0
        for place in range(len(text) - 1):
            if place - begin == window:
                begin = place - window // 2
            if place + 1 >= len(prompt[-window:]):
                with torch.no_grad():
                    hidden = model(torch.tensor([text[begin : place + 1]]))[:, -1]
                assert int(head(hidden).argmax()) == text[place + 1]
                gain = head.log_probability(head(hidden), torch.tensor([text[place + 1]])).item()
                drawn = one.log_probabilities[place + 1 - len(prompt[-window:])]
                assert drawn == pytest.approx(gain, abs=1e-9)
    assert longest == window


def test_what_follows_a_prompt_depends_on_it_and_its_seed_alone() -> None:
    model, head = Toy(1, 7, 60, seed=4), Softmax(None, 7)

    def write(prompts: list[list[int]], seeds: list[int]) -> list[list[int]]:
        found = continue_texts(model, head, prompts, length=30, window=60, sampling=Sampling(1.0), seeds=seeds)
        return [one.tokens for one in found]

    together = write([[2], [3, 4, 5], [2], [2]], [0, 1, 0, 2])
    assert together[0] == together[2] == write([[2]], [0])[0]
    assert together[1] == write([[3, 4, 5]], [1])[0]
    assert together[3] != together[0]


def test_a_text_ends_where_it_is_said_to() -> None:
    model, head = Toy(1, 5, 30, seed=4), Softmax(None, 5)
    options = {"length": 20, "window": 60, "sampling": Sampling(1.0), "seeds": [0, 1]}
    whole = continue_texts(model, head, [[2], [3]], **options)
    found = continue_texts(model, head, [[2], [3]], **options, is_over=lambda row, ids: row == 1 and len(ids) == 3)
    assert found[0] == whole[0]
    assert found[1].tokens == whole[1].tokens[:3]
    assert found[1].log_probabilities == whole[1].log_probabilities[:3]


def test_no_run_of_tokens_comes_twice_prompt_included() -> None:
    model, head = Toy(1, 9, 60, seed=4), Softmax(None, 9)
    for n, heat in ((2, 0.0), (3, 1.0)):
        (found,) = continue_texts(
            model, head, [[2, 3, 4]], length=30, window=60, sampling=Sampling(heat), seeds=[0], rules=Rules(no_repeat=n)
        )
        text = [2, 3, 4, *found.tokens]
        runs = [tuple(text[place : place + n]) for place in range(len(text) - n + 1)]
        assert len(runs) == len(set(runs))
        assert len(found.tokens) == 30


def test_nothing_to_write_is_no_mistake() -> None:
    model, head = Toy(1, 3, 3), Softmax(None, 3)
    assert continue_texts(model, head, [], length=5, window=4, sampling=Sampling(0.0), seeds=[]) == []
    (found,) = continue_texts(model, head, [[1]], length=0, window=4, sampling=Sampling(0.0), seeds=[0])
    assert found.tokens == []
