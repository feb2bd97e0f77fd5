"""The loop around `fit`: history, evaluation, checkpoints, going back, stopping."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any, TextIO, final

from torch.optim.lr_scheduler import ReduceLROnPlateau

from thalweg.curvature.check import CurvatureError
from thalweg.errors import InputError
from thalweg.optim.construct import needs_closure
from thalweg.status import Status
from thalweg.training.folder.run import HISTORY, finite, read_history
from thalweg.training.session.session import Session
from thalweg.training.steps.fit import StepRecord, fit

MAX_REJECTED = 3  # steps rejected in a row before the run goes back
MAX_ROLLBACKS = 4
AT_THE_END = {Status.STATIONARY, Status.NO_STEP}  # nothing is left to descend
MAX_STUCK = 3  # such steps in a row end the run: on mini-batches one alone says little
LR_FACTOR = 0.5
MAX_STEP_ENTRIES = 5000
NUM_WATCHED = 200  # steps at most on which each layer is measured; it costs about as much as the optimizer's step
MIN_WATCH_EVERY = 40
DEVICE_QUEUE = 10  # steps a GPU may be ahead of the log


def train(session: Session) -> Iterator[dict[str, Any]]:
    """Train to the end, yielding every history entry; the last one is the "finished" entry with the status.

    Ctrl-C and SIGTERM end the run after the step under way, with a checkpoint; a second one ends it at once.
    """
    place = session.place
    resumed = session.restore()
    with _History(session, place.step) as log, _Signals() as signals:
        if resumed:
            yield log.add({"event": "resumed", "step": place.step})
        else:
            session.save()
        try:
            status = yield from _take_steps(session, log, signals)
        except (InputError, CurvatureError) as error:
            # What only the first step can tell (a dense method on too many parameters) must leave nothing behind.
            if session.new_folder is not None:
                session.new_folder.discard()
            if isinstance(error, CurvatureError):
                name = session.run.recipe.training.optimizer
                raise InputError(
                    f"{name} cannot trust the second derivatives here: {error} As options: --optimizer lbfgs "
                    "--line-search wolfe, which needs none."
                ) from None
            raise
        yield log.add({"event": "finished", "step": place.step, "status": status.name, "signal": signals.received})


def _take_steps(session: Session, log: "_History", signals: "_Signals") -> Generator[dict[str, Any], None, Status]:
    """Take steps until something ends the run, yielding entries; return how it ended."""
    recipe = session.run.recipe.training
    score, place, total = session.score, session.place, session.total_steps
    clock = _Clock(score.seconds, recipe.time or 0.0)
    last_saved = clock.elapsed()
    pending: list[StepRecord] = []
    rejected_in_a_row, stuck_in_a_row = 0, 0
    for record in _steps(session):
        if session.new_folder is not None:
            session.new_folder.keep()
            session.new_folder = None
        pending.append(record)
        up = clock.is_up() and place.step < total
        interrupted = signals.received is not None
        stuck_in_a_row = stuck_in_a_row + 1 if record.status in AT_THE_END else 0
        stuck = stuck_in_a_row >= MAX_STUCK
        proved = record.gap is not None and record.gap <= (recipe.certify or 0.0)
        ends = place.step >= total or up or interrupted or stuck or proved
        due = place.step % session.evaluate_every == 0 or (ends and not interrupted)
        if session.device.type == "cpu" or len(pending) >= DEVICE_QUEUE or due or ends:
            for entry in log.steps(pending, clock.elapsed()):
                rejected_in_a_row = rejected_in_a_row + 1 if entry["event"] == "rejected" else 0
                score.num_rejected += entry["event"] == "rejected"
                yield entry
            pending.clear()
        score.seconds = clock.elapsed()
        if rejected_in_a_row >= MAX_REJECTED and not interrupted:
            rejected_in_a_row = 0
            if score.num_rollbacks >= MAX_ROLLBACKS:
                return Status.NOT_FINITE
            yield log.add(_go_back(session))
            continue
        if due:
            entry = _evaluate(session, clock)
            yield log.add(entry if record.gap is None else entry | {"gap": record.gap})
        if due or ends or clock.elapsed() - last_saved > (recipe.checkpoint_every or math.inf):
            log.flush()
            session.save()
            last_saved = clock.elapsed()
            log.paused(last_saved)
        if interrupted:
            return Status.INTERRUPTED
        if proved:
            return Status.PROVED
        if due and recipe.patience and score.without_progress >= recipe.patience:
            return Status.STOPPED_EARLY
        if stuck and record.status is not None:
            return record.status
        if up:
            return Status.OUT_OF_TIME
    return Status.COMPLETED


def _steps(session: Session) -> Iterator[StepRecord]:
    """Return the steps of a session, from its place to its end."""
    recipe, total = session.run.recipe, session.total_steps
    watch_every = max(MIN_WATCH_EVERY, total // NUM_WATCHED)
    return fit(
        session.model,
        session.head,
        session.optimizer,
        session.feed,
        steps=total,
        place=session.place,
        seed=recipe.run.seed or 0,
        schedule=session.schedule,
        clip=session.clipping.gradient,
        clip_update=session.clipping.update,
        needs_closure=needs_closure(session.optimizer),
        l2=recipe.training.l2 or 0.0,
        autocast=session.autocast,
        watch=lambda step: step < 5 or step % watch_every == 0,
    )


def _evaluate(session: Session, clock: "_Clock") -> dict[str, Any]:
    evaluation = session.measure()
    if isinstance(session.schedule, ReduceLROnPlateau):
        name, better = session.task.selects_by
        value = evaluation.value(name)
        session.schedule.step(-value if better == "higher" else value)
    entry = {
        "event": "evaluation",
        "step": session.place.step,
        "epoch": session.feed.epoch_of(session.place.step),
        "seconds": clock.elapsed(),
        "loss": evaluation.loss,
        "metrics": evaluation.metrics,
        "best": session.take_score(evaluation),
    }
    figures = session.head.figures()
    return entry | {"head": figures} if figures else entry


def _go_back(session: Session) -> dict[str, Any]:
    """Put the last good checkpoint back, with a smaller step from there on."""
    step, scale = session.place.step, session.score.lr_scale * LR_FACTOR
    session.restore(weights_only=True)
    session.scale_lr(scale / session.score.lr_scale)
    session.score.num_rollbacks += 1
    reason = f"loss or gradient was NaN or infinite on {MAX_REJECTED} steps in a row"
    return {"event": "rollback", "step": step, "to_step": session.place.step, "lr_scale": scale, "reason": reason}


@final
class _History:
    """Appends entries to `history.jsonl`; after a resume, entries beyond the checkpoint are dropped first."""

    def __init__(self, session: Session, step: int) -> None:
        self._feed = session.feed
        self._every = max(1, session.total_steps // MAX_STEP_ENTRIES)
        self._since: float | None = None
        path = session.run.folder / HISTORY
        kept = [entry for entry in read_history(path) if entry.get("step", 0) <= step and entry["event"] != "finished"]
        self._file: TextIO = open(path, "w", encoding="utf-8")  # noqa: SIM115  (held open over the run)
        for entry in kept:
            self._write(entry)

    def add(self, entry: dict[str, Any]) -> dict[str, Any]:
        self._write(entry)
        self._file.flush()
        return entry

    def steps(self, records: list[StepRecord], seconds: float) -> Iterator[dict[str, Any]]:
        """Write the records that are due, and yield an entry for every one."""
        examples = sum(record.num_examples for record in records)
        tokens = sum(record.num_tokens for record in records)
        duration = max(seconds - (self._since or 0.0), 1e-9)
        rates = {"examples_per_second": examples / duration}
        if tokens:
            rates["tokens_per_second"] = tokens / duration
        for record in records:
            entry = record.resolve()
            entry |= {"epoch": self._feed.epoch_of(record.step), "seconds": seconds}
            if self._since is not None:  # the first step also starts everything up
                entry |= rates
            if entry.pop("rejected", False):
                what = "gradient" if math.isfinite(entry["loss"]) else "loss"
                entry = {"event": "rejected", "step": record.step, "reason": f"the {what} was NaN or infinite"}
                self._write(entry)
            elif record.step % self._every == 0 or record.layers is not None:
                self._write(entry)
            yield entry
        self._since = seconds

    def paused(self, until: float) -> None:
        """Leave the time up to now, which evaluation and checkpoint took, out of the speed of the next steps."""
        self._since = until

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "_History":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(finite(entry), ensure_ascii=False, allow_nan=False) + "\n")


@final
class _Clock:
    """Seconds of training, those before a resume included."""

    def __init__(self, before: float, limit: float) -> None:
        self._start = time.monotonic() - before
        self._limit = limit

    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def is_up(self) -> bool:
        return self._limit > 0 and self.elapsed() >= self._limit


@final
class _Signals:
    """Notes the first SIGINT or SIGTERM; the second one acts as if nobody had listened."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = number
        for known, handler in self._before.items():
            signal.signal(known, handler)
