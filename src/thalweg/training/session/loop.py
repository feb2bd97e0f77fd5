"""The loop around `fit`: history, evaluation, checkpoints, going back, stopping."""

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, final

from torch.optim.lr_scheduler import ReduceLROnPlateau

from thalweg import distributed, sharded
from thalweg.batch import Batch
from thalweg.curvature.culprit import CurvatureError
from thalweg.errors import InputError, RankError, is_out_of_memory
from thalweg.optim.plateau import GreedyLR
from thalweg.status import Status
from thalweg.storage.files import Sum
from thalweg.storage.ledger import Ledger
from thalweg.training.folder import checkpoint
from thalweg.training.integrity import checkpoint_names
from thalweg.training.integrity.history import HistoryFile, kept_until, line_of, read_history
from thalweg.training.integrity.run_files import HISTORY, WEIGHTS
from thalweg.training.pretrained.rates import thawing
from thalweg.training.session import optimizer, stopping
from thalweg.training.session.selection import select
from thalweg.training.session.session import Session
from thalweg.training.steps.culprit import Culprit
from thalweg.training.steps.evaluate import Evaluation, seconds_to_evaluate
from thalweg.training.steps.feed import ahead
from thalweg.training.steps.fit import FitOptions, StepRecord, fit
from thalweg.training.steps.gauges import parameter_facts
from thalweg.training.steps.recorder import Interval
from thalweg.training.steps.signals import Signals

Batches = Callable[[int], Sequence[Batch]]
LR_FACTOR = 0.5
MAX_STEP_ENTRIES = 5000
DEVICE_QUEUE = 10  # steps a GPU may be ahead of the log


def train(session: Session) -> Iterator[dict[str, Any]]:
    """Train to the end, yielding every history entry; the last one is the "finished" entry with the status.

    Ctrl-C and SIGTERM end the run after the step under way, with a checkpoint; a second one ends it at once. An error
    in a step leaves a checkpoint of the one before, where nothing of that has been changed, and a note that says from
    where the run goes on.
    """
    place = session.place
    found = session.restore()
    resumed = found is not None
    with _History(session, found) as log, Signals() as signals:
        if resumed:
            yield log.add({"event": "resumed", "step": place.step})
        try:
            status = session.ended or (yield from _begin(session, log, signals, resumed=resumed))
            if status is None:
                status = yield from _take_steps(session, log, signals)
            session.settle()
        except (InputError, CurvatureError) as error:
            # What only the first step can tell (a dense method on too many parameters) must leave nothing behind.
            session.discard_folder()
            if isinstance(error, CurvatureError):
                name = session.run.recipe.training.optimizer
                raise InputError(
                    f"{name} found unreliable second derivatives: {error} Use --optimizer lbfgs --line-search wolfe, "
                    "which needs none."
                ) from None
            raise
        if status is not Status.INTERRUPTED:
            # Without weights not one evaluation gave a number, or no weights were finite.
            session.ended = status = status if WEIGHTS in session.ledger else Status.NOT_FINITE
        yield log.add({"event": "finished", "step": place.step, "status": status.name, "signal": signals.received})
        session.history = log.flush()


def _begin(
    session: Session, log: "_History", signals: Signals, *, resumed: bool
) -> Generator[dict[str, Any], None, Status | None]:
    """Let validation choose, where it has to, and save the place where the steps begin; return an early end."""
    clock = _Clock(0.0)
    if session.is_to_choose:
        status = yield from select(session, log.add, log.flush, signals, clock)
        if status is not None:
            return status
    if session.is_chosen and not resumed:  # also where the choice was made, and the run killed before a checkpoint
        session.score.seconds = clock.elapsed()
        if session.holds_out:
            evaluation = session.measure()
            session.take_score(evaluation)
            yield log.add(_entry(session, evaluation, clock))  # the kept weights are those trained from here on
    if not resumed:
        networks = (("", session.model), ("head", session.head))
        yield log.add({"event": "watched", **parameter_facts(networks, session.optimizer)})
        session.save(log.flush())
    return None


