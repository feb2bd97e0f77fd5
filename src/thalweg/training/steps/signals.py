"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 as a request to stop after the work in progress."""

import signal
import threading
import time
from types import FrameType
from typing import Any, Final, final

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
STOPPING: Final = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
SECONDS_APART: Final = 1.0


@final
class Signals:
    """Notes the first of these signals while it is entered; a second one has its usual effect.

    One that comes within a second is the first one, too: a launcher such as `torchrun` passes on what a terminal or a
    cluster has sent to all processes already. One that is ignored, as under `nohup` or behind `&`, stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None  # number of the signal
        self.interrupts = False  # whether it also raises `KeyboardInterrupt`, out of a wait that may never end
        self._since = 0.0  # when it came
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take(self, number: int) -> None:
        """Take note of a signal that another process has received; 0: none."""
        if number and self.received is None:
            self.received, self._since = number, time.monotonic()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is None:
            self.take(number)
            if self.interrupts:
                raise KeyboardInterrupt
        elif time.monotonic() - self._since > SECONDS_APART:
            self.__exit__()
            signal.raise_signal(number)
