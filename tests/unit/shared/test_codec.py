"""Flower's records of a message, and the signature under a reply: nothing more is taken, nothing else is signed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from shared import codec, packing
from shared.errors import ProtocolError
from shared.messages import Contributed, ContributeRequest, Ended, Heading, PreflightRequest
from shared.packing import Packed
from shared.secagg.keys import SigningKey
from shared.secagg.transcript import statement
from tests.vectors.packed import SAMPLES, alike

WHERE = Heading("run", "study", 2, 3)
WORDS = packing.pack(Contributed("a", WHERE, np.arange(3, dtype=np.uint32)))
KEY = SigningKey(bytes([1]) * 32)
OTHER = SigningKey(bytes([2]) * 32)
SIGNED = codec.sign(WORDS, WHERE, "a", "message", KEY)


def over_flower(records: RecordDict) -> RecordDict:
    """Return records that were taken apart into Flower's objects and put together again, as on the way to a node."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

    contents = {name: each.deflate() for name, each in get_all_nested_objects(records).items()}
    arrived: Any = inflate_object_from_contents(records.object_id, contents)
    assert isinstance(arrived, RecordDict)
    return arrived


# Records


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_arrives_over_flower_as_the_same_bytes(name: str) -> None:
    packed = packing.pack(SAMPLES[name])
    arrived, signature = codec.from_records(over_flower(codec.to_records(packed, b"signature")))
    assert (packed.text, bytes(packed.block), b"signature") == (arrived.text, bytes(arrived.block), signature)
    assert alike(SAMPLES[name], packing.unpack(arrived, type(SAMPLES[name])))


def test_a_request_has_no_signature() -> None:
    assert b"" == codec.from_records(codec.to_records(packing.pack(PreflightRequest(WHERE))))[1]


SMALL = 256 * 1024
"""Bytes of the largest block that travels beside the text."""
LARGE = SMALL + 8


def large() -> dict[str, Any]:
    """The same state for two sites, one number too large to stand beside the text."""
    state = {"weights": np.zeros(LARGE // 8)}
    return {site: ContributeRequest(WHERE, 5, 2, state) for site in "ab"}


def test_a_message_is_one_record_while_its_arrays_are_small() -> None:
    """Every object of Flower's is a request of its own, and an array would be three."""
    assert ["consilium"] == list(codec.to_records(packing.pack(SAMPLES["contribute"])))
    assert ["consilium"] == list(codec.to_records(packing.pack(PreflightRequest(WHERE))))
    assert ["consilium"] == list(codec.to_records(Packed(b"", bytes(SMALL))))


def test_large_arrays_are_one_array_of_flowers_whatever_their_number() -> None:
    records = codec.to_records(packing.pack(large()["a"]))
    assert ["consilium", "block"] == list(records)
    assert 1 == len(records.array_records["block"])
    assert b"" == records.config_records["consilium"]["block"]


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, LARGE])
def test_a_block_of_any_size_arrives(size: int) -> None:
    arrived, _ = codec.from_records(over_flower(codec.to_records(Packed(b"{}", bytes(size)))))
    assert bytes(size) == bytes(arrived.block)


def test_a_large_block_of_bytes_is_handed_to_flower_without_a_copy() -> None:
    packed = packing.pack_all(large())
    assert packed["a"].block is codec.to_records(packed["b"]).array_records["block"]["block"].data


def array(data: bytes = bytes(LARGE), **changes: Any) -> Array:
    return Array(**{"dtype": "uint8", "shape": (len(data),), "stype": "consilium", "data": data, **changes})


def said(**changes: Any) -> dict[str, Any]:
    return {"text": WORDS.text, "block": b"", "signature": b"", **changes}


def records(config: Any = None, **others: Any) -> RecordDict:
    return RecordDict({"consilium": ConfigRecord(said() if config is None else config), **others})


