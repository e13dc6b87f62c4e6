"""Shares: Shamir's secret sharing over a prime field (Shamir 1979, "How to share a secret", CACM 22(11)).

A secret s is the value at 0 of a random polynomial f of degree t - 1 modulo a prime; holder i gets f(i), i from 1. Any
t shares give f(0) by Lagrange's interpolation, and t - 1 shares fit every secret equally well. The prime is the least
above 2**256, so that a secret may be any 32 bytes; Python's integers compute exactly. Their running time depends on
the values: whoever can time a site's or the aggregator's arithmetic to the microsecond is outside what is protected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.errors import ProtocolError
from shared.secagg.keys import Entropy

PRIME = 2**256 + 297
SHARE_BYTES = 33
_SURPLUS_BYTES = 16
"""Random bytes beyond the prime's: a remainder is then uniform but for 2**-128."""


def split(secret: int, threshold: int, holders: int, entropy: Entropy, prime: int = PRIME) -> tuple[int, ...]:
    """Return the shares of holders 1, 2, ... of a secret.

    secret: 0 to prime - 1.
    threshold: how many shares rebuild it, 1 to ``holders``.
    entropy: source of secret bytes.
    """
    if not (0 <= secret < prime and 1 <= threshold <= holders < prime):
        raise ValueError(f"threshold must be 1 to {holders} for {holders} holders. Received: {threshold}")
    size = (prime.bit_length() + 7) // 8 + _SURPLUS_BYTES
    coefficients = [int.from_bytes(entropy(size)) % prime for _ in range(threshold - 1)]
    return tuple(_value(secret, coefficients, point, prime) for point in range(1, holders + 1))


def _value(secret: int, coefficients: list[int], point: int, prime: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value + coefficient) * point % prime
    return (value + secret) % prime


def weights(points: Iterable[int], prime: int = PRIME) -> dict[int, int]:
    """Return Lagrange's weight of each point, for the value at 0; the same for every secret of the same holders.

    Raises: ValueError if a point is 0, where the secret is, or occurs twice.
    """
    points = tuple(points)
    if len({point % prime for point in points} - {0}) != len(points):
        raise ValueError(f"points must be distinct and not 0. Received: {points}")
    found = {}
    for point in points:
        above = below = 1
        for other in points:
            if other != point:
                above = above * other % prime
                below = below * (other - point) % prime
        found[point] = above * pow(below, -1, prime) % prime
    return found


def rebuild(shares: Mapping[int, int], weight: Mapping[int, int], prime: int = PRIME) -> int:
    """Return the secret behind the shares of the holders in ``weight``.

    shares: by holder; at least those of ``weight``, which are at least the threshold.
    weight: of ``weights``.
    """
    return sum(shares[point] * factor for point, factor in weight.items()) % prime


def to_bytes(share: int) -> bytes:
    """Return a share as 33 bytes."""
    return share.to_bytes(SHARE_BYTES, "big")


def from_bytes(data: bytes, who: str) -> int:
    """Return the share that 33 bytes are.

    who: who sent it, for the error.

    Raises: ProtocolError ``bad-share``.
    """
    value = int.from_bytes(data, "big")
    if len(data) != SHARE_BYTES or value >= PRIME:
        raise ProtocolError("bad-share", f"{who} sent what is no share: expected {SHARE_BYTES} bytes below the prime")
    return value
