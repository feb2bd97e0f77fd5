"""What `compare.json` says, made up: entrants of different speed, some of which diverge or never reach the target."""

import math
import random

from thalweg.comparison.sentences import difference_sentence, time_sentence
from thalweg.comparison.statistics import paired, performance_profile, profile_ratios, time_ratio

NAMES = ("adamw", "soap", "lbfgs", "sgd:momentum=0.9")
SPEED = {"adamw": 1.0, "soap": 1.8, "lbfgs": 0.7, "sgd:momentum=0.9": 0.3}
BUDGET, TARGET = 60.0, 0.9


def made(names=NAMES, sets=("reviews.csv",), num_seeds=3, num_trials=8, failed_set="", failed_entrant="", **changes):
    """Return a whole comparison; `changes` are entries of each data set."""
    data = [_data(name, names, num_seeds, num_trials, failed_entrant) | changes for name in sets]
    if failed_set:
        data.append(
            {"name": failed_set, "failed": "column 'label' is missing; name it with --label-column.", "pairs": []}
        )
    rows = [row for one in data if not one["failed"] for row in one.pop("rows")]
    kept = [one for one in data if not one["failed"]]
    times = [[median(one, name) for name in names] for one in kept]
    profiles = None
    if len(kept) > 1:
        ratios = profile_ratios(times)
        shares = performance_profile(times, ratios)
        profiles = {
            "entrants": list(names),
            "ratios": ratios.tolist(),
            "shares": {name: shares[i].tolist() for i, name in enumerate(names)},
        }
    sentence = " ".join(one["pairs"][0]["sentence"] for one in kept if one["pairs"])
    return {"version": 1, "data": data, "profiles": profiles, "rows": rows, "sentence": sentence}


