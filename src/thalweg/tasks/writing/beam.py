"""Writing texts that end: the most probable token each time, drawn tokens, or beam search.

A model that writes has `advance(tokens, state) -> (hidden, state)`: one more token of each text, `[batch]`, to hidden
states `[batch, width]`. The state is a tuple of tensors with the batch as dimension 0. From hidden states to tokens the
head leads, so that every family of heads can write, also those that have no logits.

Model and head must be in evaluation mode.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from thalweg.heads.base import AbstractHead
from thalweg.tasks.writing.rules import Rules, best_choices
from thalweg.tasks.writing.sampling import Sampling, uniform_numbers

State = tuple[Tensor, ...]
CHECK_EVERY = 8  # steps between two looks at a GPU whether all texts have ended; each look waits for it


class Writer(Protocol):
    """A model that can read and write token by token."""

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token of each text; return hidden states `[batch, width]` and the new state."""
        ...


@final
@dataclasses.dataclass(frozen=True)
class Hypotheses:
    r"""Texts that were written, those of a beam search best first.

    Args:
        tokens: ids `[batch, width, length]`; the end is included, zeros follow.
        log_probabilities: of each token in the model, given those before, `[batch, width, length]`; zeros follow. They
            are the model's own, whatever rules have held.
        scores: $\log p / n^a$, their sum over a power of the number of tokens, the end included, `[batch, width]`;
            minus infinity where fewer texts were found.
    """

    tokens: Tensor
    log_probabilities: Tensor
    scores: Tensor


def greedy(
    model: Writer,
    head: AbstractHead,
    state: State,
    *,
    first: int,
    end: int,
    length: int,
    length_power: float = 1.0,
    rules: Rules | None = None,
) -> Hypotheses:
    """Write the most probable token each time, until every text has ended; arguments as for `beam_search`."""
    sampling, seeds = Sampling(0.0), [[0]] * len(state[0])
    return sampled(
        model, head, state, first=first, end=end, length=length, length_power=length_power, rules=rules,
        sampling=sampling, seeds=seeds,
    )  # fmt: skip


@torch.inference_mode()
def sampled(
    model: Writer,
    head: AbstractHead,
    state: State,
    *,
    first: int,
    end: int,
    length: int,
    sampling: Sampling,
    seeds: Sequence[Sequence[int]],
    length_power: float = 1.0,
    rules: Rules | None = None,
) -> Hypotheses:
    """Draw texts token by token, until all have ended.

    Args:
        model: writes.
        head: gives the probabilities.
        state: what the model has read; the batch is dimension 0 of every tensor.
        first: the id that each text begins with (it is not returned).
        end: the id that ends a text.
        length: most tokens to write, at least 1, the end included.
        sampling: how a token is drawn.
        seeds: for each of the batch the seeds of its texts, as many for each.
        length_power: see `beam_search`.
        rules: what the texts must be like.

    Returns:
        `width` is the number of seeds of each; the texts are in the order of their seeds.

    Raises:
        ValueError: for a number out of its range.
    """
    _check_length(length, length_power)
    batch, device = len(state[0]), state[0].device
    width = len(seeds[0]) if seeds else 1
    if len(seeds) != batch or any(len(some) != width or not some for some in seeds):
        raise ValueError("sampled(seeds=...) must have as many seeds for each of the batch, at least one.")
    rules = rules_with(rules, end)
    rows = torch.arange(batch, device=device).repeat_interleave(width)
    state = tuple(part.index_select(0, rows) for part in state)
    tokens = torch.full((len(rows),), first, dtype=torch.long, device=device)
    streams = [seed for some in seeds for seed in some]
    uniform = uniform_numbers(streams, length) if sampling.temperature else torch.zeros(len(rows), length)
    uniform = uniform.to(device)
    ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
    written: list[Tensor] = []
    gains: list[Tensor] = []
    for step in range(length):
        hidden, state = model.advance(tokens, state)
        before = torch.stack(written, 1) if written and rules.look_back else tokens[:, None][:, :0]
        tokens, gain = sampling.pick(head, head(hidden), uniform[:, step], rules, before, step)
        written.append(tokens.masked_fill(ended, 0))
        gains.append(gain.masked_fill(ended, 0.0))
        tokens = written[-1]
        ended = ended | (tokens == end)
        if _is_time_to_look(step, device) and bool(ended.all()):
            break
    ids, log_p = torch.stack(written, 1), torch.stack(gains, 1)
    num = _lengths(ids, end).clamp(min=1)
    scores = log_p.sum(1) / num.to(log_p.dtype) ** length_power
    shape = (batch, width, ids.shape[1])
    return Hypotheses(ids.view(shape), log_p.view(shape), scores.view(batch, width))


