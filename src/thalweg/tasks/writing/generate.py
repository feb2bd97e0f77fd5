"""Writing on from prompts, which have no end: token by token, with a window on what was read."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from thalweg.heads.base import AbstractHead
from thalweg.tasks.writing.beam import State, Writer
from thalweg.tasks.writing.rules import Rules
from thalweg.tasks.writing.sampling import Sampling, uniform_numbers


class TextWriter(Writer, Protocol):
    """A model that can begin with nothing."""

    def start(self, batch_size: int) -> State:
        """Return the state before the first token."""
        ...


@final
@dataclasses.dataclass
class Continuation:
    """What was written after a prompt: ids, and the log-probability of each in the model, whatever rules held."""

    tokens: list[int] = dataclasses.field(default_factory=list)
    log_probabilities: list[float] = dataclasses.field(default_factory=list)

    def extend(self, token: int, log_probability: float) -> None:
        """Add one token."""
        self.tokens.append(token)
        self.log_probabilities.append(log_probability)


def continue_texts(
    model: TextWriter,
    head: AbstractHead,
    prompts: Sequence[Sequence[int]],
    *,
    length: int,
    window: int,
    sampling: Sampling,
    seeds: Sequence[int],
    rules: Rules | None = None,
    is_over: Callable[[int, list[int]], bool] | None = None,
    device: torch.device | str = "cpu",
) -> list[Continuation]:
    """Write on from some prompts, all at once.

    What is written after a prompt depends on that prompt and its seed, not on the others (up to the rounding of batched
    products).

    Args:
        model: reads and writes.
        head: gives the probabilities.
        prompts: token ids, each with at least one.
        length: tokens to write.
        window: most tokens the model sees at once, at least 1; when they are full, the last half of them is read again.
            Of a longer prompt the last tokens are read.
        sampling: how a token is drawn.
        seeds: for each prompt the seed of its random numbers.
        rules: what the texts must be like.
        is_over: whether a text, by its number, ends with the ids written so far; None: none does before `length`.
        device: where the model is.

    Returns:
        For each prompt what was written, `length` tokens or those until it was over.

    Raises:
        ValueError: for a prompt without a token, or a number out of its range.
    """
    found = [Continuation() for _ in prompts]
    ended = [length == 0] * len(prompts)
    steps = written_tokens(
        model, head, prompts, length=length, window=window, sampling=sampling, seeds=seeds, rules=rules, device=device
    )
    # A GPU is waited for once, or at each step where somebody looks at what it writes.
    for block in [list(steps)] if is_over is None else ([step] for step in steps):
        parts = zip(*block, strict=True)
        for drawn, ids, gains in zip(*(torch.stack(part).tolist() for part in parts), strict=True):
            for row, one in enumerate(found):
                if drawn[row] and not ended[row]:
                    one.extend(ids[row], gains[row])
                    ended[row] = len(one.tokens) == length or (is_over is not None and is_over(row, one.tokens))
        if all(ended):
            break
    return found


@torch.inference_mode()
def written_tokens(
    model: TextWriter,
    head: AbstractHead,
    prompts: Sequence[Sequence[int]],
    *,
    length: int,
    window: int,
    sampling: Sampling,
    seeds: Sequence[int],
    rules: Rules | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield, step by step, which texts got a token, which one, and its log-probability, each `[prompts]`.

    Arguments as for `continue_texts`. A text may get more than `length` tokens while others are still short of them.
    """
    if length < 0 or window < 1:
        raise ValueError(f"continue_texts needs length >= 0 and window >= 1; got {length!r} and {window!r}.")
    if not all(prompts) or len(seeds) != len(prompts):
        raise ValueError("continue_texts needs at least one token and one seed for each prompt.")
    if not prompts or length == 0:
        return
    rules = rules or Rules()
    given = [list(prompt[-window:]) for prompt in prompts]
    longest, shortest = max(map(len, given)), min(map(len, given))
    padded = [prompt + [0] * (longest + length - len(prompt)) for prompt in given]
    tokens = torch.tensor(padded, dtype=torch.long).to(device)
    lengths = torch.tensor([len(prompt) for prompt in given]).to(device)
    uniform = uniform_numbers(seeds, length if sampling.temperature else 1).to(device)

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
            num_drawn = (place + 1 - lengths).clamp(0, uniform.shape[1] - 1)
            own = uniform.gather(1, num_drawn.unsqueeze(1)).squeeze(1)
            ids, log_p = sampling.pick(head, head(hidden), own, rules, tokens[:, : place + 1], place)
            is_drawn = place + 1 >= lengths
            tokens[:, place + 1] = torch.where(is_drawn, ids, tokens[:, place + 1])
            yield is_drawn, ids, log_p
