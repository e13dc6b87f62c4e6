"""An aggregator whose code was changed to cheat: a test double that drives real sites by hand, message by message.

It is the adversary of docs/protocol.md: an aggregator may send anybody anything, in any order.
Every answer is kept in ``knowledge``, every refusal in ``refusals``. Sites that collude open their whole state to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from client.site import Site, SiteState, answer
from shared.examples import Arrays
from shared.messages import (
    Contributed,
    ContributeRequest,
    Heading,
    Joined,
    JoinRequest,
    Keys,
    KeysRequest,
    Masking,
    Receipt,
    Refused,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    Shares,
    SharesRequest,
)
from shared.methods.words import word_plan
from shared.secagg import roster
from shared.secagg.keys import SigningKey
from shared.secagg.roster import Roster
from shared.secagg.transcript import digest
from shared.study import Study
from simulations.attacks.knowledge import SCALAR, SEED, Box, Knowledge, Sent

VICTIM = "a"
"""Whom every trick is after."""


class CheatingAggregator:
    """Asks real sites for anything, and keeps all that they say.

    sites: whom it can reach, by name; colluding ones and its own inventions among them.
    colluders: names of those that show it their secrets.
    """

    def __init__(self, sites: Mapping[str, Site], study: Study, colluders: Collection[str] = ()) -> None:
        self.sites = dict(sites)
        self.study = study
        self.colluders = frozenset(colluders)
        self.states = {name: SiteState() for name in sites}
        self.identities = {name: site.member.signing.public for name, site in sites.items()}
        """Public keys of which it makes a run's id: those that sites pinned, or other ones."""
        self.knowledge = Knowledge()
        self.refusals: list[Refused] = []
        self.roll: tuple[Joined, ...] = ()
        self.run = ""
        self.said: dict[tuple[Heading, str], Keys] = {}
        self.receipts: dict[tuple[Heading, str], Receipt] = {}
        self.revealed: list[Revealed] = []
        self._boxes: dict[tuple[Heading, str], Mapping[str, bytes]] = {}
        self._holders: dict[tuple[Heading, str], Roster] = {}

    @property
    def codes(self) -> dict[str, str]:
        """Code of the first refusal of every site that refused something: what stopped the trick there."""
        codes: dict[str, str] = {}
        for refused in self.refusals:
            codes.setdefault(refused.site, refused.code)
        return codes

    def codes_of(self, site: str) -> list[str]:
        """Return the codes of all refusals of one site, in order."""
        return [refused.code for refused in self.refusals if refused.site == site]

    def part(self, site: str) -> Arrays | None:
        """Return one site's part, if all that was heard gives it away."""
        return self.knowledge.part(site)

    def forget(self) -> None:
        """Let every site begin anew, as one that remembers nothing would."""
        self.states = {name: SiteState() for name in self.sites}

    # One message

    def ask(self, site: str, request: Request) -> Reply:
        """Send one request to one site, and keep the answer."""
        reply, self.states[site] = answer(request, self.states[site], self.sites[site])
        match reply, request:
            case Refused(), _:
                self.refusals.append(reply)
            case Keys(), _:
                self.said[reply.heading, site] = reply
            case Shares(), SharesRequest():
                self._keep_boxes(site, reply.heading, request.keys, reply.sealed)
            case Contributed(), ContributeRequest():
                self._keep_words(site, request, reply)
            case Revealed(), RevealRequest():
                self._keep_shares(site, request, reply)
        if site in self.colluders:
            self._look_into(site)
        return reply

    def _keep_boxes(self, site: str, heading: Heading, said: Iterable[Keys], sealed: Mapping[str, bytes]) -> None:
        ordered = tuple(sorted(said, key=lambda each: each.site))
        threshold = roster.threshold_of(len(ordered), self.sites[site].member.study.aggregation.threshold)
        holders = Roster(heading, ordered, threshold)
        self._boxes[heading, site], self._holders[heading, site] = sealed, holders
        self.knowledge.boxes += [Box(site, receiver, holders, box) for receiver, box in sealed.items()]

    def _keep_words(self, site: str, request: ContributeRequest, reply: Contributed) -> None:
        plan = word_plan(self.sites[site].method.asks(request.state), request.sites)
        if request.masking is None:
            self.knowledge.sent.append(Sent(site, reply.heading, plan, reply.words))
            return
        assert reply.receipt is not None
        self.receipts[reply.heading, site] = reply.receipt
        maskers = frozenset({site, *request.masking.sealed})
        holders = self._holders[reply.heading, site]
        self.knowledge.sent.append(Sent(site, reply.heading, plan, reply.words, holders, maskers))

    def _keep_shares(self, site: str, request: RevealRequest, reply: Revealed) -> None:
        self.revealed.append(reply)
        holders = self._holders[reply.heading, site]
        for kind, given in ((SEED, reply.seeds), (SCALAR, reply.scalars)):
            for owner, share in given.items():
                self.knowledge.learn_share(holders, owner, kind, site, share)
        if request.next_keys:
            self._keep_boxes(site, request.next_keys[0].heading, request.next_keys, reply.next_sealed)

    def _look_into(self, site: str) -> None:
        """Take a colluder's secrets; shares that were sealed to it open with them."""
        secure = self.states[site].secure
        if secure.keys:
            self.knowledge.learn_keys(secure.keys)
        if secure.masked and secure.masked.next:
            self.knowledge.learn_keys(secure.masked.next)

    # Steps, as honest as their arguments

    def heading(self, round_number: int, attempt: int = 1) -> Heading:
        """Return the heading of a round of the run."""
        return Heading(self.run, self.study.digest, round_number, attempt)

    def join(self, sites: Iterable[str]) -> None:
        """Open a run with these sites."""
        replies = [self.ask(site, JoinRequest(Heading("", self.study.digest, 0))) for site in sites]
        self.roll = tuple(reply for reply in replies if isinstance(reply, Joined))
        self.run = self.run_id(self.roll)

    def run_id(self, roll: tuple[Joined, ...]) -> str:
        """Return the id that follows from a roll, whoever signed it."""
        ordered = sorted(roll, key=lambda said: said.site)
        said = tuple((x.site, self.identities[x.site], x.nonce, x.min_sites, x.shrinking) for x in ordered)
        return digest("run", Heading("", self.study.digest, 0), said).hex()

    def announce(self, sites: Iterable[str], round_number: int, attempt: int = 1) -> dict[str, Keys]:
        """Let sites announce keys, and return those that they did."""
        heading = self.heading(round_number, attempt)
        replies = [self.ask(site, KeysRequest(heading, self.roll)) for site in sites]
        return {reply.site: reply for reply in replies if isinstance(reply, Keys)}

    def set_up(self, sites: Iterable[str], round_number: int, attempt: int = 1) -> None:
        """Let sites announce keys, and share their secrets among those who did."""
        self.share(self.announce(sites, round_number, attempt).values())

    def share(self, said: Iterable[Keys], to: Iterable[str] | None = None, heading: Heading | None = None) -> None:
        """Let sites share their secrets among the holders with these keys.

        to: who is asked; None for all holders.
        heading: of the request; None for that of the first keys.
        """
        said = tuple(said)
        if not said:
            return
        for site in [each.site for each in said] if to is None else to:
            self.ask(site, SharesRequest(heading or said[0].heading, said))

    def boxes_of(self, heading: Heading, old: Heading) -> None:
        """Put the sealed shares of another round in the place of a round's own."""
        for (of, site), sealed in list(self._boxes.items()):
            if of == old:
                self._boxes[heading, site] = sealed

    def contribute(
        self,
        heading: Heading,
        state: Arrays,
        sites: Collection[str],
        maskers: Collection[str] | None = None,
        scale: int | None = None,
    ) -> None:
        """Ask sites for masked words.

        maskers: with whom they mask; None for each other.
        scale: for how many sites the words must not wrap; None for the run's.
        """
        for site in sites:
            sealed = {
                sender: self._boxes[heading, sender][site]
                for sender in (sites if maskers is None else maskers)
                if sender != site and site in self._boxes.get((heading, sender), {})
            }
            self.ask(site, ContributeRequest(heading, scale or len(self.roll), 0, state, Masking(sealed)))

    def reveal(
        self,
        heading: Heading,
        survivors: Collection[str],
        dropped: Iterable[str] = (),
        to: Iterable[str] | None = None,
    ) -> None:
        """Ask for the shares by which a sum's masks are removed.

        to: who is asked; None for the survivors.
        """
        receipts = tuple(self.receipts[heading, site] for site in survivors if (heading, site) in self.receipts)
        for site in survivors if to is None else to:
            self.ask(site, RevealRequest(heading, receipts, tuple(dropped)))

    def sum(self, round_number: int, state: Arrays, sites: Collection[str], lost: Collection[str] = ()) -> None:
        """Make one round as an honest aggregator would.

        lost: sites that masked, and whose words did not arrive in time.
        """
        self.set_up(sites, round_number)
        heading = self.heading(round_number)
        self.contribute(heading, state, sites)
        self.reveal(heading, [site for site in sites if site not in lost], lost)


def impostor(site: Site, name: str, signing: SigningKey) -> Site:
    """Return a site with another name or identity: the aggregator's own invention."""
    return replace(site, member=replace(site.member, name=name, signing=signing))


def believing(site: Site, identities: Mapping[str, bytes]) -> Site:
    """Return the site as it would be if its hospital pinned whatever identities it is told."""
    return replace(site, member=replace(site.member, pinned=dict(identities)))


def others(names: Iterable[str]) -> list[str]:
    """Return everybody but the victim."""
    return [name for name in names if name != VICTIM]


def contributed(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Go honestly through a first round until its words are there."""
    cheat.join(names)
    cheat.set_up(names, 1)
    cheat.contribute(cheat.heading(1), state, names)
