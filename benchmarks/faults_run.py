"""One training with a fault, or none: its history, its measurements, its validation loss; kept as JSON."""

import copy
import dataclasses
import json
import tempfile
import time
import warnings
import zlib
from pathlib import Path
from typing import Any, final

import torch
from faults_planted import FAULTS, Fault
from faults_settings import SERIES, SETTINGS, TEXTS, Setting, series, written

from thalweg.diagnosis.diagnose import known, measure, plain
from thalweg.diagnosis.of_run import subject_of
from thalweg.diagnosis.trends import trends_of
from thalweg.errors import InputError
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.loop import train
from thalweg.training.session.plan import Request
from thalweg.training.session.prepare import prepare


@final
@dataclasses.dataclass(frozen=True)
class Case:
    """A setting, a fault (or none) and a seed."""

    setting: Setting
    fault: Fault | None
    seed: int

    @property
    def key(self) -> str:
        """A name that can be a file's."""
        what = "healthy" if self.fault is None else self.fault.key.replace("/", "_")
        return f"{self.setting.name}.{what}.{self.seed}"

    @property
    def group(self) -> str:
        """Which half of the suite it belongs to; "sealed": neither."""
        if self.setting.sealed or (self.fault is not None and self.fault.sealed):
            return "sealed"
        return self.setting.group


def fits(setting: Setting, fault: Fault) -> bool:
    """Whether a fault can be planted into a setting."""
    if setting.family not in fault.families or setting.data not in {*SERIES, *TEXTS}:
        return False
    if fault.datasets and setting.data not in fault.datasets:
        return False
    on_numbers = setting.data in SERIES
    if on_numbers:
        return fault.rows is None and fault.key not in {
            "one-embedding", "cone", "batch-huge", "imbalanced", "memorized", "sorted", "flipped", "not-a-number",
            "frozen", "dropout-0.9", "dropout-on", "deep-tanh-small", "batch-1", "l2",
        }  # fmt: skip
    return fault.columns is None and not (fault.key == "forgetful" and setting.options["model"] != "lstm")


def cases(seeds: int = 1, healthy: int = 3) -> list[Case]:
    """Return all cases."""
    built_in = 2  # of each set that comes with the product
    found = [
        Case(setting, None, seed)
        for setting in SETTINGS
        for seed in range(healthy if setting.data in {*SERIES, *TEXTS} else built_in)
    ]
    for setting in SETTINGS:
        for fault in FAULTS:
            if fits(setting, fault):
                first = 10 + zlib.crc32(fault.key.encode()) % 80  # another seed for each, the same whatever is added
                found += [Case(setting, fault, first + seed) for seed in range(seeds)]
    return found


def run(
    case: Case, options: dict[str, Any] | None = None, *, undone: bool = False, probes: bool = True
) -> dict[str, Any]:
    """Train; return what a diagnosis would see, and the validation losses.

    Args:
        case: what is trained.
        options: changes on top, as a repair makes them.
        undone: leave out what was planted into session and data.
        probes: measure, too.
    """
    torch.set_num_threads(1)
    setting, fault = case.setting, case.fault
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = _data(case, folder / "data", undone=undone)
        given = {**setting.options, **data, "name": "run", "seed": case.seed}
        if fault is not None:
            given |= fault.options(setting)
        given |= options or {}
        chosen = Options({name: value for name, value in given.items() if value is not None})
        session = prepare(Request(chosen, out=folder / "runs"), lambda _: None)
        if fault is not None and fault.plant is not None and not undone:
            fault.plant(session)
        start = copy.deepcopy((session.model, session.head))
        history: list[dict[str, Any]] = []
        failed = ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                history.extend(train(session))
            except InputError as error:
                failed = str(error)
        recipe = session.run.recipe
        subject = subject_of(
            recipe, session.task, session.prepared, (session.model, session.head), history, session.feed
        )
        subject = dataclasses.replace(subject, initial=lambda: copy.deepcopy(start))
        trained = time.process_time() - begin
        trends = trends_of(history, subject.facts.steps_per_epoch)
        # The curvature takes most of the time; where the loss has fallen no rule asks for it.
        calm = trends.get("drop", 0.0) > 0.3 and setting.family != "mlp"
        without = {"spectrum"} if calm else set[str]()
        found, skipped = measure(subject, seconds=120.0, without=without) if probes else ({}, {})
        return {
            "key": case.key,
            "setting": setting.name,
            "family": setting.family,
            "fault": None if fault is None else fault.key,
            "name": None if fault is None else fault.name,
            "group": case.group,
            "facts": plain(dataclasses.asdict(subject.facts) | {"data": known(subject)}),
            "trends": plain(trends),
            "probes": found,
            "skipped": skipped,
            "sites": _sites(plain(history)),
            "valid_loss": trends.get("valid_end"),
            "metrics": trends.get("metrics", {}),
            "failed": failed,
            "seconds": {"training": trained, "probes": time.process_time() - begin - trained},
            "losses": [round(entry["loss"], 5) for entry in plain(history)
                       if entry["event"] == "step" and entry["loss"] is not None],
        }  # fmt: skip


def _sites(history: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return what was measured of activations on the first and on the last step where it was."""
    measured = [entry["sites"] for entry in history if entry.get("sites")]
    keep = ("name", "kind", "std", "flow", "dead", "saturated", "entropy")
    return [[{k: site[k] for k in keep if k in site} for site in sites] for sites in (measured[:1] + measured[-1:])]


def _data(case: Case, folder: Path, *, undone: bool) -> dict[str, Any]:
    setting, fault = case.setting, case.fault
    seed = case.seed % 5 + (0 if setting.group == "A" else 7)
    if setting.data in SERIES:
        folder.mkdir(parents=True)
        columns = None if fault is None or undone else fault.columns
        return {"source": str(series(setting.data, folder, columns)), "task": "forecast"}
    rows = None if fault is None or undone else fault.rows
    size = {} if fault is None or fault.num_train is None or undone else {"num_train": fault.num_train}
    if not size and setting.num_train:
        size = {"num_train": setting.num_train}
    return written(setting.data, folder, seed=seed, change=rows, **size)


def stored(case: Case, folder: Path, **how: Any) -> dict[str, Any]:
    """Return what `run` does, from a file where it is there."""
    path = folder / f"{case.key}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    result = run(case, **how)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.rename(path)
    return result
