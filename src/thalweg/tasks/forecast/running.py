"""Running a network for its forecasts, one step and several."""

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering
from thalweg.tasks.forecast.windows import AnyReader, DifferenceReader

CHUNK = 4096


def forecasts(model: nn.Module, head: AbstractHead, features: np.ndarray) -> np.ndarray:
    """Return the network's answers to what it reads `[windows, ...]`, float64 `[windows, ...]`."""
    answers: list[Tensor] = []
    with answering(model, head) as parameter:
        for start in range(0, len(features), CHUNK):
            part = torch.from_numpy(np.array(features[start : start + CHUNK]))  # a copy: views are read-only
            answers.append(head(model(features=part.to(parameter))))
    return torch.cat(answers).cpu().double().numpy()


def ahead(model: nn.Module, head: AbstractHead, reader: AnyReader, past: np.ndarray, steps: int) -> np.ndarray:
    """Return forecasts in the series' unit, `[windows, steps, columns]`.

    Each step reads the ones before it as if they had happened.

    Args:
        model: the network.
        head: its output layer.
        reader: how it reads.
        past: the rows before, `[windows, rows, columns]`, at least `reader.rows` of them.
        steps: at least 1.
    """
    num, _, columns = past.shape
    past = past[:, -reader.rows :]
    if isinstance(reader, DifferenceReader):
        form = reader.scaled.form
        levels = reader.scaled.ahead(
            lambda features: forecasts(model, head, features).reshape(num, columns), form.levels(past), steps
        )
        return form.values(levels)
    windows = reader.features(past)
    found = np.empty((num, steps, columns))
    for step in range(steps):
        scaled = forecasts(model, head, windows)
        found[:, step] = reader.answers(scaled, scaled)
        windows = np.concatenate([windows[:, 1:], scaled[:, None].astype(np.float32)], 1)
    return found
