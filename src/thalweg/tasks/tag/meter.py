"""The figures of a tagger: accuracy and macro F1 over words, and precision, recall and F1 of spans."""

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Samples, f1, of_sums
from thalweg.heads.base import AbstractHead
from thalweg.tasks.base import AbstractMeter
from thalweg.tasks.by_class import averages, by_class, counts_by_class, macro_f1
from thalweg.tasks.tag.inputs import words_mask
from thalweg.tasks.tag.spans import SpanScore, is_bio


@final
class TagMeter(AbstractMeter):
    """Accuracy and macro F1 over words; with BIO tags also precision, recall and F1 of spans."""

    def __init__(self, tags: Sequence[str]) -> None:  # in the order of their ids
        self.num_tags = len(tags)
        self._tags = tuple(tags)
        self.spans = SpanScore(tags) if is_bio(tags) else None
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._spans: list[Tensor] = []
        self._head: AbstractHead | None = None

    @override
    def use(self, head: AbstractHead) -> None:
        self._head = head

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        target, mask = batch.targets, batch.mask
        assert mask is not None
        guess = prediction.argmax(-1) if self._head is None else self._head.best_ids(prediction, words_mask(batch))
        if self.spans is not None:
            self.spans.to(guess.device)
            self.spans.update(guess, target, mask)
            self._spans.append(self.spans.counts(guess, target, mask))
        # Padding is marked and left out at the end: to leave it out here would mean to wait for the device.
        self._parts.append((guess.to(torch.int32), target.masked_fill(~mask, -1).to(torch.int32)))

    @override
    def join(self, everyones: Callable[[Tensor], Tensor]) -> None:
        width = int(distributed.most([max(float(guess.shape[1]) for guess, _ in self._parts)])[0])
        guess, target = (
            torch.cat([F.pad(part, (0, width - part.shape[1]), value=-1) for part in parts])
            for parts in zip(*self._parts, strict=True)
        )
        self._parts = [(everyones(guess), everyones(target))]
        if self.spans is not None:
            self._spans = [everyones(torch.cat(self._spans))]
            self.spans.right, self.spans.predicted, self.spans.true = self._spans[0].sum(0)

    @override
    def compute(self) -> dict[str, float]:
        guess, target = self._words()
        macro = macro_f1(*counts_by_class(guess, target, self.num_tags))
        metrics = {"accuracy": float((guess == target).mean()), "macro_f1": macro}
        return metrics if self.spans is None else metrics | self.spans.compute()

    def _words(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what each word is given, and its tag."""
        both = (torch.cat([t.flatten() for t in parts]).cpu().numpy() for parts in zip(*self._parts, strict=True))
        guess, target = both
        return guess[target >= 0], target[target >= 0]

    @override
    def details(self) -> dict[str, Any]:
        """Return precision, recall and F1 of each tag over words, their averages, and those of each type of span."""
        rows = by_class("tag", self._tags, *counts_by_class(*self._words(), self.num_tags))
        found = {"tags": rows, "averages": averages(rows)}
        if self.spans is not None:
            spans = self.spans.right, self.spans.predicted, self.spans.true
            found["spans"] = by_class("type", self.spans.types, *(counts.cpu().numpy() for counts in spans))
        return found

    @override
    def samples(self) -> Samples:
        """Return what each sentence adds: right, given and true words by tag, and spans by type."""
        rows, num_tags = [], self.num_tags
        for guess, target in self._parts:
            real = (target >= 0).cpu().numpy()
            sentences, g, t = np.nonzero(real)[0], guess.cpu().numpy()[real], target.cpu().numpy()[real]
            keys = (t[g == t], sentences[g == t]), (g, sentences), (t, sentences)
            flat = [np.bincount(s * num_tags + tags, minlength=len(real) * num_tags) for tags, s in keys]
            rows.append(np.stack([counts.reshape(-1, num_tags) for counts in flat], 1).astype(np.float32))
        words = np.concatenate(rows)
        sums = words.reshape(len(words), -1)
        if self.spans is not None:
            spans = torch.cat(self._spans).cpu().numpy().astype(np.float32)
            sums = np.concatenate([sums, spans.reshape(len(spans), -1)], 1)
        most = words[:, 2].sum(0)

        def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
            right, given, true = sums[:, : 3 * num_tags].reshape(-1, 3, num_tags).transpose(1, 0, 2)
            found = {
                "accuracy": right.sum(1) / true.sum(1),
                "macro_f1": f1(right, given, true).sum(1) / ((given + true) > 0.0).sum(1),
            }
            if self.spans is not None:
                found |= self.spans.scores(sums[:, 3 * num_tags :].reshape(len(sums), 3, -1))
            return found

        missing = int((most == 0.0).sum())
        present = int((words[:, 1:].sum((0, 1)) > 0.0).sum())
        return of_sums(
            sums,
            figures,
            unit="sentences",
            baselines={"accuracy": float(most.max() / most.sum())},
            unseen={"macro_f1": (present, num_tags, missing)} if missing else {},
        )
