"""A hospital's keys: made once, kept from others, each for one use, and replaced without leaving the consortium."""

from __future__ import annotations

import dataclasses
import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from client import identity
from client.identity import Rotating
from server import authority, consortium
from server.authority import Authority
from shared.enrolment import Welcome
from shared.enrolment_signatures import sign_welcome, verify_request
from shared.errors import EnrolmentError
from shared.keyfiles import new_key, public_pem, read_curve_key, read_signing_key
from tests.enrolling import DAY, HOUR, NOON, Coordinator, Hospital

SECRETS = {"signing.key", "tls.key", "flower.key"}


@pytest.fixture
def danube(tmp_path: Path) -> Coordinator:
    return Coordinator(tmp_path / "danube")


@pytest.fixture
def aarhus(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "aarhus", "Aarhus")


@pytest.fixture
def joined(danube: Coordinator, aarhus: Hospital) -> Hospital:
    aarhus.join(danube.enrol(aarhus.request))
    return aarhus


def forged(danube: Coordinator, welcome: Welcome, **change: object) -> Welcome:
    """A welcome that the coordinator itself has changed and signed."""
    key = consortium.signing_key(danube.folder, danube.consortium)
    return sign_welcome(dataclasses.replace(welcome, **change), key)  # type: ignore[arg-type]


def self_signed_leaf() -> Authority:
    """A certificate that is signed by its own key, and says that it is no authority."""
    key = new_key("P-256")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Danube")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOON - HOUR, NOON + DAY).add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    return Authority(builder.sign(key, SHA256()), key)


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "received.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_only_its_owner_can_read_a_hospitals_secret(aarhus: Hospital) -> None:
    folder = aarhus.folder / "secrets"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}

    assert dict.fromkeys(SECRETS, 0o600) == modes
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)


def test_a_new_request_is_good_and_names_the_hospitals_public_keys(aarhus: Hospital) -> None:
    secrets = aarhus.folder / "secrets"

    assert read_curve_key(secrets / "tls.key", "P-256").public_key() == verify_request(aarhus.request)
    assert public_pem(read_curve_key(secrets / "flower.key", "P-384").public_key()) == aarhus.request.flower_key
    assert read_signing_key(secrets / "signing.key").public == aarhus.request.identity


def test_no_secret_is_in_what_the_hospital_sends(aarhus: Hospital) -> None:
    sent = (aarhus.folder / "request.json").read_text()

    assert "PRIVATE" not in sent
    assert read_signing_key(aarhus.folder / "secrets" / "signing.key").secret.hex() not in sent


def test_keys_are_drawn_once(aarhus: Hospital) -> None:
    before = contents(aarhus.folder)

    with pytest.raises(EnrolmentError, match=r"exists already\. Nothing was changed"):
        identity.init(aarhus.folder, "Aarhus", NOON)
    assert before == contents(aarhus.folder)


def test_a_hospital_whose_name_is_none_gets_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="Received: 'Aarhus Hospital'"):
        identity.init(tmp_path / "aarhus", "Aarhus Hospital", NOON)
    assert not (tmp_path / "aarhus").exists()


def test_before_it_joins_a_hospital_is_somebody_without_a_consortium(aarhus: Hospital) -> None:
    loaded = aarhus.load()

    assert ("Aarhus", None, aarhus.request.fingerprint) == (loaded.name, loaded.welcome, loaded.fingerprint)
    with pytest.raises(EnrolmentError, match="consilium-client join"):
        loaded.require_welcome()


def test_a_hospital_that_joined_has_all_that_a_node_needs(danube: Coordinator, joined: Hospital) -> None:
    loaded = joined.load()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(loaded.authority)
    context.load_cert_chain(loaded.certificate, loaded.tls_key)

    assert ("localhost:9443", NOON + 365 * DAY) == (loaded.require_welcome().address, loaded.expires_at)
    assert joined.request.flower_key == public_pem(loaded.flower_key().public_key())
    assert joined.request.identity == loaded.signing.public


def test_an_identity_does_not_print_its_secret(joined: Hospital) -> None:
    loaded = joined.load()

    assert loaded.signing.secret.hex() not in repr(loaded)
    assert repr(loaded.signing.secret) not in repr(loaded)


