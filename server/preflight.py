"""Before a run: which enrolled sites have approved the study, run the same code, and have pinned each other.

Hospitals pin each other, so a run is possible among sites that all know one another: a newcomer takes part once every
other hospital has approved it. Who does not fit is left out by name, with a reason; who takes part then stays the same
to the run's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.exchange import Port
from shared.errors import ProtocolError, RunAbandoned
from shared.messages import Counts, Heading, PreflightRequest, Ready
from shared.reasons import told
from shared.secagg import roster
from shared.study import Study


@dataclass(frozen=True)
class Cohort:
    """Who takes part in a run.

    sites: identity (Ed25519 public key, 32 bytes) by name.
    left_out: reason code by name of the other enrolled sites.
    counts: how much a site brings, where its hospital shows it.
    """

    sites: Mapping[str, bytes]
    left_out: Mapping[str, str]
    counts: Mapping[str, Counts]


def preflight(study: Study, enrolled: Mapping[str, bytes], code: str, port: Port, at_least: int = 0) -> Cohort:
    """Ask every enrolled site, and return those that can take part together.

    enrolled: identity by name, in the order of enrolment.
    code: digest of the code that runs here; sites with other code are left out.
    at_least: fewest sites, if the study asks for fewer.

    Raises: RunAbandoned if they are too few.
    """
    ready: dict[str, Ready] = {}

    def take(reply: Ready) -> None:
        if reply.code != code:
            raise ProtocolError("another-code", f"{reply.site} runs other code than the aggregator")
        if reply.members.get(reply.site) != enrolled[reply.site]:
            raise ProtocolError("another-identity", f"{reply.site} says that it has another identity than was enrolled")
        ready[reply.site] = reply

    request = PreflightRequest(Heading("", study.digest, 0))
    left_out = port.ask(dict.fromkeys(enrolled, request), Ready, take)
    sites = acquainted({site: ready[site].members for site in enrolled if site in ready}, enrolled)
    left_out |= {site: "not-pinned" for site in ready if site not in sites}
    fewest = max(at_least, study.aggregation.min_sites, roster.SMALLEST if study.aggregation.secure else 1)
    if len(sites) < fewest:
        raise RunAbandoned(
            f"{len(sites)} of {len(enrolled)} enrolled hospitals can take part, and {fewest} are needed. Left out:"
            f" {told(left_out) if left_out else 'nobody else is enrolled.'}"
        )
    counts = {site: said.counts for site, said in ready.items() if site in sites and said.counts}
    return Cohort({site: enrolled[site] for site in sites}, left_out, counts)


def acquainted(members: Mapping[str, Mapping[str, bytes]], identities: Mapping[str, bytes]) -> list[str]:
    """Return sites that have all pinned each other: whoever is unknown to most is left out first, the newest of these.

    members: whom each site pinned, in the order of enrolment.
    """
    sites = list(members)
    while True:
        strangers = {
            site: sum(
                members[other].get(site) != identities[site] or members[site].get(other) != identities[other]
                for other in sites
            )
            for site in sites
        }
        most = max(strangers.values(), default=0)
        if not most:
            return sites
        sites.remove([site for site in sites if strangers[site] == most][-1])
