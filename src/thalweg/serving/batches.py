"""Requests that come at the same time, answered together by one thread."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, final

from thalweg.serving.requests import Asked, RefusedError

BATCH: Final = 256  # inputs that are answered at once
BUSY: Final = "There are too many requests at the moment; try again."

Answer = dict[str, Any]


@final
class Batches:
    """Collects requests while the network is at work, and gives it all that have come, in their order.

    One thread answers, so that a network is never used twice at once. Requests of one kind (`Asked.kind`) are answered
    together; where that fails, each by itself, so that none suffers from another.

    Args:
        answer: answers inputs of one kind, in their order; called in the thread.
        most: inputs that may wait; a request above that is refused with 503.
        together: whether requests may be answered together at all.
    """

    def __init__(
        self, answer: Callable[[Sequence[Any], Asked], list[Answer]], *, most: int, together: bool = True
    ) -> None:
        self._answer, self._most, self._together = answer, most, together
        self._jobs: deque[tuple[Asked, asyncio.Future[list[Answer]]]] = deque()
        self._num_waiting = 0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End, once what was asked has been answered."""
        while self._jobs:
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown()

    async def ask(self, asked: Asked, seconds: float) -> list[Answer]:
        """Return the answers to a request; it is refused where too many wait, or its time is over."""
        if self._num_waiting and self._num_waiting + len(asked.inputs) > self._most:
            raise RefusedError(503, BUSY, {"retry-after": "1"})
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._jobs.append((asked, future))
        self._num_waiting += len(asked.inputs)
        self._wake.set()
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            raise RefusedError(503, f"There was no answer within {seconds:g} seconds; ask for less.") from None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            jobs, size = [], 0
            while self._jobs and (not jobs or (size < BATCH and self._together)):
                asked, future = self._jobs.popleft()
                self._num_waiting -= len(asked.inputs)
                if not future.done():  # its time is over, or nobody waits any more
                    jobs.append((asked, future))
                    size += len(asked.inputs)
            if not self._jobs:
                self._wake.clear()
            if jobs:
                found = await loop.run_in_executor(self._thread, self._answered, [asked for asked, _ in jobs])
                for (_, future), result in zip(jobs, found, strict=True):
                    if future.done():
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)

    def _answered(self, requests: Sequence[Asked]) -> list[list[Answer] | Exception]:
        """Return the answers to requests, or what went wrong with each."""
        kinds: dict[Any, list[int]] = {}
        for place, asked in enumerate(requests):
            kinds.setdefault(asked.kind, []).append(place)
        found: dict[int, list[Answer] | Exception] = {}
        for places in kinds.values():
            together = self._tried([requests[place] for place in places])
            if isinstance(together, Exception) and len(places) > 1:
                found |= {place: self._tried([requests[place]]) for place in places}
            elif isinstance(together, Exception):
                found[places[0]] = together
            else:
                rest = iter(together)
                found |= {place: [next(rest) for _ in requests[place].inputs] for place in places}
        return [found[place] for place in range(len(requests))]

    def _tried(self, requests: Sequence[Asked]) -> list[Answer] | Exception:
        try:
            return self._answer([value for asked in requests for value in asked.inputs], requests[0])
        except Exception as error:  # whatever it is, the others must have their answers
            return error
