"""The service as an ASGI application: paths, methods and statuses around the answers of a run."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final, final

from thalweg import names
from thalweg.errors import InputError
from thalweg.serving.batches import Answer, Batches
from thalweg.serving.requests import Asked, Limits, RefusedError, read_request
from thalweg.tasks.questions import AbstractAnswering, Predict, Question
from thalweg.training.folder.answers import ERROR, answers_to, is_answer
from thalweg.training.folder.run import Run
from thalweg.training.integrity.history import finite
from thalweg.version import __version__

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_METHODS: Final = {"/": ("GET", "HEAD"), "/health": ("GET", "HEAD"), "/predict": ("POST",)}
MAX_THRESHOLDS: Final = 16  # whose tasks are kept


@final
class Service:
    """Answers of a run as an ASGI application, for uvicorn or any other server.

    `POST /predict` takes `{"inputs": [...]}` or `{"input": ...}` with options of answers, and gives `{"answers":
    [...]}` or `{"answer": ...}`: what `thalweg predict --json` prints. `GET /health` says whether it is there, and
    `GET /` what the run is. Refusals are `{"error": sentence}`.

    Args:
        run: a finished run; its weights are loaded at once.
        limits: what is refused.
        say: takes a sentence about a request that failed by a mistake of thalweg's own.
        begin: called when the server has started.

    Raises:
        InputError: if the run has no weights.
    """

    def __init__(
        self,
        run: Run,
        limits: Limits | None = None,
        say: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits = limits or Limits()
        self.is_ending = False
        self._say, self._begin, self._run = say, begin, run
        self._read = names.task_spec(run.recipe.run.task).answers
        self._by_kind: dict[tuple[float | None, bool], tuple[AbstractAnswering, Predict]] = {
            (None, False): run.answering()
        }
        self._batches: Batches | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or begin and end with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                status, content, headers = 200, await self._content(scope, receive), {}
            except RefusedError as refused:
                status, content, headers = refused.status, {ERROR: refused.sentence}, refused.headers
            except Exception as error:
                self._say(f"A request has failed ({type(error).__name__}).")
                status, content, headers = 500, {ERROR: "The request has failed by a mistake of the server's."}, {}
            await self._reply(send, status, content, headers, with_body=scope["method"] != "HEAD")

    async def _live(self, receive: Receive, send: Send) -> None:
        batches = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                # A continuation is long and drawn by its place in the request, so that nothing is gained.
                together = "seed" not in self._read or "beam" in self._read
                batches = Batches(self._answers, most=self.limits.waiting, together=together)
                batches.start()
                self._batches = batches
                self._begin()
                await send({"type": "lifespan.startup.complete"})
            else:
                if batches is not None:
                    await batches.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _content(self, scope: Mapping[str, Any], receive: Receive) -> dict[str, Any]:
        path, method = scope["path"], scope["method"]
        if path not in _METHODS:
            raise RefusedError(404, f"There is nothing here; expected {', '.join(_METHODS)}.")
        if method not in _METHODS[path]:
            allowed = ", ".join(_METHODS[path])
            raise RefusedError(405, f"{path} takes {allowed}.", {"allow": allowed})
        if path == "/health":
            if self.is_ending:
                raise RefusedError(503, "The server is about to end.")
            return {"status": "ok"}
        return await self._predict(scope, receive) if path == "/predict" else self._about()

    async def _predict(self, scope: Mapping[str, Any], receive: Receive) -> dict[str, Any]:
        if self._batches is None:
            raise RefusedError(503, "The server is not ready.")
        loop, seconds = asyncio.get_running_loop(), self.limits.seconds
        end = loop.time() + seconds
        try:
            body = await asyncio.wait_for(self._body(scope, receive), seconds)
        except TimeoutError:
            late = f"The request did not arrive within {seconds:g} seconds."
            raise RefusedError(408, late, {"connection": "close"}) from None
        asked = read_request(body, self.limits, self._read)
        answers = await self._batches.ask(asked, max(0.0, end - loop.time())) if asked.inputs else []
        if not asked.is_single:
            return {"answers": answers}
        if not is_answer(answers[0]):
            raise RefusedError(422, f"The input cannot be answered: {answers[0][ERROR]}.")
        return {"answer": answers[0]}

    async def _body(self, scope: Mapping[str, Any], receive: Receive) -> bytes:
        told = next((value for name, value in scope["headers"] if name.lower() == b"content-length"), b"0")
        too_large = RefusedError(
            413, f"Expected a request of at most {self.limits.body:,} bytes.", {"connection": "close"}
        )
        if told.isdigit() and int(told[:20]) > self.limits.body:
            raise too_large
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "The request has ended before it was whole.")
            body += message.get("body", b"")
            if len(body) > self.limits.body:
                raise too_large
            if not message.get("more_body"):
                return bytes(body)

    def _answers(self, inputs: Sequence[Any], asked: Asked) -> list[Answer]:
        """Return the answers to inputs of one kind; it runs in the only thread that answers."""
        known, kind = self._by_kind, (asked.threshold, asked.score)
        try:
            if kind not in known:
                found = self._run.answering(asked.threshold, score=asked.score)
                if len(known) > MAX_THRESHOLDS:
                    del known[next(key for key in known if key[0] is not None)]
                known[kind] = found
            task, predict = known[kind]
            return answers_to(task, predict, [Question(_as_tuple(value, task)) for value in inputs], asked.options)
        except InputError as error:
            raise RefusedError(422, re.sub("--([a-z-]+)", _as_key, str(error))) from None

    def _about(self) -> dict[str, Any]:
        task = self._by_kind[None, False][0]
        found: dict[str, Any] = {
            "run": self._run.folder.name,
            "task": task.name,
            "model": self._run.recipe.model.model,
            "thalweg": __version__,
            "metrics": finite(self._run.metrics),
            "options": sorted(self._read),
            "limits": vars(self.limits),
        }
        for name in ("labels", "tags", "columns"):
            if isinstance(listed := getattr(task, name, None), tuple):
                found[name] = list(listed)
        return found

    async def _reply(
        self, send: Send, status: int, content: Mapping[str, Any], headers: Mapping[str, str], *, with_body: bool
    ) -> None:
        body = json.dumps(content, allow_nan=False, default=float).encode()  # ASCII: no character is lost
        named = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        if self.is_ending:
            named["connection"] = "close"
        sent = [(name.encode(), value.encode()) for name, value in named.items()]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body if with_body else b""})


def _as_key(found: re.Match[str]) -> str:
    return f'"{found[1].replace("-", "_")}"'


def _as_tuple(value: Any, task: AbstractAnswering) -> Any:
    """Return a pair of texts as a tuple; anything else as it is."""
    return tuple(value) if task.reads_pairs and isinstance(value, list) else value
