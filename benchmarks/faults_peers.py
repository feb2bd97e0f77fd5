"""Published rule sets, written down over the same records: what they would say of each training.

Thresholds are those of the papers' and tools' defaults: Amazon SageMaker Debugger's built-in rules, AutoTrainer (Zhang
et al., 2021), DeepDiagnosis (Wardat et al., 2022), UMLAUT (Schoop et al., 2021), and cockpit's (Schneider et al., 2021)
quantities, for which the paper's figures name no thresholds, with those of its own text (alpha, gradient norm).
Where a rule names a kind of trouble that goes by another name here, it counts as right for that one.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

Result = Mapping[str, Any]
Rules = dict[str, Callable[[Result], bool]]


def _t(result: Result, name: str, default: float = math.nan) -> float:
    value = result["trends"].get(name)
    return default if not isinstance(value, int | float) else float(value)


def _layers(result: Result, name: str) -> list[float]:
    return [value for value in (result["trends"].get(name) or {}).values() if isinstance(value, int | float)]


def _dead(result: Result) -> float:
    found = (result["probes"].get("activations") or {}).get("dead") or result["trends"].get("dead") or {}
    return max((value for value in found.values() if isinstance(value, int | float)), default=0.0)


def _saturated(result: Result) -> float:
    found = (result["probes"].get("activations") or {}).get("saturated") or result["trends"].get("saturated") or {}
    return max((value for value in found.values() if isinstance(value, int | float)), default=0.0)


def _size(result: Result) -> float:
    return float((result["probes"].get("gradients") or {}).get("num_parameters") or 1e5)


def _mean_gradient(result: Result) -> float:
    """Mean absolute gradient, of normal gradients of that norm."""
    return _t(result, "grad_norm") / math.sqrt(_size(result)) * 0.8


def _first_over_last(result: Result) -> float:
    norms = _layers(result, "grad_norm_by_layer")
    return norms[0] / max(norms[-1], 1e-30) if len(norms) > 1 else math.nan


def _accuracy(result: Result) -> float:
    return float((result.get("metrics") or {}).get("accuracy") or math.nan)


def _not_decreasing(result: Result, part: float, window: int) -> bool:
    losses = result["losses"]
    return any(losses[i + window] > losses[i] * (1.0 - part) for i in range(0, max(0, len(losses) - window), window))


def _overfit(result: Result, part: float) -> bool:
    train, valid = _t(result, "loss_end"), _t(result, "valid_end")
    return bool((valid - train) / max(abs(train), 1e-9) > part)


def _not_finite(result: Result) -> bool:
    return _t(result, "rejected", 0.0) > 0


SAGEMAKER: Final[Rules] = {
    "non-finite": _not_finite,
    "vanishing-gradient": lambda r: _mean_gradient(r) < 1e-7,
    "dead-units": lambda r: _dead(r) > 0.5,
    "saturated-activations": lambda r: _saturated(r) > 0.5,
    "learning-rate-too-high": lambda r: any(value > 10.0 for value in _layers(r, "update_ratio")),
    "learning-rate-too-low": lambda r: any(value < 1e-8 for value in _layers(r, "update_ratio")),
    "plateau-at-saddle": lambda r: _not_decreasing(r, 0.001, 10),
    "over-fitting": lambda r: _overfit(r, 0.1),
    "untrained-parameters": lambda r: bool(r["trends"].get("without_update") or r["trends"].get("without_gradient")),
}
AUTOTRAINER: Final[Rules] = {
    "vanishing-gradient": lambda r: _first_over_last(r) < 1e-3 and _mean_gradient(r) < 1e-4,
    "exploding-gradient": lambda r: _not_finite(r) or _first_over_last(r) > 70.0,
    "dead-units": lambda r: _dead(r) > 0.7,
    "oscillation": lambda r: _t(r, "ups", 0.0) > 0.3 and _t(r, "roughness", 0.0) > 0.03,
    "learning-rate-too-low": lambda r: _t(r, "drop", 1.0) < 0.01,
}
DEEPDIAGNOSIS: Final[Rules] = {
    "non-finite": _not_finite,
    "exploding-gradient": lambda r: _t(r, "grad_norm_peak", 0.0) * _mean_gradient(r) > 10.0,
    "vanishing-gradient": lambda r: _mean_gradient(r) < 1e-7,
    "dead-units": lambda r: _dead(r) > 0.7,
    "saturated-activations": lambda r: _saturated(r) > 0.5,
    "untrained-parameters": lambda r: bool(r["trends"].get("without_update")),
    "plateau-at-saddle": lambda r: _not_decreasing(r, 0.05, 10) and not _accuracy(r) > 0.6,
    "label-noise": lambda r: _accuracy(r) < 0.5,
}
UMLAUT: Final[Rules] = {
    "non-finite": _not_finite,
    "learning-rate-too-high": lambda r: (r["facts"].get("lr") or 0.0) > 1e-2,
    "learning-rate-too-low": lambda r: (r["facts"].get("lr") or 1.0) < 1e-5,
    "over-fitting": lambda r: _t(r, "valid_rise", 0.0) > 0.0 and _t(r, "gain_at_end", 0.0) >= 0.0,
    "leaking-duplicates": lambda r: _accuracy(r) > 0.95,
    "unnormalized-inputs": lambda r: any(
        (one.get("largest_value") or 0.0) > 1.0
        for one in ((r["probes"].get("inputs") or {}).get("numbers") or {}).values()
    ),
    "dropout-too-strong": lambda r: (r["facts"].get("dropout") or 0.0) > 0.5,
}
COCKPIT: Final[Rules] = {
    "learning-rate-too-high": lambda r: _t(r, "alignment", 0.0) < 0.0,
    "learning-rate-too-low": lambda r: _t(r, "alignment", 0.0) > 0.5,
    "exploding-gradient": lambda r: _t(r, "grad_norm_peak", 0.0) > 10.0,
    "vanishing-gradient": lambda r: _t(r, "grad_norm_end", 1.0) < 1e-4,
    "batch-too-small": lambda r: (
        (r["facts"].get("batch_size") or 0.0)
        < 0.1 * float((r["probes"].get("gradients") or {}).get("noise_scale") or 0.0)
    ),
}
PEERS: Final[dict[str, Rules]] = {
    "SageMaker Debugger's rules": SAGEMAKER,
    "AutoTrainer's rules": AUTOTRAINER,
    "DeepDiagnosis' rules": DEEPDIAGNOSIS,
    "UMLAUT's rules": UMLAUT,
    "cockpit's quantities": COCKPIT,
}


def said(rules: Rules, result: Result) -> list[str]:
    """Return the kinds that a rule set reports of a training."""
    return [name for name, rule in rules.items() if rule(result)]
