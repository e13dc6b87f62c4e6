"""A coordinator's folder: made once, in full, with secrets that only its owner can read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509

from server import authority, consortium, enrolment
from shared import chain
from shared.errors import EnrolmentError
from tests.enrolling import DAY, NOON, Coordinator

SECRETS = {"ca.key", "loopback-ca.key", "loopback.key", "server.key", "signing.key", "superexec.secret"}


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def test_a_new_consortium_is_what_its_folder_says(tmp_path: Path) -> None:
    made = consortium.init(tmp_path / "c", "Danube", "fl.example:9443", ["192.0.2.7", "fl.example"], NOON)

    assert made == consortium.read(tmp_path / "c")
    assert ("Danube", "fl.example:9443", ("fl.example", "192.0.2.7")) == (made.name, made.address, made.hosts)
    assert made.signing == consortium.signing_key(tmp_path / "c", made).public


def test_the_server_has_a_certificate_for_every_host(tmp_path: Path) -> None:
    consortium.init(tmp_path / "c", "Danube", "[::1]:9443", ["fl.example"], NOON)
    names = (
        authority.read_certificate(tmp_path / "c" / "certificates" / "server.crt")
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )

    assert ["::1", "fl.example"] == [str(name.value) for name in names]


def test_nobody_is_enrolled_at_first(tmp_path: Path) -> None:
    made = Coordinator(tmp_path / "c")

    assert ((), []) == (made.record.sites, made.members)


def test_only_its_owner_can_read_a_secret(tmp_path: Path) -> None:
    folder = Coordinator(tmp_path / "c").folder / "secrets"

    assert "0700" == mode(folder)
    assert dict.fromkeys(SECRETS, "0600") == {path.name: mode(path) for path in folder.iterdir()}


def test_two_consortia_share_no_secret(tmp_path: Path) -> None:
    texts = [
        path.read_bytes() for name in ("a", "b") for path in (Coordinator(tmp_path / name).folder / "secrets").iterdir()
    ]

    assert 2 * len(SECRETS) == len(set(texts))


def test_everything_that_cannot_be_made_again_is_to_be_backed_up(tmp_path: Path) -> None:
    folder = Coordinator(tmp_path / "c").folder
    beside = {"audit.head", "audit.lock"}

    assert {path.name for path in folder.iterdir()} - beside <= {part for part, _ in consortium.BACKUP}


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(EnrolmentError, match="expected a new or an empty folder"):
        Coordinator(tmp_path)
    assert ["notes.txt"] == [path.name for path in tmp_path.iterdir()]


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    assert tmp_path == Coordinator(tmp_path).folder


@pytest.mark.parametrize(
    ("reason", "name", "address"),
    [
        ("HOST:PORT", "Danube", "fl.example"),
        ("reach the server", "Danube", "0.0.0.0:9443"),
        ("reach the server", "Danube", "fl_.:9443"),
        ("printable", "Da\nnube", "fl.example:9443"),
        ("at most 64", "D" * 65, "fl.example:9443"),
        ("at least 1", "", "fl.example:9443"),
    ],
)
def test_what_cannot_be_a_consortium_leaves_no_folder(tmp_path: Path, reason: str, name: str, address: str) -> None:
    with pytest.raises(EnrolmentError, match=reason):
        Coordinator(tmp_path / "c", name, address)
    assert not (tmp_path / "c").exists()


def test_a_signing_key_of_another_consortium_signs_nothing(tmp_path: Path) -> None:
    ours, others = Coordinator(tmp_path / "ours"), Coordinator(tmp_path / "others")
    (others.folder / "secrets" / "signing.key").replace(ours.folder / "secrets" / "signing.key")

    with pytest.raises(EnrolmentError, match=r"not the key that consortium\.json names"):
        enrolment.write(ours.folder, ours.record, NOON)


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    made = Coordinator(tmp_path / "c")
    (made.folder / "secrets" / "signing.key").chmod(0o640)

    with pytest.raises(EnrolmentError, match=r"mode 0640.*chmod 600"):
        consortium.signing_key(made.folder, made.consortium)


def test_renewed_servers_go_on_record(tmp_path: Path) -> None:
    folder = Coordinator(tmp_path / "c").folder

    assert NOON + 665 * DAY == consortium.renew_servers(folder, NOON + 300 * DAY)
    assert ["initialised", "servers-renewed"] == [line["event"] for line in chain.read(folder / "audit.jsonl")]


def test_a_folder_of_something_else_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="consilium-server init"):
        consortium.read(tmp_path)
