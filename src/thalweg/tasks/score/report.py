"""What the report shows about predicted scores: against the true ones, both distributions, the worst examples."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

NUM_WORST = 20
NUM_BINS = 20


def sections(true: np.ndarray, predicted: np.ndarray, raw: Sequence[str]) -> list[dict[str, Any]]:
    """Return the sections for numbers of validation data, `[examples]`.

    `raw` holds the texts of the first examples, "" where they were not kept.
    """
    true, predicted = _rounded(true, true), _rounded(predicted, true)
    names = [text if len(text) <= 120 else f"{text[:117]}..." for text in raw]
    scatter = {
        "kind": "scatter",
        "title": "Predicted against true",
        "text": "Each point is a validation example; on the line the prediction is right.",
        "x": true.tolist(),
        "y": predicted.tolist(),
        "x_label": "true",
        "y_label": "predicted",
        "names": names if len(names) == len(true) else None,
    }
    return [scatter, _distribution(true, predicted), _worst(true, predicted, raw)]


def _rounded(values: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return values to a millionth of the true numbers' size: single precision would write a zero as 7.7e-09."""
    size = float(np.abs(true).max())
    decimals = 6 - math.ceil(math.log10(size)) if size > 0.0 else 6
    return np.round(values, decimals) + 0.0  # no minus zero


def _distribution(true: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    both = np.concatenate([true, predicted])
    edges = np.linspace(both.min(), both.max(), NUM_BINS + 1)
    counts = {name: np.histogram(values, edges)[0] for name, values in (("true", true), ("predicted", predicted))}
    centers = (edges[:-1] + edges[1:]) / 2
    return {
        "kind": "series",
        "title": "Distribution of the numbers",
        "text": "Validation examples by number; predictions that cluster near the mean mean an unsure network.",
        "x": [float(f"{center:.6g}") for center in centers],
        "lines": {name: [int(count) for count in values] for name, values in counts.items()},
        "x_label": "number",
        "y_label": "examples",
        "split": None,
    }


def _worst(true: np.ndarray, predicted: np.ndarray, raw: Sequence[str]) -> dict[str, Any]:
    order = np.argsort(-np.abs(true - predicted), kind="stable").tolist()
    shown = [i for i in order if i < len(raw) and raw[i]][:NUM_WORST]
    return {
        "kind": "examples",
        "title": "Worst examples",
        "text": "Validation examples with the largest errors; clusters of similar errors usually come from mislabeled "
        "or rare data.",
        "columns": ["true", "predicted", "text"],
        "rows": [[f"{true[i]:.4g}", f"{predicted[i]:.4g}", raw[i]] for i in shown],
    }
