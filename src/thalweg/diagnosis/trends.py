"""What the history of a training says, as plain numbers: levels, slopes, spikes, repetitions, and figures by layer."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from thalweg.diagnosis.symptoms.entries import known_number, well_formed

History = Sequence[Mapping[str, Any]]

SMOOTHED: Final = 20  # parts of a run in which the level of the loss is looked at
NUM_PAIRS: Final = 20_000  # of points, at most, behind a slope
FEWEST_STEPS: Final = 10
HIGH: Final = 0.8  # times the first loss: how far a jump must be above the level
RIGHT: Final = ("accuracy", "token_accuracy")  # metrics that are the share of right answers
# What a watch of a loop has seen at its first steps and losses.
LOOKED: Final = (
    *("looked_at", "left_over", "losses_looked_at", "driven_up"),
    *("losses_told", "losses_of_all_pairs", "losses_negative"),
)
FEWEST_EPOCHS: Final = 3  # that must repeat each other before batches are said to come in one order


def trends_of(history: History, steps_per_epoch: int | None = None) -> dict[str, Any]:
    """Return what a history says, as plain values; what it cannot say is left out.

    Args:
        history: entries as `history.jsonl` holds them; what was undone by going back is left out here.
        steps_per_epoch: steps that see all data once; None where nobody knows.
    """
    history = well_formed(history)
    entries = _surviving(history)
    steps = [entry for entry in entries if entry.get("event") == "step" and _number(entry.get("loss")) is not None]
    found: dict[str, Any] = {"num_steps": len(steps)}
    found |= _incidents(history)
    if steps:
        losses = np.array([float(entry["loss"]) for entry in steps])
        found |= _levels(losses)
        found |= _roughness(losses, [int(entry.get("step") or i + 1) for i, entry in enumerate(steps)])
        found |= _rates(steps, losses)
        found |= _gradients(steps)
        if steps_per_epoch:
            found |= _repetition(steps, losses, steps_per_epoch)
    found |= _layers(steps)
    found |= _sites(steps)
    found |= _labels(steps)
    found |= _evaluations(entries, found)
    for entry in entries:
        if entry.get("event") == "watched":
            found["not_in_optimizer"] = list(entry.get("not_in_optimizer", ()))
            found["frozen"] = list(entry.get("frozen", ()))
            found |= {key: entry[key] for key in LOOKED if _number(entry.get(key)) is not None}
    return found


def theil_sen(values: np.ndarray) -> tuple[float, float]:
    """Return the median slope between all pairs of points, and its median absolute deviation over the root of n.

    Source: Sen (1968), Estimates of the Regression Coefficient Based on Kendall's Tau.
    """
    n = len(values)
    if n < 2:
        return 0.0, math.inf
    first, second = np.triu_indices(n, 1) if n * (n - 1) // 2 <= NUM_PAIRS else _pairs(n)
    slopes = (values[second] - values[first]) / (second - first)
    middle = float(np.median(slopes))
    residual = values - middle * np.arange(n)
    spread = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    return middle, spread * math.sqrt(12.0 / max(n**3 - n, 1))


def _pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, n, NUM_PAIRS), draw.integers(0, n, NUM_PAIRS)
    keep = first != second
    return np.minimum(first, second)[keep], np.maximum(first, second)[keep]


def _number(value: Any) -> float | None:
    return known_number(value)


def _surviving(history: History) -> list[Mapping[str, Any]]:
    """Return the entries that led to the weights: steps that going back undid are left out."""
    kept: list[Mapping[str, Any]] = []
    for entry in history:
        if entry.get("event") == "rollback":
            back = entry.get("to_step", 0)
            kept = [one for one in kept if one.get("step", 0) <= back]
        kept.append(entry)
    return kept


def _incidents(history: History) -> dict[str, Any]:
    rejected = [entry for entry in history if entry.get("event") == "rejected"]
    found: dict[str, Any] = {
        "rejected": len(rejected),
        "rollbacks": sum(entry.get("event") == "rollback" for entry in history),
    }
    taken = sum(entry.get("event") == "step" for entry in history)
    if rejected:
        first = rejected[0]
        found["rejected_share"] = len(rejected) / (len(rejected) + taken)
        found["first_rejected"] = {key: first[key] for key in ("step", "reason", "where", "what") if key in first}
    told = [entry for entry in history if entry.get("event") == "step" and "loss" in entry]
    blank = [entry for entry in told if _number(entry["loss"]) is None]
    if blank:  # a loop of one's own that went on with NaN
        found["not_finite"] = len(blank)
        found["first_not_finite"] = {key: blank[0][key] for key in ("step", "where", "what") if key in blank[0]}
    return found


def _levels(losses: np.ndarray) -> dict[str, Any]:
    """Return the loss at the start, at the end and at its best, each a median, and where the best is."""
    n = len(losses)
    parts = np.array_split(losses, min(SMOOTHED, n))
    level = np.array([np.median(part) for part in parts])
    start = float(np.median(losses[: max(1, min(3, n))]))
    drop = start - float(level.min())
    last = losses[-max(1, n * 3 // 10) :]
    slope, error = theil_sen(last)
    scale = max(abs(start), 1e-12)
    found = {
        "loss_start": start,
        "loss_end": float(level[-1]),
        "loss_best": float(level.min()),
        "loss_worst": float(losses.max()),
        "loss_spread_end": _deviation(losses[-max(1, n // 10) :]),
        "best_at": float((int(level.argmin()) + 1) / len(level)),
        "drop": drop / scale,
        "rise_after_best": float((level[-1] - level.min()) / max(abs(start), abs(float(level.min())), 1e-12)),
        # What a tenth of the run gains at the end: in parts of the loss, and in standard errors.
        "gain_at_end": -slope * n / 10.0 / max(abs(float(level[-1])), 1e-12),
        "gain_certainty": -slope / error if error > 0.0 else math.copysign(1e3, -slope) if slope else 0.0,
        "levels": [float(value) for value in level],
        # How far the level has come back up from its best, at the worst.
        "level_rise": float(np.max(level - np.minimum.accumulate(level)) / scale),
    }
    if drop > 0.0:  # the tenth of the run from which on nothing more is gained to speak of
        enough = level <= level.min() + 0.02 * drop
        found["reached_at"] = float((int(np.argmax(enough)) + 1) / len(level))
        found["gain_last_third"] = float((level[len(level) * 2 // 3] - level[-1]) / drop)
        found["first_tenth"] = float((start - level[max(0, len(level) // 10 - 1)]) / drop)
    return found


def _deviation(values: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def _roughness(losses: np.ndarray, places: Sequence[int]) -> dict[str, Any]:
    """Return spikes above the running median, the share of steps up, and how steps answer those before them."""
    n = len(losses)
    if n < FEWEST_STEPS:
        return {}
    half = max(3, min(25, n // 20))
    padded = np.pad(losses, half, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    middle = np.median(windows, 1)
    residual = losses - middle
    spread = np.maximum(1.4826 * np.median(np.abs(windows - middle[:, None]), 1), 1e-3 * np.abs(middle) + 1e-12)
    score = residual / spread
    after = np.arange(n) >= n // 10
    start = abs(float(np.median(losses[:3])))  # a jump that is nothing beside what was learned is none
    spikes = (score > 6.0) & (residual > HIGH * start) & after
    differences = np.diff(losses)
    answer = 0.0
    if len(differences) > 2 and differences.std() > 0.0:
        answer = float(np.corrcoef(differences[:-1], differences[1:])[0, 1])
    late = losses[n // 2 :]
    return {
        "spikes": int(np.sum(spikes & ~np.roll(spikes, 1))),
        "spike_height": float(np.max(residual[spikes] / np.maximum(np.abs(middle[spikes]), start)))
        if spikes.any()
        else 0.0,
        "spike_steps": [places[i] for i in np.flatnonzero(spikes)[:20]],
        "ups": float(np.mean(differences > 0.0)),
        "ups_late": float(np.mean(np.diff(late) > 0.0)) if len(late) > 1 else 0.0,
        "answer": answer,  # near -0.5 for noise alone; a curve that swings slowly has it near 1
        "roughness": float(np.median(np.abs(np.diff(late))) / max(float(np.median(np.abs(late))), 1e-12)),
        "swing": _swing(late),
    }


def _swing(losses: np.ndarray) -> float:
    """Return the strongest rise and fall over at least six steps around a smooth trend, in parts of the level."""
    n = len(losses)
    if n < 40:
        return 0.0
    width = 5
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    trend = np.poly1d(np.polyfit(np.arange(len(smooth)), smooth, 2))(np.arange(len(smooth)))
    rest = smooth - trend
    return float(np.percentile(np.abs(rest), 90) / max(float(np.median(np.abs(losses))), 1e-12))


def _rates(steps: History, losses: np.ndarray) -> dict[str, Any]:
    """Return the peak of the learning rate, and how much of the run came after it had become nothing."""
    rates = np.array([_number(entry.get("lr")) or 0.0 for entry in steps])
    peak = float(rates.max())
    if not peak > 0.0:
        return {}
    place = int(rates.argmax())
    small = rates < 0.01 * peak
    tail = 0
    for is_small in small[::-1]:
        if not is_small:
            break
        tail += 1
    found: dict[str, Any] = {
        "lr_peak": peak,
        "lr_end": float(rates[-1] / peak),
        "lr_peak_at": place / len(rates),
        "lr_tail": tail / len(rates),
        "lr_average": float(rates.mean() / peak),
    }
    if tail < len(rates):
        before = losses[: len(rates) - tail]
        recent = before[-max(2, len(before) * 3 // 10) :]
        slope, error = theil_sen(recent)
        level = max(abs(float(np.median(recent))), 1e-12)
        found["gain_before_tail"] = -slope * len(losses) / 10.0 / level
        found["gain_before_tail_certainty"] = -slope / error if error > 0.0 else 0.0
    return found


def _gradients(steps: History) -> dict[str, Any]:
    norms = np.array([value for entry in steps if (value := _number(entry.get("grad_norm"))) is not None])
    if len(norms) < FEWEST_STEPS:
        return {}
    middle = max(float(np.median(norms)), 1e-300)
    cut = max(1, len(norms) // 5)
    clipped = [bool(entry.get("clipped")) for entry in steps]
    return {
        "grad_norm": middle,
        "grad_norm_start": float(np.median(norms[:3])),
        "grad_norm_end": float(np.median(norms[-cut:])),
        "grad_norm_peak": float(norms.max() / middle),
        "grad_norm_p95": float(np.percentile(norms, 95) / middle),
        "clipped": float(np.mean(clipped)),
    }


def _repetition(steps: History, losses: np.ndarray, steps_per_epoch: int) -> dict[str, Any]:
    """Return how much the losses of an epoch repeat, step by step, those of the epoch before.

    Shuffled batches repeat nothing, and the correlation is zero up to noise; batches that come in one order repeat it.
    """
    places = [int(entry.get("step", 0)) for entry in steps]
    if places != list(range(places[0], places[0] + len(places))) or steps_per_epoch < 8:
        return {}
    skip = (-(places[0] - 1)) % steps_per_epoch
    whole = (len(losses) - skip) // steps_per_epoch
    if whole < FEWEST_EPOCHS:
        return {}
    table = losses[skip : skip + whole * steps_per_epoch].reshape(whole, steps_per_epoch)
    width = min(steps_per_epoch | 1, 9)
    kernel = np.ones(width) / width
    rest = [row - np.convolve(np.pad(row, width // 2, mode="edge"), kernel, "valid") for row in table]
    rows = [(a, b) for a, b in itertools.pairwise(rest) if a.std() > 0.0 and b.std() > 0.0]
    if not rows:
        return {}
    similar = float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in rows]))
    return {"repetition": similar, "repetition_error": 1.0 / math.sqrt(len(rows) * (steps_per_epoch - 2))}


def _layers(steps: History) -> dict[str, Any]:
    """Return gradient norms, update ratios and unchanged shares by layer: at the start, in the middle, at the end."""
    watched = [entry for entry in steps if entry.get("layers")]
    if not watched:
        return {}
    names = list(watched[0]["layers"])
    found: dict[str, Any] = {"watched": len(watched)}
    ratios = _table(watched, names, "update_ratio")
    norms = _table(watched, names, "grad_norm")
    unchanged = _table(watched, names, "unchanged")
    rates = np.array([_number(entry.get("lr")) or 0.0 for entry in watched])
    full = rates >= 0.3 * rates.max() if rates.max() > 0.0 else np.ones(len(watched), dtype=bool)
    with np.errstate(all="ignore"):
        found["update_ratio"] = {name: _median(ratios[full, i]) for i, name in enumerate(names)}
        found["grad_norm_by_layer"] = {name: _median(norms[:, i]) for i, name in enumerate(names)}
        found["grad_norm_at_start"] = {name: _median(norms[:3, i]) for i, name in enumerate(names)}
        found["unchanged"] = {
            name: _median(unchanged[:, i]) for i, name in enumerate(names) if np.isfinite(unchanged[:, i]).any()
        }
        found["without_gradient"] = [name for i, name in enumerate(names) if not (norms[:, i] > 0.0).any()]
        found["without_update"] = [
            name for i, name in enumerate(names) if (norms[:, i] > 0.0).any() and not (ratios[:, i] > 0.0).any()
        ]
        typical = np.array([_median(row) if np.isfinite(row).any() else math.nan for row in ratios])
        found["update_ratio_typical"] = _median(typical[full])
        late = typical[-max(1, len(typical) // 5) :]
        middle = typical[len(typical) // 5 : max(len(typical) // 5 + 1, len(typical) * 3 // 5)]
        if len(typical) >= 8:
            found["update_growth"] = _median(late) / max(_median(middle), 1e-300)
            peak = max(late[np.isfinite(late)].tolist(), default=0.0)
            found["update_late_peak"] = peak / max(_median(middle), 1e-300)
    aligned = [value for entry in watched if (value := _number(entry.get("alignment"))) is not None]
    if len(aligned) >= 4:
        found["alignments"] = len(aligned)
        found["alignment"] = float(np.median(aligned))
        found["alignment_late"] = float(np.median(aligned[len(aligned) // 2 :]))
    return found


def _table(watched: History, names: Sequence[str], key: str) -> np.ndarray:
    rows = [[_number(entry["layers"].get(name, {}).get(key)) for name in names] for entry in watched]
    return np.array([[math.nan if value is None else value for value in row] for row in rows], dtype=float)


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def _sites(steps: History) -> dict[str, Any]:
    """Return figures of the activations at the first measurement and over the last third of them."""
    measured = [entry["sites"] for entry in steps if entry.get("sites")]
    if not measured:
        return {}
    found: dict[str, Any] = {"sites_start": _depth(measured[0])}
    later = measured[-max(1, len(measured) // 3) :]
    found["sites_end"] = _depth(measured[-1])
    for key in ("dead", "saturated", "entropy", "entropy_min", "max_logit", "padding"):
        by_site: dict[str, list[float]] = {}
        for sites in later:
            for site in sites:
                if (value := _number(site.get(key))) is not None:
                    by_site.setdefault(f"{site['name']} ({site['kind']})", []).append(value)
        if by_site:
            found[key] = {name: float(np.median(values)) for name, values in by_site.items()}
        first = {f"{s['name']} ({s['kind']})": v for s in measured[0] if (v := _number(s.get(key))) is not None}
        if first:
            found[f"{key}_start"] = first
    return found


def _depth(sites: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how activations and gradients change with depth: log-slopes, and the ratio of first to last."""
    found: dict[str, Any] = {"num_sites": len(sites)}
    for key in ("std", "flow"):
        values = [value for site in sites if (value := _number(site.get(key))) is not None and value > 0.0]
        if len(values) < 3:
            continue
        logs = np.log(np.array(values))
        found[f"{key}_first"], found[f"{key}_last"] = values[0], values[-1]
        found[f"{key}_range"] = float(logs[0] - logs[-1])
        found[f"{key}_slope"] = float(np.polyfit(np.arange(len(logs)), logs, 1)[0])
        found[f"{key}_smallest"], found[f"{key}_largest"] = float(np.exp(logs.min())), float(np.exp(logs.max()))
    return found


