"""Packed messages as Flower's records, and back; and the signature under every reply.

A reply is signed by the site over the study, run, round and attempt of its heading, the id of the Flower message that
it answers, and the digest of its bytes. Flower compares none of these: an enrolled node may answer in another's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.errors import ProtocolError
from shared.messages import Heading
from shared.packing import Packed
from shared.secagg.keys import SigningKey, verify
from shared.secagg.transcript import statement

if TYPE_CHECKING:
    from flwr.app import RecordDict

MESSAGE_TYPE = "query.consilium"
"""What Flower calls our messages: an action of its ClientApp."""

_RECORD, _BLOCK = "consilium", "block"
_TEXT, _SIGNATURE = "text", "signature"
_STYPE = "consilium"
_SIGNATURE_BYTES = 64
_SMALL_BYTES = 256 * 1024
"""A block up to this size travels beside the text. A larger one is an array of Flower's, which is sent in parts, once
to all sites together; it costs three requests more to send and three to fetch, and requests are what takes time."""


def to_records(packed: Packed, signature: bytes = b"") -> RecordDict:
    """Return what Flower sends.

    signature: of a reply; a request has none.
    """
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    small = len(packed.block) <= _SMALL_BYTES
    beside = bytes(packed.block) if small else b""
    records = RecordDict({_RECORD: ConfigRecord({_TEXT: packed.text, _BLOCK: beside, _SIGNATURE: signature})})
    if not small:
        block = Array(dtype="uint8", shape=(len(packed.block),), stype=_STYPE, data=bytes(packed.block))
        records[_BLOCK] = ArrayRecord({_BLOCK: block})
    return records


def from_records(records: RecordDict) -> tuple[Packed, bytes]:
    """Return what was sent, and its signature.

    Raises: ProtocolError ``malformed``.
    """
    try:
        packed, signature = _read(records)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ProtocolError("malformed", "expected the records of a Consilium message") from None
    return packed, signature


def _read(records: RecordDict) -> tuple[Packed, bytes]:
    config: dict[str, Any] = dict(records.config_records[_RECORD])
    blocks = dict(records.array_records)
    if set(config) != {_TEXT, _BLOCK, _SIGNATURE} or {*records} != {_RECORD, *blocks} or not {*blocks} <= {_BLOCK}:
        raise ValueError("other records")
    text, beside, signature = (config[name] for name in (_TEXT, _BLOCK, _SIGNATURE))
    if not all(isinstance(each, bytes) for each in (text, beside, signature)):
        raise TypeError("not bytes")
    if not blocks:
        if len(beside) > _SMALL_BYTES:
            raise ValueError("too large to stand beside the text")
        return Packed(text, beside), signature
    arrays = dict(blocks[_BLOCK])
    block = arrays[_BLOCK]
    data = block.data
    said = (block.stype, block.dtype, tuple(block.shape))
    if beside or len(arrays) != 1 or len(data) <= _SMALL_BYTES or said != (_STYPE, "uint8", (len(data),)):
        raise ValueError("other arrays")
    return Packed(text, data), signature


def sign(packed: Packed, heading: Heading, site: str, message: str, signing: SigningKey) -> bytes:
    """Return a site's signature of a reply, 64 bytes.

    message: id of the Flower message that it answers.
    """
    return signing.sign(_statement(packed, heading, site, message))


def check_signature(
    packed: Packed, signature: bytes, heading: Heading, site: str, message: str, identity: bytes
) -> None:
    """Raise ProtocolError ``bad-signature`` unless this site signed this reply to this message.

    identity: the site's Ed25519 public key.
    """
    if len(signature) != _SIGNATURE_BYTES:
        raise ProtocolError("bad-signature", f"the reply in the name of {site} is not signed")
    verify(identity, signature, _statement(packed, heading, site, message), site)


def _statement(packed: Packed, heading: Heading, site: str, message: str) -> bytes:
    return statement("reply", heading, site, message, packed.digest)
