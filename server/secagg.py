"""Secure aggregation at the aggregator: open a run, set up a round, remove the masks of a sum (docs/protocol.md).

The aggregator learns the sum over the contributors and nothing else. What it checks here, it checks so that one faulty
site is left out by name; that it cannot cheat is the sites' business (``client/secagg.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from server.exchange import Port
from shared.errors import ProtocolError, RunAbandoned
from shared.fixedpoint import Words
from shared.messages import (
    Ended,
    EndRequest,
    Heading,
    Joined,
    JoinRequest,
    Keys,
    KeysRequest,
    Masking,
    Receipt,
    Revealed,
    RevealRequest,
    Shares,
    SharesRequest,
)
from shared.secagg import keys as crypto
from shared.secagg import masks, roster, shares
from shared.secagg.keys import ExchangeKey
from shared.secagg.roster import Roster
from shared.study import Study

log = logging.getLogger("consilium.server")

_SET_UPS = 3
"""How often keys and shares are asked for before a round is given up: nothing was computed yet."""


@dataclass(frozen=True, eq=False)
class Session:
    """One run under secure aggregation.

    run: its id.
    roll: what every member said when it joined.
    identities: Ed25519 public keys of the members.
    min_sites, threshold: of the study.
    """

    run: str
    roll: tuple[Joined, ...]
    identities: Mapping[str, bytes]
    min_sites: int
    threshold: int | None

    @property
    def members(self) -> tuple[str, ...]:
        """Names of those who joined."""
        return tuple(said.site for said in self.roll)

    def roster(self, heading: Heading, said: Collection[Keys]) -> Roster:
        """Return the roster of these share-holders.

        Raises: ProtocolError if there are too few.
        """
        return roster.roster_of(heading, tuple(said), self.identities, self.min_sites, self.threshold)


@dataclass(frozen=True, eq=False)
class Ready:
    """A round that can be masked.

    sealed: shares by sender and receiver; the senders mask.
    """

    roster: Roster
    sealed: Mapping[str, Mapping[str, bytes]] = field(repr=False)

    @cached_property
    def digest(self) -> bytes:
        """Digest of those who mask."""
        return roster.maskers_digest(self.roster, self.sealed)

    def masking(self, site: str) -> Masking:
        """Return what one site needs."""
        return Masking({sender: boxes[site] for sender, boxes in self.sealed.items() if sender != site})


def join(study: Study, identities: Mapping[str, bytes], port: Port) -> Session:
    """Open a run with all sites that answer.

    identities: Ed25519 public keys of the sites that are asked, by name.

    Raises: RunAbandoned if too few join.
    """
    heading = Heading("", study.digest, 0)
    roll: dict[str, Joined] = {}

    def take(reply: Joined) -> None:
        roster.check_joined(reply, identities)
        roll[reply.site] = reply

    missing = port.ask(dict.fromkeys(identities, JoinRequest(heading)), Joined, take)
    said = tuple(roll[site] for site in identities if site in roll)
    _require(len(said), max(roster.SMALLEST, study.aggregation.min_sites), "joined the run", missing)
    pinned = {each.site: identities[each.site] for each in said}
    run = roster.run_id(study.digest, said, pinned)
    return Session(run, said, pinned, study.aggregation.min_sites, study.aggregation.threshold)


def set_up(session: Session, heading: Heading, sites: Sequence[str], port: Port) -> Ready:
    """Ask for keys, then for shares, until enough sites can mask together.

    heading: of the round, with the first attempt to make.
    sites: who may mask.

    Raises: RunAbandoned if too few sites remain.
    """
    missing: dict[str, str] = {}
    for attempt in range(heading.attempt, heading.attempt + _SET_UPS):
        now = replace(heading, attempt=attempt)
        said: dict[str, Keys] = {}
        request = KeysRequest(now, session.roll)
        missing = port.ask(dict.fromkeys(sites, request), Keys, _keys_taker(session, now, said))
        if len(said) < max(roster.SMALLEST, session.min_sites):
            break
        holders = session.roster(now, said.values())
        sealed: dict[str, Mapping[str, bytes]] = {}
        requests = dict.fromkeys(holders.names, SharesRequest(now, holders.keys))
        missing |= port.ask(requests, Shares, _shares_taker(holders, sealed))
        if len(sealed) >= max(holders.threshold, session.min_sites):
            port.tally.dropped.update(missing)
            return Ready(holders, sealed)
        log.warning("round=%d attempt=%d set up by %d of %d", now.round, attempt, len(sealed), len(holders.keys))
    fewest = max(roster.SMALLEST, session.min_sites)
    raise RunAbandoned(_too_few(f"exchange {heading.round} could be set up with", len(sites), fewest, missing))


def _keys_taker(session: Session, heading: Heading, said: dict[str, Keys]) -> Callable[[Keys], None]:
    def take(reply: Keys) -> None:
        roster.check_keys(reply, heading, session.identities)
        check_distinct(reply, said.values())
        said[reply.site] = reply

    return take


def check_distinct(keys: Keys, others: Collection[Keys]) -> None:
    """Raise ProtocolError ``repeated-key`` if a site announces a key that another site has announced."""
    known = {public for each in others for public in (each.mask, each.seal)}
    if {keys.mask, keys.seal} & known:
        raise ProtocolError("repeated-key", f"{keys.site} announced a key that another site has announced")


def _shares_taker(holders: Roster, sealed: dict[str, Mapping[str, bytes]]) -> Callable[[Shares], None]:
    def take(reply: Shares) -> None:
        check_sealed(reply.site, reply.sealed, holders)
        sealed[reply.site] = reply.sealed

    return take


def check_sealed(site: str, sealed: Mapping[str, bytes], holders: Roster) -> None:
    """Raise ProtocolError ``missing-shares`` unless a site sealed shares to every other holder, and to nobody else."""
    if set(sealed) != set(holders.names) - {site}:
        raise ProtocolError("missing-shares", f"{site} did not seal shares to each of the other share-holders")


@dataclass(frozen=True, eq=False)
class MaskedTotal:
    """A sum of masked words, whose contributors are decided: what must be durable before the reveal is asked for.

    receipts: of the contributors.
    next_keys: what the contributors announced for the next round; empty in the last.
    """

    ready: Ready
    words: Words = field(repr=False)
    receipts: tuple[Receipt, ...]
    next_keys: tuple[Keys, ...] = ()

    @property
    def dropped(self) -> tuple[str, ...]:
        """Those who masked and whose words are not in the sum."""
        contributors = {receipt.site for receipt in self.receipts}
        return tuple(sorted(set(self.ready.sealed) - contributors))


def reveal(session: Session, total: MaskedTotal, port: Port) -> Ready | None:
    """Ask the contributors for shares, and remove the masks from ``total.words``, in place.

    Returns: the next round, if it is set up.
    Raises: RunAbandoned if too few sites give their shares, or the shares are wrong; the words are worthless then.
    """
    holders = total.ready.roster
    heading = holders.heading
    following = _next_roster(session, total)
    request = RevealRequest(heading, total.receipts, total.dropped, following.keys if following else ())
    contributors = [receipt.site for receipt in total.receipts]
    replies: dict[str, Revealed] = {}
    missing = port.ask(
        dict.fromkeys(contributors, request), Revealed, _revealed_taker(contributors, total.dropped, following, replies)
    )
    for site, code in missing.items():
        port.tally.noted.setdefault(site, code)
    _require(len(replies), holders.threshold, f"revealed the masks of exchange {heading.round}", missing)
    seeds, scalars = _rebuild(total, replies)
    masks.apply(total.words, *_unmasking_keys(total, seeds, scalars))
    if following is None:
        return None
    return Ready(following, {site: reply.next_sealed for site, reply in replies.items()})


def _next_roster(session: Session, total: MaskedTotal) -> Roster | None:
    """Return the next round's share-holders, if there are enough."""
    heading = total.ready.roster.heading
    following = replace(heading, round=heading.round + 1, attempt=1)
    try:
        return session.roster(following, total.next_keys)
    except ProtocolError:
        return None


