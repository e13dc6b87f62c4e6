"""HTTP/1.1 as the gateway takes it: one strict reading of a head (RFC 9112), and an exact list of what goes on.

A filter that looks at a path and then sends that path on is bypassed by whatever reads paths in another way (measured:
``/v1/fleet/../control/list-nodes``, ``%2e%2e``, ``/v1%2fcontrol``, absolute form). So nothing of a head goes on but the
values of listed headers: the target must equal one of nine strings, each of which stands for a constant. Bodies have a
length: a request with ``Transfer-Encoding`` has two possible ends, and Flower sends none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus

import h11

PATHS: Mapping[bytes, str] = {
    b"/v1/fleet/activate-node": "/v1/fleet/activate-node",
    b"/v1/fleet/deactivate-node": "/v1/fleet/deactivate-node",
    b"/v1/fleet/send-node-heartbeat": "/v1/fleet/send-node-heartbeat",
    b"/v1/fleet/pull-messages": "/v1/fleet/pull-messages",
    b"/v1/fleet/push-messages": "/v1/fleet/push-messages",
    b"/v1/fleet/get-run": "/v1/fleet/get-run",
    b"/v1/fleet/push-object": "/v1/fleet/push-object",
    b"/v1/fleet/pull-object": "/v1/fleet/pull-object",
    b"/v1/fleet/confirm-message-received": "/v1/fleet/confirm-message-received",
}
"""Each target that is answered, and the path of SuperLink that it stands for.

Left out of Flower's Fleet API: registering and unregistering (the coordinator does it), and fetching code.
"""

MEDIA_TYPE = "application/protobuf"
NODE_KEY = "flwr-public-key"
_SIGNED = (NODE_KEY, "flwr-timestamp", "flwr-signature")
_VERSIONS = ("flwr-package-name", "flwr-package-version", "flwr-component-name")
FORWARDED = frozenset((*_SIGNED, *_VERSIONS))
"""Request headers whose values go on; content type and length are written anew."""

RETURNED = ("content-type", "flwr-version-incompatibility-message")
"""SuperLink's headers that are passed back."""

_REASON_HEADER = "consilium-refusal"
_ONCE = [name.encode() for name in ("content-length", "content-type", "transfer-encoding", *FORWARDED)]
_VALUE = re.compile(rb"[\x20-\x7e]*\Z")
_BARE_BREAK = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """What goes on of a request's head.

    path: a constant of ours. headers: listed ones, lower case. length: of the body, in bytes.
    last: whether the node ends the connection after it.
    """

    path: str
    headers: Mapping[str, str] = field(repr=False)
    length: int
    last: bool = False


@dataclass(frozen=True)
class Refused:
    """An answer that says no. Never 401, 403 or 429: Flower's client ends itself on them; it repeats after a 503.

    code: short stable word for a hospital's pre-flight, in the header ``consilium-refusal``.
    text: for the hospital; log: for the coordinator, the same unless it is given.
    """

    status: int
    code: str
    text: str
    log: str = ""


@dataclass(frozen=True)
class Answer:
    """SuperLink's answer: its status, the listed headers, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def end_of_head(data: bytearray) -> int:
    """Return where a head ends: after the empty line; 0 where it has not arrived, -1 where no head can come of it."""
    end = data.find(_END)
    head = data[: end + len(_END)] if end >= 0 else data.removesuffix(b"\r")
    if _BARE_BREAK.search(head):
        return -1
    return end + len(_END) if end >= 0 else 0


def parse(head: bytes, limit: int) -> Request | Refused:
    """Return what goes on of a head, or why nothing does.

    head: up to and with the empty line. limit: of the body, in bytes.
    """
    if re.search(rb"\r\n[ \t]", head):
        return _malformed("a header continues on the next line")
    try:
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
        reader.receive_data(head)
        found = reader.next_event()
    except h11.RemoteProtocolError:
        # Its text may hold a header's value: it is not passed on.
        return _malformed("it is not HTTP/1.1")
    if not isinstance(found, h11.Request) or found.http_version != b"1.1":
        return _malformed("it is not HTTP/1.1")
    if found.method != b"POST" or found.target not in PATHS:
        return Refused(
            404,
            "no-such-path",
            "Nothing is here. This is a consortium's gateway; it answers its hospitals' nodes and nobody else.",
            f"asked for {_shown(found.method)} {_shown(found.target)}, which is not on the list",
        )
    # h11 has joined equal Content-Length headers by now, so lengths are counted in the head itself.
    headers = found.headers.raw_items()
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line]
    return _fields(PATHS[found.target], names, headers, limit)


def _fields(path: str, names: list[bytes], items: list[tuple[bytes, bytes]], limit: int) -> Request | Refused:
    values = {name.decode("ascii").lower(): value for name, value in items}
    forwarded = {name: values[name] for name in FORWARDED if name in values}
    length = int(values.get("content-length", b"0"))
    checks = (
        (any(names.count(name) > 1 for name in _ONCE), 400, "a header that counts is there twice"),
        ("transfer-encoding" in values, 411, "the body comes in chunks; a body has a Content-Length here"),
        ("content-length" not in values, 411, "it has no Content-Length"),
        ("expect" in values, 417, "it expects an answer before it sends its body"),
        (values.get("content-type") != MEDIA_TYPE.encode(), 415, f"its content type is not {MEDIA_TYPE}"),
        (length > limit, 413, f"a body has at most {limit} bytes, this one has {length}"),
        (not all(map(_VALUE.match, forwarded.values())), 400, "a header has other characters than printable ASCII"),
    )
    for bad, status, why in checks:
        if bad:
            return _malformed(why, status)
    last = any(
        b"close" in re.split(rb"[\t ,]+", value.lower()) for name, value in items if name.lower() == b"connection"
    )
    return Request(path, {name: value.decode("ascii") for name, value in forwarded.items()}, length, last)


def _malformed(why: str, status: int = 400) -> Refused:
    return Refused(
        status, "malformed", f"The request was not taken: {why}.", f"sent a request that was not taken: {why}"
    )


def _shown(value: bytes) -> str:
    """Return at most 60 characters of what a stranger wrote, fit for a log."""
    text = value.decode("ascii", "replace")
    return ascii(text[:60])[1:-1] + ("..." if len(text) > 60 else "")


def to_bytes(answer: Answer | Refused, close: bool, now: datetime) -> bytes:
    """Return the head of an answer, with the whole of a refusal.

    close: whether the connection ends with it.
    now: tells a hospital whose clock is wrong (RFC 9110, section 6.6.1).
    """
    if isinstance(answer, Refused):
        body = f"{answer.text}\n".encode()
        fields = {"content-type": "text/plain; charset=utf-8", _REASON_HEADER: answer.code}
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            fields["retry-after"] = "2"
        size = len(body)
    else:
        body, fields, size = b"", dict(answer.headers), len(answer.body)
    fields |= {
        "content-length": str(size),
        "connection": "close" if close else "keep-alive",
        "date": format_datetime(now, usegmt=True),
    }
    lines = [
        f"HTTP/1.1 {answer.status} {_phrase(answer.status)}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
