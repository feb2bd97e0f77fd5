"""Which runs are done, by whom, and what came out: an Optuna study for each entrant, in a file or a shared database."""

import contextlib
import errno
import hashlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from thalweg.comparison.spaces import Choices, Interval, Space
from thalweg.errors import InputError
from thalweg.storage.forms import Form, anything, text
from thalweg.storage.regular import open_regular

BEAT_SECONDS: Final = 10.0  # between two signs of life of a run under way
SILENT_SECONDS: Final = 120.0  # after which a run is taken for dead
LONGEST_NAME: Final = 100  # of an entrant in the name of a study, which databases limit
_JOURNAL: Final = b'{"op_code":'  # how each line of a journal begins
_OF_THE_MACHINE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS}
PLACE, ALIVE, OWNER, RECORD, SETTINGS = "place", "alive", "owner", "record", "settings"


@final
class Ledger:
    """The studies of one comparison in one storage; several processes may write at once.

    Each run has a place in a study, a text such as "3". Whoever claims it runs it; others leave it alone, unless the
    process that claimed it is gone.

    Args:
        storage: URL of any Optuna storage, or the name of a journal file.
        prefix: what the names of this comparison's studies begin with.
        suffix: what they end with.
        form: of a record; None: whatever stands there.

    Raises:
        InputError: if the storage cannot be reached.
    """

    def __init__(self, storage: str, prefix: str, suffix: str, form: Form | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._prefix, self._suffix, self._form = prefix, suffix, form or anything()
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._named = _without_password(storage)
        self._studies: dict[str, int] = {}
        with self.reachable():
            self._storage = _open(storage)

    def study(self, *names: str) -> int:
        """Return the id of the study of some names, such as data, entrant and kind; it is made where there is none."""
        name = "/".join([self._prefix, *map(_short, names), self._suffix])
        if name not in self._studies:
            with self.reachable():
                optuna.create_study(study_name=name, storage=self._storage, load_if_exists=True)
                self._studies[name] = self._storage.get_study_id_from_name(name)
        return self._studies[name]

    def forget(self) -> None:
        """Remove every study of this comparison."""
        with self.reachable():
            for study in self._storage.get_all_studies():
                if study.study_name.startswith(f"{self._prefix}/") and study.study_name.endswith(f"/{self._suffix}"):
                    self._storage.delete_study(self._storage.get_study_id_from_name(study.study_name))
        self._studies.clear()

    def workers(self) -> set[str]:
        """Return the processes that are at a run of any comparison in this storage, as HOST:NUMBER."""
        with self.reachable():
            studies = [self._storage.get_study_id_from_name(one.study_name) for one in self._storage.get_all_studies()
                       if one.study_name.startswith(f"{self._prefix}/")]  # fmt: skip
            trials = [trial for study in studies for trial in self._trials(study)]
            return {
                str(trial.user_attrs.get(OWNER))
                for trial in trials
                if trial.state is TrialState.RUNNING and self._is_alive(trial)
            }

    def records(self, study: int) -> dict[str, dict[str, Any]]:
        """Return what came out, by place."""
        found: dict[str, dict[str, Any]] = {}
        for trial in self._trials(study):
            if _is_done(trial):
                with self.reachable():
                    place = text()(trial.user_attrs.get(PLACE), PLACE)
                    found.setdefault(place, self._form(trial.user_attrs[RECORD], RECORD))
        return found

    def claim(self, study: int, place: str, settings: Mapping[str, Any], space: Space) -> "Claim | None":
        """Take on the run at a place, or return None where it is done or somebody is at it.

        The settings that the space holds are written down as the trial's parameters, too, for Optuna's own pictures.
        """
        if self._is_taken(study, place):
            return None
        attributes = {PLACE: place, SETTINGS: dict(settings), OWNER: self._owner, ALIVE: time.time()}
        known = {name: one for name, one in space.items() if name in settings}
        template = create_trial(
            state=TrialState.RUNNING,
            params={name: _stored(settings[name]) for name in known},
            distributions={name: _distribution(one) for name, one in known.items()},
            user_attrs=attributes,
        )
        with self.reachable():
            trial = self._storage.create_new_trial(study, template_trial=template)
            number = self._storage.get_trial(trial).number
        claim = Claim(self, self._storage, trial)
        if self._is_taken(study, place, before=number):  # somebody else was quicker
            claim.give_up()
            return None
        return claim

    def _is_taken(self, study: int, place: str, before: int | None = None) -> bool:
        """Whether a place is done or under way, by a trial of a smaller number than `before`."""
        with self.reachable():
            return any(
                _is_done(trial) or (trial.state is TrialState.RUNNING and self._is_alive(trial))
                for trial in self._trials(study)
                if trial.user_attrs.get(PLACE) == place and (before is None or trial.number < before)
            )

    def _is_alive(self, trial: FrozenTrial) -> bool:
        """Whether the process that runs a trial is still there."""
        owner, beat = str(trial.user_attrs.get(OWNER, "")), float(trial.user_attrs.get(ALIVE, 0.0))
        host, _, number = owner.rpartition(":")
        if owner == self._owner:  # a process has one run at a time; another one had the same number
            return False
        if host == socket.gethostname() and number.isdigit() and not _exists(int(number)):
            return False
        return abs(time.time() - beat) < SILENT_SECONDS  # by then another process may have the number

    def _trials(self, study: int) -> list[FrozenTrial]:
        with self.reachable():
            return self._storage.get_all_trials(study, deepcopy=False)

    @contextlib.contextmanager
    def reachable(self) -> Iterator[None]:
        """Turn whatever the storage raises into a sentence."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # every database has errors of its own
            if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
                raise OSError(error.errno, os.strerror(error.errno), error.filename or self._named) from None
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"The storage {self._named} cannot be used ({reason}); check the address, or leave --storage out to "
                "keep everything in a file."
            ) from error


@final
class Claim:
    """A run that this process has taken on."""

    def __init__(self, ledger: Ledger, storage: BaseStorage, trial: int) -> None:
        self._ledger, self._storage, self._trial = ledger, storage, trial
        self._last_beat = time.time()

    def beat(self) -> None:
        """Say that the run is alive, now and then."""
        now = time.time()
        if now - self._last_beat > BEAT_SECONDS:
            self._last_beat = now
            with self._ledger.reachable():
                self._storage.set_trial_user_attr(self._trial, ALIVE, now)

    def finish(self, score: float, record: Mapping[str, Any]) -> None:
        """Write down what came out; `score` falls where runs are better, infinite for one that diverged."""
        with self._ledger.reachable():
            self._storage.set_trial_user_attr(self._trial, RECORD, dict(record))
            self._storage.set_trial_state_values(self._trial, TrialState.COMPLETE, [score])

    def give_up(self) -> None:
        """Leave the run to whoever comes next."""
        with contextlib.suppress(Exception):  # the storage itself may be what has failed
            self._storage.set_trial_state_values(self._trial, TrialState.FAIL)


def _open(storage: str) -> BaseStorage:
    if "://" in storage:
        return get_storage(storage)
    path = Path(storage)
    if not path.parent.is_dir():
        raise InputError(f"The storage {storage} cannot be written: there is no folder {path.parent}; make it first.")
    if path.exists():
        with open_regular(path) as file:
            begin = file.read(len(_JOURNAL))
        if not _JOURNAL.startswith(begin):  # the end of such a file is repaired, so it must be one
            raise InputError(f"The storage {storage} is no journal of a comparison; name a new file, or a URL.")
    lock: Any = _WholeLines(path)
    return JournalStorage(JournalFileBackend(storage, lock_obj=lock))


@final
class _WholeLines:
    """The lock on a journal file, under which it ends with a whole line before another one is appended.

    It is one of the operating system, which ends with its process; Optuna's own is waited for half a minute after its
    process was killed. A process that was killed, or whose disk was full, may have left a part of a line, which would
    spoil the next.
    """

    def __init__(self, path: Path) -> None:
        held = path.with_name(f".{path.name}.lock")
        if held.is_symlink():  # nobody's lock, and what it leads to is not to be locked
            held.unlink()
        self._path, self._lock = path, FileLock(held, poll_interval=0.01)

    def acquire(self) -> bool:
        self._lock.acquire()
        with open(self._path, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if file.read() not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()


def _is_done(trial: FrozenTrial) -> bool:
    """Whether a trial says what came out: one that has ended without saying so is done again, not waited for."""
    return trial.state is TrialState.COMPLETE and RECORD in trial.user_attrs


def _without_password(storage: str) -> str:
    scheme, mark, rest = storage.partition("://")
    login, at, place = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}@{place}" if mark and at else storage


def _short(name: str) -> str:
    """Return a name that is not too long for a database, and still no other's."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _distribution(one: Interval | Choices) -> BaseDistribution:
    if isinstance(one, Interval):
        return FloatDistribution(one.low, one.high, log=one.log)
    return CategoricalDistribution([_stored(choice) for choice in one.choices])


def _stored(value: Any) -> Any:
    """Return a value as a parameter of Optuna's, which takes no lists."""
    return value if isinstance(value, str | int | float | bool) else str(value)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