@torch.inference_mode()
def beam_search(
    model: Writer,
    head: AbstractHead,
    state: State,
    *,
    width: int,
    first: int,
    end: int,
    length: int,
    length_power: float = 1.0,
    rules: Rules | None = None,
) -> Hypotheses:
    r"""Write while keeping the `width` most probable beginnings of each text.

    A text of n tokens (its end included) with probability p has the score $\log p / n^a$ with a = `length_power`. An
    end counts when it is among the best `width` of all continuations. A text's search is over when it has `width`
    ended texts and the best unended one, scored at its present length, is no better than the last of them. Texts that
    have not ended after `length` tokens compete as they are. With a penalty of repetitions, texts are found and ordered
    by the penalized sums; the scores returned are those of the model's probabilities all the same.

    Args:
        model: writes.
        head: ranks the tokens.
        state: what the model has read; the batch is dimension 0 of every tensor.
        width: beginnings kept of each text, at least 1; 1 gives what `greedy` gives.
        first: the id that each text begins with (it is not returned).
        end: the id that ends a text.
        length: most tokens to write, at least 1, the end included.
        length_power: a >= 0; 0 compares log-probabilities as they are, which favors short texts.
        rules: what the texts must be like.

    Raises:
        ValueError: for a number out of its range.

    Source: Graves (2012), Sequence Transduction with Recurrent Neural Networks (beam search); Cho, van Merrienboer,
    Bahdanau, Bengio (2014), On the Properties of Neural Machine Translation (division by the length).
    """
    _check_length(length, length_power)
    if width < 1:
        raise ValueError(f"beam_search needs width >= 1; got {width!r}.")
    rules = rules_with(rules, end)
    batch, device = len(state[0]), state[0].device
    rows = torch.arange(batch, device=device)
    state = tuple(part.index_select(0, rows.repeat_interleave(width)) for part in state)
    tokens = torch.full((batch * width,), first, dtype=torch.long, device=device)
    live = _nothing(batch, width, device)
    live.totals[:, 0] = 0.0  # all beginnings are the same at first, so one of them stands for all
    ended = _nothing(batch, width, device)
    is_over = torch.zeros(batch, 1, dtype=torch.bool, device=device)
    for step in range(length):
        hidden, state = model.advance(tokens, state)
        found = best_choices(head, head(hidden), width + 1, rules, live.tokens.view(batch * width, step), step)
        num_ways = found.ids.shape[-1]
        # Of 2 * width ways at most width end (one of each beginning), so enough are left to continue.
        more = found.scores.to(live.totals.dtype).view(batch, width, num_ways)
        totals = (live.totals.unsqueeze(-1) + more).flatten(1)
        best, places = totals.topk(min(2 * width, totals.shape[1]), dim=1)
        parents = places // num_ways
        chosen = found.ids.view(batch, -1).gather(1, places)
        gains = found.log_probabilities.to(live.gains.dtype).view(batch, -1).gather(1, places)
        longer = live.taken(parents).followed_by(chosen, gains, best)
        is_end = chosen == end
        normalizer = float(step + 1) ** length_power
        counts = is_end & ~is_over
        counts[:, width:] = False
        ended = ended.merged(longer.scored((best / normalizer).masked_fill(~counts, -torch.inf)), width)
        # Those that continue: the best that have not ended.
        scores, kept = best.masked_fill(is_end, -torch.inf).topk(min(width, best.shape[1]), dim=1)
        if kept.shape[1] < width:  # fewer ways than beginnings wanted, in a tiny vocabulary
            missing = width - kept.shape[1]
            scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
            kept = torch.nn.functional.pad(kept, (0, missing))
        live = longer.taken(kept).scored(scores)
        parents, tokens = parents.gather(1, kept), chosen.gather(1, kept).flatten()
        state = tuple(part.index_select(0, (parents + rows.unsqueeze(1) * width).flatten()) for part in state)
        is_over = is_over | (ended.totals[:, -1:] >= scores[:, :1] / normalizer)
        if _is_time_to_look(step, device) and bool(is_over.all()):
            return ended.hypotheses(end, length_power)
    last = live.scored((live.totals / float(length) ** length_power).masked_fill(is_over, -torch.inf))
    return ended.merged(last, width).hypotheses(end, length_power)


