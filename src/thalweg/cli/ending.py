"""How a command ends: what stopped it in a sentence, and its exit code."""

import contextlib
import errno
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

from cyclopts import App, CycloptsError

from thalweg.cli.complaints import NAMED_WRONGLY, sentence, unusable
from thalweg.cli.output import OUTPUT, Terminal, flush, standard_streams
from thalweg.errors import InputError, RankError, is_out_of_memory
from thalweg.status import Status
from thalweg.training.steps.signals import STOPPING

SMALLER: Final = "Take a smaller --batch-size, --width, --vocabulary-size or --max-length."
_UNHANDLED: Final = (signal.SIG_DFL, signal.default_int_handler)
_OF_THE_SYSTEM: Final = re.compile(r"\(os error (\d+)\)")  # how libraries written in Rust tell an OSError
_WITHOUT_MEMORY: Final = re.compile("Cannot allocate memory|failed to map segment|can't start new thread")


def code_of(command: Callable[[Terminal], Any], app: App) -> int:
    """Run a command, which takes the console for complaints, and return the exit code.

    A mistake of thalweg's own still is a traceback.
    """
    with standard_streams() as console, _signals() as stopped:
        try:
            code = command(console)
            flush()
        except BaseException as error:
            # A library that is stopped inside may tell it as a failure of its own.
            said, code = _ending(KeyboardInterrupt(*stopped[:1]) if stopped else error, app)
            if code is None:
                raise
            with contextlib.suppress(OSError):
                flush()
            if said and not getattr(error, "is_told", False):  # by another process, which speaks for all
                console.print("error:", style="bold red", end=" ")
                console.say(said)
    return code if isinstance(code, int) else 0


def code_of_run(status: Status) -> int:
    """Return the exit code of a command whose run ended so: 0 where it has what was asked for, 1 where it has not.

    Example:
        >>> code_of_run(Status.COMPLETED), code_of_run(Status.NOT_FINITE)
        (0, 1)
    """
    return 0 if status.good or status is Status.NO_STEP else 1


def _ending(error: BaseException, app: App) -> tuple[str, int | None]:
    """Return what stopped a command, "" where nobody need be told, and the exit code; None: nobody foresaw it."""
    if found := _OF_THE_SYSTEM.search(str(error)):
        error = OSError(int(found[1]), os.strerror(int(found[1])))
    match error:
        case CycloptsError():
            return sentence(error, app), 2
        case InputError():
            return _noted(str(error), error), 2
        case RankError():
            return _noted(str(error), error), 1
        case KeyboardInterrupt():
            number = error.args[0] if error.args and error.args[0] else signal.SIGINT
            return f"Stopped by {signal.Signals(number).name}.", 128 + number
        case BrokenPipeError() if error.filename == OUTPUT:  # the reader has gone, as `head` does
            return "", 128 + signal.SIGPIPE
        case OSError() if error.errno not in (None, errno.ENOMEM):
            return _noted(unusable(error), error), 2 if error.errno in NAMED_WRONGLY else 1
    if is_out_of_memory(error) or _WITHOUT_MEMORY.search(str(error)):
        return _noted(f"There is not enough memory{_wanted(error)}. {SMALLER}", error), 1
    return "", None


def _noted(said: str, error: BaseException) -> str:
    """Return a sentence with those that were added to an error on its way."""
    return " ".join([said, *getattr(error, "__notes__", [])])


def _wanted(error: BaseException) -> str:
    found = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
    return f" for {found[1]} more" if found else ""


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Make these signals what Ctrl-C is, an exception, so that what is open is closed and nothing is left behind.

    Yields the signals that have come. One that is ignored, as under `nohup`, stays ignored.
    """
    stopped: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        stopped.append(number)
        raise KeyboardInterrupt(number)

    before = {number: signal.getsignal(number) for number in STOPPING}
    for number, handler in before.items():
        if handler in _UNHANDLED:
            signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