def _take_steps(session: Session, log: "_History", signals: Signals) -> Generator[dict[str, Any], None, Status]:
    """Take steps until a rule of `stopping` ends the run, yielding entries; return how it ended."""
    clock = _Clock(session.score.seconds)
    saves = _Saves(session, log, clock)
    pending: list[StepRecord] = []
    try:
        return (yield from _steps_to_end(session, log, signals, clock, saves, pending))
    except Exception as error:
        if distributed.is_first():
            saves.after_error(error, pending)
        raise


def _steps_to_end(
    session: Session,
    log: "_History",
    signals: Signals,
    clock: "_Clock",
    saves: "_Saves",
    pending: list[StepRecord],
) -> Generator[dict[str, Any], None, Status]:
    recipe, score, place = session.run.recipe.training, session.score, session.place
    limit = session.time_limit
    if limit.seconds and session.holds_out:
        parts = session.task, session.model, session.head, session.prepared.valid, session.device
        limit.measured(distributed.most([seconds_to_evaluate(*parts)])[0])
    moment = stopping.Moment(
        session.total_steps,
        seconds_limit=limit.for_steps,
        tolerance=recipe.certify,
        patience=recipe.patience,
        num_rollbacks=score.num_rollbacks,
        stuck_in_a_row=score.stuck_in_a_row,
        rejected_in_a_row=score.rejected_in_a_row,
    )
    for record in _steps(session):
        session.keep_folder()
        pending.append(record)
        seconds, interrupted = _agreed(clock, signals)
        moment.advance(place.step, seconds, record.gap, record.status)
        optimizer.follow(session.schedule, session.total_steps, limit.progress(seconds))
        status = stopping.ending(moment)
        due = place.step % session.evaluate_every == 0 or status is not None
        if session.device.type == "cpu" or len(pending) >= DEVICE_QUEUE or due or interrupted:
            for entry in log.steps(pending, seconds):
                rejected = entry["event"] == "rejected"
                moment.rejected_in_a_row = moment.rejected_in_a_row + 1 if rejected else 0
                score.num_rejected += rejected
                yield entry
            pending.clear()
        score.seconds = seconds
        if moment.is_spoiled:
            if stopping.not_finite(moment):
                return Status.NOT_FINITE
            yield log.add(_go_back(session))
            moment.rejected_in_a_row, moment.num_rollbacks = 0, score.num_rollbacks
            continue
        if due:
            with optimizer.averaged(session.optimizer):
                entry = _evaluate(session, clock)
            if status is None:  # else the schedule is at its end, and no more steps are to be taken
                limit.measured(clock.elapsed() - seconds)
                moment.seconds_limit = limit.for_steps
            if entry is not None:
                yield log.add(entry if record.gap is None else entry | {"gap": record.gap})
            moment.without_progress = score.without_progress
            status = stopping.ending(moment)
        session.ended = status  # also where it is interrupted in the step that ends it
        score.stuck_in_a_row, score.rejected_in_a_row = moment.stuck_in_a_row, moment.rejected_in_a_row
        if due:
            _require_alike(session)
        saves.after_step(seconds, at_once=due or interrupted)
        if interrupted:
            return Status.INTERRUPTED
        if status is not None:
            return status
    return Status.COMPLETED


def _agreed(clock: "_Clock", signals: Signals) -> tuple[float, bool]:
    """Return the seconds so far and whether to stop, on which all processes act in the same step."""
    seconds, signal = distributed.most([clock.own(), float(signals.received or 0)])
    signals.take(int(signal))
    return seconds, bool(signal)


def _require_alike(session: Session) -> None:
    """Raise a RankError that names a process whose weights are others than those of process 0."""
    if not distributed.is_active():
        return
    sums = distributed.gather(session.parts.fingerprint())
    if others := [number for number, one in enumerate(sums) if one != sums[0]]:
        raise RankError(
            f"After step {session.place.step:,} process {others[0]} of {len(sums)} has other weights than process 0; "
            "resume from a checkpoint, on machines of one kind."
        )


