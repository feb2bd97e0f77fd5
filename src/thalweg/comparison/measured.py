"""One run of one entrant, with a clock that stops while the scores are measured."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from thalweg.comparison.budget import MOMENTS, Limit
from thalweg.optim.plateau import GreedyLR
from thalweg.status import Status
from thalweg.storage.forms import either, many, number, perhaps, record, text, truth, whole
from thalweg.training.session import stopping
from thalweg.training.session.session import WHOLE, Session
from thalweg.training.steps.evaluate import Evaluation, calibrate, evaluate
from thalweg.training.steps.fit import FitOptions, StepRecord, fit

DEVICE_QUEUE: Final = 10  # steps that a GPU may be ahead of the clock
CURVE: Final = ("step", "evaluations", "seconds", "train_loss", "valid_loss", "metric")


def _real(value: Any, where: str) -> float:
    """A number, which in a curve that diverged may be none that is finite."""
    return value if isinstance(value, float) else number()(value, where)


_RUN: Final = record(
    status=text(), diverged=truth(), message=text(), seconds=number(0.0), steps=whole(0), evaluations=number(0.0),
    peak_bytes=whole(0), loss=perhaps(number()), metric=perhaps(number()),
    curve=record(**dict.fromkeys(CURVE, many(perhaps(_real)))),
)  # fmt: skip
_PACE: Final = record(step=number(0.0), score=number(0.0), start=number(0.0))
RECORD_FORM: Final = either("the record of a run", _RUN, _PACE)  # what a comparison keeps of each


@final
class Clock:
    """Seconds of training, from those `spent` before on; those in which something else is done are left out."""

    def __init__(self, spent: float = 0.0) -> None:
        self._start = time.perf_counter() - spent
        self._paused = 0.0

    def elapsed(self) -> float:
        """Return the seconds so far."""
        return time.perf_counter() - self._start - self._paused

    def without(self, measure: Callable[[], Any]) -> Any:
        """Return what `measure` returns; its time does not count."""
        begin = time.perf_counter()
        try:
            return measure()
        finally:
            self._paused += time.perf_counter() - begin


@final
class Measured:
    """A run as it goes: its curve, its counts, how it ended.

    Args:
        session: of the run, at its beginning.
        limit: when it ends.
        unit: examples in whose gradient evaluations are counted.
        scored_on: "valid" or "train".
        scored_by: what finds its best moment: "loss" or "metric".
        metric: name and better end of the task's metric.
        spent: seconds that choosing an optimizer has taken, which count as training.
    """

    def __init__(
        self,
        session: Session,
        limit: Limit,
        unit: int,
        scored_on: str,
        scored_by: str,
        metric: tuple[str, str],
        spent: float = 0.0,
    ) -> None:
        self._session, self._limit, self._unit = session, limit, unit
        self._scored_on, self._scored_by, self._metric, self._spent = scored_on, scored_by, metric, spent
        self.curve: dict[str, list[Any]] = {name: [] for name in CURVE}
        self.history: list[dict[str, Any]] = []
        self._losses: list[Tensor] = []
        self._evaluations = 0.0
        self._status = Status.COMPLETED

    def run(self) -> Iterator[dict[str, Any]]:
        """Train to the end; yield the step, the seconds and the loss after each step."""
        session, limit = self._session, self._limit
        training = session.run.recipe.training
        moment = stopping.Moment(
            limit.steps,
            seconds_limit=limit.seconds if math.isfinite(limit.seconds) else 0.0,
            tolerance=training.certify,
            num_rollbacks=stopping.MAX_ROLLBACKS,  # a run that diverges is not begun again
        )
        clock, due, loss = Clock(self._spent), 1, math.nan
        clock.without(lambda: self._score(0.0))
        for step in self._steps():
            self._losses.append(step.loss)
            self._evaluations += step.evaluations * step.num_examples / self._unit
            is_seen = session.device.type != "cuda" or step.step % DEVICE_QUEUE == 0
            if is_seen:  # waits for the device
                loss = float(step.loss)
            seconds = clock.elapsed()
            moment.advance(step.step, seconds, step.gap, step.status)
            if is_seen:
                moment.rejected_in_a_row = moment.rejected_in_a_row + 1 if bool(step.rejected) else 0
            status = stopping.ending(moment)
            is_due = limit.progress(step.step, seconds) >= MOMENTS[due] - 1e-12
            entry = clock.without(lambda step=step, seconds=seconds: self._note(step, seconds))
            if is_due or status is not None:
                clock.without(lambda: self._score(clock.elapsed()))
                while due < len(MOMENTS) - 1 and MOMENTS[due] <= limit.progress(step.step, seconds):
                    due += 1
            yield {"step": step.step, "seconds": seconds, "loss": loss, "entry": entry}
            if status is not None:
                self._status = status
                return

    def _steps(self) -> Iterator[StepRecord]:
        session = self._session
        recipe = session.run.recipe
        options = FitOptions(seed=recipe.run.seed, l2=recipe.training.l2, autocast=session.autocast)
        parts = (session.model, session.head, session.stepper, session.feed)
        return fit(*parts, steps=self._limit.steps, place=session.place, schedule=session.schedule, options=options)

    def _note(self, record: StepRecord, seconds: float) -> dict[str, Any]:
        """Keep every step of a short run, and some of a long one."""
        every = max(1, self._limit.steps // 1000)
        entry = record.resolve() if record.step % every == 0 else {}
        if entry:
            self.history.append(entry | {"seconds": seconds})
        return entry

    def _score(self, seconds: float) -> None:
        """Measure the present weights, and note where they are."""
        session = self._session
        evaluation = self._evaluate()
        if isinstance(session.schedule, ReduceLROnPlateau | GreedyLR) and self._losses:
            name, better = session.task.selects_by
            wanted = "max" if better == "higher" else "min"
            score = evaluation.value(name)
            session.schedule.step(score if session.schedule.mode == wanted else -score)
        seen = [float(loss) for loss in self._losses]
        self._losses.clear()
        row = {
            "step": session.place.step,
            "evaluations": round(self._evaluations, 3),
            "seconds": seconds,
            "train_loss": _finite(sum(seen) / len(seen)) if seen else None,
            "valid_loss": _finite(evaluation.loss),
            "metric": _finite(evaluation.value(self._metric[0])),
        }
        for key, value in row.items():
            self.curve[key].append(value)
        self.history.append(
            {"event": "evaluation", "step": row["step"], "seconds": seconds, "loss": row["valid_loss"]}
            | {"evaluations": row["evaluations"], "metrics": evaluation.metrics}
        )

    def _evaluate(self) -> Evaluation:
        session = self._session
        if self._scored_on == "valid":
            return session.measure()
        calibrate(session.model, session.head, session.feed(0)[0], autocast=session.autocast)
        training = session.run.recipe.training
        return evaluate(
            session.task,
            session.model,
            session.head,
            session.prepared.train,
            batch_size=max(64, training.batch_size or WHOLE),
            device=session.device,
            autocast=session.autocast,
        )

    def record(self) -> dict[str, Any]:
        """Return what is kept of the run; its loss and metric are those of its best moment after the start."""
        curve = self.curve
        values = curve["valid_loss" if self._scored_by == "loss" else "metric"]
        places = [place for place in range(1, len(values)) if values[place] is not None]
        sign = -1.0 if self._scored_by == "metric" and self._metric[1] == "higher" else 1.0
        best = min(places, key=lambda place: (sign * values[place], place), default=None)
        diverged = self._status is Status.NOT_FINITE or best is None
        return {
            "status": Status.NOT_FINITE.name if best is None else self._status.name,
            "diverged": diverged,
            "message": Status.NOT_FINITE.value if diverged else "",
            "seconds": curve["seconds"][-1],
            "steps": curve["step"][-1],
            "evaluations": curve["evaluations"][-1],
            "peak_bytes": self._bytes(),
            "loss": None if diverged or best is None else curve["valid_loss"][best],
            "metric": None if diverged or best is None else curve["metric"][best],
            "curve": curve,
        }

    def _bytes(self) -> int:
        """Return the memory of weights, gradients and the optimizer's state; on a GPU the most that was in use."""
        session = self._session
        if session.device.type == "cuda":
            return torch.cuda.max_memory_allocated(session.device)
        held: dict[int, int] = {}
        for network in (session.model, session.head):
            for parameter in network.parameters():
                for tensor in (parameter, parameter.grad):
                    if tensor is not None:
                        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        _add_tensors(session.optimizer.state_dict(), held)
        return sum(held.values())


def _add_tensors(value: Any, held: dict[int, int]) -> None:
    if isinstance(value, Tensor):
        held[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    elif isinstance(value, dict):
        for entry in value.values():
            _add_tensors(entry, held)
    elif isinstance(value, list | tuple):
        for entry in value:
            _add_tensors(entry, held)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
