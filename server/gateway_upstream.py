"""The gateway's connection to SuperLink on 127.0.0.1: one for each of its threads, kept open between requests."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import time
from dataclasses import replace

from server.gateway_http import MEDIA_TYPE, RETURNED, Answer, Refused, Request
from server.gateway_limits import Limits
from server.gateway_sites import Watched

HOST = "127.0.0.1"
_CONNECT_S = 5.0
_KEPT_S = 3.0
"""SuperLink's server ends a connection after 5 idle seconds; one that is about to be ended is not used again."""

_DOWN = Refused(
    503,
    "aggregator-down",
    "The coordinator's aggregator does not answer at the moment. The node tries again by itself.",
)
_SLOW = Refused(
    504, "aggregator-slow", "The coordinator's aggregator took too long to answer.", "SuperLink took too long"
)
_TOO_LARGE = Refused(
    502,
    "answer-too-large",
    "The aggregator's answer is larger than allowed.",
    "SuperLink's answer is larger than allowed",
)


class Line:
    """One thread's connection to SuperLink. Not for two threads at once."""

    def __init__(self, context: Watched[ssl.SSLContext], port: int, limits: Limits) -> None:
        self._context = context
        self._port = port
        self._limits = limits
        self._connection: http.client.HTTPSConnection | None = None
        self._used = 0.0

    def ask(self, request: Request, body: bytes | bytearray) -> Answer | Refused:
        """Send a request and return SuperLink's answer, or why there is none.

        Nothing is sent twice: whether SuperLink has acted on a request whose answer was lost is the node's to find out.
        """
        try:
            connection = self._open()
        except OSError as error:
            return self._down(error)
        try:
            self._send(connection, request, body)
            return self._receive(connection)
        except TimeoutError:
            self.close()
            return _SLOW
        except (OSError, http.client.HTTPException) as error:
            return self._down(error)

    def _down(self, error: Exception) -> Refused:
        self.close()
        return replace(_DOWN, log=f"SuperLink does not answer, the node was told to try again: {error!r}")

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> http.client.HTTPSConnection:
        held = self._connection
        if held is not None and (time.monotonic() - self._used > _KEPT_S or _ended(held)):
            self.close()
        if self._connection is None:
            fresh = http.client.HTTPSConnection(HOST, self._port, timeout=_CONNECT_S, context=self._context.get())
            self._connection = fresh
            fresh.connect()
            fresh.sock.settimeout(self._limits.upstream_s)
        return self._connection

    def _send(self, connection: http.client.HTTPSConnection, request: Request, body: bytes | bytearray) -> None:
        connection.putrequest("POST", request.path, skip_host=True, skip_accept_encoding=True)
        fields = {
            "host": f"{HOST}:{self._port}",
            "content-type": MEDIA_TYPE,
            "accept": MEDIA_TYPE,
            "content-length": str(len(body)),
            **request.headers,
        }
        for name, value in fields.items():
            connection.putheader(name, value)
        connection.endheaders()
        if body:
            connection.send(body)

    def _receive(self, connection: http.client.HTTPSConnection) -> Answer | Refused:
        response = connection.getresponse()
        limit = self._limits.response_bytes
        if response.length is None and not response.chunked:
            # A body that breaks off would pass for a whole one.
            raise http.client.HTTPException("an answer without a length")
        # read(n) raises for a body of chunks that breaks off; where there is a length, only read() does.
        too_large = response.length is not None and response.length > limit
        body = b"" if too_large else response.read(limit + 1 if response.chunked else None)
        if too_large or len(body) > limit:
            self.close()
            return _TOO_LARGE
        fields = {name: response.headers.get(name, "") for name in RETURNED}
        answer = Answer(response.status, {name: value for name, value in fields.items() if _plain(value)}, body)
        if response.will_close or not response.isclosed():
            self.close()
        self._used = time.monotonic()
        return answer


def _ended(connection: http.client.HTTPSConnection) -> bool:
    """Whether something arrived on an idle connection: its end, as a rule. Without a socket it has ended too."""
    return connection.sock is None or bool(_readable(connection.sock))


def _readable(connection: socket.socket) -> list[tuple[int, int]]:
    # Not select(), which takes no socket numbers above 1023.
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return poll.poll(0)


def _plain(value: str) -> bool:
    return bool(value) and value.isascii() and value.isprintable()