def _revealed_taker(
    survivors: Collection[str], dropped: Collection[str], following: Roster | None, replies: dict[str, Revealed]
) -> Callable[[Revealed], None]:
    def take(reply: Revealed) -> None:
        if set(reply.seeds) != set(survivors) or set(reply.scalars) != set(dropped):
            raise ProtocolError("missing-shares", f"{reply.site} did not give the shares that were asked for")
        for share in (*reply.seeds.values(), *reply.scalars.values()):
            shares.from_bytes(share, reply.site)
        if following:
            check_sealed(reply.site, reply.next_sealed, following)
        replies[reply.site] = reply

    return take


def _rebuild(total: MaskedTotal, replies: Mapping[str, Revealed]) -> tuple[dict[str, bytes], dict[str, ExchangeKey]]:
    """Return the survivors' seeds and the dropped sites' mask keys, each held against what its owner announced.

    Raises: RunAbandoned if a secret that the shares give is not the announced one.
    """
    holders = total.ready.roster
    weight = shares.weights([holders.points[site] for site in sorted(replies)[: holders.threshold]])

    def secret(owner: str, of: Callable[[Revealed], Mapping[str, bytes]]) -> bytes:
        given = {holders.points[site]: int.from_bytes(of(reply)[owner], "big") for site, reply in replies.items()}
        value = shares.rebuild(given, weight)
        # Above 2**256 there is no secret: wrong shares, which the comparison below finds too.
        return (value % 2**256).to_bytes(32, "big")

    seeds = {receipt.site: secret(receipt.site, lambda reply: reply.seeds) for receipt in total.receipts}
    scalars = {site: ExchangeKey(secret(site, lambda reply: reply.scalars)) for site in total.dropped}
    for site, said in holders.by_name.items():
        wrong = (site in seeds and roster.seed_digest(site, holders.heading, seeds[site]) != said.seed_digest) or (
            site in scalars and scalars[site].public != said.mask
        )
        if wrong:
            raise RunAbandoned(
                f"exchange {holders.heading.round}: the shares of {site}'s secret do not give what {site} announced:"
                f" {site}, or one of those who answered ({', '.join(sorted(replies))}), is faulty."
            )
    return seeds, scalars


