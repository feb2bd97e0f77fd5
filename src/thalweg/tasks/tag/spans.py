"""Spans in BIO tags (names, slots, chunks): where they are, and how many of them a tagger finds.

The rules are those of `conlleval`, the scorer of the CoNLL shared tasks, so that figures compare with published ones:

- a span starts at `B-X`; at `I-X` after `O`, at the beginning, or after another type (so IOB1 data, and taggers that
  forget a `B-`, are read as they are meant); and at any tag that follows an end;
- it ends before the next start, before `O`, and at the end of the sentence;
- it counts as found only when start, end and type are all right.

The tags `E-X` (end) and `S-X` (single) of the BIOES scheme are read, too, and what other schemes call them: `L-X` and
`U-X` (BILOU), `M-X` for what is inside (BMES), and `W-X` (BMEWO).

Source: Tjong Kim Sang and Buchholz (2000), Introduction to the CoNLL-2000 Shared Task: Chunking.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.certificates.new_texts.resampling import f1, ratio

OUTSIDE = "O"
_BEGINS, _ENDS = "BSUW", "ESLUW"


@final
@dataclasses.dataclass(frozen=True, order=True)
class Span:
    """The words `start` to `end` (not included), and what they are.

    Example:
        >>> Span(0, 2, "person")
        Span(start=0, end=2, type='person')
    """

    start: int
    end: int
    type: str


def split_tag(tag: str) -> tuple[str, str]:
    """Return the letter and the type of a tag: `B-person` -> ("B", "person"), `O` -> ("O", "")."""
    letter, _, kind = tag.partition("-")
    return letter, kind


def is_bio(tags: Sequence[str]) -> bool:
    """Whether tags describe spans: each is `O`, `B-X`, `I-X` (or `E-X`, `S-X` ...), and some are `B-X` or `I-X`."""
    parts = [split_tag(tag) for tag in tags if tag != OUTSIDE]
    letters = {letter for letter, _ in parts}
    # Without types only a "B" tells these letters from others.
    return (
        bool(parts) and letters <= set("BIESLUMW") and ("B" in letters or ("I" in letters and all(k for _, k in parts)))
    )


def spans_of(tags: Sequence[str]) -> list[Span]:
    """Return the spans of one sentence, from left to right.

    Example:
        >>> spans_of(["B-person", "I-person", "O", "I-place"])
        [Span(start=0, end=2, type='person'), Span(start=3, end=4, type='place')]
    """
    spans: list[Span] = []
    start, previous, kind = -1, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        letter, new_kind = split_tag(tag)
        starts = letter != OUTSIDE and (
            letter in _BEGINS or previous == OUTSIDE or previous in _ENDS or new_kind != kind
        )
        if start >= 0 and (letter == OUTSIDE or starts):
            spans.append(Span(start, place, kind))
            start = -1
        if starts:
            start = place
        previous, kind = letter, new_kind
    return spans


@final
class SpanScore(nn.Module):
    """Counts right, predicted and true spans by type, on the device, and gives precision, recall and F1.

    With c right spans (same start, end and type), p predicted and t true ones, precision = c / p, recall = c / t and
    F1 = 2 c / (p + t): over all spans together, and for each type. What has no spans scores 0. The tags, in the order
    of their ids, must fit `is_bio`.
    """

    right: Tensor
    predicted: Tensor
    true: Tensor
    _kinds: Tensor
    _begins: Tensor
    _ends: Tensor

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__()
        parts = [split_tag(tag) for tag in tags]
        self.types = sorted({kind for letter, kind in parts if letter != OUTSIDE})
        for name in ("right", "predicted", "true"):
            self.register_buffer(name, torch.zeros(len(self.types), dtype=torch.long), persistent=False)
        kinds = [-1 if letter == OUTSIDE else self.types.index(kind) for letter, kind in parts]
        self.register_buffer("_kinds", torch.tensor(kinds), persistent=False)
        self.register_buffer("_begins", torch.tensor([letter in _BEGINS for letter, _ in parts]), persistent=False)
        self.register_buffer("_ends", torch.tensor([letter in _ENDS for letter, _ in parts]), persistent=False)

    def update(self, prediction: Tensor, target: Tensor, mask: Tensor) -> None:
        """Take ids of predicted and true tags, int64 `[batch, time]`; the mask is True where a tag is given."""
        right, predicted, true = self.counts(prediction, target, mask).sum(0)
        self.right += right
        self.predicted += predicted
        self.true += true

    def counts(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Return the right, predicted and true spans of each sentence by type, int64 `[batch, 3, types]`."""
        found = self._marks(prediction, mask)
        true = self._marks(target, mask)
        same = found[0] & true[0] & (found[1] == true[1]) & (found[2] == true[2])
        marks = (same, true[1]), (found[0], found[1]), (true[0], true[1])
        return torch.stack([self._by_type(*pair) for pair in marks], 1)

    def compute(self) -> dict[str, float]:
        """Return precision, recall and F1 over all spans, and F1 for each type (when the spans have types)."""
        sums = torch.stack([self.right, self.predicted, self.true]).cpu().double().numpy()
        return {name: float(value[0]) for name, value in self.scores(sums[None]).items()}

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Return what `compute` returns, from sums of `counts`, `[draws, 3, types]`."""
        right, predicted, true = sums.transpose(1, 0, 2)
        whole = [part.sum(1) for part in (right, predicted, true)]
        scores = {
            "span_f1": f1(*whole),
            "span_precision": np.nan_to_num(ratio(whole[0], whole[1])),
            "span_recall": np.nan_to_num(ratio(whole[0], whole[2])),
        }
        by_type = f1(right, predicted, true)
        return scores | {f"span_f1 {kind}": by_type[:, i] for i, kind in enumerate(self.types) if kind}

    def table(self) -> list[list[Any]]:
        """Return a row for each type: type, precision, recall, F1, true spans, predicted spans."""
        right, predicted, true = (counts.tolist() for counts in (self.right, self.predicted, self.true))
        return [
            [kind or "(all)", _ratio(c, p), _ratio(c, t), _ratio(2 * c, p + t), t, p]
            for kind, c, p, t in zip(self.types, right, predicted, true, strict=True)
        ]

    def _marks(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where spans start, the type at each word (-1 outside), and the place before which the span there ends."""
        ids = ids.masked_fill(~mask, 0)  # what is not given is no id
        kinds = self._kinds[ids].masked_fill(~mask, -1)
        inside = kinds >= 0
        starts = torch.ones_like(inside)  # the first word has no word before it
        starts[:, 1:] = (kinds[:, 1:] != kinds[:, :-1]) | self._ends[ids[:, :-1]]
        starts = inside & (starts | self._begins[ids])
        # A span ends at the next place that starts another or is outside: the smallest such place to the right.
        length = ids.shape[1]
        places = torch.arange(1, length + 1, device=ids.device).expand_as(ids)
        last = torch.ones_like(inside)
        last[:, :-1] = starts[:, 1:] | ~inside[:, 1:]
        ends = places.masked_fill(~last, length + 1).flip(1).cummin(1).values.flip(1) if length else places
        return starts, kinds, ends

    def _by_type(self, marks: Tensor, kinds: Tensor) -> Tensor:
        one_hot = kinds.unsqueeze(-1) == torch.arange(len(self.types), device=kinds.device)
        return (one_hot & marks.unsqueeze(-1)).sum(1)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0
