"""Removing the masks from a sum: rebuild the secrets that the contributors' shares give, and take the masks away.

A secret that is rebuilt is held against what its owner announced: the mask scalar against its public key, the seed
against its digest. So wrong shares never end in a wrong sum; and while more sites answer than are needed, one site with
wrong shares is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from server.secagg_state import MaskedTotal
from shared.errors import RunAbandoned
from shared.messages import Revealed
from shared.secagg import keys as crypto
from shared.secagg import masks, roster, shares
from shared.secagg.keys import ExchangeKey

_Secrets = tuple[dict[str, bytes], dict[str, ExchangeKey]]
"""Seeds of the survivors and mask keys of the dropped, by name."""


def unmask(total: MaskedTotal, replies: Mapping[str, Revealed]) -> str:
    """Remove the masks from ``total.words``, in place.

    replies: at least as many as the threshold.

    Returns: the name of a site whose shares were wrong and were left out, or nothing.
    Raises: RunAbandoned if the shares do not give the secrets that were announced; the words are worthless then.
    """
    holders = total.ready.roster
    wrong = ""
    for left_out, some in _subsets(sorted(replies), holders.threshold):
        secrets = _rebuild(total, {site: replies[site] for site in some})
        wrong = _first_wrong(total, secrets)
        if not wrong:
            masks.apply(total.words, *_keys(total, *secrets))
            return left_out
    raise RunAbandoned(
        f"exchange {holders.heading.round}: the shares of {wrong}'s secret do not give what {wrong} announced: {wrong},"
        f" or one of those who answered ({', '.join(sorted(replies))}), is faulty."
    )


def _subsets(sites: list[str], threshold: int) -> Iterator[tuple[str, list[str]]]:
    """Yield a site that is left out, and as many others as are needed; first without leaving anybody out."""
    yield "", sites[:threshold]
    if len(sites) > threshold:
        for left_out in sites[:threshold]:
            yield left_out, [site for site in sites if site != left_out][:threshold]


def _rebuild(total: MaskedTotal, replies: Mapping[str, Revealed]) -> _Secrets:
    """Return what the shares of exactly these sites give."""
    points = total.ready.roster.points
    weight = shares.weights(points[site] for site in replies)

    def secret(owner: str, of: Callable[[Revealed], Mapping[str, bytes]]) -> bytes:
        given = {points[site]: int.from_bytes(of(reply)[owner], "big") for site, reply in replies.items()}
        # Wrong shares may give a number above 2**256, which is nobody's secret: the comparison finds it.
        return (shares.rebuild(given, weight) % 2**256).to_bytes(crypto.KEY_BYTES, "big")

    seeds = {receipt.site: secret(receipt.site, lambda reply: reply.seeds) for receipt in total.receipts}
    return seeds, {site: ExchangeKey(secret(site, lambda reply: reply.scalars)) for site in total.dropped}


def _first_wrong(total: MaskedTotal, secrets: _Secrets) -> str:
    """Return the first owner of a secret that is not the announced one, or nothing."""
    holders = total.ready.roster
    seeds, scalars = secrets
    for site, seed in seeds.items():
        if roster.seed_digest(site, holders.heading, seed) != holders.by_name[site].seed_digest:
            return site
    for site, scalar in scalars.items():
        if scalar.public != holders.by_name[site].mask:
            return site
    return ""


def _keys(
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