def median(data, name):
    """Return the median time of an entrant to the target, or None."""
    (entrant,) = [entrant for entrant in data["entrants"] if entrant["name"] == name]
    times = sorted(math.inf if s["seconds_to_target"] is None else s["seconds_to_target"] for s in entrant["seeds"])
    return times[len(times) // 2] if times and math.isfinite(times[len(times) // 2]) else None


def _data(name, names, num_seeds, num_trials, failed_entrant):
    chance = random.Random(f"{name} {len(names)}")
    entrants = []
    for i, entrant in enumerate(names):
        speed = SPEED.get(entrant, 0.4 + 0.2 * i) * chance.uniform(0.8, 1.2)
        has_failed = entrant == failed_entrant
        trials = [] if has_failed or entrant == "lbfgs" else [_trial(j, speed, chance) for j in range(num_trials)]
        finite = [trial for trial in trials if not trial["diverged"]]
        best = min(finite, key=lambda trial: trial["loss"], default=None)
        seeds = [] if has_failed else [_seed(seed, speed, entrant, chance) for seed in range(num_seeds)]
        entrants.append(
            {
                "name": entrant,
                "label": entrant,
                "fixed": {"optimizer": entrant.split(":")[0]},
                "space": {
                    "lr": {"low": 1e-4, "high": 1.0, "log": True},
                    "betas": {"choices": [[0.9, 0.99], [0.9, 0.95]]},
                }
                if trials
                else {},
                "winner": best["settings"] if best else {},
                "seconds_tuning": sum(trial["seconds"] for trial in trials),
                "trials": trials,
                "seeds": seeds,
                "failed": "needs a gradient that this head has not." if has_failed else "",
            }
        )
    data = {
        "name": name,
        "described": f"2,000 rows of {name}",
        "task": "classify",
        "model": "bag",
        "metric": "accuracy",
        "better": "higher",
        "target": TARGET,
        "target_from": f"It is what every one of the runs of {names[0]} reaches.",
        "budget": {"seconds": BUDGET},
        "settings": {"model": "bag", "width": 64, "dropout": 0.1, "normalize": ["nfc", "lower"], "valid": ""},
        "vary": "optimizer",
        "entrants": entrants,
        "failed": "",
    }
    ran = [entrant for entrant in entrants if entrant["seeds"]]
    return data | {"pairs": _pairs(name, ran), "rows": [_row(name, entrant) for entrant in entrants]}


def _trial(number, speed, chance):
    rate = 10 ** chance.uniform(-4, 0)
    diverged = rate > 0.25
    loss = 0.5 + 0.3 / speed + 0.25 * (math.log10(rate) + 2) ** 2 + chance.uniform(0, 0.05)
    return {
        "number": number,
        "settings": {"lr": rate, "betas": [0.9, 0.99]},
        "loss": None if diverged else loss,
        "metric": None if diverged else 1 - loss / 4,
        "seconds": 3.0 if diverged else BUDGET,
        "steps": 100,
        "evaluations": 100,
        "status": "NOT_FINITE" if diverged else "COMPLETED",
        "diverged": diverged,
        "message": "The loss is not finite." if diverged else "",
    }


def _seed(seed, speed, entrant, chance):
    diverged = entrant.startswith("sgd") and seed == 1
    per_step, per_evaluation = 0.05 * chance.uniform(0.95, 1.05), 2.5 if entrant == "lbfgs" else 1.0
    curve = {key: [] for key in ("step", "evaluations", "seconds", "train_loss", "valid_loss", "metric")}
    for i in range(9 if diverged else 25):
        step = 50 * i
        loss = 0.55 + 1.7 * math.exp(-speed * step / 300) + chance.uniform(0, 0.03)
        values = (step, step * per_evaluation, step * per_step, None if not i else loss - 0.1, loss, 1 - loss / 4)
        for key, value in zip(curve, values, strict=True):
            curve[key].append(value)
    reached = next((i for i, loss in enumerate(curve["valid_loss"]) if loss <= TARGET), None)
    last = len(curve["step"]) - 1
    return {
        "seed": seed,
        "status": "NOT_FINITE" if diverged else "COMPLETED",
        "diverged": diverged,
        "message": "",
        "seconds": curve["seconds"][last],
        "steps": curve["step"][last],
        "evaluations": curve["evaluations"][last],
        "peak_bytes": 12_345_678,
        "loss": None if diverged else min(curve["valid_loss"]),
        "metric": None if diverged else max(curve["metric"]),
        "seconds_to_target": None if reached is None else curve["seconds"][reached],
        "steps_to_target": None if reached is None else curve["step"][reached],
        "evaluations_to_target": None if reached is None else curve["evaluations"][reached],
        "curve": curve,
    }


def _pairs(data, entrants):
    pairs = []
    for i, a in enumerate(entrants):
        for b in entrants[i + 1 :]:
            times = [[seed["seconds_to_target"] for seed in entrant["seeds"]] for entrant in (a, b)]
            ratio = time_ratio(*times, BUDGET)
            sentence = time_sentence(a["name"], b["name"], ratio, data, f"{BUDGET:g} s")
            pairs.append(_pair(a, b, "seconds_to_target", "ratio a / b", ratio.ratio, ratio, sentence))
            found = paired(*([seed["loss"] for seed in entrant["seeds"]] for entrant in (a, b)))
            sentence = difference_sentence(a["name"], b["name"], found, data=data)
            pairs.append(_pair(a, b, "loss", "", found.difference, found, sentence))
    return pairs


def _pair(a, b, quantity, unit, value, found, sentence):
    numbers = {"difference": value, "low": found.low, "high": found.high, "p_value": found.p_value}
    finite = {key: value if value is not None and math.isfinite(value) else None for key, value in numbers.items()}
    pair = {"a": a["name"], "b": b["name"], "quantity": quantity, "unit": unit, "num_seeds": len(a["seeds"])}
    return pair | finite | {"sentence": sentence}


def _row(data, entrant):
    losses, metrics = ([seed[key] for seed in entrant["seeds"]] for key in ("loss", "metric"))
    times = {}
    for axis in ("seconds", "steps", "evaluations"):
        found = sorted(math.inf if s[f"{axis}_to_target"] is None else s[f"{axis}_to_target"] for s in entrant["seeds"])
        middle = found[len(found) // 2] if found else math.inf
        times[f"{axis}_to_target"] = middle if math.isfinite(middle) else None
    return {
        "name": entrant["name"],
        "data": data,
        "target": TARGET,
        **times,
        "loss": sum(losses) / len(losses) if losses and None not in losses else None,
        "metric": sum(metrics) / len(metrics) if metrics and None not in metrics else None,
        "trials": len(entrant["trials"]),
        "seeds": len(entrant["seeds"]),
        "failed": entrant["failed"],
    }
