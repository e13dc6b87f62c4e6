"""The one port through which the aggregator reaches the sites (DESIGN section 2, rule 2), and its way over Flower.

``simulations/local.py`` has the other way, without a network.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import queue
import threading
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
    given_up: set when nobody waits for the reply to ``message`` any more.
    """

    message: str = ""
    node: Node | None = None
    sent: int = 0
    given_up: threading.Event = field(default_factory=threading.Event)

    def give_up(self) -> None:
        """Forget the message that carries the question now."""
        self.given_up.set()
        self.message = ""


_NODES_EVERY_S = 1.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 0.5
_TTL_MARGIN_S = 60.0
_MOST_SENDS = 10
"""How often one question goes to one site: a node that comes and goes, or a reply that somebody else forged."""

_Replies = queue.SimpleQueue[tuple[str, str, "Message | Exception"]]
"""What came: the site, the id of the message that it answers, and the reply, or why there will be none."""


@dataclass(eq=False)
class FlowerTransport:
    """Asks sites through a Flower grid: each exchange is one message to each node, and one reply.

    A question goes out again to a node that came online anew, because the one before took it along; sites answer the
    same question with the same bytes. A reply counts only with the site's own signature.

    Each reply is waited for in a thread of its own: Flower fetches a reply whose header has come to its last part, for
    minutes if its node was killed in between, and nobody else's may wait for that.

    identities: Ed25519 public keys by site name, as enrolled now.
    nodes: where each site's node is now; those that are away are left out.
    """

    grid: Grid
    identities: Callable[[], Mapping[str, bytes]]
    nodes: Callable[[], Mapping[str, Node]]
    clock: Callable[[], float] = time.monotonic

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Send each site its request, and yield what arrives until the deadline; see ``Transport``."""
        _pull_at_once()
        packed = packing.pack_all(requests)
        waiting = {site: _Asked() for site in requests}
        replies: _Replies = queue.SimpleQueue()
        now = self.clock()
        end, look = now + deadline_s, now
        try:
            while waiting and now < end:
                if now >= look:
                    self._send(waiting, packed, end - now, replies)
                    look = now + _NODES_EVERY_S
                arrival = self._next(replies, waiting, requests, max(0.0, min(look, end) - self.clock()))
                if arrival is not None:
                    del waiting[arrival.site]
                    yield arrival
                now = self.clock()
            for site, asked in waiting.items():
                yield Arrival(site, None, "late" if asked.message else "offline")
        finally:
            for asked in waiting.values():
                asked.give_up()

    def _send(
        self, waiting: Mapping[str, _Asked], packed: Mapping[str, packing.Packed], left_s: float, replies: _Replies
    ) -> None:
        """Send questions that are not on their way to nodes that are there."""
        from flwr.app import Message

        nodes, sending = self.nodes(), {}
        for site, asked in waiting.items():
            node = nodes.get(site)
            if node is None or (asked.message and asked.node == node) or asked.sent >= _MOST_SENDS:
                continue
            if asked.message:
                log.info("site=%s came online anew: asked again", site)
                asked.give_up()
            records = codec.to_records(packed[site])
            message = Message(records, node.id, codec.MESSAGE_TYPE, ttl=left_s + _TTL_MARGIN_S, group_id=site)
            sending[site] = (message, node)
        if not sending:
            return
        ids = list(self.grid.push_messages([message for message, _ in sending.values()]))
        for (site, (_, node)), message_id in zip(sending.items(), ids, strict=True):
            asked = waiting[site]
            asked.message, asked.node, asked.sent = message_id or "", node, asked.sent + 1
            asked.given_up = threading.Event()
            if asked.message:
                about = (site, asked.message, asked.given_up, replies)
                threading.Thread(target=self._wait, args=about, name=f"reply-{site}", daemon=True).start()

    def _wait(self, site: str, message: str, given_up: threading.Event, replies: _Replies) -> None:
        """Put the reply to one message into the queue once it is there."""
        sent = self.clock()
        try:
            # A quarter of what was waited already: SuperLink works off one request after the other, and every question
            # whether a reply is there keeps it from those that bring the reply.
            while not given_up.wait(min(max(_SHORTEST_PAUSE_S, (self.clock() - sent) / 4), _LONGEST_PAUSE_S)):
                found = list(self.grid.pull_messages([message]))
                if found:
                    replies.put((site, message, found[0]))
                    return
        except Exception as error:
            # SuperLink is away for longer than Flower tries: the question is sent again when it is back.
            replies.put((site, message, error))

    def _next(
        self, replies: _Replies, waiting: Mapping[str, _Asked], requests: Mapping[str, Request], within_s: float
    ) -> Arrival | None:
        """Return the next reply that counts, if one comes within so many seconds."""
        try:
            site, message, found = replies.get(timeout=within_s)
        except queue.Empty:
            return None
        asked = waiting.get(site)
        if asked is None or asked.message != message:
            return None
        if isinstance(found, Exception):
            log.warning("site=%s its reply could not be fetched: %s", site, type(found).__name__)
            arrival = None
        else:
            arrival = self._arrival(site, found, asked, requests[site])
        if arrival is None:
            asked.give_up()
        return arrival

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
