"""What may be written next, and what is preferred: rules that change what tokens are compared by."""

import dataclasses
from typing import final

import torch
from torch import Tensor

from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.tasks.questions import NOT_FINITE


@final
@dataclasses.dataclass(frozen=True)
class Rules:
    r"""What a text must be like.

    Where no token is left, only `forbidden`, `prefix` and `min_length` hold, so that writing goes on.

    Args:
        forbidden: ids that are never taken.
        repetition_penalty: $r > 0$; the log-probability of a token that is in sight is multiplied by it before tokens
            are compared, so that one above 1 makes repetitions rarer.
        no_repeat: n of n-grams that may not come twice, the tokens in sight included; 0: all may.
        end: the id that ends a text; None: nothing does.
        min_length: tokens before the end at least.
        prefix: for each of the first places, the ids that may stand there.

    Raises:
        ValueError: for a number out of its range.

    Source of the penalty: Keskar, McCann, Varshney, Xiong, Socher (2019), CTRL.
    """

    forbidden: tuple[int, ...] = ()
    repetition_penalty: float = 1.0
    no_repeat: int = 0
    end: int | None = None
    min_length: int = 0
    prefix: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 < self.repetition_penalty < float("inf"):
            raise ValueError(f"Rules(repetition_penalty=...) must be positive; got {self.repetition_penalty!r}.")
        if self.no_repeat < 0 or self.min_length < 0:
            raise ValueError(
                f"Rules(no_repeat=..., min_length=...) must be zero or positive; got {self.no_repeat!r} and "
                f"{self.min_length!r}."
            )

    @property
    def look_back(self) -> bool:
        """Whether what may come next depends on the tokens before."""
        return self.no_repeat > 0 or self.repetition_penalty != 1.0

    def forbidden_at(self, place: int) -> tuple[int, ...]:
        """Return the ids that may not stand at a place, from 0, whatever stands before it."""
        has_end = self.end is not None and place < max(self.min_length, len(self.prefix))
        return (*self.forbidden, *((self.end,) if has_end and self.end is not None else ()))

    def scores(self, log_p: Tensor, before: Tensor, place: int) -> Tensor:
        """Return what tokens are compared by, minus infinity for those that may not be taken.

        Args:
            log_p: the model's log-probabilities, `[rows, vocabulary]`.
            before: the ids in sight, `[rows, n]`.
            place: how many tokens have been written.
        """
        forbidden = torch.tensor(self.forbidden_at(place), dtype=torch.long, device=log_p.device)
        scores = log_p.index_fill(1, forbidden, -torch.inf)
        if place < len(self.prefix):
            allowed = torch.zeros(log_p.shape[1], dtype=torch.bool, device=log_p.device)
            allowed[list(self.prefix[place])] = True
            return log_p.masked_fill(~allowed, -torch.inf)
        if not self.look_back or not before.shape[1]:
            return scores
        changed = scores
        if self.repetition_penalty != 1.0:
            changed = scores.scatter(1, before, scores.gather(1, before) * self.repetition_penalty)
        if 0 < self.no_repeat <= before.shape[1]:
            grams = before.unfold(1, self.no_repeat, 1)  # [rows, places, n]
            begins = before[:, before.shape[1] - self.no_repeat + 1 :]
            is_again = (grams[..., :-1] == begins.unsqueeze(1)).all(-1)
            times = torch.zeros_like(changed).scatter_add_(1, grams[..., -1], is_again.to(changed.dtype))
            changed = changed.masked_fill(times > 0, -torch.inf)
        has_some = (changed > -torch.inf).any(1, keepdim=True)
        return torch.where(has_some, changed, scores)


@final
@dataclasses.dataclass(frozen=True)
class Choices:
    """Tokens to choose from, `[rows, number]`: ids, what they are compared by, the model's log-probabilities."""

    ids: Tensor
    scores: Tensor
    log_probabilities: Tensor


def best_choices(head: AbstractHead, prediction: Tensor, num: int, rules: Rules, before: Tensor, place: int) -> Choices:
    """Return at least `num` of the best tokens, where there are so many; those that may not be taken may be among them.

    Arguments as for `Rules.scores`; `prediction` is `[rows, outputs]`, an InputError where it is NaN or infinity.
    """
    _require_numbers(prediction)
    if not rules.look_back and place >= len(rules.prefix):  # the head finds the best, without a table of all
        forbidden = rules.forbidden_at(place)
        ids, log_p = head.decode(prediction, num + len(forbidden))
        scores = log_p
        for unwanted in forbidden:
            scores = scores.masked_fill(ids == unwanted, -torch.inf)
        return Choices(ids, scores, log_p)
    log_p = head.log_probabilities(prediction)
    scores, ids = rules.scores(log_p, before, place).topk(min(num, log_p.shape[1]), dim=1)
    return Choices(ids, scores, log_p.gather(1, ids))


def all_choices(
    head: AbstractHead, prediction: Tensor, rules: Rules, before: Tensor, place: int
) -> tuple[Tensor, Tensor]:
    """Return what all tokens are compared by, and their log-probabilities, both `[rows, vocabulary]`."""
    _require_numbers(prediction)
    log_p = head.log_probabilities(prediction)
    return rules.scores(log_p, before, place), log_p


def _require_numbers(prediction: Tensor) -> None:
    if not (prediction < torch.inf).all():  # minus infinity is the score of what cannot occur
        raise InputError(f"{NOT_FINITE}.")