@pytest.mark.parametrize("name", sorted(SECRETS))
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_read_or_change_is_not_used(joined: Hospital, name: str, mode: int) -> None:
    (joined.folder / "secrets" / name).chmod(mode)

    with pytest.raises(EnrolmentError, match=rf"{name}: others can .*chmod 600 "):
        joined.load()


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_lost_or_damaged_secret_is_named_and_not_shown(joined: Hospital, name: str) -> None:
    path = joined.folder / "secrets" / name
    secret = path.read_text()
    path.write_text(secret.replace("M", "N"))
    with pytest.raises(EnrolmentError, match=f"{name}: expected") as damaged:
        joined.load()
    path.unlink()
    with pytest.raises(EnrolmentError, match=f"{name}: this secret cannot be read"):
        joined.load()

    assert secret.splitlines()[1] not in str(damaged.value)


def test_a_key_of_another_kind_is_refused(joined: Hospital) -> None:
    secrets = joined.folder / "secrets"
    secrets.joinpath("tls.key").write_bytes(secrets.joinpath("flower.key").read_bytes())

    with pytest.raises(EnrolmentError, match=r"tls\.key: expected a P-256 key"):
        joined.load()


def test_a_signing_key_of_another_hospital_is_refused(joined: Hospital, tmp_path: Path) -> None:
    other = Hospital(tmp_path / "basel", "Basel").folder / "secrets" / "signing.key"
    (joined.folder / "secrets" / "signing.key").write_bytes(other.read_bytes())

    with pytest.raises(EnrolmentError, match=r"not the key that identity\.json names"):
        joined.load()


def test_another_hospitals_welcome_is_refused(danube: Coordinator, aarhus: Hospital, tmp_path: Path) -> None:
    welcome = danube.enrol(Hospital(tmp_path / "basel", "Basel").request)

    with pytest.raises(EnrolmentError, match=r"the welcome is for Basel\. This hospital is Aarhus"):
        aarhus.join(welcome)


def test_a_namesakes_welcome_is_refused(danube: Coordinator, aarhus: Hospital, tmp_path: Path) -> None:
    welcome = danube.enrol(Hospital(tmp_path / "namesake", "Aarhus").request)

    with pytest.raises(EnrolmentError, match="roster does not have Aarhus with this hospital's identity"):
        aarhus.join(welcome)


def test_a_welcome_that_was_changed_on_its_way_is_refused(danube: Coordinator, aarhus: Hospital) -> None:
    welcome = dataclasses.replace(danube.enrol(aarhus.request), address="evil.example:9443")

    with pytest.raises(EnrolmentError, match="the welcome: its signature is not good"):
        aarhus.join(welcome)


def test_a_welcome_for_another_tls_key_is_refused(danube: Coordinator, aarhus: Hospital) -> None:
    welcome = danube.enrol(aarhus.request)
    other = authority.load(danube.folder).client(new_key("P-256").public_key(), "Aarhus", NOON)

    with pytest.raises(EnrolmentError, match="not for a tls key of this hospital"):
        aarhus.join(forged(danube, welcome, certificate=authority.pem(other)))


def test_a_welcome_for_another_flower_key_is_refused(danube: Coordinator, aarhus: Hospital) -> None:
    welcome = danube.enrol(aarhus.request)
    other = public_pem(new_key("P-384").public_key())

    with pytest.raises(EnrolmentError, match="not for a flower key of this hospital"):
        aarhus.join(forged(danube, welcome, flower_key=other))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("not one of the consortium's authority", "another authority"),
        ("not one for a hospital", "server"),
        ("not in the name of Aarhus", "another name"),
        ("not one of the consortium's authority", "a leaf as authority"),
        ("not one for a hospital", "no authority"),
        ("expected a certificate, PEM", "no certificate"),
    ],
)
def test_a_certificate_that_is_not_the_consortiums_for_this_hospital_is_refused(
    danube: Coordinator, aarhus: Hospital, reason: str, kind: str
) -> None:
    welcome = danube.enrol(aarhus.request)
    public = read_curve_key(aarhus.folder / "secrets" / "tls.key", "P-256").public_key()
    made, other, none = authority.load(danube.folder), authority.new_authority("Danube", NOON), self_signed_leaf()
    change = {
        "another authority": {"authority": authority.pem(other.certificate)},
        "server": {"certificate": authority.pem(made.server(public, ["localhost"], NOON))},
        "another name": {"certificate": authority.pem(made.client(public, "Basel", NOON))},
        "a leaf as authority": {"authority": welcome.certificate},
        "no authority": {
            "authority": authority.pem(none.certificate),
            "certificate": authority.pem(none.client(public, "Aarhus", NOON)),
        },
        "no certificate": {"certificate": "certificate"},
    }[kind]

    with pytest.raises(EnrolmentError, match=reason):
        aarhus.join(forged(danube, welcome, **change))