@final
@dataclasses.dataclass(frozen=True)
class _Texts:
    """Some texts of each of a batch: ids and log-probabilities `[batch, number, length]`, what ranks them."""

    tokens: Tensor
    gains: Tensor
    totals: Tensor

    def scored(self, totals: Tensor) -> "_Texts":
        return dataclasses.replace(self, totals=totals)

    def taken(self, places: Tensor) -> "_Texts":
        """Return those at some places, `[batch, i]`."""
        wide = places.unsqueeze(-1).expand(-1, -1, self.tokens.shape[-1])
        return _Texts(self.tokens.gather(1, wide), self.gains.gather(1, wide), self.totals.gather(1, places))

    def followed_by(self, tokens: Tensor, gains: Tensor, totals: Tensor) -> "_Texts":
        """Return the texts with one more token each."""
        longer = torch.cat([self.tokens, tokens.unsqueeze(-1)], -1), torch.cat([self.gains, gains.unsqueeze(-1)], -1)
        return _Texts(*longer, totals)

    def merged(self, others: "_Texts", number: int) -> "_Texts":
        """Return the best of these and of others that are no shorter."""
        padding = (0, others.tokens.shape[-1] - self.tokens.shape[-1])
        tokens, gains = (torch.nn.functional.pad(part, padding) for part in (self.tokens, self.gains))
        both = [torch.cat(pair, 1) for pair in ((tokens, others.tokens), (gains, others.gains))]
        totals, places = torch.cat([self.totals, others.totals], 1).topk(number, dim=1)
        return _Texts(both[0], both[1], totals.new_zeros(both[0].shape[:2])).taken(places).scored(totals)

    def hypotheses(self, end: int, length_power: float) -> Hypotheses:
        num = _lengths(self.tokens, end).clamp(min=1).to(self.gains.dtype)
        scores = (self.gains.sum(-1) / num**length_power).masked_fill(self.totals == -torch.inf, -torch.inf)
        return Hypotheses(self.tokens, self.gains, scores)


def _nothing(batch: int, width: int, device: torch.device) -> _Texts:
    nothing = torch.zeros(batch, width, 0, device=device)
    return _Texts(nothing.long(), nothing, torch.full((batch, width), -torch.inf, device=device))


def _lengths(tokens: Tensor, end: int) -> Tensor:
    """Return the number of tokens of each text, its end included; `tokens` is `[..., length]`."""
    is_end = tokens == end
    size = torch.full_like(tokens[..., 0], tokens.shape[-1])
    return torch.where(is_end.any(-1), is_end.int().argmax(-1) + 1, size)


def rules_with(rules: Rules | None, end: int) -> Rules:
    """Return rules that know the id which ends a text."""
    return dataclasses.replace(rules or Rules(), end=end)


def _is_time_to_look(step: int, device: torch.device) -> bool:
    return device.type == "cpu" or (step + 1) % CHECK_EVERY == 0


def _check_length(length: int, length_power: float) -> None:
    if length < 1:
        raise ValueError(f"The length of what is to be written must be at least 1; got {length!r}.")
    if not length_power >= 0.0:
        raise ValueError(f"The power of the length must be zero or positive; got {length_power!r}.")
