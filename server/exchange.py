"""One exchange: ask some sites, and take every answer that is one to the question, once.

A round is several exchanges (contribute, reveal; keys and shares when somebody was away). One bad site never ends an
exchange; its name and a reason code are in what is returned.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from server.transport import Transport
from shared.errors import ProtocolError
from shared.messages import Refused, Reply, Request, payload_bytes

log = logging.getLogger("consilium.server")

R = TypeVar("R")

_CODE = re.compile("[a-z][a-z-]{0,39}")
_HINT = 300
"""Letters of a refusal's hint that are kept."""


@dataclass(eq=False)
class Tally:
    """What all exchanges of a round came to, apart from the sum.

    dropped: code by name of sites whose contribution is missing.
    noted: code by name of sites that did something odd without spoiling the round.
    hints: by name, what the last refusal of a site said: anything at all.
    bytes_up, bytes_down: payload received and sent.
    """

    dropped: dict[str, str] = field(default_factory=dict)
    noted: dict[str, str] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
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
        take: may raise: the answer does not count then, and must have changed nothing.

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
            fits, code = True, ""
            try:
                self.tally.bytes_up += payload_bytes(reply)
                fits = self._is_answer(reply, site, requests, kind)
                if fits and site not in answered and site not in missing:
                    code = self._code(reply, site, take)
            except Exception as error:
                # Nothing that a site sends may end the others' run. The error's text may quote what was sent.
                log.warning("site=%s malformed=%s", site, type(error).__name__)
                code = "malformed"
            if not fits:
                self.tally.noted.setdefault(site, "stale-reply")
            elif site in answered:
                self.tally.noted[site] = "replied-twice"
            elif code:
                missing.setdefault(site, code)
            elif site not in missing:
                answered.add(site)
        return {site: missing.get(site, "no-reply") for site in requests if site not in answered}

    @staticmethod
    def _is_answer(reply: Reply, site: str, requests: Mapping[str, Request], kind: type[R]) -> bool:
        """Whether a reply is one to what was asked in this exchange, and not to an earlier question."""
        return site in requests and reply.heading == requests[site].heading and isinstance(reply, kind | Refused)

    def _code(self, reply: Reply, site: str, take: Callable[[R], None]) -> str:
        """Return why an answer does not count, or nothing; raise whatever an unreadable one leads to."""
        if reply.site != site:
            log.warning("site=%s answered in another name", site)
            return "unknown-site"
        if isinstance(reply, Refused):
            if not _CODE.fullmatch(reply.code):
                raise ValueError("a refusal's code is a short word")
            self.tally.hints[site] = str(reply.hint)[:_HINT]
            # Quoted: a hint with a line break is no second line.
            log.warning(
                "round=%d site=%s refused=%s hint=%a", reply.heading.round, site, reply.code, self.tally.hints[site]
            )
            return reply.code
        try:
            take(reply)  # type: ignore[arg-type]  # of the kind that was asked for
        except ProtocolError as error:
            log.warning("site=%s ignored=%s", site, error)
            return error.code
        return ""
