"""Whether the consortium answers this hospital, and if not, why: one plain sentence for the hospital's IT.

One request goes the way of the node's own: the same TLS context, the same proxy, the same key. It asks for messages and
carries no node, so it changes nothing; that Flower says 401 to it means that everything before Flower is as it must be.
In TLS 1.3 (RFC 8446, section 4.4) the client is done before the server has looked at its certificate, so a refusal
arrives as the answer to the first request, not in the handshake.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from client.findings import JOIN, WITHIN_S, Finding, causes, clock_skew, explain, refused, short

if TYPE_CHECKING:
    import httpx

    from client.connection import Address

_PATH = "/v1/fleet/pull-messages"


def reach(address: Address, node_key: str, clock: Callable[[], datetime]) -> list[Finding]:
    """Ask the consortium once, and return what is wrong; nothing where all is well.

    node_key: the hospital's P-384 public key, PEM.
    clock: the hospital's, in UTC.
    """
    try:
        answer = _answer(address, node_key)
    except OSError as error:
        return [Finding("certificate", "fatal", f"its files cannot be used ({short(error)}). {JOIN}")]
    if isinstance(answer, Finding):
        return [answer]
    found = (clock_skew(answer.headers, clock()), refused(answer.status_code, answer.headers, address))
    return [each for each in found if each is not None]


def _answer(address: Address, node_key: str) -> httpx.Response | Finding:
    import httpx

    done: set[str] = set()

    def trace(event: str, _info: Mapping[str, Any]) -> None:
        done.add(event)

    headers = {
        "content-type": "application/protobuf",
        "flwr-public-key": base64.b64encode(node_key.encode()).decode("ascii"),
        "connection": "close",
    }
    url, verify = f"https://{address.server}{_PATH}", address.context()
    for last in (False, False, True):
        try:
            with httpx.Client(verify=verify, timeout=WITHIN_S, trust_env=False, proxy=address.proxy) as client:
                return client.post(url, content=b"", headers=headers, extensions={"trace": trace})
        except httpx.HTTPError as error:
            # The gateway cuts whom it has just found revoked: the next connection is told why.
            if last or not _was_cut(error):
                return explain(error, address, connected="connection.connect_tcp.complete" in done)
    raise AssertionError


def _was_cut(error: Exception) -> bool:
    """Whether a connection ended without a word after it had been made."""
    import httpx

    return isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError) and not any(
        isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError) for cause in causes(error)
    )
