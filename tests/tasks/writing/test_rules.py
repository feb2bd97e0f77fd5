"""Rules change what tokens are compared by as their definitions say."""

import math

import pytest
import torch

from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.tasks.writing.rules import Rules, all_choices, best_choices

LOG_P = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("rules", "before", "place", "barred"),
    [
        (Rules((1,)), [[], []], 0, [{1}, {1}]),
        (Rules(end=0, min_length=2), [[1], [2]], 1, [{0}, {0}]),
        (Rules(end=0, min_length=2), [[1, 1], [2, 2]], 2, [set(), set()]),
        (Rules(no_repeat=1), [[1, 2], [3, 3]], 2, [{1, 2}, {3}]),
        (Rules(no_repeat=2), [[1, 2, 1], [3, 3, 3]], 3, [{2}, {3}]),
        (Rules(no_repeat=3), [[1, 2, 3, 1, 2], [0, 0, 1, 2, 2]], 5, [{3}, set()]),
        (Rules(no_repeat=3), [[1, 2], [0, 0]], 2, [set(), set()]),
        (Rules(prefix=((2,), (1, 3))), [[2], [2]], 1, [{0, 2}, {0, 2}]),
        (Rules(prefix=((2,), (1, 3))), [[2, 1], [2, 3]], 2, [set(), set()]),
        (Rules(no_repeat=1), [[0, 1, 2, 3], [0, 0, 0, 1]], 4, [set(), {0, 1}]),  # where nothing is left, all is
    ],
    ids=str,
)
def test_what_may_not_be_taken(rules: Rules, before, place: int, barred) -> None:
    scores = rules.scores(LOG_P, torch.tensor(before, dtype=torch.long).view(2, -1), place)
    for row in range(2):
        assert {one for one in range(4) if scores[row, one] == -math.inf} == barred[row]
        kept = [one for one in range(4) if one not in barred[row]]
        assert torch.equal(scores[row, kept], LOG_P[row, kept])


def test_the_penalty_multiplies_the_log_probabilities_of_tokens_in_sight() -> None:
    scores = Rules(repetition_penalty=2.0).scores(LOG_P, torch.tensor([[0, 0, 3], [1, 1, 1]]), 3)
    factors = torch.tensor([[2.0, 1, 1, 2], [1, 2, 1, 1]], dtype=torch.float64)
    assert torch.allclose(scores, LOG_P * factors)


@pytest.mark.parametrize("rules", [Rules((0,)), Rules((0,), no_repeat=1), Rules((0,), repetition_penalty=1.5)], ids=str)
def test_the_best_choices_are_the_best_of_all(rules: Rules) -> None:
    head, before = Softmax(None, 4), torch.tensor([[1], [3]])
    scores, log_p = all_choices(head, LOG_P, rules, before, 1)
    best = best_choices(head, LOG_P, 2, rules, before, 1)
    order = best.scores.sort(dim=1, descending=True)
    assert torch.equal(order.values[:, :2], scores.topk(2, dim=1).values)
    assert torch.equal(best.log_probabilities, log_p.gather(1, best.ids))


def test_predictions_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="not a finite number"):
        best_choices(Softmax(None, 2), torch.tensor([[math.nan, 0.0]]), 1, Rules(), torch.zeros(1, 0).long(), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repetition_penalty": 0.0}, r"repetition_penalty=.*must be positive; got 0.0"),
        ({"repetition_penalty": math.nan}, r"repetition_penalty=.*must be positive; got nan"),
        ({"no_repeat": -1}, "must be zero or positive; got -1 and 0"),
        ({"min_length": -2}, "must be zero or positive; got 0 and -2"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(**arguments)
