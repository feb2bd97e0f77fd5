"""From an entrant's settings to a record of one run, whatever goes wrong in it."""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, final

import torch

from thalweg import names
from thalweg.comparison.budget import Limit
from thalweg.comparison.contest import Contest
from thalweg.comparison.entrants import Entrant
from thalweg.comparison.measured import CURVE, Measured
from thalweg.curvature.culprit import CurvatureError
from thalweg.errors import InputError, is_out_of_memory
from thalweg.storage.files import make_folder
from thalweg.storage.ledger import Ledger
from thalweg.training.folder.run import Run
from thalweg.training.integrity import run_files
from thalweg.training.integrity.history import line_of
from thalweg.training.integrity.placing import folder_name
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.session.session import Session
from thalweg.training.steps.device import choose_device
from thalweg.training.steps.fit import FitOptions, fit

MIN_PACE_STEPS: Final = 3  # timed, after a first one that starts everything up
PACE_STEPS: Final = 10_000  # of the run whose beginning is timed


@final
class Runner:
    """Runs entrants on one data set.

    Args:
        contest: the data and the recipes.
        folder: where the final runs leave their recipes and histories.
        scored_on: "valid" or "train".
        scored_by: what the best moment of a run is found by: "loss" or "metric".
        metric: name and better end of the task's metric.
        unit: examples in whose gradient evaluations are counted.
    """

    def __init__(
        self, contest: Contest, folder: Path, scored_on: str, scored_by: str, metric: tuple[str, str], unit: int
    ) -> None:
        self.contest = contest
        self._folders: dict[str, Path] = {}
        for name in contest.recipes:
            short = folder_name(name, also="=,")
            while folder / short in self._folders.values():
                short += "-2"
            self._folders[name] = folder / short
        self._how = (unit, scored_on, scored_by, metric)

    def train(
        self,
        entrant: Entrant,
        settings: Mapping[str, Any],
        seed: int,
        limit: Limit,
        watch: Callable[[dict[str, Any]], None],
        keep_as: str = "",
    ) -> dict[str, Any]:
        """Return the record of one run; what an optimizer raises is its result.

        Args:
            entrant: who runs.
            settings: tuned ones.
            seed: of start, data order and dropout.
            limit: when it ends.
            watch: called after each step.
            keep_as: the name under which recipe and history are kept; "": they are not.
        """
        with tempfile.TemporaryDirectory(prefix="thalweg-") as scratch:
            kept = self._folders[entrant.name] / keep_as if keep_as else Path(scratch)
            try:
                recipe, spent = self._recipe(entrant, settings, seed, limit.steps)
            except Exception as error:
                return failed_record(error)
            make_folder(kept)
            Ledger.at(kept).write({run_files.RECIPE: recipe.to_toml().encode()})
            try:
                measured = Measured(self._session(recipe, kept), limit, *self._how, spent)
            except Exception as error:  # an optimizer of another package may raise whatever it likes
                return failed_record(error)
            entries = measured.run()
            while True:
                try:
                    entry = next(entries, None)
                except Exception as error:
                    return failed_record(error)
                if entry is None:
                    break
                watch(entry)  # outside: what the storage or the terminal raises is not the optimizer's failure
            Ledger(kept).write({run_files.HISTORY: b"".join(map(line_of, measured.history))})
            return measured.record()

    def pace(self, entrant: Entrant, enough: float) -> dict[str, Any]:
        """Measure how long a step, a score and the start of a run take; `enough` seconds of steps tell."""
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="thalweg-") as scratch:
            seed = self.contest.recipes[entrant.name].run.seed
            try:
                recipe, _ = self._recipe(entrant, {}, seed, PACE_STEPS)
                Ledger.create(Path(scratch), {run_files.RECIPE: recipe.to_toml().encode()})
                session = self._session(recipe, Path(scratch))
                build = time.perf_counter() - begin
                seconds = _seconds_per_step(session, enough)
                begin = time.perf_counter()
                session.measure()
                return {"step": seconds, "score": time.perf_counter() - begin, "start": build}
            except Exception as error:
                return failed_record(error)

    def _recipe(self, entrant: Entrant, settings: Mapping[str, Any], seed: int, steps: int) -> tuple[Recipe, float]:
        """Return the recipe of a run, and the seconds in which its optimizer was chosen, where that was the wish."""
        begin = time.perf_counter()
        recipe = self.contest.recipe(entrant, settings, seed, steps)
        is_chosen = self.contest.recipes[entrant.name].training.optimizer == names.AUTOMATIC
        return recipe, time.perf_counter() - begin if is_chosen else 0.0

    def _session(self, recipe: Recipe, folder: Path) -> Session:
        """Return the session of a run at its beginning."""
        task, prepared = self.contest.read(recipe)
        device = choose_device(recipe.run.device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        return Session(Run(folder), task, prepared, device, fast=False)


def _seconds_per_step(session: Session, enough: float) -> float:
    """Return the median time of a step, batches and schedule included."""
    recipe = session.run.recipe
    options = FitOptions(seed=recipe.run.seed, l2=recipe.training.l2, autocast=session.autocast)
    parts = (session.model, session.head, session.stepper, session.feed)
    times: list[float] = []
    last = first = time.perf_counter()
    for record in fit(*parts, steps=PACE_STEPS, place=session.place, schedule=session.schedule, options=options):
        float(record.loss)
        now = time.perf_counter()
        times.append(now - last)
        last = now
        if record.step == 1:
            first = now
            if now - first > enough:
                break
        if (record.step > MIN_PACE_STEPS and now - first > enough) or now - first > 10 * enough:
            break
    late = times[1:] or times
    return sum(late) / len(late)


def failed_record(error: BaseException) -> dict[str, Any]:
    """Return the record of a run that ended in an error: it counts as the worst there is."""
    text = " ".join(str(error).split()) or type(error).__name__
    if is_out_of_memory(error):
        text = f"There is not enough memory ({text[:200]})."
    elif not isinstance(error, InputError | CurvatureError):
        text = f"{type(error).__name__}: {text[:300]}"
    empty: dict[str, list[Any]] = {name: [] for name in CURVE}
    return {
        "status": "FAILED", "diverged": True, "message": text, "seconds": 0.0, "steps": 0, "evaluations": 0.0,
        "peak_bytes": 0, "loss": None, "metric": None, "curve": empty,
    }  # fmt: skip
