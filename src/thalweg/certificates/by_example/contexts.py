"""What a language model can reach that sees only the last few tokens: a floor for each length of the context."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import final

import numpy as np

from thalweg.certificates.floors.contexts import Level, chunk_levels, prefix_levels
from thalweg.errors import require


@final
@dataclasses.dataclass(frozen=True)
class ContextFloor:
    """The floors of one length of the context, in nats per token.

    Args:
        context: $k$, tokens that are seen, at least 1.
        num_targets: tokens with at least $k$ tokens before them in their chunk.
        floor: no model that sees the last $k$ tokens, and nothing else, has a lower mean loss on these targets.
        accuracy: the largest fraction of these targets that such a model can get right.
        num_exact: tokens with exactly $k$ tokens before them in their chunk.
        exact_floor: no model that sees the tokens before in the chunk has a lower mean loss on those.
    """

    context: int
    num_targets: int
    floor: float
    accuracy: float
    num_exact: int
    exact_floor: float


def context_floors(symbols: np.ndarray, lengths: np.ndarray, contexts: Sequence[int]) -> list[ContextFloor]:
    r"""Return the least mean cross-entropy of models that see only the last $k$ tokens, for several $k$.

    A model that sees the last $k$ tokens and nothing else gives one distribution for each context $c$ of $k$ tokens, so
    that it pays at least

    $$\frac1N \sum_c \sum_s -n_{cs} \ln\frac{n_{cs}}{n_c}$$

    where $n_{cs}$ counts how often the symbol $s$ follows; the table of these frequencies attains it.

    Args:
        symbols: the chunks of a text one after the other, not negative, int `[total]`. The first symbol of a chunk is
            given and not predicted.
        lengths: symbols of each chunk, int `[num_chunks]`.
        contexts: the $k$, at least 1 each, rising; those that no chunk has room for are left out.

    Raises:
        ValueError: for contexts below 1 or not rising, symbols that are negative, or lengths that do not fit.

    Example:
        >>> text = np.array([0, 1, 0, 1, 0, 2])
        >>> [round(one.floor, 4) for one in context_floors(text, np.array([6]), (1, 2))]  # after 0: 1, 1, 2
        [0.3819, 0.3466]

    It bounds no model that sees more: a transformer or a recurrent network may be below it, and then it uses more.
    """
    require(all(a < b for a, b in itertools.pairwise((0, *contexts))), "contexts must be rising from 1", list(contexts))
    lengths = np.asarray(lengths, dtype=np.int64)
    sizes = int(lengths.sum()), len(symbols)
    require(sizes[0] == sizes[1], "context_floors(lengths) must add up to the number of symbols", sizes)
    starts = np.cumsum(lengths) - lengths
    real = lengths > 0
    predicted = np.ones(len(symbols), dtype=bool)
    predicted[starts[real]] = False
    longest = min(contexts[-1], int(lengths.max(initial=1)) - 1) if contexts else 0
    windows = _only(chunk_levels(symbols, lengths, longest), contexts, 0)
    # What is given first counts as one symbol of context.
    exact = _only(prefix_levels(symbols[predicted], lengths[real] - 1, symbols[starts[real]]), contexts, 1)
    found = []
    for k in contexts:
        if k > longest:
            break
        nats, hits = windows[k].nats_and_hits()
        exact_nats = exact[k].nats_and_hits()[0] if k in exact else 0.0
        num, num_exact = windows[k].num_targets, int((lengths > k).sum())
        found.append(ContextFloor(k, num, nats / num, hits / num, num_exact, exact_nats / num_exact))
    return found


def _only(levels: Iterator[Level], contexts: Sequence[int], first: int) -> dict[int, Level]:
    """Return the levels of these contexts; the first one has `first` symbols."""
    wanted = set(contexts)
    numbered = itertools.takewhile(lambda pair: pair[0] <= contexts[-1], enumerate(levels, start=first))
    return {context: level for context, level in numbered if context in wanted} if contexts else {}
