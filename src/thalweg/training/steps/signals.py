"""Ctrl-C and SIGTERM as a request to stop after the work in progress."""

import signal
import threading
from types import FrameType
from typing import Any, final


@final
class Signals:
    """Notes the first SIGINT or SIGTERM while it is entered; a second one has its usual effect."""

    def __init__(self) -> None:
        self.received: int | None = None  # number of the signal
        self.interrupts = False  # whether it also raises `KeyboardInterrupt`, out of a wait that may never end
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
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
        self.__exit__()
        if self.interrupts:
            raise KeyboardInterrupt
