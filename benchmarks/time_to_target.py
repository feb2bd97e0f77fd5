"""How soon a default without tuning reaches what tuned AdamW ends with, and where it ends itself.

    OMP_NUM_THREADS=1 python benchmarks/time_to_target.py                  # all tasks but the sealed ones
    OMP_NUM_THREADS=1 python benchmarks/time_to_target.py --tune           # only the 20 trials of AdamW a task, kept
    OMP_NUM_THREADS=1 python benchmarks/time_to_target.py --only manual-lstm sst2-transformer
    OMP_NUM_THREADS=1 python benchmarks/time_to_target.py --peers soap muon prodigy
    OMP_NUM_THREADS=1 python benchmarks/time_to_target.py --sealed         # the two sets left out, scored at the end
    OMP_NUM_THREADS=1 python benchmarks/time_to_target.py --quick          # see that it works; the figures mean nothing

Baseline: PyTorch's AdamW, fused, warmup and cosine to zero, gradient norm clipped to 1, the best of 20 trials over
learning rate, weight decay, warmup and beta2 (a Halton sequence, the same for every task) by the lowest validation loss
of a run with a seed of its own; a trial that is clearly behind after two fifths of its steps is stopped. Peers get 20
trials as well. The trials are kept in `results/time_to_target_trials.json` and used again. Then three seeds in the same
process, the entrants in turn: the same start, order of the data, dropout and number of steps or passes for all. A batch
that the task does not fix is each entrant's own.

The target is the baseline's median over seeds of the lowest validation loss at an evaluation: that of the weights which
a run keeps. Time is the CPU time of one thread for the steps, and for all that an entrant does before the first one (a
range test, say); evaluations are nobody's time. Where an entrant takes all data at once, its steps are limited by the
time that the baseline takes.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from scipy.stats import qmc
from table import Row, write_json
from time_to_target_tasks import SPECS, Problem, make

from thalweg.training.session import optimizer
from thalweg.training.session.automatic import decide
from thalweg.training.steps.fit import FitOptions, fit
from thalweg.training.steps.stepper import stepper_for

RESULTS = Path(__file__).parent / "results" / "time_to_target.json"
TRIALS = RESULTS.with_name("time_to_target_trials.json")
NUM_TRIALS = 20
NUM_SEEDS = 3
NUM_EVALUATIONS = 25
TUNING_SEED = 100
SHOWN = (
    "optimizer",
    "optimizer_options",
    "lr",
    "schedule",
    "warmup",
    "clip",
    "clip_running",
    "weight_decay",
    "l2",
    "batch_size",
)
# Import path, and the range of learning rates that is searched.
PEERS = {
    "muon": ("torch.optim.Muon", 2e-3, 0.1),
    "soap": ("pytorch_optimizer.SOAP", 3e-4, 3e-2),
    "shampoo": ("pytorch_optimizer.ScalableShampoo", 1e-4, 3e-2),
    "schedule-free": ("pytorch_optimizer.ScheduleFreeAdamW", 3e-4, 0.1),
    "prodigy": ("pytorch_optimizer.Prodigy", 0.3, 3.0),
}
MAX_RATIO, MEDIAN_RATIO, WORST_LOSS = 0.8, 0.5, 1.01

Settings = Mapping[str, Any]  # of a recipe's training part


@final
@dataclasses.dataclass(frozen=True)
class Curve:
    """One run: validation losses, and the steps and CPU seconds at which they were measured."""

    steps: list[int]
    seconds: list[float]
    losses: list[float]

    @property
    def best(self) -> float:
        """Return the loss of the weights that a run keeps, those of its best evaluation; infinite without any."""
        return min((loss for loss in self.losses if math.isfinite(loss)), default=math.inf)

    def reaches(self, target: float) -> tuple[float, float]:
        """Return the first CPU seconds and steps at which the loss is at most the target; infinite if it never is."""
        for step, seconds, loss in zip(self.steps, self.seconds, self.losses, strict=True):
            if loss <= target:
                return seconds, step
        return math.inf, math.inf


def run(
    problem: Problem,
    settings: Settings,
    seed: int,
    *,
    evaluations: int = NUM_EVALUATIONS,
    before: float = 0.0,
    most: float = math.inf,
    hopeless: Callable[[Curve], bool] | None = None,
) -> Curve:
    """Train once, at most `most` CPU seconds, `before` of them spent already, or until it is hopeless."""
    recipe = problem.recipe.with_(seed=seed, **settings)
    model, head = problem.networks(seed)
    feed = problem.feed(recipe)
    steps = recipe.training.steps or math.ceil(recipe.training.epochs * feed.steps_per_epoch)
    clip = optimizer.build_clipping(recipe, head)
    moved = optimizer.build_optimizer(recipe, model, head, clip)
    schedule = optimizer.build_schedule(recipe, moved, steps)
    stepper = stepper_for(moved, clip=clip.gradient, clip_update=clip.update)
    every = max(1, steps // evaluations)
    curve, spent, begin = Curve([], [], []), before, time.process_time()
    options = FitOptions(seed=seed, l2=recipe.training.l2)
    for record in fit(model, head, stepper, feed, steps=steps, schedule=schedule, options=options):
        over = spent + time.process_time() - begin >= most
        if record.step % every and record.step < steps and not over:
            continue
        spent += time.process_time() - begin
        curve.steps.append(record.step)
        curve.seconds.append(spent)
        curve.losses.append(problem.loss(model, head))
        if not math.isfinite(curve.losses[-1]) or over or (hopeless is not None and hopeless(curve)):
            break
        for module in (model, head):
            module.train()
        begin = time.process_time()
    return curve


def adamw(place: Sequence[float]) -> dict[str, Any]:
    """Return settings of AdamW from a place in the unit cube."""
    return {
        "optimizer": "adamw",
        "lr": _log(place[0], 1e-4, 3e-2),
        "weight_decay": _log(place[1], 1e-3, 0.3),
        "warmup": round(0.02 + 0.18 * float(place[2]), 3),
        "optimizer_options": {"betas": [0.9, round(1 - _log(place[3], 1e-3, 0.1), 5)]},
        "schedule": "cosine",
        "clip": 1.0,
    }


def _log(share: float, low: float, high: float) -> float:
    return float(f"{low * (high / low) ** share:.3g}")


def trials(problem: Problem, name: str, count: int) -> list[dict[str, Any]]:
    """Return settings, loss and CPU seconds of each trial of an optimizer.

    A trial is stopped early where it is hopeless: after two fifths of its steps it is behind the best one at that time
    by more than a tenth of what that has gained since the first step.
    """
    found: list[dict[str, Any]] = []
    early: dict[int, float] = {0: problem.loss(*problem.networks(TUNING_SEED))}  # best loss so far, by evaluation

    def hopeless(curve: Curve) -> bool:
        at = len(curve.losses)
        return at == 2 and at in early and curve.losses[-1] > early[at] + 0.1 * max(0.0, early[0] - early[at])

    for place in qmc.Halton(4, seed=0).random(count):  # pyright: ignore[reportCallIssue]
        settings = adamw(place) if name == "adamw" else peer(name, place)
        curve = run(problem, settings, TUNING_SEED, evaluations=5, hopeless=hopeless)
        for at, loss in enumerate(curve.losses, start=1):
            early[at] = min(loss, early.get(at, math.inf)) if math.isfinite(loss) else early.get(at, math.inf)
        found.append({"settings": settings, "loss": curve.best, "seconds": curve.seconds[-1], "steps": curve.steps[-1]})
        print(
            f"  {problem.name} {name}: lr {settings['lr']:.2g} loss {curve.best:.4f} in {curve.seconds[-1]:.1f} s",
            flush=True,
        )
    return found


def tuned(problem: Problem, name: str, count: int) -> list[dict[str, Any]]:
    """Return the trials of an optimizer on a problem, from the file where it holds them."""
    kept = json.loads(TRIALS.read_text()) if TRIALS.exists() else {}
    key = f"{problem.name} {count}" + (f" {name}" if name != "adamw" else "")
    training = vars(problem.recipe.training)
    same = {"model": vars(problem.recipe.model), **{part: training[part] for part in ("steps", "epochs", "batch_size")}}
    fingerprint = json.dumps(same, sort_keys=True, default=str)
    if key not in kept or kept[key]["recipe"] != fingerprint:
        found = trials(problem, name, count)
        kept = json.loads(TRIALS.read_text()) if TRIALS.exists() else {}
        kept[key] = {"recipe": fingerprint, "trials": found}
        TRIALS.parent.mkdir(exist_ok=True)
        TRIALS.write_text(json.dumps(kept, indent=1))
    return kept[key]["trials"]


def automatic(problem: Problem, seed: int) -> tuple[Settings, float]:
    """Return what `--optimizer auto` makes of a problem, and the CPU seconds that it took to try rates."""
    begin = time.process_time()
    recipe = problem.recipe.with_(optimizer="auto", seed=seed)
    model, head = problem.networks(seed)
    chosen = decide(recipe, problem.given, model, head, problem.feed(recipe), say=[].append)
    return dataclasses.asdict(chosen.training), time.process_time() - begin


def peer(name: str, place: Sequence[float]) -> dict[str, Any]:
    """Return settings of a peer from a place in the unit cube: its rate, warmup and weight decay."""
    path, low, high = PEERS[name]
    settings: dict[str, Any] = {"lr": _log(place[0], low, high), "weight_decay": _log(place[1], 1e-3, 0.3)}
    settings |= {"warmup": round(0.02 + 0.18 * float(place[2]), 3), "schedule": "cosine", "clip": 1.0}
    return {"optimizer": path, **settings}


def compare(problem: Problem, entrants: Sequence[str], num_trials: int, num_seeds: int) -> dict[str, Any]:
    """Return the curves of AdamW, of `auto` and of the peers, by name and seed, and what the tuning took."""
    tuning = {"adamw": tuned(problem, "adamw", num_trials)}
    tuning |= {name: tuned(problem, name, num_trials) for name in entrants}
    best = {name: min(found, key=lambda trial: trial["loss"])["settings"] for name, found in tuning.items()}
    curves: dict[str, list[Curve]] = {name: [] for name in ("adamw", "auto", *entrants)}
    chosen: Settings = {}
    for seed in range(num_seeds):
        curves["adamw"].append(run(problem, best["adamw"], seed))
        chosen, before = automatic(problem, seed)
        most = curves["adamw"][-1].seconds[-1] if not chosen["batch_size"] else math.inf
        curves["auto"].append(run(problem, chosen, seed, before=before, most=most))
        for name in entrants:
            curves[name].append(run(problem, best[name], seed))
    return {
        "curves": {name: [dataclasses.asdict(curve) for curve in found] for name, found in curves.items()},
        "settings": {**best, "auto": {name: chosen[name] for name in SHOWN}},
        "tuning_seconds": {name: sum(trial["seconds"] for trial in found) for name, found in tuning.items()},
    }


def rows_of(name: str, found: Mapping[str, Any]) -> list[Row]:
    """Return a row for every entrant but the baseline: its time to the target over the baseline's whole time."""
    curves = {entrant: [Curve(**curve) for curve in several] for entrant, several in found["curves"].items()}
    target = statistics.median(curve.best for curve in curves["adamw"])
    whole = statistics.median(curve.seconds[-1] for curve in curves["adamw"])
    steps = statistics.median(curve.steps[-1] for curve in curves["adamw"])
    rows = []
    for entrant, several in curves.items():
        if entrant == "adamw":
            continue
        reached = [curve.reaches(target) for curve in several]
        ratio = statistics.median(seconds for seconds, _ in reached) / whole
        loss = statistics.median(curve.best for curve in several) / target
        details = {
            "steps": statistics.median(taken for _, taken in reached) / steps,
            "loss": loss,
            "target_loss": target,
            "seconds_of_the_baseline": whole,
            "step_cost": statistics.median(c.seconds[-1] / c.steps[-1] for c in several) * steps / whole,
            "tuning_seconds_of_the_baseline": found["tuning_seconds"]["adamw"],
        }
        is_auto = entrant == "auto"
        rows.append(
            Row(
                entrant, name, ratio, "of tuned AdamW's time", f"<= {MAX_RATIO}" if is_auto else "",
                ratio <= MAX_RATIO and loss <= WORST_LOSS if is_auto else None, details,
            )
        )  # fmt: skip
    return rows