def _steps(session: Session) -> Iterator[StepRecord]:
    """Return the steps of a session, from its place to its end."""
    recipe, total = session.run.recipe, session.total_steps
    interval = Interval.of(total)
    options = FitOptions(
        seed=recipe.run.seed,
        l2=recipe.training.l2,
        autocast=session.autocast,
        compiled=recipe.run.compile,
        watch=interval.watches,
        sites=interval.sees_sites,
    )
    feed = ahead(session.feed, total) if session.device.type == "cuda" else session.feed
    if (thaw := thawing(session.model, recipe.training.unfreeze_every)) is not None:
        feed = _thawed(feed, thaw, session.feed.epoch_of)
    parts = (session.model, session.head, session.stepper, feed)
    steps = session.each(fit(*parts, steps=total, place=session.place, schedule=session.schedule, options=options))
    if session.resumed_from is not None:  # what an optimizer has saved is seen to fit when it is used
        with checkpoint_names.sound(session.resumed_from / checkpoint.TREE):
            first = next(steps, None)
        if first is not None:
            yield first
    yield from steps


def _thawed(feed: Batches, thaw: Callable[[float], None], epoch_of: Callable[[int], float]) -> Batches:
    """Return the batches of each step, before which the layers that are trained in it are set."""

    def batches(step: int) -> Sequence[Batch]:
        thaw(epoch_of(step))
        return feed(step)

    return batches


def _evaluate(session: Session, clock: "_Clock") -> dict[str, Any] | None:
    """Measure the present weights, keep them where they are the best so far, and return the entry.

    Weights that are trained on the validation examples are kept, and not measured on them; nor are any where there are
    no such examples.
    """
    if session.refits or not session.holds_out:
        if session.parts.is_sound():
            session.keep_weights()
        return None
    evaluation = session.measure()
    name, better = session.task.selects_by
    value = evaluation.value(name)
    if isinstance(session.schedule, ReduceLROnPlateau | GreedyLR):
        wanted = "max" if better == "higher" else "min"
        session.schedule.step(value if session.schedule.mode == wanted else -value)
    improved = session.take_score(evaluation)
    keeps_last = session.run.recipe.training.certify  # what is certified is the end of training, not its best score
    kept = improved or bool(keeps_last and math.isfinite(value))
    if kept:
        session.keep_weights()
    return _entry(session, evaluation, clock, improved=improved, kept=kept)


def _entry(
    session: Session, evaluation: Evaluation, clock: "_Clock", *, improved: bool = False, kept: bool = False
) -> dict[str, Any]:
    entry = {
        "event": "evaluation",
        "step": session.place.step,
        "epoch": session.feed.epoch_of(session.place.step),
        "seconds": clock.elapsed(),
        "loss": evaluation.loss,
        "metrics": evaluation.metrics,
        "best": improved,
        "kept": kept,
    }
    with sharded.whole(session.model):
        figures = session.head.figures()
    return entry | {"head": figures} if figures else entry


def _go_back(session: Session) -> dict[str, Any]:
    """Put the last good checkpoint back, with a smaller step from there on."""
    step, scale = session.place.step, session.score.lr_scale * LR_FACTOR
    session.restore(weights_only=True)
    session.scale_lr(scale / session.score.lr_scale)
    session.score.num_rollbacks += 1
    reason = f"loss or gradient was NaN or infinite on {stopping.MAX_REJECTED} steps in a row"
    return {"event": "rollback", "step": step, "to_step": session.place.step, "lr_scale": scale, "reason": reason}


def _rejection(entry: dict[str, Any], last_sound: dict[str, float]) -> dict[str, Any]:
    """Return the entry of a step that was not taken, from what a step that was taken would have for one."""
    reason = f"the {'gradient' if math.isfinite(entry['loss']) else 'loss'} was NaN or infinite"
    found = {name: entry[name] for name in ("where", "what") if name in entry}
    if found:
        reason += f", first in {Culprit(**found)}"
    if last_sound:
        loss, norm = last_sound.values()
        reason += f"; the last finite loss was {loss:.4g}, with gradient norm {norm:.4g}"
    return {"event": "rejected", "step": entry["step"], "reason": reason, **found, **last_sound}


