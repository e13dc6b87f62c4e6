"""What keeps a hospital's node from working, as findings: one plain sentence each for the hospital's IT.

From an error of the connection, an answer's status and headers, or two clocks, to what is wrong and what to do. The
gateway's codes are the words of its header ``consilium-refusal``.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from client.connection import Address

Level = Literal["warning", "away", "fatal"]

REFUSAL = "consilium-refusal"
"""Header in which the gateway says why it does not take a request."""
UNKNOWN = frozenset({"revoked", "unknown-certificate", "wrong-node-key"})
"""Refusals that waiting does not change."""
WITHIN_S = 10.0
"""How long the pre-flight waits for an answer."""

_MOST_AHEAD_S, _MOST_BEHIND_S = 5.0, 305.0
"""Flower 1.41 refuses what was signed so long after, or before, its own time (``routers/fleet/node_auth.py``)."""
_NOTICED_S = 3.0
"""The header Date has whole seconds, and an answer takes its time."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be.

    name: what was looked at, one word.
    level: ``warning`` does not keep the node from working; ``away`` may pass by itself; ``fatal`` does not.
    text: what is wrong and what to do.
    """

    name: str
    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def explain(error: Exception, address: Address, connected: bool = False) -> Finding:
    """Return what an error of ``httpx`` means.

    connected: whether the connection was made before it failed.
    """
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        found = refused(error.response.status_code, error.response.headers, address)
        return found or Finding("gateway", "away", f"{address.server} answered {error.response.status_code}.")
    if isinstance(error, httpx.ProxyError):
        return _of_proxy(str(error), address)
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout) or (connected and _is_timeout(error)):
        return Finding(
            "connection",
            "away",
            f"{address.server} was reached and then said nothing for {WITHIN_S:g} s. Is it the consortium's gateway,"
            " or does a firewall hold back what it does not know?",
        )
    for cause in causes(error):
        if isinstance(cause, ssl.SSLError):
            return _of_tls(cause, address)
        if isinstance(cause, OSError):
            return _of_network(cause, address)
    return Finding(
        "connection",
        "away",
        f"{address.server} ended the connection without an answer. It may be starting, or a firewall cut it.",
    )


def refusal_of(error: Exception) -> str:
    """Return the gateway's code in an error's answer; empty where there is none."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    return _code(headers)


def in_words(code: str) -> str:
    """Return what one of the gateway's codes means and what to do."""
    return _REFUSALS[code][1] if code in _REFUSALS else f"the gateway refuses this hospital's requests: {code}. {_ASK}"


def clock_skew(headers: Mapping[str, str], now: datetime) -> Finding | None:
    """Return that the hospital's clock and the consortium's differ by more than Flower takes, by an answer's Date."""
    try:
        theirs = parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
    except (ValueError, TypeError):
        return None
    ahead_s = (now - theirs).total_seconds()
    if -_MOST_BEHIND_S + _NOTICED_S < ahead_s < _NOTICED_S:
        return None
    fatal = not -_MOST_BEHIND_S < ahead_s < _MOST_AHEAD_S + _NOTICED_S
    side = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        "clock",
        "fatal" if fatal else "warning",
        f"this machine's clock is {abs(ahead_s):.0f} s {side} the consortium's, and what is signed more than"
        f" {_MOST_AHEAD_S:g} s ahead or {_MOST_BEHIND_S - _MOST_AHEAD_S:g} s behind is refused. Let the clock be set by"
        " NTP.",
    )


JOIN = "Join again with the newest WELCOME.json: `consilium-client join DIR WELCOME.json`."
_ASK = "Ask the coordinator."
_REFUSALS: Mapping[str, tuple[Level, str]] = {
    "revoked": (
        "fatal",
        "the coordinator has revoked this hospital. Ask the coordinator; to come back it needs new keys"
        " (`consilium-client renew DIR --rotate tls`, then `--rotate flower`) and to be enrolled again.",
    ),
    "unknown-certificate": (
        "fatal",
        "the coordinator does not know this hospital's certificate: it was never enrolled, or was replaced by a newer"
        f" one. {JOIN}",
    ),
    "wrong-node-key": (
        "fatal",
        "the Flower key in secrets is not the one that the coordinator enrolled with this hospital's certificate."
        f" {JOIN}",
    ),
    "enrolment-unreadable": ("away", "the coordinator's list of hospitals cannot be read at the moment."),
    "aggregator-down": ("away", "the gateway answers, and the aggregator behind it does not at the moment."),
    "aggregator-slow": ("away", "the gateway answers, and the aggregator behind it took too long."),
    "stopping": ("away", "the gateway is being restarted."),
    "too-fast": ("away", "this hospital asks faster than the gateway allows: do two nodes run for it?"),
    "malformed": ("fatal", f"the gateway does not understand this node's requests: another version? {_ASK}"),
    "no-such-path": ("fatal", f"the gateway does not know what this node asks for: another version? {_ASK}"),
}


def refused(status: int, headers: Mapping[str, str], address: Address) -> Finding | None:
    """Return what an answer says; None where the request reached Flower."""
    code = _code(headers)
    if code:
        return Finding("gateway", _REFUSALS[code][0] if code in _REFUSALS else "away", in_words(code))
    if status in (HTTPStatus.OK, HTTPStatus.UNAUTHORIZED):
        return None
    level: Level = "away" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "fatal"
    return Finding(
        "gateway",
        level,
        f"{address.server} answered with HTTP status {status}, which the consortium's gateway does not. Does something"
        f" stand before it that does not take this hospital's certificate? {_ASK}",
    )