def _unmasking_keys(
    total: MaskedTotal, seeds: Mapping[str, bytes], scalars: Mapping[str, ExchangeKey]
) -> tuple[list[bytes], list[bytes]]:
    """Return the keys of the masks that are added to the sum, and of those that are subtracted from it."""
    holders = total.ready.roster
    heading, maskers = holders.heading, total.ready.digest
    plus: list[bytes] = []
    minus = [crypto.self_mask_key(seed, heading, maskers, site) for site, seed in seeds.items()]
    for gone, scalar in scalars.items():
        for site in seeds:
            agreed = scalar.agree(holders.by_name[site].mask, site)
            key = crypto.pair_mask_key(agreed, heading, maskers, (min(site, gone), max(site, gone)))
            # The contributor had added it if its name comes first.
            (minus if site < gone else plus).append(key)
    return plus, minus


def end(session: Session, heading: Heading, port: Port) -> None:
    """Tell every member that the run is over, so that it forgets the run's secrets; who does not hear does so later."""
    port.ask(dict.fromkeys(session.members, EndRequest(heading)), Ended, lambda _reply: None)


def _require(count: int, fewest: int, did: str, missing: Mapping[str, str]) -> None:
    if count < fewest:
        raise RunAbandoned(_too_few(f"{count} sites {did}", count + len(missing), fewest, missing))


def _too_few(what: str, of: int, fewest: int, missing: Mapping[str, str]) -> str:
    reasons = ", ".join(f"{site} ({code})" for site, code in missing.items())
    return f"{what}, of {of}; {fewest} are needed. Missing: {reasons or 'nobody'}."
