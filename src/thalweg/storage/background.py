"""Writing to the disk while the caller goes on."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final


@final
class Background:
    """Does one work after the other in a thread of its own; after one that fails, those behind it are left out.

    A process that ends by itself waits until all are done.

    Attributes:
        gives_up: an event for work that waits for others, set where they may be gone.

    Example:
        >>> found, background = [], Background()
        >>> background.do(lambda: found.append(1))
        >>> background.wait()
        >>> found
        [1]
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self._error: BaseException | None = None
        self.gives_up = threading.Event()

    def do(self, work: Callable[[], object]) -> None:
        """Do some work soon, after all that was given before. It must not call this object."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="thalweg-writes")
        self._last = self._pool.submit(self._try, work)

    def wait(self) -> None:
        """Return when all is done; raise what the first work that failed has raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _try(self, work: Callable[[], object]) -> None:
        if self._error is None:
            try:
                work()
            except BaseException as error:  # of whatever kind, it is raised where it is waited for
                self._error = error
