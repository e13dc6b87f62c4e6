"""How much of the gateway one hospital, one address and everybody together may use.

Numbers come from what Flower 1.41 sends: parts of at most 5,243,032 bytes, a poll every few seconds or some twenty a
second while a round is on, one connection for each thread of the node.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass

logger = logging.getLogger("consilium.gateway")


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds.

    handshakes, handshakes_per_address: connections that have not shown a certificate yet.
    connections, connections_per_site: open at once.
    header_s: from a request's first byte to the end of its head. idle_s: between two requests.
    body_s: for a whole body. answer_s: for sending a whole answer. upstream_s: without a word from SuperLink.
    requests_per_s, request_burst: of one hospital (token bucket). patience_s: a request waits so long for its turn.
    check_s: how often live connections are held against the enrolment file. seen_s: how often ``seen.json`` is written.
    """

    head_bytes: int = 16 * 1024
    request_bytes: int = 8 * 1024 * 1024
    response_bytes: int = 12 * 1024 * 1024
    handshakes: int = 64
    handshakes_per_address: int = 16
    connections: int = 512
    connections_per_site: int = 16
    handshake_s: float = 10.0
    header_s: float = 15.0
    idle_s: float = 75.0
    body_s: float = 120.0
    answer_s: float = 120.0
    upstream_s: float = 60.0
    requests_per_s: float = 200.0
    request_burst: float = 400.0
    patience_s: float = 1.0
    check_s: float = 0.5
    seen_s: float = 5.0


class Slots:
    """At most so many at once, in all and for each key."""

    def __init__(self, in_all: int, for_each: int) -> None:
        self._in_all = in_all
        self._for_each = for_each
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, key: str) -> bool:
        """Return whether there was a slot; it is taken then."""
        with self._lock:
            if self._taken.total() >= self._in_all or self._taken[key] >= self._for_each:
                return False
            self._taken[key] += 1
            return True

    def give(self, key: str) -> None:
        """Return a slot that was taken."""
        with self._lock:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


class Buckets:
    """A token bucket for each key: ``per_s`` on average, ``burst`` at once."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._levels: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str, now: float) -> bool:
        """Return whether a token was left.

        now: seconds of a clock that never goes back.
        """
        with self._lock:
            level, since = self._levels.get(key, (self._burst, now))
            level = min(self._burst, level + (now - since) * self._per_s)
            taken = level >= 1
            self._levels[key] = (level - taken, now)
            return taken


class Notes:
    """A log line for each refusal; beyond 20 a second in the long run they are counted, and the number is logged."""

    def __init__(self, per_s: float = 20.0, burst: float = 200.0) -> None:
        self._bucket = Buckets(per_s, burst)
        self._left_out = 0
        self._lock = threading.Lock()

    def refused(self, who: str, what: str) -> None:
        """Log that somebody was refused.

        who: a site's name with its address, or an address. what: in plain words, without anything from a header.
        """
        with self._lock:
            if not self._bucket.take("", time.monotonic()):
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        if left_out:
            logger.warning("refused: %d more, not written here one by one", left_out)
        logger.warning("refused: %s: %s", who, what)
