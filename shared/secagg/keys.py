"""Keys: Ed25519 for signing, X25519 for agreement, HKDF-SHA256 for derivation, AES-256-GCM for sealing.

Ed25519: RFC 8032. X25519: RFC 7748; a shared secret of zeros, which a point of low order gives, is refused (section
6.1). HKDF: RFC 5869. AES-GCM: NIST SP 800-38D. All of them from ``cryptography``.

Every derivation has a label and the heading of the round in its ``info`` (``transcript.statement``), and both public
keys: a key that was made for one purpose, pair, round or run is of no use in another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import ProtocolError
from shared.messages import Heading
from shared.secagg.transcript import statement

Entropy = Callable[[int], bytes]
"""Source of so many secret bytes: ``secrets.token_bytes``."""

KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key pair: who somebody is.

    secret: the seed, 32 bytes.
    """

    secret: bytes = field(repr=False)

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret)

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, said: bytes) -> bytes:
        """Return the signature of a statement, 64 bytes."""
        return self._private.sign(said)


def verify(public: bytes, signature: bytes, said: bytes, who: str) -> None:
    """Check a signature.

    who: whose it should be, for the error.

    Raises: ProtocolError ``bad-signature``.
    """
    try:
        _verified(public, signature, said)
    except (InvalidSignature, ValueError):
        raise ProtocolError("bad-signature", f"the signature is not {who}'s, or not of this statement") from None


@lru_cache(maxsize=1024)
def _verified(public: bytes, signature: bytes, said: bytes) -> None:
    """Raise unless the signature is good; a good one is checked once a process, a bad one every time."""
    Ed25519PublicKey.from_public_bytes(public).verify(signature, said)


@dataclass(frozen=True)
class ExchangeKey:
    """An X25519 key pair for one round.

    secret: the scalar, 32 bytes.
    """

    secret: bytes = field(repr=False)

    @cached_property
    def _private(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.secret)

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def agree(self, other: bytes, who: str) -> bytes:
        """Return the secret shared with the owner of a public key, 32 bytes.

        Raises: ProtocolError ``bad-key`` for a point of low order, or what is no key.
        """
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError:
            raise ProtocolError("bad-key", f"{who}'s public key is not a point of large order") from None


_FIELD = 2**255 - 19
_LOW_ORDER = {
    0,
    1,
    _FIELD - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
}
"""Coordinates of the points of Curve25519 and its twist whose order divides 8, modulo the field's prime."""


def check_point(public: bytes, who: str) -> None:
    """Raise ProtocolError ``bad-key`` unless 32 bytes are an X25519 public key that no scalar sends to zero.

    RFC 7748, section 5, ignores the highest bit and takes numbers from the prime on modulo it; here a point has one
    spelling only, so that keys that differ are points that differ.
    """
    coordinate = int.from_bytes(public, "little")
    if len(public) != KEY_BYTES or coordinate >= _FIELD or coordinate in _LOW_ORDER:
        raise ProtocolError("bad-key", f"{who}'s public key is not a point of large order")


def derive(secret: bytes, info: bytes, salt: bytes = b"", size: int = KEY_BYTES) -> bytes:
    """Return ``size`` bytes of HKDF-SHA256 (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=info).derive(secret)


def pair_mask_key(secret: bytes, heading: Heading, maskers: bytes, pair: tuple[str, str]) -> bytes:
    """Return the key of the mask that two sites share, 32 bytes.

    secret: the agreement of their two mask keys.
    maskers: digest of the sites that mask in this round and of their public keys (``roster.maskers_digest``).
    pair: the two names, in order.
    """
    return derive(secret, statement("pair mask", heading, pair), salt=maskers)


def self_mask_key(seed: bytes, heading: Heading, maskers: bytes, site: str) -> bytes:
    """Return the key of a site's own mask, 32 bytes.

    seed: 32 bytes that the site drew for this round.
    """
    return derive(seed, statement("self mask", heading, site), salt=maskers)


def seal_key(secret: bytes, heading: Heading, roster: bytes, sender: str, receiver: str) -> bytes:
    """Return the key under which one site seals shares to another, 32 bytes; each direction has its own.

    secret: the agreement of their two seal keys.
    roster: digest of the round's share-holders.
    """
    return derive(secret, statement("seal", heading, sender, receiver), salt=roster)


def seal(key: bytes, plain: bytes, associated: bytes, entropy: Entropy) -> bytes:
    """Return a nonce of 12 bytes, the AES-256-GCM ciphertext and its tag of 16 bytes."""
    nonce = entropy(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes, who: str) -> bytes:
    """Return what was sealed.

    who: the sender, for the error.

    Raises: ProtocolError ``seal-broken``.
    """
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
    except (InvalidTag, TypeError, ValueError):
        raise ProtocolError("seal-broken", f"the shares from {who} do not open") from None