OTHERS = {
    "no records": RecordDict(),
    "another name": RecordDict({"other": ConfigRecord(said())}),
    "numbers under the name": RecordDict({"consilium": MetricRecord({"text": 1})}),
    "arrays under the name": RecordDict({"consilium": ArrayRecord({"block": array()})}),
    "no text": records({"block": b"", "signature": b""}),
    "no block": records({"text": b"{}", "signature": b""}),
    "no signature": records({"text": b"{}", "block": b""}),
    "one more entry": records(said(more=b"")),
    "a text that is no bytes": records(said(text="{}")),
    "a block that is no bytes": records(said(block="")),
    "a signature that is no bytes": records(said(signature="00")),
    "a list of texts": records(said(text=[b"{}"])),
    "a number for a text": records(said(text=1)),
    "a large block beside the text": records(said(block=bytes(SMALL + 1))),
    "two blocks": records(said(block=bytes(8)), block=ArrayRecord({"block": array()})),
    "one more record of settings": records(more=ConfigRecord()),
    "one more record of numbers": records(more=MetricRecord()),
    "one more record of arrays": records(more=ArrayRecord({"block": array()})),
    "a block and one more record of arrays": records(
        block=ArrayRecord({"block": array()}), more=ArrayRecord({"block": array()})
    ),
    "settings for the block": records(block=ConfigRecord({"block": bytes(LARGE)})),
    "numbers for the block": records(block=MetricRecord({"block": 1})),
    "no array in the block": records(block=ArrayRecord()),
    "two arrays in the block": records(block=ArrayRecord({"block": array(), "more": array()})),
    "another array in the block": records(block=ArrayRecord({"more": array()})),
    "an empty block as an array": records(block=ArrayRecord({"block": array(b"")})),
    "a small block as an array": records(block=ArrayRecord({"block": array(bytes(SMALL))})),
    "an array of NumPy's file format": records(block=ArrayRecord({"block": Array(np.zeros(LARGE, dtype=np.uint8))})),
    "another format": records(block=ArrayRecord({"block": array(stype="numpy.ndarray")})),
    "another type": records(block=ArrayRecord({"block": array(dtype="uint16")})),
    "a longer shape": records(block=ArrayRecord({"block": array(shape=(LARGE + 1,))})),
    "two sides": records(block=ArrayRecord({"block": array(shape=(LARGE // 4, 4))})),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_records_are_malformed(name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.from_records(OTHERS[name])
    assert "malformed" == caught.value.code


# Signatures


def code_of(
    packed: Packed = WORDS,
    signature: bytes = SIGNED,
    heading: Heading = WHERE,
    site: str = "a",
    message: str = "message",
    identity: bytes = KEY.public,
) -> str:
    """Return the code with which a signature is refused, or nothing."""
    try:
        codec.check_signature(packed, signature, heading, site, message, identity)
    except ProtocolError as error:
        return error.code
    return ""


def flipped(content: bytes, index: int) -> bytes:
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


def test_a_signed_reply_is_the_sites() -> None:
    assert "" == code_of()
    assert "" == code_of(Packed(WORDS.text, memoryview(bytes(WORDS.block))))


BLOCK = bytes(WORDS.block)
CHANGES: dict[str, dict[str, Any]] = {
    "another run": {"heading": dataclasses.replace(WHERE, run="other")},
    "another study": {"heading": dataclasses.replace(WHERE, study="other")},
    "another round": {"heading": dataclasses.replace(WHERE, round=1)},
    "another attempt": {"heading": dataclasses.replace(WHERE, attempt=1)},
    "a letter moved from the study to the run": {"heading": Heading("runs", "tudy", 2, 3)},
    "no heading": {"heading": Heading("", "", 0)},
    "another site": {"site": "b"},
    "another message": {"message": "another"},
    "a letter moved from the message to the site": {"site": "am", "message": "essage"},
    "another identity": {"identity": OTHER.public},
    "no identity": {"identity": b""},
    "a short identity": {"identity": KEY.public[:-1]},
    "an identity of zeros": {"identity": bytes(32)},
    "another reply": {"packed": packing.pack(Ended("a", WHERE))},
    "no block": {"packed": Packed(WORDS.text)},
    "a longer block": {"packed": Packed(WORDS.text, BLOCK + b"\0")},
    "a byte moved to the block": {"packed": Packed(WORDS.text[:-1], WORDS.text[-1:] + BLOCK)},
    "a byte moved to the text": {"packed": Packed(WORDS.text + BLOCK[:1], BLOCK[1:])},
    "no signature": {"signature": b""},
    "a short signature": {"signature": SIGNED[:-1]},
    "a long signature": {"signature": SIGNED + b"\0"},
    "a signature of zeros": {"signature": bytes(64)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_signature_is_for_one_reply_of_one_site_to_one_message(name: str) -> None:
    assert "bad-signature" == code_of(**CHANGES[name])


def test_a_signature_is_for_every_byte_of_the_text_and_of_the_block() -> None:
    block = bytes(WORDS.block)
    texts = [Packed(flipped(WORDS.text, index), block) for index in range(len(WORDS.text))]
    blocks = [Packed(WORDS.text, flipped(block, index)) for index in range(len(block))]
    assert {"bad-signature"} == {code_of(packed) for packed in (*texts, *blocks)}


def test_every_byte_of_a_signature_counts() -> None:
    assert {"bad-signature"} == {code_of(signature=flipped(SIGNED, index)) for index in range(64)}


def test_a_signature_of_another_step_is_none_of_a_reply() -> None:
    """A site signs receipts and keys, too, with the same identity."""
    fields = ("a", "message", WORDS.digest)
    assert "" == code_of(signature=KEY.sign(statement("reply", WHERE, *fields)))
    for label in ("receipt", "keys", "joined", "replies", ""):
        assert "bad-signature" == code_of(signature=KEY.sign(statement(label, WHERE, *fields)))
    assert "bad-signature" == code_of(signature=KEY.sign(WORDS.digest))


def test_the_error_names_the_site() -> None:
    with pytest.raises(ProtocolError, match="in the name of Cleveland is not signed"):
        codec.check_signature(WORDS, b"", WHERE, "Cleveland", "message", KEY.public)