def main() -> None:
    """Tune, run, print the table with the losing cases first, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SPECS))
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=[])
    for flag in ("--tune", "--sealed", "--quick"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = arguments.only or [name for name, spec in SPECS.items() if spec.sealed == arguments.sealed]
    chosen = chosen if not arguments.quick else arguments.only or ["smooth-mlp"]
    num_trials, num_seeds = (2, 1) if arguments.quick else (NUM_TRIALS, NUM_SEEDS)
    kept = json.loads(arguments.out.read_text())["tasks"] if arguments.out.exists() and not arguments.quick else {}
    for name in chosen:
        problem = make(name)
        if arguments.quick:
            problem = dataclasses.replace(problem, recipe=problem.recipe.with_(steps=40, epochs=0.0))
        if arguments.tune:
            tuned(problem, "adamw", num_trials)
            continue
        kept[name] = compare(problem, arguments.peers, num_trials, num_seeds)
        for row in rows_of(name, kept[name]):
            print(_line(row), flush=True)
        write_json(arguments.out, rows_of(name, kept[name]), tasks=kept)
    if arguments.tune:
        return
    rows = [row for name in kept if name in SPECS for row in rows_of(name, kept[name])]
    own = [row for row in rows if row.part == "auto"]
    median = statistics.median(row.value for row in own)
    print(f"\n{'losing cases first':<32}{'time':>8}{'steps':>8}{'loss':>8}   (of tuned AdamW's)")
    for row in sorted(rows, key=lambda row: (row.met is not False, -row.value)):
        print(_line(row))
    rows.append(
        Row("auto", f"median of {len(own)}", median, "of AdamW's time", f"<= {MEDIAN_RATIO}", median <= MEDIAN_RATIO)
    )
    print(rows[-1].line())
    write_json(arguments.out, rows, tasks=kept)


def _line(row: Row) -> str:
    verdict = "" if row.met is None else "met" if row.met else "MISSED"
    figures = f"{row.value:>8.2f}{row.details['steps']:>8.2f}{row.details['loss']:>8.3f}"
    return f"{row.part + ' ' + row.what:<32}{figures}   {verdict}"


if __name__ == "__main__":
    main()
