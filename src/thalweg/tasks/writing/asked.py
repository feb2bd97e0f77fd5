"""What a user asks of written texts: how tokens are drawn, which rules hold, which head answers."""

from collections.abc import Sequence

import torch

from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.candidate_decoding import CandidateDecoding
from thalweg.heads.continuous import AbstractContinuous
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


def answering_head(head: AbstractHead, options: AnswerOptions, frequent: int = 512) -> AbstractHead:
    """Return the head that tokens are chosen by: the run's own, or the same with few candidates (`decoding="fast"`)."""
    if options.decoding == "exact":
        return head
    if not isinstance(head, AbstractContinuous):
        raise InputError(
            "--decoding fast is for continuous outputs, whose words can be searched for; this run has a softmax, which "
            "scores all of them at once. Leave it out"
        )
    return CandidateDecoding(head, shortlist=torch.arange(min(frequent, head.targets.num)))
