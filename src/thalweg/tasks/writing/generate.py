"""Writing text with a trained model: the most probable token each time, sampled, or by beam search.

A model that writes has `advance(tokens, state) -> (hidden, state)`: one more token of each text, `[batch]`, to hidden
states `[batch, width]`. The state is a tuple of tensors with the batch as dimension 0. From hidden states to tokens the
head's own `decode` leads, so that every family of heads can write, also those that have no logits.

Model and head must be in evaluation mode.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.tasks.questions import NOT_FINITE

State = tuple[Tensor, ...]
CHECK_EVERY = 8  # steps between two looks at a GPU whether all texts have ended; each look waits for it


class Writer(Protocol):
    """A model that can read and write token by token."""

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token of each text; return hidden states `[batch, width]` and the new state."""
        ...


class TextWriter(Writer, Protocol):
    """A model that can begin with nothing."""

    def start(self, batch_size: int) -> State:
        """Return the state before the first token."""
        ...


@final
@dataclasses.dataclass(frozen=True)
class Sampling:
    r"""How a token is drawn: from $p_i^{1/T} / \sum_j p_j^{1/T}$, among the most probable ones.

    Args:
        temperature: T, at least 0; 0 takes the most probable token, 1 draws from the model's own distribution.
        top_p: in (0, 1]: only the fewest tokens whose probabilities (after the temperature) reach this sum.
        num_candidates: only so many of the most probable tokens, at least 1; a head need not rank more than these.
        forbidden: ids that are never taken.

    Raises:
        ValueError: for a number out of its range.

    Source of `top_p`: Holtzman, Buys, Du, Forbes, Choi (2020), The Curious Case of Neural Text Degeneration.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    num_candidates: int = 1024
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"Sampling(temperature=...) must be zero or positive; got {self.temperature!r}.")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"Sampling(top_p=...) must lie in (0, 1]; got {self.top_p!r}.")
        if self.num_candidates < 1:
            raise ValueError(f"Sampling(num_candidates=...) must be at least 1; got {self.num_candidates!r}.")

    def pick(self, head: AbstractHead, prediction: Tensor, uniform: Tensor) -> Tensor:
        """Return an id for each prediction of the next token, `[batch, outputs]`.

        Equal numbers `uniform` in [0, 1), `[batch]`, draw equal tokens.
        """
        num = 1 if self.temperature == 0.0 else self.num_candidates
        ids, scores = ranked(head, prediction, num, self.forbidden)
        if self.temperature == 0.0:
            return ids.gather(-1, scores.argmax(-1, keepdim=True)).squeeze(-1)
        probabilities = torch.softmax(scores / self.temperature, -1)
        if self.top_p < 1.0:
            # Candidates come best first; one is kept as long as those before it have not reached the sum.
            probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
            ids = ids.gather(-1, order)
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self.top_p, 0.0)
        heights = probabilities.double().cumsum(-1)
        place = (heights <= uniform.to(heights).unsqueeze(-1) * heights[:, -1:]).sum(-1, keepdim=True)
        return ids.gather(-1, place.clamp_(max=ids.shape[-1] - 1)).squeeze(-1)


def ranked(head: AbstractHead, prediction: Tensor, num: int, forbidden: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Return at least `num` of the best ids (where there are so many) and their log-probabilities, `[batch, ...]`.

    Forbidden ids may be among them, with the log-probability minus infinity. Predictions that are NaN or
    infinity rank nothing: they are an InputError.
    """
    if not (prediction < torch.inf).all():  # minus infinity is the score of what cannot occur
        raise InputError(f"{NOT_FINITE}.")
    ids, scores = head.decode(prediction, num + len(forbidden))
    for unwanted in forbidden:
        scores = scores.masked_fill(ids == unwanted, -torch.inf)
    return ids, scores


