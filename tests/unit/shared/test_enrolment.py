"""Requests, welcomes and rosters: what they say is what was signed, by whoever holds the keys."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from shared import enrolment
from shared import enrolment_signatures as signatures
from shared.enrolment import EnrolmentRequest, Member, Roster, Welcome
from shared.errors import EnrolmentError
from shared.keyfiles import new_key, public_pem
from shared.secagg.keys import SigningKey
from tests.enrolling import HOUR, NOON

SIGNING = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))
FLOWER, TLS = new_key("P-384"), new_key("P-256")
REQUEST = signatures.sign_request("Aarhus", SIGNING, FLOWER, TLS, NOON)


def resigned(request: EnrolmentRequest) -> EnrolmentRequest:
    """The request with signatures of the identity and of the Flower key, whatever it says."""
    fields = json.loads(enrolment.to_text(request))
    said = b"consilium EnrolmentRequest\n" + enrolment.canonical(
        {key: value for key, value in fields.items() if not key.endswith("signature")}
    )
    return dataclasses.replace(
        request, signature=SIGNING.sign(said), flower_signature=FLOWER.sign(said, ec.ECDSA(SHA384()))
    )


def csr(name: str, digits: str, curve: Any = "P-256") -> str:
    parts = ((x509.NameOID.COMMON_NAME, name), (x509.NameOID.SERIAL_NUMBER, digits))
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(new_key(curve), SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def with_bad_signature(pem: str) -> str:
    """The certificate request with its last byte, which is of the signature, changed."""
    made = x509.load_pem_x509_csr(pem.encode()).public_bytes(Encoding.DER)
    changed = made[:-1] + bytes([made[-1] ^ 1])
    return x509.load_der_x509_csr(changed).public_bytes(Encoding.PEM).decode()


def written(folder: Path, text: str) -> Path:
    path = folder / "request.json"
    path.write_text(text)
    return path


def roster(*names: str, consortium: str = "Danube") -> Roster:
    members = [Member(name=name, identity=bytes([ord(name[0])]) * 32) for name in names]
    return signatures.sign_roster(consortium, members, SIGNING, NOON)


def welcome() -> Welcome:
    return signatures.sign_welcome(
        Welcome(
            consortium="Danube",
            signing=SIGNING.public,
            fingerprint=enrolment.fingerprint("Danube", SIGNING.public),
            address="fl.example:9443",
            authority="authority",
            name="Aarhus",
            flower_key=REQUEST.flower_key,
            certificate="certificate",
            issued_at=NOON,
            roster=roster("Aarhus"),
        ),
        SIGNING,
    )


def test_a_fingerprint_is_the_digest_of_name_and_identity() -> None:
    # printf '{"identity":"0000...","name":"Aarhus"}' | sha256sum, with 64 zeros
    expected = "f4586ac8a1665d6c1f5b13b8b9af8d96467489bb84e1926f5aebbe6fdfc7faf4"

    assert expected == enrolment.fingerprint("Aarhus", bytes(32))


def test_a_fingerprint_is_read_as_eight_groups_of_four() -> None:
    digits = "0123456789abcdef" * 4

    assert "0123 4567 89ab cdef 0123 4567 89ab cdef" == enrolment.grouped(digits)


@pytest.mark.parametrize(
    ("expected", "typed"),
    [
        (True, "0123 4567 89ab cdef 0123 4567 89ab cdef"),
        (True, "0123:4567:89AB:CDEF-0123.4567.89ab.cdef"),
        (True, "0123456789abcdef" * 4),
        (False, "0123 4567 89ab cdef 0123 4567 89ab cde"),
        (False, "0123 4567 89ab cdef 0123 4567 89ab cdee"),
        (False, "0123456789abcdef" * 4 + "0"),
        (False, ""),
    ],
)
def test_a_typed_fingerprint_needs_all_eight_groups(expected: bool, typed: str) -> None:
    assert expected == enrolment.matches(typed, "0123456789abcdef" * 4)


def test_a_request_comes_out_of_its_file_as_it_went_in_and_is_good(tmp_path: Path) -> None:
    read = enrolment.read(written(tmp_path, enrolment.to_text(REQUEST)), EnrolmentRequest, "")

    assert REQUEST == read
    assert TLS.public_key() == signatures.verify_request(read)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"requested_at": NOON + HOUR}, id="time"),
        pytest.param({"flower_key": public_pem(new_key("P-384").public_key())}, id="Flower key"),
        pytest.param({"csr": csr("Aarhus", REQUEST.fingerprint)}, id="TLS key"),
        pytest.param({"signature": bytes(64)}, id="signature of the identity"),
        pytest.param({"flower_signature": b""}, id="signature of the Flower key"),
    ],
)
def test_a_request_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EnrolmentError, match="the request of Aarhus"):
        signatures.verify_request(dataclasses.replace(REQUEST, **change))


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("its Flower key has not signed", {"flower_key": public_pem(new_key("P-384").public_key())}),
        ("its TLS key has not signed", {"csr": csr("Basel", REQUEST.fingerprint)}),
        ("its TLS key has not signed", {"csr": csr("Aarhus", enrolment.fingerprint("Aarhus", OTHER.public))}),
        ("its TLS key has not signed", {"csr": with_bad_signature(REQUEST.csr)}),
        ("expected a P-256 key", {"csr": csr("Aarhus", REQUEST.fingerprint, "P-384")}),
        ("not a certificate request", {"csr": "-----BEGIN CERTIFICATE REQUEST-----\n"}),
    ],
)
def test_an_identity_that_signs_for_keys_of_others_is_refused(reason: str, change: dict[str, Any]) -> None:
    with pytest.raises(EnrolmentError, match=reason):
        signatures.verify_request(resigned(dataclasses.replace(REQUEST, **change)))


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ("[shoe_size] unknown key", lambda fields: {**fields, "shoe_size": 46}),
        ("[csr] missing", lambda fields: {key: value for key, value in fields.items() if key != "csr"}),
        ("[format] expected 1", lambda fields: {**fields, "format": 2}),
        ("[name] String should match", lambda fields: {**fields, "name": "../Aarhus"}),
        ("[name] String should match", lambda fields: {**fields, "name": "A" * 65}),
        ("[identity] Data should have at least 32", lambda fields: {**fields, "identity": "00"}),
        ("[identity] Data should be valid hex", lambda fields: {**fields, "identity": "x" * 64}),
        ("the fingerprint is not that of", lambda fields: {**fields, "fingerprint": "0" * 64}),
        ("[flower_key] expected a P-384", lambda fields: {**fields, "flower_key": public_pem(TLS.public_key())}),
        ("[flower_key] expected a P-384", lambda fields: {**fields, "flower_key": fields["flower_key"] + "\n"}),
        ("[flower_key] expected a P-384", lambda fields: {**fields, "flower_key": "key"}),
        ("[requested_at]", lambda fields: {**fields, "requested_at": "2026-11-21T12:00:00"}),
    ],
)
def test_a_request_that_is_none_says_what_is_wrong(
    tmp_path: Path, expected: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    path = written(tmp_path, json.dumps(change(json.loads(enrolment.to_text(REQUEST)))))

    with pytest.raises(EnrolmentError) as refused:
        enrolment.read(path, EnrolmentRequest, "Ask for it.")
    assert expected in str(refused.value)
    assert str(refused.value).endswith("\nAsk for it.")


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, " " * 1_100_000])
def test_a_file_that_is_no_request_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(EnrolmentError, match=r"request\.json"):
        enrolment.read(written(tmp_path, text), EnrolmentRequest, "")


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "å", "a/b", "a\n", "a" * 65])
def test_a_name_is_of_letters_digits_and_three_signs(name: str) -> None:
    with pytest.raises(EnrolmentError, match="1 to 64 letters"):
        enrolment.check_name(name)


def test_the_longest_name_is_one() -> None:
    assert "a" * 64 == enrolment.check_name("a" * 64)


@pytest.mark.parametrize(
    ("expected", "address"),
    [
        (("fl.example", 9443), "fl.example:9443"),
        (("192.0.2.7", 1), "192.0.2.7:1"),
        (("::1", 65535), "[::1]:65535"),
    ],
)
def test_an_address_is_a_host_and_a_port(expected: tuple[str, int], address: str) -> None:
    assert expected == enrolment.split_address(address)


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:0", "host:65536", "host:1x", "::1:1", "[::1]", "a b:1", "h/p:1", "h:²"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        enrolment.split_address(address)


def test_a_roster_is_signed_over_a_label_and_canonical_json() -> None:
    said = (
        b'consilium Roster\n{"consortium":"Danube","format":1,"issued_at":"2026-11-21T12:00:00Z",'
        b'"members":[{"identity":"' + b"41" * 32 + b'","name":"Aarhus"}]}'
    )

    Ed25519PublicKey.from_public_bytes(SIGNING.public).verify(roster("Aarhus").signature, said)


def test_a_roster_is_in_the_order_of_names_and_good_after_its_file(tmp_path: Path) -> None:
    path = written(tmp_path, enrolment.to_text(roster("Basel", "Aarhus")))
    read = enrolment.read(path, Roster, "")

    signatures.verify_roster(read, SIGNING.public)
    assert ["Aarhus", "Basel"] == list(read.identities)


@pytest.mark.parametrize(
    "change",
    [
        {"members": ()},
        {"members": roster("Aarhus", "Basel").members},
        {"members": (Member(name="Aarhus", identity=OTHER.public),)},
        {"issued_at": NOON + HOUR},
        {"consortium": "Rhine"},
    ],
)
def test_a_roster_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EnrolmentError, match="its signature is not good"):
        signatures.verify_roster(dataclasses.replace(roster("Aarhus"), **change), SIGNING.public)


def test_a_roster_of_another_consortium_is_refused() -> None:
    with pytest.raises(EnrolmentError, match="its signature is not good"):
        signatures.verify_roster(roster("Aarhus"), OTHER.public)


@pytest.mark.parametrize(
    ("what", "twice"),
    [
        ("name", Member(name="Aarhus", identity=bytes(32))),
        ("identity", Member(name="Basel", identity=b"A" * 32)),
    ],
)
def test_a_roster_has_every_name_and_identity_once(what: str, twice: Member) -> None:
    with pytest.raises(ValueError, match=f"every {what} once"):
        signatures.sign_roster("Danube", (*roster("Aarhus").members, twice), SIGNING, NOON)


def test_a_welcome_is_good_after_its_file(tmp_path: Path) -> None:
    read = enrolment.read(written(tmp_path, enrolment.to_text(welcome())), Welcome, "")

    signatures.verify_welcome(read)
    assert welcome() == read


@pytest.mark.parametrize(
    "change",
    [
        {"address": "evil.example:9443"},
        {"authority": "another"},
        {"certificate": "another"},
        {"name": "Basel"},
        {"issued_at": NOON + HOUR},
        {"roster": roster("Aarhus", "Basel")},
        {"signing": OTHER.public, "fingerprint": enrolment.fingerprint("Danube", OTHER.public)},
    ],
)
def test_a_welcome_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EnrolmentError, match="its signature is not good"):
        signatures.verify_welcome(dataclasses.replace(welcome(), **change))


def test_a_welcome_with_another_consortiums_roster_is_refused() -> None:
    mixed = signatures.sign_welcome(
        dataclasses.replace(welcome(), roster=roster("Aarhus", consortium="Rhine")), SIGNING
    )

    with pytest.raises(EnrolmentError, match="of Danube, its roster of Rhine"):
        signatures.verify_welcome(mixed)


def test_a_welcome_with_a_roster_that_was_changed_is_refused() -> None:
    changed = dataclasses.replace(roster("Aarhus"), members=roster("Aarhus", "Basel").members)
    mixed = signatures.sign_welcome(dataclasses.replace(welcome(), roster=changed), SIGNING)

    with pytest.raises(EnrolmentError, match="the roster: its signature is not good"):
        signatures.verify_welcome(mixed)


@pytest.mark.parametrize("title", ["", "a" * 65, " Danube", "Da\x1b[2Jnube", "Da\nnube"])
def test_a_consortiums_name_can_be_printed(title: str) -> None:
    with pytest.raises(ValueError, match="consortium"):
        signatures.sign_roster(title, (), SIGNING, NOON)
