"""The consortium's certificate authority, and a second one for the way from the gateway to SuperLink.

Certificates are X.509 version 3 as RFC 5280 profiles them, with P-256 keys: an authority signs only leaves (path length
0); a leaf is for a server or for a client, never both, and valid for a year. Of a hospital's certificate request only
the public key is taken; what the certificate says is said by the coordinator. Strict verification (OpenSSL's
``X509_V_FLAG_X509_STRICT``) accepts them.

The second authority signs nothing but the certificate for 127.0.0.1, and nobody outside trusts it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared import files
from shared.errors import EnrolmentError
from shared.keyfiles import new_key, read_curve_key, write_key

AUTHORITY_DAYS, LEAF_DAYS = 3650, 365
_BACKDATED = timedelta(hours=1)
"""Hospitals' clocks may be behind ours."""
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_SIGNING = ("digital_signature",)
_AUTHORITY_SIGNING = ("key_cert_sign", "crl_sign")
_USAGES = (
    *(*_SIGNING, "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *(*_AUTHORITY_SIGNING, "encipher_only", "decipher_only"),
)
_KEPT = "Bring it back from the coordinator's backup."


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its certificate and its P-256 key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def server(self, public: ec.EllipticCurvePublicKey, hosts: Sequence[str], now: datetime) -> x509.Certificate:
        """Return a server's certificate. hosts: the DNS names and IP addresses at which it is reached, at least one."""
        names = [host_name(host) for host in hosts]
        return self._leaf(public, hosts[0], names, ExtendedKeyUsageOID.SERVER_AUTH, now)

    def client(self, public: ec.EllipticCurvePublicKey, site: str, now: datetime) -> x509.Certificate:
        """Return a hospital's certificate, in the name ``consilium:site:NAME``."""
        names = [x509.UniformResourceIdentifier(f"consilium:site:{site}")]
        return self._leaf(public, site, names, ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def _leaf(
        self,
        public: ec.EllipticCurvePublicKey,
        common_name: str,
        names: Sequence[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
        now: datetime,
    ) -> x509.Certificate:
        # A common name has at most 64 characters, a host name up to 253; what counts is the alternative name.
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
        until = min(now + timedelta(days=LEAF_DAYS), self.certificate.not_valid_after_utc)
        if until <= now:
            raise EnrolmentError(
                f"the consortium's authority has expired on {until:%d %B %Y}: it cannot sign any more."
            )
        builder = (
            _builder(subject, self.certificate.subject, public, now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(_SIGNING), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        return _signed(builder, self.key)


def new_authority(title: str, now: datetime) -> Authority:
    """Make an authority. title: whose, at most 64 characters."""
    key = new_key("P-256")
    parts = ((NameOID.ORGANIZATION_NAME, title), (NameOID.COMMON_NAME, "Consilium authority"))
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])
    until = now + timedelta(days=AUTHORITY_DAYS)
    builder = (
        _builder(subject, subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(_AUTHORITY_SIGNING), critical=True)
    )
    return Authority(_signed(builder, key), key)


def create(folder: Path, title: str, hosts: Sequence[str], now: datetime) -> None:
    """Write both authorities and both servers' certificates into a new coordinator's folder.

    title: of the consortium. hosts: the names and addresses at which hospitals reach the server.

    Raises: EnrolmentError for a host that is none; OSError.
    """
    certificates, secrets = folder / "certificates", folder / "secrets"
    for name, server, reached in (("ca", "server", hosts), ("loopback-ca", "loopback", _LOOPBACK_HOSTS)):
        authority, key = new_authority(title if name == "ca" else "loopback", now), new_key("P-256")
        certificate = authority.server(key.public_key(), reached, now)
        write_key(secrets / f"{name}.key", authority.key)
        write_key(secrets / f"{server}.key", key)
        files.replace_text(certificates / f"{name}.crt", pem(authority.certificate))
        files.replace_text(certificates / f"{server}.crt", pem(certificate))


def renew(folder: Path, hosts: Sequence[str], now: datetime) -> datetime:
    """Replace both servers' certificates by new ones for the same keys; return when they expire.

    Raises: EnrolmentError.
    """
    certificates = folder / "certificates"
    made = {}
    for name, server, reached in (("ca", "server", hosts), ("loopback-ca", "loopback", _LOOPBACK_HOSTS)):
        public = read_curve_key(folder / "secrets" / f"{server}.key", "P-256").public_key()
        made[server] = load(folder, name).server(public, reached, now)
    for server, certificate in made.items():
        files.replace_text(certificates / f"{server}.crt", pem(certificate))
    return min(certificate.not_valid_after_utc for certificate in made.values())


def load(folder: Path, name: str = "ca") -> Authority:
    """Return an authority of a coordinator's folder. name: ``ca`` or ``loopback-ca``.

    Raises: EnrolmentError.
    """
    path = folder / "certificates" / f"{name}.crt"
    key = read_curve_key(folder / "secrets" / f"{name}.key", "P-256")
    certificate = read_certificate(path)
    if certificate.public_key() != key.public_key():
        raise EnrolmentError(f"{path}: it is not the certificate of {name}.key. {_KEPT}")
    return Authority(certificate, key)


def read_certificate(path: Path) -> x509.Certificate:
    """Return the certificate in a PEM file.

    Raises: EnrolmentError.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise EnrolmentError(f"{path}: cannot be read: {error.strerror}. {_KEPT}") from None
    except ValueError:
        raise EnrolmentError(f"{path}: expected a certificate, PEM. {_KEPT}") from None


def host_name(host: str) -> x509.GeneralName:
    """Return the alternative name for a DNS name or an IP address.

    Raises: EnrolmentError if it is neither, or stands for every address.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host) or re.fullmatch(r"[0-9.]+", host):
            raise EnrolmentError(
                f"expected a host name or an IP address at which hospitals reach the server. Received: {host!r}"
            ) from None
        return x509.DNSName(host)
    if address.is_unspecified or address.is_multicast:
        raise EnrolmentError(f"{host} is not an address at which hospitals reach the server: name the public one.")
    return x509.IPAddress(address)


def pem(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def digest(certificate: x509.Certificate) -> str:
    """Return the SHA-256, in hex, of a certificate's DER."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return builder.add_extension(issuer, critical=False).sign(key, SHA256())


def _usage(allowed: Sequence[str]) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in allowed for usage in _USAGES})