@torch.inference_mode()
def continue_texts(
    model: TextWriter,
    head: AbstractHead,
    prompts: Sequence[Sequence[int]],
    *,
    length: int,
    window: int,
    sampling: Sampling,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
) -> list[list[int]]:
    """Write on from some prompts, all at once.

    What is written after a prompt depends on that prompt and its seed, not on the others (up to the rounding of batched
    products).

    Args:
        model: reads and writes.
        head: ranks the tokens.
        prompts: token ids, each with at least one.
        length: tokens to write.
        window: most tokens the model sees at once, at least 1; when they are full, the last half of them is read again.
        sampling: how a token is drawn.
        seeds: for each prompt the seed of its random numbers.
        device: where the model is.

    Returns:
        For each prompt the ids written, `length` of them.

    Raises:
        ValueError: for a prompt without a token, or a number out of its range.
    """
    if length < 0 or window < 1:
        raise ValueError(f"continue_texts needs length >= 0 and window >= 1; got {length!r} and {window!r}.")
    if not all(prompts) or len(seeds) != len(prompts):
        raise ValueError("continue_texts needs at least one token and one seed for each prompt.")
    if not prompts or length == 0:
        return [[] for _ in prompts]
    given = [list(prompt[-window:]) for prompt in prompts]
    longest, shortest = max(map(len, given)), min(map(len, given))
    padded = [prompt + [0] * (longest + length - len(prompt)) for prompt in given]
    tokens = torch.tensor(padded, dtype=torch.long).to(device)
    lengths = torch.tensor([len(prompt) for prompt in given]).to(device)
    uniform = torch.stack([torch.rand(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    uniform = uniform.to(device)

    state, num_seen = model.start(len(given)), 0
    for place in range(longest + length - 1):
        if num_seen == window:
            state, num_seen = model.start(len(given)), 0
            for earlier in range(place - window // 2, place):
                _, state = model.advance(tokens[:, earlier], state)
                num_seen += 1
        hidden, state = model.advance(tokens[:, place], state)
        num_seen += 1
        if place + 1 >= shortest:
            num_drawn = (place + 1 - lengths).clamp(0, length - 1)
            drawn = sampling.pick(head, head(hidden), uniform.gather(1, num_drawn.unsqueeze(1)).squeeze(1))
            tokens[:, place + 1] = torch.where(place + 1 < lengths, tokens[:, place + 1], drawn)
    rows = tokens.tolist()
    return [row[len(prompt) : len(prompt) + length] for row, prompt in zip(rows, given, strict=True)]


@torch.inference_mode()
def greedy(
    model: Writer, head: AbstractHead, state: State, *, first: int, end: int, length: int, forbidden: Sequence[int] = ()
) -> Tensor:
    """Write the most probable token each time, until every text has ended.

    Args:
        model: writes.
        head: ranks the tokens.
        state: what the model has read.
        first: the id that each text begins with (it is not returned).
        end: the id that ends a text.
        length: most tokens to write, at least 1, the end included.
        forbidden: ids that are never taken.

    Returns:
        Ids `[batch, at most length]`, zeros after the end.
    """
    _check_length(length)
    batch, device = len(state[0]), state[0].device
    tokens = torch.full((batch,), first, dtype=torch.long, device=device)
    ended = torch.zeros(batch, dtype=torch.bool, device=device)
    written: list[Tensor] = []
    sampling, unused = Sampling(0.0, forbidden=tuple(forbidden)), torch.zeros(batch, device=device)
    for step in range(length):
        hidden, state = model.advance(tokens, state)
        tokens = sampling.pick(head, head(hidden), unused).masked_fill(ended, 0)
        written.append(tokens)
        ended = ended | (tokens == end)
        if _is_time_to_look(step, device) and bool(ended.all()):
            break
    return torch.stack(written, 1)


@final
@dataclasses.dataclass(frozen=True)
class Hypotheses:
    """The texts that a beam search has found, best first."""

    tokens: Tensor  # ids [batch, width, length]; the end is included, zeros follow
    scores: Tensor  # log-probability / length ** length_power, [batch, width]; minus infinity where fewer were found


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
    forbidden: Sequence[int] = (),
) -> Hypotheses:
    r"""Write while keeping the `width` most probable beginnings of each text.

    A text of n tokens (its end included) with probability p has the score $\log p / n^a$ with a = `length_power`. An
    end counts when it is among the best `width` of all continuations. A text's search is over when it has `width`
    ended texts and the best unended one, scored at its present length, is no better than the last of them. Texts that
    have not ended after `length` tokens compete as they are.

    Args:
        model: writes.
        head: ranks the tokens.
        state: what the model has read; the batch is dimension 0 of every tensor.
        width: beginnings kept of each text, at least 1; 1 gives what `greedy` gives.
        first: the id that each text begins with (it is not returned).
        end: the id that ends a text.
        length: most tokens to write, at least 1, the end included.
        length_power: a >= 0; 0 compares log-probabilities as they are, which favors short texts.
        forbidden: ids that are never taken.

    Raises:
        ValueError: for a number out of its range.

    Source: Graves (2012), Sequence Transduction with Recurrent Neural Networks (beam search); Cho, van Merrienboer,
    Bahdanau, Bengio (2014), On the Properties of Neural Machine Translation (division by the length).
    """
    _check_length(length)
    if width < 1 or not length_power >= 0.0:
        raise ValueError(f"beam_search needs width >= 1 and length_power >= 0; got {width!r} and {length_power!r}.")
    batch, device = len(state[0]), state[0].device
    rows = torch.arange(batch, device=device)
    state = tuple(part.index_select(0, rows.repeat_interleave(width)) for part in state)
    tokens = torch.full((batch * width,), first, dtype=torch.long, device=device)
    written = torch.zeros(batch, width, 0, dtype=torch.long, device=device)
    scores = torch.full((batch, width), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all beginnings are the same at first, so one of them stands for all
    ended = Hypotheses(
        torch.zeros(batch, width, 0, dtype=torch.long, device=device),
        torch.full((batch, width), -torch.inf, device=device),
    )
    is_over = torch.zeros(batch, 1, dtype=torch.bool, device=device)
    for step in range(length):
        hidden, state = model.advance(tokens, state)
        ids, gains = ranked(head, head(hidden), width + 1, forbidden)
        num_ways = ids.shape[-1]
        totals = (scores.unsqueeze(-1) + gains.to(scores.dtype).view(batch, width, num_ways)).flatten(1)
        # Of 2 * width ways at most width end (one of each beginning), so enough are left to continue.
        best, places = totals.topk(min(2 * width, totals.shape[1]), dim=1)
        parents = places // num_ways
        chosen = ids.view(batch, -1).gather(1, places)
        longer = torch.cat([_take(written, parents), chosen.unsqueeze(-1)], -1)
        is_end = chosen == end
        normalizer = float(step + 1) ** length_power
        counts = is_end & ~is_over
        counts[:, width:] = False
        ended = _merge(ended, longer, (best / normalizer).masked_fill(~counts, -torch.inf), width)
        # Those that continue: the best that have not ended.
        scores, kept = best.masked_fill(is_end, -torch.inf).topk(min(width, best.shape[1]), dim=1)
        if kept.shape[1] < width:  # fewer ways than beginnings wanted, in a tiny vocabulary
            missing = width - kept.shape[1]
            scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
            kept = torch.nn.functional.pad(kept, (0, missing))
        written, parents, tokens = _take(longer, kept), parents.gather(1, kept), chosen.gather(1, kept).flatten()
        state = tuple(part.index_select(0, (parents + rows.unsqueeze(1) * width).flatten()) for part in state)
        is_over = is_over | (ended.scores[:, -1:] >= scores[:, :1] / normalizer)
        if _is_time_to_look(step, device) and bool(is_over.all()):
            return ended
    return _merge(ended, written, (scores / float(length) ** length_power).masked_fill(is_over, -torch.inf), width)


def _merge(ended: Hypotheses, tokens: Tensor, scores: Tensor, width: int) -> Hypotheses:
    """Return the `width` best of the ended texts and new ones."""
    padding = tokens.shape[-1] - ended.tokens.shape[-1]
    earlier = torch.nn.functional.pad(ended.tokens, (0, padding))
    best, places = torch.cat([ended.scores, scores], 1).topk(width, dim=1)
    return Hypotheses(_take(torch.cat([earlier, tokens], 1), places), best)


def _take(texts: Tensor, places: Tensor) -> Tensor:
    """Return `texts[b, places[b, i]]` for `[batch, number, length]` and `[batch, i]`."""
    return texts.gather(1, places.unsqueeze(-1).expand(-1, -1, texts.shape[-1]))


def _is_time_to_look(step: int, device: torch.device) -> bool:
    return device.type == "cpu" or (step + 1) % CHECK_EVERY == 0


def _check_length(length: int) -> None:
    if length < 1:
        raise ValueError(f"The length of what is to be written must be at least 1; got {length!r}.")
