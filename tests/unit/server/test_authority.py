"""Certificates that OpenSSL accepts under strict verification, for the names and the purpose that they say alone."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from server import authority
from server.authority import Authority
from shared.errors import EnrolmentError
from shared.keyfiles import new_key, write_key
from tests.enrolling import DAY, HOUR, NOON, Coordinator

NOW = datetime.now(UTC).replace(microsecond=0)
"""OpenSSL asks the machine's clock."""


class Ends:
    """A folder with an authority's certificate, and with the certificate and key of a server and of a client."""

    def __init__(self, folder: Path, made: Authority, *, now: datetime = NOW) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "ca.crt").write_text(authority.pem(made.certificate))
        keys = {"server": new_key("P-256"), "client": new_key("P-256")}
        hosts = ["fl.example", "192.0.2.7", "::1"]
        certificates = {
            "server": made.server(keys["server"].public_key(), hosts, now),
            "client": made.client(keys["client"].public_key(), "Aarhus", now),
        }
        for role, certificate in certificates.items():
            (folder / f"{role}.crt").write_text(authority.pem(certificate))
            write_key(folder / f"{role}.key", keys[role])

    def context(self, protocol: int, role: str, trusted: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(trusted)
        context.load_cert_chain(self.folder / f"{role}.crt", self.folder / f"{role}.key")
        return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> None:
    """A TLS handshake in memory. Raises: ssl.SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert [] == ends


def meet(
    folder: Path, host: str = "fl.example", *, client: str = "client", server: str = "server", now: datetime = NOW
) -> None:
    ends = Ends(folder, authority.new_authority("Danube", now), now=now)
    shake_hands(
        ends.context(ssl.PROTOCOL_TLS_CLIENT, client, folder / "ca.crt"),
        ends.context(ssl.PROTOCOL_TLS_SERVER, server, folder / "ca.crt"),
        host,
    )


@pytest.mark.parametrize("host", ["fl.example", "192.0.2.7", "::1"])
def test_both_certificates_pass_strict_verification_at_every_host(tmp_path: Path, host: str) -> None:
    meet(tmp_path, host)


@pytest.mark.parametrize("host", ["other.example", "192.0.2.8", "sub.fl.example"])
def test_a_server_is_nobody_at_another_host(tmp_path: Path, host: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        meet(tmp_path, host)


@pytest.mark.parametrize(("client", "server"), [("server", "server"), ("client", "client")])
def test_a_certificate_serves_one_purpose(tmp_path: Path, client: str, server: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)purpose|unsuitable"):
        meet(tmp_path, client=client, server=server)


def test_a_certificate_ends_after_a_year(tmp_path: Path) -> None:
    meet(tmp_path / "within", now=NOW - timedelta(days=364))

    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        meet(tmp_path / "after", now=NOW - timedelta(days=365, seconds=5))


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    ours, others = (Ends(tmp_path / name, authority.new_authority("Danube", NOW)) for name in ("ours", "others"))
    server = ours.context(ssl.PROTOCOL_TLS_SERVER, "server", tmp_path / "ours" / "ca.crt")
    client = others.context(ssl.PROTOCOL_TLS_CLIENT, "client", tmp_path / "ours" / "ca.crt")

    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "fl.example")


def test_a_leaf_cannot_sign(tmp_path: Path) -> None:
    key = new_key("P-256")
    leaf = authority.new_authority("Danube", NOW).client(key.public_key(), "Aarhus", NOW)
    ends = Ends(tmp_path, Authority(leaf, key))
    (tmp_path / "ca.crt").write_text(authority.pem(leaf))
    trusting = ends.context(ssl.PROTOCOL_TLS_CLIENT, "client", tmp_path / "ca.crt")
    server = ends.context(ssl.PROTOCOL_TLS_SERVER, "server", tmp_path / "ca.crt")

    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusting, server, "fl.example")


def test_an_authority_signs_leaves_only_for_ten_years() -> None:
    made = authority.new_authority("Danube", NOON).certificate
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)

    assert (True, x509.BasicConstraints(ca=True, path_length=0)) == (constraints.critical, constraints.value)
    assert (NOON - HOUR, NOON + 3650 * DAY) == (made.not_valid_before_utc, made.not_valid_after_utc)


def test_a_leaf_says_that_it_is_none() -> None:
    made = authority.new_authority("Danube", NOON).client(new_key("P-256").public_key(), "Aarhus", NOON)
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)

    assert (True, x509.BasicConstraints(ca=False, path_length=None)) == (constraints.critical, constraints.value)


def test_a_hospital_is_named_in_its_certificate() -> None:
    made = authority.new_authority("Danube", NOON).client(new_key("P-256").public_key(), "Aarhus", NOON)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert [x509.UniformResourceIdentifier("consilium:site:Aarhus")] == list(names)
    assert "CN=Aarhus" == made.subject.rfc4514_string()


def test_two_certificates_for_one_key_are_two_certificates() -> None:
    made, public = authority.new_authority("Danube", NOON), new_key("P-256").public_key()
    first, second = (made.client(public, "Aarhus", NOON) for _ in range(2))

    assert first.serial_number != second.serial_number
    assert authority.digest(first) != authority.digest(second)


def test_a_leaf_ends_with_its_authority() -> None:
    made = authority.new_authority("Danube", NOON)
    late = made.client(new_key("P-256").public_key(), "Aarhus", NOON + 3600 * DAY)

    assert NOON + 3650 * DAY == late.not_valid_after_utc


def test_an_expired_authority_signs_no_more() -> None:
    made = authority.new_authority("Danube", NOON)

    with pytest.raises(EnrolmentError, match="has expired on 18 November 2036"):
        made.client(new_key("P-256").public_key(), "Aarhus", NOON + 3650 * DAY)


@pytest.mark.parametrize(
    "host",
    ["", "a b", "*.example", "https://fl.example", "fl..example", "0.0.0.0", "::", "224.0.0.1", "1.2.3", "a" * 64],
)
def test_what_is_no_host_gets_no_certificate(host: str) -> None:
    with pytest.raises(EnrolmentError, match="reach the server"):
        authority.host_name(host)


def test_the_longest_host_name_gets_a_certificate() -> None:
    host = ".".join(["a" * 63] * 3 + ["b" * 61])
    made = authority.new_authority("Danube", NOON).server(new_key("P-256").public_key(), [host], NOON)

    assert [host] == made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


def test_the_loopback_has_an_authority_of_its_own(tmp_path: Path) -> None:
    folder = Coordinator(tmp_path / "c").folder
    ca, loopback_ca = (authority.load(folder, name).certificate for name in ("ca", "loopback-ca"))
    loopback = authority.read_certificate(folder / "certificates" / "loopback.crt")
    names = loopback.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    loopback.verify_directly_issued_by(loopback_ca)
    assert ca.public_key() != loopback_ca.public_key()
    assert ["localhost", "127.0.0.1"] == [str(name.value) for name in names]


def test_the_servers_are_renewed_with_the_same_keys(tmp_path: Path) -> None:
    folder = Coordinator(tmp_path / "c").folder
    paths = [folder / "certificates" / f"{name}.crt" for name in ("server", "loopback")]
    before = [authority.read_certificate(path) for path in paths]
    expires = authority.renew(folder, ["localhost"], NOON + 300 * DAY)
    after = [authority.read_certificate(path) for path in paths]

    assert NOON + 665 * DAY == expires
    assert [expires, expires] == [each.not_valid_after_utc for each in after]
    assert [each.public_key() for each in before] == [each.public_key() for each in after]


def test_an_authority_whose_key_was_mixed_up_is_refused(tmp_path: Path) -> None:
    folder = Coordinator(tmp_path / "c").folder
    (folder / "secrets" / "loopback-ca.key").replace(folder / "secrets" / "ca.key")

    with pytest.raises(EnrolmentError, match=r"ca\.crt: it is not the certificate of ca\.key"):
        authority.load(folder)


@pytest.mark.parametrize("text", [None, "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_damaged_certificate_is_to_be_brought_back(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "ca.crt").write_text(text)

    with pytest.raises(EnrolmentError, match="backup"):
        authority.read_certificate(tmp_path / "ca.crt")
