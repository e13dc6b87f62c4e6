"""One exchange: ask some sites, and take every answer that is one to the question, once.

A round is several exchanges (contribute, reveal; keys and shares when somebody was away). One bad site never ends an
exchange; its name and a reason code are in what is returned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from server.transport import Transport
from shared.errors import ProtocolError
from shared.messages import Refused, Reply, Request, payload_bytes

log = logging.getLogger("consilium.server")

R = TypeVar("R")


@dataclass(eq=False)
class Tally:
    """What all exchanges of a round came to, apart from the sum.

    dropped: code by name of sites whose contribution is missing.
    noted: code by name of sites that did something odd without spoiling the round.
    bytes_up, bytes_down: payload received and sent.
    """

    dropped: dict[str, str] = field(default_factory=dict)
    noted: dict[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True, eq=False)
class Port:
    """How sites are reached in one round."""

    transport: Transport
    deadline_s: float
    tally: Tally = field(default_factory=Tally)

    def ask(self, requests: Mapping[str, Request], kind: type[R], take: Callable[[R], None]) -> dict[str, str]:
        """Ask sites, and hand each one's first good answer to ``take``.

        requests: by site.
        kind: the message that answers.
        take: may raise ProtocolError: the answer does not count then.

        Returns: code by name of the sites that were asked and gave no good answer.
        """
        answered: set[str] = set()
        missing: dict[str, str] = {}
        for request in requests.values():
            self.tally.bytes_down += payload_bytes(request)
        for arrival in self.transport.exchange(requests, self.deadline_s):
            site, reply = arrival.site, arrival.reply
            if reply is None:
                missing.setdefault(site, arrival.lost)
                continue
            try:
                self.tally.bytes_up += payload_bytes(reply)
                fits = self._is_answer(reply, site, requests, kind)
            except Exception as error:
                # Nothing that a site sends may end the others' run.
                _log_malformed(site, error)
                if site not in answered:
                    missing.setdefault(site, "malformed")
                continue
            if not fits:
                self.tally.noted.setdefault(site, "stale-reply")
            elif site in answered:
                self.tally.noted[site] = "replied-twice"
            elif site not in missing:
                code = _code(reply, site, take)
                if code:
                    missing[site] = code
                else:
                    answered.add(site)
        return {site: missing.get(site, "no-reply") for site in requests if site not in answered}

    @staticmethod
    def _is_answer(reply: Reply, site: str, requests: Mapping[str, Request], kind: type[R]) -> bool:
        """Whether a reply is one to what was asked in this exchange, and not to an earlier question."""
        return site in requests and reply.heading == requests[site].heading and isinstance(reply, kind | Refused)


def _code(reply: Reply, site: str, take: Callable[[R], None]) -> str:
    """Return why an answer does not count, or nothing."""
    if reply.site != site:
        log.warning("site=%s answered in another name", site)
        return "unknown-site"
    if isinstance(reply, Refused):
        log.warning("round=%d site=%s refused=%s hint=%s", reply.heading.round, site, reply.code, reply.hint)
        return reply.code
    try:
        take(reply)  # type: ignore[arg-type]  # of the kind that was asked for
    except ProtocolError as error:
        log.warning("site=%s ignored=%s", site, error)
        return error.code
    except Exception as error:
        _log_malformed(site, error)
        return "malformed"
    return ""


def _log_malformed(site: str, error: Exception) -> None:
    """Log the kind of an error alone: its text may quote what was sent."""
    log.warning("site=%s malformed=%s", site, type(error).__name__)
