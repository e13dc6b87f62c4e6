"""Secure aggregation at the aggregator: open a run, set up a round, remove the masks of a sum (docs/protocol.md).

The aggregator learns the sum over the contributors and nothing else. What it checks here, it checks so that one faulty
site is left out by name; that it cannot cheat is the sites' business (``client/secagg.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from server.exchange import Port
from server.secagg_state import MaskedTotal, Ready, Session
from server.unmask import unmask
from shared.errors import ProtocolError, RunAbandoned
from shared.messages import (
    Heading,
    Joined,
    JoinRequest,
    Keys,
    KeysRequest,
    Revealed,
    RevealRequest,
    Shares,
    SharesRequest,
)
from shared.reasons import told
from shared.secagg import roster, shares
from shared.secagg.roster import Roster
from shared.study import Study

log = logging.getLogger("consilium.server")

_SET_UPS = 3
"""How often keys and shares are asked for before a round is given up: nothing was computed yet."""

_BOX_BYTES = 12 + 2 * shares.SHARE_BYTES + 16
"""What one site seals to another: a nonce, two shares and a tag."""


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
    # What the strictest hospital asks for binds all.
    min_sites = max(roster.SMALLEST, study.aggregation.min_sites, *(each.min_sites for each in said))
    strict = [each.site for each in said if len(said) < each.min_sites > study.aggregation.min_sites]
    if strict:
        raise RunAbandoned(
            f"{len(said)} sites joined the run, and the policy of {', '.join(strict)} asks for {min_sites}."
            f" {_missing(missing)}"
        )
    _require(len(said), max(min_sites, study.aggregation.threshold or 0), "joined the run", missing)
    try:
        roster.threshold_of(len(said), study.aggregation.threshold)
    except ProtocolError as error:
        raise RunAbandoned(f"[aggregation] threshold: {error.hint}. {_missing(missing)}") from None
    pinned = {each.site: identities[each.site] for each in said}
    run = roster.run_id(study.digest, said, pinned)
    return Session(run, said, pinned, min_sites, study.aggregation.threshold)


def set_up(session: Session, heading: Heading, sites: Sequence[str], port: Port) -> Ready:
    """Ask for keys, then for shares, until enough sites can mask together.

    heading: of the round, with the first attempt to make.
    sites: who may mask.

    Raises: RunAbandoned if too few sites remain.
    """
    sealed: dict[str, Mapping[str, bytes]] = {}
    missing: dict[str, str] = {}
    needed = _fewest(session)
    for attempt in range(heading.attempt, heading.attempt + _SET_UPS):
        now = replace(heading, attempt=attempt)
        said: dict[str, Keys] = {}
        request = KeysRequest(now, session.roll)
        missing = port.ask(dict.fromkeys(sites, request), Keys, _keys_taker(session, now, said))
        if len(said) < _fewest(session) and "round-went-back" in missing.values():
            # An aggregator that was killed had come to a later attempt.
            continue
        _require(len(said), _fewest(session), f"announced keys for exchange {now.round}", missing)
        holders = session.roster(now, said.values())
        sealed = {}
        requests = dict.fromkeys(holders.names, SharesRequest(now, holders.keys))
        missing |= port.ask(requests, Shares, _shares_taker(holders, sealed))
        needed = max(holders.threshold, session.min_sites)
        if len(sealed) >= needed:
            port.tally.dropped.update(missing)
            return Ready(holders, sealed)
        log.warning("round=%d attempt=%d set up by %d of %d", now.round, attempt, len(sealed), len(holders.keys))
    raise RunAbandoned(_too_few(len(sealed), needed, f"shared secrets for exchange {heading.round}", missing))


def _fewest(session: Session) -> int:
    """Return with how many sites a round can begin."""
    return max(roster.SMALLEST, session.min_sites, session.threshold or 0)


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
    """Check that a site sealed shares to every other holder, and to nobody else.

    Raises: ProtocolError ``missing-shares``; ``bad-share`` for what is not as long as two sealed shares.
    """
    if set(sealed) != set(holders.names) - {site}:
        raise ProtocolError("missing-shares", f"{site} did not seal shares to each of the other share-holders")
    if any(not isinstance(box, bytes) or len(box) != _BOX_BYTES for box in sealed.values()):
        raise ProtocolError("bad-share", f"{site} sealed what is no pair of shares: expected {_BOX_BYTES} bytes")


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
    # Those who were lost before are why others refuse: name them first.
    missing = dict.fromkeys(total.dropped, "no-reply") | port.tally.dropped | missing
    _require(len(replies), holders.threshold, f"revealed the masks of exchange {heading.round}", missing)
    wrong = unmask(total, replies)
    if wrong:
        log.warning("round=%d site=%s gave wrong shares", heading.round, wrong)
        port.tally.noted[wrong] = "wrong-shares"
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


def _require(count: int, fewest: int, did: str, missing: Mapping[str, str]) -> None:
    if count < fewest:
        raise RunAbandoned(_too_few(count, fewest, did, missing))


def _too_few(count: int, fewest: int, did: str, missing: Mapping[str, str]) -> str:
    return f"{count} of {count + len(missing)} sites {did}, and {fewest} are needed. {_missing(missing)}"


def _missing(missing: Mapping[str, str]) -> str:
    return f"Missing: {told(missing)}"