@final
class _Saves:
    """Writes checkpoints: when told to, when so many seconds have passed since the last one, and after an error."""

    def __init__(self, session: Session, log: "_History", clock: "_Clock") -> None:
        self._session, self._log, self._clock = session, log, clock
        self._every = session.run.recipe.training.checkpoint_every or math.inf
        self._last = clock.elapsed()
        self._step = session.place.step  # the last one after which all was done

    def after_step(self, seconds: float, *, at_once: bool) -> None:
        self._step = self._session.place.step
        if at_once or seconds - self._last > self._every:
            self._session.save(self._log.flush())
            self._last = self._clock.elapsed()
            self._log.paused(self._last)

    def after_error(self, error: Exception, pending: list[StepRecord]) -> None:
        """Save the last step, where weights and memory are as it left them; say from where the run goes on.

        This process does it alone, where it has all of them: others may be gone.
        """
        session = self._session
        if is_out_of_memory(error):
            traceback.clear_frames(error.__traceback__)  # which hold what the step has computed so far
        with distributed.alone():
            session.give_up()
            saved = self._saved()
            is_there = self._step == session.place.step and not session.stepper.is_changing
            if saved < session.place.step and is_there and session.parts.divided is None:
                with contextlib.suppress(Exception):  # the same one again, such as a GPU that answers no more
                    list(self._log.steps(pending, session.score.seconds))
                    for network in (session.model, session.head):
                        network.zero_grad()  # which holds a part of one
                    session.save(self._log.flush())
                    session.settle()
                saved = self._saved()
        if saved:
            error.add_note(f"The newest checkpoint is of step {saved:,}, and the same command goes on from there.")

    def _saved(self) -> int:
        """Return the step of the newest checkpoint; 0: there is none, or nothing has been trained."""
        with contextlib.suppress(Exception):  # of one that could not be written
            self._session.settle()
        newest = self._session.newest()
        return 0 if newest is None else int(newest.name[5:])


@final
class _History:
    """Appends entries to `history.jsonl`; after a resume, entries beyond the checkpoint are dropped first.

    Without a checkpoint nothing counts but how validation has chosen.
    """

    def __init__(self, session: Session, resumed: Ledger | None) -> None:
        self._feed = session.feed
        self._every = max(1, session.total_steps // MAX_STEP_ENTRIES)
        self._since: float | None = None
        self._last_sound: dict[str, float] = {}  # loss and gradient norm of the last step that was taken
        self._file: HistoryFile | None = None  # which the first of several processes writes
        distributed.by_first(lambda: self._open(session, resumed))

    def _open(self, session: Session, resumed: Ledger | None) -> None:
        path = session.run.folder / HISTORY
        if resumed is not None:
            kept = kept_until(path, checkpoint_names.history_of(resumed.folder))
        else:
            chosen = [] if session.is_to_choose else read_history(path)
            kept = b"".join(line_of(entry) for entry in chosen if entry["event"] == "selection")
        self._file = HistoryFile(path, kept)

    def add(self, entry: dict[str, Any]) -> dict[str, Any]:
        if self._file is not None:
            self._file.write(entry)
            self._file.show()
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
                entry = _rejection(entry, self._last_sound)
                self._write(entry)
                yield entry
                continue
            self._last_sound = {f"last_{name}": entry[name] for name in ("loss", "grad_norm")}
            if record.step % self._every == 0 or record.watched is not None:
                self._write(entry)
            yield entry
        self._since = seconds

    def paused(self, until: float) -> None:
        """Leave the time up to now, which evaluation and checkpoint took, out of the speed of the next steps."""
        self._since = until

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(entry)

    def flush(self) -> Sum:
        return Sum(0, "") if self._file is None else self._file.flush()

    def __enter__(self) -> "_History":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


@final
class _Clock:
    """Seconds of training, those before a resume included; of several processes the most."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    def elapsed(self) -> float:
        return distributed.most([self.own()])[0]

    def own(self) -> float:
        return time.monotonic() - self._start