def _code(headers: Mapping[str, str]) -> str:
    code = str(headers.get(REFUSAL, ""))
    return code if re.fullmatch("[a-z][a-z-]{0,39}", code) else ""


def _of_proxy(said: str, address: Address) -> Finding:
    status = said[:3]
    what = f"the proxy {address.proxy} does not let this hospital connect to {address.server}"
    match status:
        case "407":
            return Finding("proxy", "fatal", f"{what}: it wants a user and a password. Ask IT to allow it without.")
        case "502" | "503" | "504":
            return Finding("proxy", "away", f"the proxy {address.proxy} does not reach {address.server} at the moment.")
    return Finding("proxy", "fatal", f"{what} ({said[:60]}). Ask IT to allow CONNECT to it.")


def _of_network(error: OSError, address: Address) -> Finding:
    via = f"the proxy {address.proxy}" if address.proxy else address.server
    if isinstance(error, socket.gaierror):
        passing = error.errno == socket.EAI_AGAIN
        return Finding(
            "address",
            "away" if passing else "fatal",
            f"the name in {via} {'cannot be looked up at the moment' if passing else 'is not known to the DNS'}."
            " Compare it with what the coordinator says; is this machine on the network?",
        )
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        text = "does not answer. A firewall that lets nothing out to this port looks like this: ask IT to allow it."
    elif error.errno == errno.ECONNREFUSED:
        text = "refuses the connection: the machine is there, and nothing listens at this port. Is the consortium up?"
    elif error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        text = "cannot be reached: there is no way to it from here. Is this machine on the network?"
    elif error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
        text = "cut the connection. It may be starting, or a firewall does not let TLS through to it."
    else:
        text = f"cannot be reached: {short(error)}."
    return Finding("connection", "away", f"{via} {text}")


_HOST_MISMATCH, _ADDRESS_MISMATCH = 62, 64
_NOT_YET, _EXPIRED = 9, 10
_FOREIGN = (18, 19, 20, 21)
"""OpenSSL's X509_V_ERR codes."""
_BETWEEN = "Something between may open TLS connections: ask IT to let this one through unopened."
_ALERTS: Mapping[str, str] = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": f"the gateway did not get this hospital's certificate. {_BETWEEN}",
    "TLSV1_ALERT_UNKNOWN_CA": "the gateway says that this hospital's certificate is of another consortium's authority."
    f" {JOIN}",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the gateway says that this hospital's certificate has expired. Compare the"
    " clock; then `consilium-client renew DIR`.",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the gateway says that this hospital's certificate was revoked. Ask the"
    " coordinator.",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the gateway does not take this hospital's certificate: not valid yet by its clock,"
    " or damaged. Compare the clock.",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the gateway does not take this hospital's certificate. Ask the coordinator.",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the gateway says that this hospital's certificate is not one for clients."
    f" {JOIN}",
}
_OLD = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"})
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_ENDED = frozenset({"UNEXPECTED_EOF_WHILE_READING", "TLSV1_ALERT_INTERNAL_ERROR"})


def _of_tls(error: ssl.SSLError, address: Address) -> Finding:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Finding("server", "fatal", _of_their_certificate(error, address))
    reason = error.reason or ""
    if reason in _ALERTS:
        return Finding("certificate", "fatal", _ALERTS[reason])
    if reason in _OLD:
        text = f"{address.server} speaks no TLS 1.3. It is not the consortium's gateway. {_BETWEEN}"
        return Finding("tls", "fatal", text)
    if reason in _NOT_TLS:
        text = f"what answers at {address.server} does not speak TLS. Compare host and port with the coordinator's."
        return Finding("tls", "fatal", text)
    if reason in _ENDED or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        text = f"{address.server} ended the connection in the middle of TLS. It may be starting, or a firewall cut it."
        return Finding("tls", "away", text)
    text = f"TLS with {address.server} failed: {reason.replace('_', ' ').lower() or 'no reason given'}. {_ASK}"
    return Finding("tls", "fatal", text)


def _of_their_certificate(error: ssl.SSLCertVerificationError, address: Address) -> str:
    code = error.verify_code
    if code in (_HOST_MISMATCH, _ADDRESS_MISMATCH):
        host = address.server.rpartition(":")[0]
        return f"the server's certificate is not for {host}: the coordinator has to add this name. {_ASK}"
    if code == _EXPIRED:
        return f"the server's certificate has expired, or this machine's clock is wrong. Compare the clock. {_ASK}"
    if code == _NOT_YET:
        return f"the server's certificate is not valid yet by this machine's clock. Compare the clock. {_ASK}"
    if code in _FOREIGN:
        return (
            f"what answers at {address.server} is not this consortium's server: another authority signed it. {_BETWEEN}"
        )
    return f"the server's certificate is not as it must be: {error.verify_message}. {_ASK}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _is_timeout(error: Exception) -> bool:
    return any(isinstance(cause, TimeoutError) for cause in causes(error))


def short(error: OSError) -> str:
    """Return what an error of the system or of TLS is about, in few words."""
    return str(getattr(error, "reason", None) or error.strerror or type(error).__name__).replace("_", " ").lower()
