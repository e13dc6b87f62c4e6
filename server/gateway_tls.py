"""TLS 1.3 with a client certificate, and what each side is told when it fails.

In TLS 1.3 the client finishes the handshake before the server has seen its certificate; it learns of a refusal with the
first bytes that it reads. So a refused connection is closed in order: the alert, the end of what we send, then reading
until the other side has ended too. Closed at once, unread bytes would turn the close into a reset and lose the alert.

No session tickets: a ticket from before would let a revoked certificate in.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from pathlib import Path

from server.gateway_sites import Watched

logger = logging.getLogger("consilium.gateway")

_DRAIN_S = 2.0
_DRAIN_BYTES = 16 * 1024 * 1024
_PLAIN = b"This port speaks TLS 1.3 and asks for a client certificate. Connect with https.\n"
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    % (len(_PLAIN), _PLAIN)
)

_REASONS = {
    "HTTP_REQUEST": "it spoke plain HTTP; this port speaks TLS 1.3",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no client certificate",
    "UNSUPPORTED_PROTOCOL": "it offered only versions of TLS before 1.3",
    "NO_PROTOCOLS_AVAILABLE": "it offered only versions of TLS before 1.3",
    "WRONG_VERSION_NUMBER": "what it sent is not TLS",
    "UNEXPECTED_EOF_WHILE_READING": "it ended the connection in the middle of the TLS handshake",
    "NO_SHARED_CIPHER": "it has no cipher in common with TLS 1.3",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust our certificate: it has the CA certificate of another consortium",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate: is the host name that it uses in it?",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired: compare the clocks",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
}
_VERIFY = {
    9: "its client certificate is not valid yet: compare the clocks",
    10: "its client certificate has expired",
    18: "its client certificate is signed by itself, not by this consortium's CA",
    19: "its client certificate is from another CA",
    20: "its client certificate is from another CA",
    21: "its client certificate is from another CA",
    26: "its certificate is not one for clients",
}
"""OpenSSL's X509_V_ERR codes."""


class ServerContexts:
    """The TLS settings for new connections: made anew when the certificate, its key or the CA was replaced."""

    def __init__(self, folder: Path) -> None:
        certificates = folder / "certificates"
        self._certificate, self._authority = certificates / "server.crt", certificates / "ca.crt"
        self._key = folder / "secrets" / "server.key"
        self._watched = Watched([self._certificate, self._authority, self._key], self._load)
        self._last: ssl.SSLContext | None = None

    def current(self) -> ssl.SSLContext:
        """Return the settings. While a replaced certificate and its key do not fit together, those before.

        Raises: OSError (ssl.SSLError is one) if there were none before.
        """
        try:
            self._last = self._watched.get()
        except OSError as error:
            if self._last is None:
                raise
            logger.warning("the new certificates cannot be used, the ones before stay: %s", error)
        return self._last

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._certificate, self._key)
        context.load_verify_locations(self._authority)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        return context


def upstream_context(folder: Path) -> Watched[ssl.SSLContext]:
    """Return the TLS settings towards SuperLink: an authority of its own, which signs nothing but the loopback."""
    authority = folder / "certificates" / "loopback-ca.crt"

    def load() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=authority)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    return Watched([authority], load)


def shake_hands(context: ssl.SSLContext, plain: socket.socket, within_s: float) -> ssl.SSLSocket | str:
    """Return the connection once its certificate is verified, or why not, in plain words.

    The socket is closed in the second case, after the other side was told.
    """
    connection = plain
    try:
        plain.settimeout(within_s)
        # With TCP_NODELAY an answer does not wait for the acknowledgement of its head.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = secure = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        secure.do_handshake()
        return secure
    except OSError as error:
        if getattr(error, "reason", None) == "HTTP_REQUEST":
            with contextlib.suppress(OSError):
                socket.socket.sendall(connection, _PLAIN_ANSWER)
        end(connection)
        return _in_words(error, within_s)


def _in_words(error: OSError, within_s: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code, f"its client certificate is not valid: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or "SSL"
        return _REASONS.get(reason, f"the TLS handshake failed: {reason.replace('_', ' ').lower()}")
    if isinstance(error, TimeoutError):
        return f"it did not finish the TLS handshake in {within_s:g} s"
    return "it ended the connection in the middle of the TLS handshake"


def end(connection: socket.socket) -> None:
    """Close in order: TLS's end where it is up, the end of what we send, then read on for at most two seconds."""
    try:
        if isinstance(connection, ssl.SSLSocket):
            connection.settimeout(0)
            # Sends "close notify" and would then wait for the other side's.
            with contextlib.suppress(OSError, ValueError):
                connection.unwrap()
        socket.socket.shutdown(connection, socket.SHUT_WR)
        _drain(connection)
    except OSError:
        pass
    finally:
        connection.close()


def _drain(connection: socket.socket) -> None:
    until, left = time.monotonic() + _DRAIN_S, _DRAIN_BYTES
    buffer = bytearray(64 * 1024)
    while left > 0 and (remaining := until - time.monotonic()) > 0:
        connection.settimeout(remaining)
        # The plain socket's: what arrives is thrown away undecrypted.
        count = socket.socket.recv_into(connection, buffer)
        if not count:
            return
        left -= count


def cut(connection: socket.socket) -> None:
    """End a connection that another thread uses: its next read or write fails.

    The plain socket's method: ``SSLSocket.shutdown`` forgets the encryption, and that thread could then send in clear.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
