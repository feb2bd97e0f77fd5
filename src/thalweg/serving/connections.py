"""How long a connection may be silent or unread, and how many there may be."""

import json
from typing import Any, Final, final

from thalweg.serving.batches import BUSY

SPARE: Final = 64  # file descriptors that are left for other things
_BODY: Final = json.dumps({"error": BUSY}).encode()
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


def protocol_of(seconds: float, most: int) -> Any:
    """Return uvicorn's protocol for a connection, with an end to those that nothing happens on.

    uvicorn itself waits without end for the first request, for the rest of a header, and for a client to read its
    answer, so that silent clients would take every file descriptor, and keep the server from ending.

    Args:
        seconds: in which a request must begin or go on; longer than an answer may take.
        most: connections at once; those above are told to come back.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base: Any = AutoHTTPProtocol

    @final
    class Connection(base):
        watch: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.write(_FULL)
                transport.close()
            self.look(None)

        def look(self, before: Any) -> None:
            """End the connection where it is as it was before, and look again later otherwise."""
            is_idle = self.cycle is None or self.cycle.response_complete
            now = self.cycle, is_idle, self.transport.get_write_buffer_size()
            if now == before:
                self.transport.abort()
            else:
                self.watch = self.loop.call_later(seconds, self.look, now)

        def connection_lost(self, exc: Exception | None) -> None:
            self.watch.cancel()
            super().connection_lost(exc)

    return Connection


def most_connections() -> int:
    """Return how many connections this process may have at once, by its limit of open files."""
    try:
        import resource
    except ImportError:  # Windows
        return 10_000
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 10**6 if limit == resource.RLIM_INFINITY else max(limit // 2, limit - SPARE)