@pytest.mark.parametrize("after", [-2 * HOUR, 366 * DAY])
def test_a_certificate_of_another_time_tells_the_clocks_apart(
    danube: Coordinator, aarhus: Hospital, after: timedelta
) -> None:
    with pytest.raises(EnrolmentError, match="this machine's clock says"):
        aarhus.join(danube.enrol(aarhus.request), NOON + after)


def test_a_refused_welcome_changes_nothing(danube: Coordinator, joined: Hospital, tmp_path: Path) -> None:
    joined.rotate("tls", NOON + HOUR)
    before = contents(joined.folder)

    with pytest.raises(EnrolmentError):
        joined.join(danube.enrol(Hospital(tmp_path / "basel", "Basel").request))
    assert before == contents(joined.folder)


def test_a_hospital_belongs_to_one_consortium(joined: Hospital, tmp_path: Path) -> None:
    rhine = Coordinator(tmp_path / "rhine", "Rhine")

    with pytest.raises(EnrolmentError, match="belongs to Danube, and the welcome is of Rhine"):
        joined.join(rhine.enrol(joined.request))


def test_an_older_welcome_does_not_replace_a_newer_one(danube: Coordinator, aarhus: Hospital) -> None:
    first = danube.enrol(aarhus.request)
    aarhus.join(danube.renew(aarhus.request, NOON + HOUR), NOON + HOUR)

    with pytest.raises(EnrolmentError, match="older than the one that is here"):
        aarhus.join(first, NOON + HOUR)


@pytest.mark.parametrize("which", ["tls", "flower"])
def test_a_new_key_is_in_use_once_the_welcome_is_joined(danube: Coordinator, joined: Hospital, which: Rotating) -> None:
    before = joined.load()
    old = {each: (joined.folder / "secrets" / f"{each}.key").read_bytes() for each in ("tls", "flower", "signing")}
    joined.rotate(which, NOON + DAY)
    waiting = joined.load()
    joined.join(danube.renew(joined.request, NOON + DAY), NOON + DAY)
    changed = {each for each, key in old.items() if (joined.folder / "secrets" / f"{each}.key").read_bytes() != key}

    assert before == waiting
    assert {which} == changed
    assert SECRETS == {path.name for path in (joined.folder / "secrets").iterdir()}
    assert joined.request.fingerprint == joined.load().fingerprint


def test_both_keys_can_rotate_in_one_request(danube: Coordinator, joined: Hospital) -> None:
    joined.rotate("tls", NOON + DAY)
    joined.rotate("flower", NOON + DAY)
    joined.join(danube.renew(joined.request, NOON + DAY), NOON + DAY)

    assert joined.request.flower_key == public_pem(joined.load().flower_key().public_key())
    assert verify_request(joined.request) == read_curve_key(joined.load().tls_key, "P-256").public_key()


def test_a_key_that_waits_is_not_drawn_again(joined: Hospital) -> None:
    first = joined.rotate("flower", NOON + DAY)
    second = joined.rotate("flower", NOON + 2 * DAY)

    assert first.flower_key == second.flower_key
    assert NOON + 2 * DAY == second.requested_at


def test_the_signing_key_does_not_rotate(joined: Hospital) -> None:
    with pytest.raises(EnrolmentError, match="another hospital"):
        identity.rotate(joined.folder, "signing", NOON)  # type: ignore[arg-type]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_join_that_a_crash_cut_short_is_finished_by_joining_again(
    danube: Coordinator, joined: Hospital, written: int
) -> None:
    joined.rotate("tls", NOON + DAY)
    welcome = danube.renew(joined.request, NOON + DAY)
    certificates = joined.folder / "certificates"
    (joined.folder / "secrets" / "tls.next.key").replace(joined.folder / "secrets" / "tls.key")
    for name, text in [("ca.crt", welcome.authority), ("site.crt", welcome.certificate)][:written]:
        (certificates / name).write_text(text)

    with pytest.raises(EnrolmentError, match="welcome again"):
        joined.load()
    joined.join(welcome, NOON + DAY)
    assert NOON + 366 * DAY == joined.load().expires_at


def test_a_certificate_file_that_was_changed_is_not_used(joined: Hospital) -> None:
    (joined.folder / "certificates" / "ca.crt").write_text("another authority")

    with pytest.raises(EnrolmentError, match=r"ca\.crt: not the certificate of welcome\.json"):
        joined.load()


def test_a_folder_of_something_else_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="consilium-client init"):
        identity.load(tmp_path)
