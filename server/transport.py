"""The one port through which the aggregator reaches the sites (DESIGN section 2, rule 2), and its way over Flower.

``simulations/local.py`` has the other way, without a network.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, get_args

from shared import codec, packing
from shared.errors import ProtocolError
from shared.messages import Heading, Refused, Reply, Request

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

log = logging.getLogger("consilium.server")


@dataclass(frozen=True, eq=False)
class Arrival:
    """What came of asking one site.

    site: its name.
    reply: what it sent, or None.
    lost: why there is no reply: ``no-reply``, ``late``.
    """

    site: str
    reply: Reply | None
    lost: str = ""


class Transport(Protocol):
    """Ask sites, and yield what arrives."""

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Send each site its request and yield arrivals one by one, in any order.

        A site may be yielded never, once or several times: the aggregator decides what counts.

        requests: by site name.
        deadline_s: seconds after which a site that has not answered is lost.
        """
        ...


@dataclass(frozen=True)
class Node:
    """One site's node, as Flower knows it.

    id: Flower's.
    since: when it last came online; another time means that it was started anew, and lost what it was asked.
    """

    id: int
    since: str


@dataclass(eq=False)
class _Asked:
    """One site's question, from the first time it is sent to its answer.

    message: id of the Flower message that carries it now; empty while its node is away.
    node: whom it was sent to.
    sent: how often.
    """

    message: str = ""
    node: Node | None = None
    sent: int = 0


_NODES_EVERY_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.25
_TTL_MARGIN_S = 60.0
_MOST_SENDS = 10
"""How often one question goes to one site: a node that comes and goes, or a reply that somebody else forged."""


@dataclass(eq=False)
class FlowerTransport:
    """Asks sites through a Flower grid: each exchange is one message to each node, and one reply.

    A question goes out again to a node that was started anew, because the one before took it along; sites answer the
    same question with the same bytes. A reply counts only with the site's own signature.

    identities: Ed25519 public keys by site name, as enrolled now.
    nodes: where each site's node is now; those that are away are left out.
    """

    grid: Grid
    identities: Callable[[], Mapping[str, bytes]]
    nodes: Callable[[], Mapping[str, Node]]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _now: Mapping[str, Node] = field(default_factory=dict)

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Send each site its request, and yield what arrives until the deadline; see ``Transport``."""
        _pull_at_once()
        packed = {site: packing.pack(request) for site, request in requests.items()}
        waiting = {site: _Asked() for site in requests}
        end, look, pause = self.clock() + deadline_s, 0.0, _FIRST_PAUSE_S
        while waiting and self.clock() < end:
            if self.clock() >= look:
                self._send(waiting, packed, end - self.clock())
                look = self.clock() + _NODES_EVERY_S
            arrived = False
            for site, message in self._pull(waiting):
                arrived = True
                arrival = self._arrival(site, message, waiting[site], requests[site])
                if arrival is None:
                    waiting[site].message = ""
                    continue
                del waiting[site]
                yield arrival
            if waiting and not arrived:
                self.sleep(min(pause, max(0.0, end - self.clock())))
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            elif arrived:
                pause = _FIRST_PAUSE_S
        for site, asked in waiting.items():
            yield Arrival(site, None, "late" if asked.message else "offline")

    def _send(self, waiting: Mapping[str, _Asked], packed: Mapping[str, packing.Packed], left_s: float) -> None:
        """Send questions that are not on their way to nodes that are there."""
        from flwr.app import Message

        self._now = self.nodes()
        sending = {}
        for site, asked in waiting.items():
            node = self._now.get(site)
            if node is None or (asked.message and asked.node == node) or asked.sent >= _MOST_SENDS:
                continue
            if asked.message:
                log.info("site=%s came back: asked again", site)
            message = Message(
                codec.to_records(packed[site]), node.id, codec.MESSAGE_TYPE, ttl=left_s + _TTL_MARGIN_S, group_id=site
            )
            sending[site] = (message, node)
        if not sending:
            return
        ids = list(self.grid.push_messages([message for message, _ in sending.values()]))
        for (site, (_, node)), message_id in zip(sending.items(), ids, strict=True):
            asked = waiting[site]
            asked.message, asked.node, asked.sent = message_id or "", node, asked.sent + 1

    def _pull(self, waiting: Mapping[str, _Asked]) -> list[tuple[str, Message]]:
        """Return what has come, by site."""
        by_id = {asked.message: site for site, asked in waiting.items() if asked.message}
        if not by_id:
            return []
        messages = self.grid.pull_messages(list(by_id))
        found = [(by_id.get(message.metadata.reply_to_message_id), message) for message in messages]
        return [(site, message) for site, message in found if site is not None]

    def _arrival(self, site: str, message: Message, asked: _Asked, request: Request) -> Arrival | None:
        """Return what a message is worth; None if the site is to be asked again."""
        if message.has_error():
            # Only the code is looked at: the text is whatever somebody wrote.
            log.info("site=%s flower_error=%d", site, message.error.code)
            return None
        try:
            packed, signature = codec.from_records(message.content)
            heading = self._signed(packed, signature, request.heading, site, asked.message)
        except ProtocolError as error:
            # Whoever it came from, the question is still open: the site itself may yet answer it.
            log.warning("site=%s reply=%s", site, error.code)
            return None if asked.sent < _MOST_SENDS else Arrival(site, None, error.code)
        try:
            reply: Any = packing.unpack(packed, *get_args(Reply))
        except ProtocolError as error:
            log.warning("site=%s reply=%s", site, error)
            return Arrival(site, None, error.code)
        if heading != request.heading:
            # The site could not read which question it was, and says so.
            return (
                Arrival(site, dataclasses.replace(reply, heading=request.heading), "")
                if isinstance(reply, Refused)
                else None
            )
        return Arrival(site, reply)

    def _signed(self, packed: packing.Packed, signature: bytes, heading: Heading, site: str, message: str) -> Heading:
        """Return the heading under which the site signed: the question's, or none if it could not read the question.

        Raises: ProtocolError ``bad-signature``.
        """
        identity = self.identities().get(site, b"")
        try:
            codec.check_signature(packed, signature, heading, site, message, identity)
        except ProtocolError:
            unread = Heading("", "", 0)
            codec.check_signature(packed, signature, unread, site, message, identity)
            return unread
        return heading


@functools.cache
def _pull_at_once() -> None:
    """Let Flower's grid look again soon for the parts of a reply whose header has come: it waits for a second."""
    from flwr.supercore.inflatable.inflatable_utils import pull_objects
    from flwr.superlink.grid import http_grid

    sooner = functools.partial(pull_objects, initial_backoff=0.05, backoff_cap=0.5)
    http_grid.pull_objects = sooner  # type: ignore[attr-defined]  # it imports the function by name
