"""Serving a run until a signal says to end: the socket, the signals, and the requests that are still on their way."""

import asyncio
import contextlib
import math
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

from thalweg.errors import InputError
from thalweg.serving.connections import most_connections, protocol_of
from thalweg.serving.requests import Limits
from thalweg.serving.service import Service
from thalweg.training.folder.run import Run

GRACE: Final = (
    0.3  # seconds in which connections are taken after a signal, and in which those may ask; all are told to close
)
BACKLOG: Final = 2048  # connections that wait to be taken
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def serve(
    run: Run,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    say: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
) -> None:
    """Answer requests over HTTP until SIGTERM or Ctrl-C (see `Service` for what is answered).

    After the signal every request that has come is answered, connections are told to close, and it returns; a second
    signal ends it at once.

    Args:
        run: a finished run.
        host: address to listen at; "0.0.0.0" is every address of the machine, where anybody who reaches it may ask.
        port: port, from 0 (any that is free) to 65535.
        limits: what is refused.
        say: takes the sentence that says where it listens, and others.

    Raises:
        InputError: if the address cannot be listened at, the extra `serve` is missing, or the run has no weights.

    Not for the open internet by itself: there is no encryption and no password; put a proxy before it.
    """
    try:
        import uvicorn
    except ImportError:
        raise InputError("Serving needs the extra serve; install it with: pip install 'thalweg[serve]'.") from None
    listening = _listening(host, port)

    def begin() -> None:
        loop = asyncio.get_running_loop()
        told: set[str] = set()

        def tell(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            # Where files run out, the loop complains thousands of times a second, each with a traceback.
            if (message := context["message"]) not in told and not service.is_ending:
                told.add(message)
                say(f"{message} ({context.get('exception')}).")

        loop.set_exception_handler(tell)

        def end(number: int) -> None:
            if service.is_ending:
                os._exit(128 + number)  # the thread that answers may be busy for long
            service.is_ending = True
            loop.call_later(GRACE, stop_listening, loop.time() + 2 * GRACE)

        def stop_listening(latest: float) -> None:
            # Its end resets those who wait to be taken, so that they are taken first. The server itself is closed
            # later: it would forget connections that it has only just taken.
            if select.select([listening], [], [], 0)[0] and loop.time() < latest:
                loop.call_soon(stop_listening, latest)
                return
            loop.remove_reader(listening.fileno())
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            loop.call_later(GRACE, setattr, server, "should_exit", True)

        for number in _SIGNALS:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or another thread
                loop.add_signal_handler(number, end, number)
        address, at = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        say(f"Serving {run.folder} at http://{shown}:{at} (POST /predict); Ctrl-C or SIGTERM ends it.")

    with contextlib.closing(listening):
        service = Service(run, limits, say, begin)
        seconds = service.limits.seconds
        config = uvicorn.Config(
            service, backlog=BACKLOG, log_config=None, log_level="critical", access_log=False, lifespan="on", ws="none",
            http=protocol_of(seconds + 1.0, most_connections()), timeout_graceful_shutdown=math.ceil(seconds),
            server_header=False, proxy_headers=False,
        )  # fmt: skip
        server = uvicorn.Server(config)
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise InputError(f"--port must lie between 0 and 65535; got {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(BACKLOG)
        except OSError:
            found.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Cannot listen at {host}, port {port} ({reason}); give another --host or --port.") from None
    return found
