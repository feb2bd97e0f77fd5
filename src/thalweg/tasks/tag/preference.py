"""How ready a tagger is to see spans: what the score of "O" is lowered by, chosen on validation sentences.

Where most words are outside of spans and spans are hard to see, the most probable tags miss many of them, and the F1 of
spans is better with a few more. The probabilities stay as they are.

Source: Minkov, Wang, Tomasic and Cohen (2006), NER Systems that Suit User's Preferences: Adjusting the Recall-Precision
Trade-off for Entity Extraction.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering
from thalweg.tasks.tag.inputs import words_mask
from thalweg.tasks.tag.spans import OUTSIDE, SpanScore

AMOUNTS: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
MIN_SPANS: Final = 50  # with fewer, what is best is mostly luck


def choose_preference(tags: Sequence[str], model: nn.Module, head: AbstractHead, batches: Iterable[Batch]) -> bool:
    """Lower the score of "O" by what gives the best F1 of spans; return whether anything changed."""
    if OUTSIDE not in tags or not head.prefer(torch.zeros(len(tags))):
        return False
    outside = tags.index(OUTSIDE)
    scores = [SpanScore(tags) for _ in AMOUNTS]
    offsets: list[Tensor] = []
    for amount in AMOUNTS:
        offset = torch.zeros(len(tags))
        offset[outside] = -amount
        offsets.append(offset)
    with answering(model, head) as parameter:
        for batch in batches:
            here = batch.to(parameter.device, parameter.dtype)
            assert here.mask is not None
            prediction = head(model(**here.inputs))
            for offset, score in zip(offsets, scores, strict=True):
                head.prefer(offset)
                score.to(prediction.device).update(head.best_ids(prediction, words_mask(here)), here.targets, here.mask)
        found = [score.compute()["span_f1"] for score in scores]
        enough = int(scores[0].true.sum()) >= MIN_SPANS
        best = max(range(len(found)), key=lambda i: (found[i], -i)) if enough else 0
        head.prefer(offsets[best])
    return best > 0
