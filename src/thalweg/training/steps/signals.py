"""Ctrl-C, SIGTERM and SIGHUP as a request to stop after the work in progress."""

import signal
import threading
from types import FrameType
from typing import Any, Final, final

_STOPPING: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@final
class Signals:
    """Notes the first of these signals while it is entered; a second one has its usual effect.

    One that is ignored, as under `nohup` or behind `&`, stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None  # number of the signal
        self.interrupts = False  # whether it also raises `KeyboardInterrupt`, out of a wait that may never end
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take(self, number: int) -> None:
        """Take note of a signal that another process has received; 0: none."""
        if number and self.received is None:
            self.received = number

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = number
        self.__exit__()
        if self.interrupts:
            raise KeyboardInterrupt
