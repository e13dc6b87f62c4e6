"""The one port through which the aggregator reaches the sites (DESIGN section 2, rule 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from shared.messages import Reply, Request


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
