"""Private keys as files: one key a file, PEM PKCS 8 without a password, mode 0600, each for one use.

Ed25519 signs for somebody (RFC 8032), P-256 is a TLS certificate's, P-384 is a Flower node's. No password: a process
that starts by itself would have to have it in a file beside the key.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from shared import files
from shared.errors import EnrolmentError
from shared.secagg.keys import SigningKey

Curve = Literal["P-256", "P-384"]
PrivateKey: TypeAlias = "ec.EllipticCurvePrivateKey | Ed25519PrivateKey"

_CURVES: dict[Curve, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


def new_key(curve: Curve) -> ec.EllipticCurvePrivateKey:
    """Draw a key."""
    return ec.generate_private_key(_CURVES[curve])


def on_curve(public: object, curve: Curve) -> bool:
    """Whether something is a public key on this curve."""
    return isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == _CURVES[curve].name


def public_pem(public: ec.EllipticCurvePublicKey) -> str:
    """Return a public key as PEM SubjectPublicKeyInfo, as Flower writes it."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def key_digest(public: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256, in hex, of a public key's DER SubjectPublicKeyInfo."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def write_key(path: Path, key: PrivateKey) -> None:
    """Write a new key file.

    Raises: FileExistsError rather than overwrite a key; OSError.
    """
    files.write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def read_secret(path: Path) -> bytes:
    """Return what is in a secret's file.

    Raises: EnrolmentError if it cannot be read, or if others than its owner can read or change it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise EnrolmentError(
                    f"{path}: others can read or change this secret (mode {mode:04o}). Expected mode 0600: chmod 600"
                    f" {path}"
                )
            return file.read()
    except OSError as error:
        raise EnrolmentError(f"{path}: this secret cannot be read: {error.strerror}.") from None


def read_curve_key(path: Path, curve: Curve) -> ec.EllipticCurvePrivateKey:
    """Return the key in a file.

    Raises: EnrolmentError as ``read_secret``, or if it holds another kind of key.
    """
    key = _parsed(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not on_curve(key.public_key(), curve):
        raise EnrolmentError(f"{path}: expected a {curve} key.")
    return key


def read_signing_key(path: Path) -> SigningKey:
    """Return the Ed25519 key in a file.

    Raises: EnrolmentError as ``read_secret``, or if it holds another kind of key.
    """
    key = _parsed(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise EnrolmentError(f"{path}: expected an Ed25519 key.")
    return SigningKey(key.private_bytes_raw())


def _parsed(path: Path) -> object:
    try:
        return load_pem_private_key(read_secret(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without the parser's words: nothing of a secret's file is repeated.
        raise EnrolmentError(f"{path}: expected a private key, PEM PKCS 8 without a password.") from None
