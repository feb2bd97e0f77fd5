"""All runs of a comparison on one data set, in turns: one round after the other, so that a busy machine is fair."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, final

from thalweg.comparison.budget import MOMENTS, Limit, limit_of
from thalweg.comparison.contest import Contest
from thalweg.comparison.entrants import Entrant
from thalweg.comparison.ledger import Ledger
from thalweg.comparison.question import DEFAULT_SECONDS, Question
from thalweg.comparison.results import rate_edge, score_of, winner_of
from thalweg.comparison.spaces import points
from thalweg.errors import InputError

PACE_SECONDS: Final = 1.0  # of steps that tell an entrant's pace, or a tenth of its budget
LEAST_SECONDS: Final = 0.5  # of a run, where no budget is given
POLL_SECONDS: Final = 0.5
Watch = Callable[[dict[str, Any]], None]
Run = Callable[..., dict[str, Any]]


@final
@dataclasses.dataclass(frozen=True)
class Job:
    """One run: whose, of which kind ("pace", "trial", "seed"), at which place, with which settings."""

    entrant: Entrant
    kind: str
    place: str
    number: int
    settings: Mapping[str, Any]


@final
class Rounds:
    """The runs on one data set.

    Args:
        question: what is asked.
        contest: data and recipes.
        train: makes a final run or a trial, and returns its record (`thalweg.comparison.running.Runner.train`).
        pace: measures how fast an entrant is (`Runner.pace`).
        ledger: knows which are done.
        by: the quantity that finds the winner.
        watch: takes events: "run" at the beginning of each, "step" after each step, "done" at its end, "spared" for
            runs that need not be made, "waiting" for those of other processes.
    """

    def __init__(
        self,
        question: Question,
        contest: Contest,
        train: Run,
        pace: Run,
        ledger: Ledger,
        by: tuple[str, str],
        watch: Watch,
    ) -> None:
        self._question, self._contest, self._ledger = question, contest, ledger
        self._train, self._pace = train, pace
        self._by, self._watch = by, watch
        self._entrants = [entrant for entrant in question.entrants if entrant.name in contest.recipes]
        self.failed: dict[str, str] = dict(contest.failed)
        self.paces: dict[str, dict[str, Any]] = {}
        self.seconds = question.seconds  # of each run; decided after the paces are known where it is not given
        self.trials: dict[str, list[dict[str, Any]]] = {}
        self.winners: dict[str, dict[str, Any]] = {}
        self.seeds: dict[str, list[dict[str, Any]]] = {}

    def points(self, entrant: Entrant) -> list[dict[str, Any]]:
        """Return the settings that are tried of an entrant."""
        return points(self._contest.spaces[entrant.name], self._question.trials, self._question.seed % 2**32)

    def num_runs(self) -> int:
        """Return how many runs there are, those that measure a pace left out."""
        able = [entrant for entrant in self._entrants if entrant.name not in self.failed]
        return sum(len(self.points(entrant)) + self._question.num_seeds for entrant in able)

    def measure_paces(self) -> None:
        """Measure how fast each entrant is, and decide the budget where none is given."""
        if self._question.steps is not None:
            return
        jobs = [Job(entrant, "pace", "pace", 0, {}) for entrant in self._entrants]
        found = self._do(jobs)
        for entrant in self._entrants:
            record = found["pace", entrant.name]["pace"]
            if "step" in record:
                self.paces[entrant.name] = record
            else:
                self.failed[entrant.name] = record["message"]
        if self.seconds is None and self.paces:
            self.seconds = self._fair_share()
        for entrant in self._entrants:
            pace = self.paces.get(entrant.name)
            if pace is not None and self.seconds is not None and pace["step"] > self.seconds:
                self.failed[entrant.name] = (
                    f"One step of {entrant.name} takes {pace['step']:.2g} s, more than the {self.seconds:g} s that a "
                    "run has; give a larger --budget, or a smaller model."
                )

    def _fair_share(self) -> float:
        """Return the seconds of each run with which all of them take the default time, to two digits."""
        each, fixed = 0, 0.0
        for entrant in self._entrants:
            if entrant.name in self.paces:
                number = len(self.points(entrant)) + self._question.num_seeds
                pace = self.paces[entrant.name]
                fixed += number * (pace["start"] + len(MOMENTS) * pace["score"])
                each += number
        available = DEFAULT_SECONDS / len(self._question.sources)
        return float(f"{max(LEAST_SECONDS, (available - fixed) / max(each, 1)):.2g}")

    def tune(self) -> None:
        """Run the trials, and choose each entrant's winner."""
        able = [entrant for entrant in self._entrants if entrant.name not in self.failed]
        tried = {entrant.name: self.points(entrant) for entrant in able}
        jobs = [
            Job(entrant, "trial", str(number), number, tried[entrant.name][number])
            for number in range(max(map(len, tried.values()), default=0))
            for entrant in able
            if number < len(tried[entrant.name])
        ]
        found = self._do(jobs)
        for entrant in able:
            records = found.get(("trial", entrant.name), {})
            trials: list[dict[str, Any]] = [
                {**records[str(number)], "number": number, "settings": settings, "lr": self._rate(entrant, settings)}
                for number, settings in enumerate(tried[entrant.name])
            ]
            self.trials[entrant.name] = trials
            best = winner_of(trials, self._by)
            if trials and best is None:
                messages = list(dict.fromkeys(trial["message"] for trial in trials))
                self.failed[entrant.name] = f"All {len(trials)} trials failed: {messages[0]}"
                self._spare(self._question.num_seeds)
            else:
                self.winners[entrant.name] = dict(trials[best]["settings"]) if best is not None else {}

    def _rate(self, entrant: Entrant, settings: Mapping[str, Any]) -> float | None:
        """Return the learning rate of a trial; None where none is tuned."""
        if "lr" not in self._contest.spaces[entrant.name]:
            return None
        return settings.get("lr", self._contest.recipes[entrant.name].training.lr)

    def decide(self) -> None:
        """Run the winners from every seed."""
        able = [entrant for entrant in self._entrants if entrant.name in self.winners]
        jobs = [
            Job(entrant, "seed", f"{seed}:{_digest(self.winners[entrant.name])}", seed, self.winners[entrant.name])
            for seed in self._question.seeds
            for entrant in able
        ]
        found = self._do(jobs)
        for entrant in able:
            own = [job for job in jobs if job.entrant is entrant]
            records = [{**found["seed", entrant.name][job.place], "seed": job.number} for job in own]
            if all(record["status"] == "FAILED" for record in records):  # then there is nothing to compare
                self.failed[entrant.name] = records[0]["message"]
            else:
                self.seeds[entrant.name] = records

    def limit(self, entrant: Entrant) -> Limit:
        """Return when the runs of an entrant end, as its pace is known by now."""
        recipe = self._contest.recipes[entrant.name]
        pace = self.paces.get(entrant.name, {}).get("step", math.inf)
        done = [trial for trial in self.trials.get(entrant.name, []) if trial["steps"] and not trial["diverged"]]
        if done:
            paces = sorted(trial["seconds"] / trial["steps"] for trial in done)
            pace = paces[len(paces) // 2]
        return limit_of(recipe, self.seconds, self._question.steps, pace)

    def _do(self, jobs: Sequence[Job]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
        """Run whatever is not done, wait for what others do, and return all records by kind, entrant and place."""
        studies = {
            (job.kind, job.entrant.name): self._ledger.study(self._contest.name, job.entrant.name, job.kind)
            for job in jobs
        }
        limits = {job.entrant.name: self.limit(job.entrant) for job in jobs if job.kind != "pace"}
        told, left = False, len(jobs)
        while True:
            records = {key: self._ledger.records(study) for key, study in studies.items()}
            open_jobs = [job for job in jobs if job.place not in records[job.kind, job.entrant.name]]
            if jobs and jobs[0].kind != "pace":
                self._spare(left - len(open_jobs))  # done before, or by others
            if not open_jobs:
                return records
            ran = [self._try(job, studies[job.kind, job.entrant.name], limits) for job in open_jobs]
            left = len(open_jobs) - sum(ran)
            if not any(ran):
                if not told:
                    self._watch({"event": "waiting", "runs": len(open_jobs)})
                    told = True
                time.sleep(POLL_SECONDS)

    def _spare(self, number: int) -> None:
        """Tell of runs that need not be made."""
        if number:
            self._watch({"event": "spared", "runs": number})

    def _try(self, job: Job, study: int, limits: Mapping[str, Limit]) -> bool:
        """Run a job unless somebody else does; return whether it was run."""
        space = self._contest.spaces[job.entrant.name]
        claim = self._ledger.claim(study, job.place, job.settings, space)
        if claim is None:
            return False
        begin = time.perf_counter()
        self._watch({"event": "run", "data": self._contest.name, "entrant": job.entrant.name, "kind": job.kind}
                    | {"number": job.number})  # fmt: skip

        def watch(entry: dict[str, Any]) -> None:
            claim.beat()
            self._watch({"event": "step"} | entry)

        try:
            record = self._run(job, limits, watch)
            score = score_of(record, self._by) if job.kind != "pace" else record.get("step", math.inf)
            claim.finish(score, record)
        except BaseException:
            claim.give_up()
            raise
        self._watch({"event": "done", "kind": job.kind, "entrant": job.entrant.name}
                    | {"took": time.perf_counter() - begin})  # fmt: skip
        return True

    def _run(self, job: Job, limits: Mapping[str, Limit], watch: Watch) -> dict[str, Any]:
        if job.kind == "pace":
            enough = PACE_SECONDS if self.seconds is None else min(PACE_SECONDS, self.seconds / 10)
            return self._pace(job.entrant, enough)
        limit = limits[job.entrant.name]
        seed = self._question.tuning_seed if job.kind == "trial" else job.number
        keep_as = f"{job.kind}-{job.number}"
        return self._train(job.entrant, job.settings, seed, limit, watch, keep_as)

    def results(self) -> Iterator[dict[str, Any]]:
        """Yield what `compare.json` says of each entrant, targets and times left out."""
        for entrant in self._question.entrants:
            name = entrant.name
            trials = [
                {key: value for key, value in trial.items() if key != "curve"} for trial in self.trials.get(name, [])
            ]
            space = self._contest.spaces.get(name, {})
            yield {
                "name": name,
                "label": name,
                "fixed": dict(entrant.fixed),
                "space": {option: one.plain() for option, one in space.items()},
                "winner": self.winners.get(name, {}),
                "edge": rate_edge(self.trials.get(name, []), self._by),
                "seconds_tuning": sum(trial["seconds"] for trial in trials),
                "trials": trials,
                "seeds": self.seeds.get(name, []),
                "failed": self.failed.get(name, ""),
            }


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:8]


def too_short(failed: Mapping[str, str]) -> InputError:
    """Return the error of a data set on which no entrant can run."""
    return InputError(" ".join(dict.fromkeys(failed.values())))
