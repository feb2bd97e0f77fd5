"""Figures of scores: how far they are from the true numbers, and how they rise with them."""

import math
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Samples
from thalweg.data.arrays.standardize import Standardizer
from thalweg.tasks.base import AbstractMeter
from thalweg.tasks.regression import correlations, drawn_scores, nmse


@final
class ScoreMeter(AbstractMeter):
    """NMSE, both correlations, and the mean absolute error in the numbers' own unit, to which `scaling` leads back.

    All are those of the answers, which stay in the `span` of the training numbers; None: they may lie anywhere.
    """

    def __init__(self, scaling: Standardizer, span: tuple[float, float] | None = None) -> None:
        self.scaling = scaling
        self.span = None if span is None else scaling.forward(np.array(span)[:, None])[:, 0].tolist()
        self._parts: list[tuple[Tensor, Tensor]] = []

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        self._parts.append((prediction.detach().squeeze(-1), batch.targets.squeeze(-1)))

    @override
    def join(self, everyones: Callable[[Tensor], Tensor]) -> None:
        prediction, target = (everyones(torch.cat(parts)) for parts in zip(*self._parts, strict=True))
        self._parts = [(prediction, target)]

    @override
    def compute(self) -> dict[str, float]:
        prediction, target = self._all()
        error = nmse(prediction, target)
        known = not math.isnan(error)  # with one true number, what compares with their variance is not defined
        pearson, spearman = correlations(prediction, target) if known else (math.nan, math.nan)
        return {"nmse": error, "pearson": pearson, "spearman": spearman, "mae": float(self._errors().mean())}

    @override
    def samples(self) -> Samples:
        prediction, target = (part.numpy() for part in self._all())
        errors, scores = self._errors(), drawn_scores(prediction, target)
        counts = np.ones(len(target), dtype=np.int64)
        return Samples(counts, lambda weights: {**scores(weights), "mae": weights @ errors / weights.sum(1)})

    def _all(self) -> tuple[Tensor, Tensor]:
        prediction, target = (torch.cat(parts).cpu().double() for parts in zip(*self._parts, strict=True))
        return prediction if self.span is None else prediction.clamp(*self.span), target

    def _errors(self) -> np.ndarray:
        prediction, target = (self.scaling.inverse(part.numpy()[:, None]) for part in self._all())
        return np.abs(prediction - target)[:, 0]
