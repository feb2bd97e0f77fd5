"""How probable given texts are: each token under the model, given those before it."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.tasks.answering import figure
from thalweg.tasks.writing.token_sums import perplexity

SCORED_TOGETHER: Final = 8192  # tokens, padding included
KEYS: Final = ("log_probability", "score", "perplexity", "tokens", "log_probabilities")
"""What is told of a text: the sum, the mean over tokens, and each token."""


def batches_by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the places of texts in batches of about equal length, the shortest first."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > SCORED_TOGETHER:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def windows(num_tokens: int, window: int) -> Iterator[tuple[int, int, int]]:
    """Yield begin, end and the first new place of what a model reads of a long text, as `continue_texts` reads it.

    Example:
        >>> list(windows(5, 8)), list(windows(12, 4))
        ([(0, 5, 0)], [(0, 4, 0), (2, 6, 4), (4, 8, 6), (6, 10, 8), (8, 12, 10)])
    """
    begin = new = 0
    while new < num_tokens:
        end = min(begin + window, num_tokens)
        yield begin, end, new
        begin, new = end - window // 2, end


def told(
    tokenizer: AnyTokenizer, ids: Iterable[int], gains: Sequence[float], length_power: float = 1.0
) -> dict[str, Any]:
    """Return what is told of a text: the score (log-probability over length to a power), its parts, and the tokens."""
    total, num = math.fsum(gains), len(gains)
    return {
        "score": total / max(num, 1) ** length_power,
        "log_probability": total,
        "tokens": [tokenizer.token(index) for index in ids],
        "log_probabilities": list(gains),
    }


def measured(tokenizer: AnyTokenizer, ids: Iterable[int], gains: Sequence[float]) -> dict[str, Any]:
    """Return what is told of a given text, its perplexity as well."""
    found = told(tokenizer, ids, gains)
    found["perplexity"] = float(perplexity(-found["score"]))
    return {key: found[key] for key in KEYS}


def score_line(answer: Mapping[str, Any]) -> str:
    """Return the figures of a given text as one line.

    Example:
        >>> score_line({"log_probability": -6.0, "score": -2.0, "perplexity": 7.389, "tokens": ["a", "b", "c"]})
        'log-probability -6  mean -2  perplexity 7.389  tokens 3'
    """
    names = (("log_probability", "log-probability"), ("score", "mean"), ("perplexity", "perplexity"))
    return "  ".join([*(f"{word} {figure(answer[key])}" for key, word in names), f"tokens {len(answer['tokens'])}"])
