"""A saved model's values, looked at before they are used: every one of a kind and size that a stream can give."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from thalweg.online.progress import Progress, Tally

_KINDS: Final = {"text", "category", "number"}
_COUNTS: Final = ("num_rows", "num_unlabeled", "num_rejected", "num_truncated", "num_over_budget", "num_numbers")
_WHOLE: Final = ("num", "right", "num_losses")  # of a tally


def require_sound(state: Mapping[str, Any]) -> None:
    """Raise `ValueError`, with the place as the message, for a value that no stream gives; a key may be missing."""
    arguments, linear, own, progress = (state[name] for name in ("arguments", "linear", "own", "progress"))
    _require("arguments", all(isinstance(name, str) for name in arguments))
    table = linear["table"]
    _require("num_buckets", arguments["num_buckets"] == len(table["row_of"]))
    _require("table", table["weights"].ndim == 2 and table["squares"].shape == table["weights"].shape[:1])
    _finite("table", [table["weights"], table["squares"]])
    _require("table", bool((table["squares"] >= 0).all()))
    kinds, numbers = linear["kinds"], linear["number_columns"]
    _require("kinds", set(kinds.values()) <= _KINDS and all(isinstance(name, str) for name in kinds))
    _require("number_columns", len(set(numbers)) == len(numbers) and set(numbers) <= set(kinds))
    _require("scales", all(scale.shape == (len(numbers),) for scale in linear["scales"].values()))
    _finite("scales", linear["scales"].values())
    _require("bias_squares", _is_amount(linear["bias_squares"]))
    _require("label_column", isinstance(state["label_column"], str | None))
    classes = own.get("classes", [])
    _require("classes", len(set(classes)) == len(classes) and all(isinstance(name, str) for name in classes))
    if isinstance(own["bias"], Tensor):
        bias = own["bias"]
        _require("bias", bias.shape == table["weights"].shape[1:] and len(bias) >= max(2, len(classes)))
        _require("bias", bool((bias[len(classes) :] == -math.inf).all()))
        _finite("bias", [bias[: len(classes)]])
        _require("num_learned", _is_count(own["num_learned"]))
        _require("max_classes", len(bias) <= max(2, arguments["max_classes"]))
    else:
        _require("bias", _is_number(own["bias"]) and table["weights"].shape[1] == 1)
        target = own["target"]
        _require("target", _is_count(target["num"]) and _is_amount(target["squares"]) and _is_number(target["mean"]))
        _require("target", isinstance(target["low"], float | int) and isinstance(target["high"], float | int))
        _require("target", not target["num"] or (_is_number(target["low"]) and _is_number(target["high"])))
    _require_progress(progress, classes)


def _require_progress(progress: Mapping[str, Any], classes: list[str]) -> None:
    for name in _COUNTS:
        _require(name, _is_count(progress[name]))
    _require("seconds", _is_amount(progress["seconds"]))
    _require("mean", _is_number(progress["mean"]))
    _require("last_problem", isinstance(progress["last_problem"], str))
    counts = progress["counts"]
    _require("counts", set(counts) <= set(classes) and all(map(_is_count, counts.values())))
    _require("frequent", progress["frequent"] is None or progress["frequent"] in counts)
    _require("last", progress["last"] is None or isinstance(progress["last"], str) or _is_number(progress["last"]))
    _require("progress", set(progress) == {field.name for field in dataclasses.fields(Progress)})
    for tally in ("total", "recent"):
        _require(tally, set(progress[tally]) == {field.name for field in dataclasses.fields(Tally)})
        for name, value in progress[tally].items():
            fits = _is_count if name in _WHOLE else _is_number if name == "mean" else _is_amount
            _require(f"{tally}.{name}", fits(value))
    for place, seen in progress["seen"].items():
        _require("seen", isinstance(place, str) and _is_count(seen["rows"]) and isinstance(seen["sum"], str))


def _finite(name: str, tensors: Iterable[Tensor]) -> None:
    _require(name, all(bool(torch.isfinite(tensor).all()) for tensor in tensors))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_amount(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _require(name: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{name} is none that a stream gives")
