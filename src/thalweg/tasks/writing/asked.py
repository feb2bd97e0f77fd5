"""What a user asks of written texts: how tokens are drawn, and which rules hold."""

from collections.abc import Sequence

from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.writing.rules import Rules
from thalweg.tasks.writing.sampling import Sampling


def sampling_of(options: AnswerOptions, usual: float) -> Sampling:
    """Return how tokens are drawn; `usual` is the temperature where none is asked for."""
    heat = usual if options.temperature is None else options.temperature
    return Sampling(heat, options.top_p, options.top_k)


def rules_of(
    options: AnswerOptions, forbidden: Sequence[int], prefix: Sequence[tuple[int, ...]] = (), min_length: int = 0
) -> Rules:
    """Return the rules that hold, beside ids that are never written and those of a prefix."""
    return Rules(
        tuple(forbidden), options.repetition_penalty, options.no_repeat, min_length=min_length, prefix=tuple(prefix)
    )