def _labels(steps: History) -> dict[str, Any]:
    shares = [value for entry in steps if (value := _number(entry.get("label_share"))) is not None]
    kinds = [value for entry in steps if (value := _number(entry.get("label_kinds"))) is not None]
    if not shares or not kinds:
        return {}
    return {"label_share": float(np.median(shares)), "label_kinds": float(np.median(kinds)),
            "label_kinds_most": float(np.max(kinds))}  # fmt: skip


def _evaluations(entries: Iterable[Mapping[str, Any]], found: Mapping[str, Any]) -> dict[str, Any]:
    evaluations = [entry for entry in entries if entry.get("event") == "evaluation"]
    losses = [value for entry in evaluations if (value := _number(entry.get("loss"))) is not None]
    if not losses:
        return {}
    best = int(np.argmin(losses))
    start = abs(found.get("loss_start", losses[0]))
    result: dict[str, Any] = {
        "valid_losses": losses,
        "valid_first": losses[0],
        "valid_best": min(losses),
        "valid_end": losses[-1],
        "valid_best_at": (best + 1) / len(losses),
        "num_evaluations": len(losses),
        "valid_rise": (losses[-1] - min(losses)) / max(abs(min(losses)), 1e-12),
        "valid_rise_of_start": (losses[-1] - min(losses)) / max(start, 1e-12),
        "in_training_mode": any(entry.get("training_mode") for entry in evaluations),
    }
    measured = [entry.get("metrics") or {} for entry in evaluations]
    shares = [value for one in measured for name in RIGHT if (value := _number(one.get(name))) is not None]
    if shares:
        result |= {"right_best": max(shares), "right_end": shares[-1]}
    last = evaluations[-1].get("metrics") or {}
    result["metrics"] = {name: value for name, value in last.items() if _number(value) is not None}
    if "loss_end" in found:
        result["gap_end"] = (losses[-1] - found["loss_end"]) / max(abs(losses[-1]), 1e-12)
    return result
