"""What an attacker has: raw connections to the gateway, another hospital's name, a changed installation, SuperLink."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client import identity, settings
from client.connection import Fleet
from client.deployment import address_of
from server import consortium as coordinator
from server import enrolment
from shared import codec, keyfiles, packing
from shared.enrolment import to_text
from shared.messages import Heading, Refused
from shared.secagg.keys import SigningKey
from tests.e2e.commands import until
from tests.e2e.consortium import Consortium

WAIT_S = 10.0


# --- Raw connections ---


@dataclass(frozen=True)
class Door:
    """A port of this machine that speaks TLS.

    authority: certificate by which it is known.
    """

    port: int
    authority: Path

    def context(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Return a client's TLS settings. pair: its certificate and key."""
        context = ssl.create_default_context(cafile=self.authority)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context

    def raw(self, data: bytes, context: ssl.SSLContext, host: str = "localhost") -> bytes:
        """Send bytes, and return what comes back until the other side ends the connection or is silent for 2 s.

        Raises: ssl.SSLError if TLS fails, in the handshake or with the first bytes that are read.
        """
        received = bytearray()
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        with context.wrap_socket(plain, server_hostname=host) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            connection.settimeout(2.0)
            with contextlib.suppress(ConnectionError, TimeoutError):
                while part := connection.recv(65536):
                    received += part
        return bytes(received)

    def reason(self, context: ssl.SSLContext, host: str = "localhost") -> str:
        """Connect and send something; return OpenSSL's word for why TLS failed, or what was answered."""
        try:
            return repr(self.raw(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", context, host))
        except ssl.SSLError as error:
            return str(error.reason)


def gateway(world: Consortium) -> Door:
    return Door(world.port, world.server / "certificates" / "ca.crt")


def superlink(world: Consortium) -> Door:
    """SuperLink's own port, which only this machine reaches."""
    port = int((world.server / "processes" / "superlink.port").read_text(encoding="utf-8"))
    return Door(port, world.server / "certificates" / "loopback-ca.crt")


def pair_of(hospital: Path) -> tuple[Path, Path]:
    """A hospital's certificate and its key."""
    known = identity.load(hospital)
    return known.certificate, known.tls_key


def headers_of(hospital: Path) -> list[str]:
    """The headers that a hospital's node sends, signed now, as Flower's client does."""
    import base64

    from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

    key = identity.load(hospital).flower_key()
    now = datetime.now(UTC).isoformat()
    return [
        f"flwr-public-key: {base64.b64encode(public_key_to_bytes(key.public_key())).decode()}",
        f"flwr-timestamp: {now}",
        f"flwr-signature: {base64.b64encode(sign_message(key, now.encode())).decode()}",
        "flwr-package-name: flwr",
        "flwr-package-version: 1.41.0",
        "flwr-component-name: SuperNode",
        "content-type: application/protobuf",
    ]


# --- What the coordinator's side wrote down ---


def gateway_said(world: Consortium, text: str) -> None:
    """Wait until the gateway's log has a refusal that ends with these words."""
    path = world.server / "processes" / "gateway.log"

    def there() -> bool:
        return any(
            " refused: " in line and line.endswith(text) for line in path.read_text(encoding="utf-8").splitlines()
        )

    until(f"the gateway says {text!r}", there, WAIT_S)


def reached_superlink(world: Consortium) -> list[str]:
    """Return the request lines in SuperLink's access log; it leaves out polls that went well."""
    text = (world.server / "processes" / "superlink.log").read_text(encoding="utf-8")
    return [line.split('"')[1] for line in text.splitlines() if "[uvicorn.access]" in line]


def run_log(world: Consortium, run: str) -> str:
    return (world.server / "runs" / run / "run.log").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Question:
    """A message that SuperLink holds for a node."""

    id: str
    run: int
    node: int
    created_at: float
    ttl: float
    group: str
    type: str


def questions(world: Consortium, name: str) -> list[Question]:
    """Return the messages to a hospital's node that have no reply yet, as they stand in SuperLink's database."""
    wanted = node_of(world, name)
    with contextlib.closing(sqlite3.connect(f"file:{world.server / 'state.db'}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "select message_id, run_id, dst_node_id, created_at, ttl, group_id, message_type from message_ins"
            " where message_id not in (select reply_to_message_id from message_res)"
        ).fetchall()
    unsigned = 2**64 - 1
    found = [Question(row[0], row[1] & unsigned, row[2] & unsigned, *row[3:]) for row in rows]
    return [each for each in found if each.node == wanted]


def node_of(world: Consortium, name: str) -> int:
    """Return Flower's number of a hospital's node."""
    return int(json.loads((world.hospital(name) / "node.json").read_text(encoding="utf-8"))["node_id"])


@contextlib.contextmanager
def silenced(world: Consortium, name: str) -> Iterator[None]:
    """Let a hospital's node stand still for a while, with a question open that it has not begun to answer."""
    pid = world.pid(f"node {name}")
    end = time.monotonic() + 60.0
    try:
        os.kill(pid, signal.SIGSTOP)
        while not questions(world, name):
            os.kill(pid, signal.SIGCONT)
            assert time.monotonic() < end, f"{name} was never caught with an open question"
            time.sleep(0.03)
            os.kill(pid, signal.SIGSTOP)
            # What it had sent before is taken down by now.
            time.sleep(0.03)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# --- An enrolled hospital that lies ---


class Forger:
    """An enrolled hospital that answers in the name of another, with its own certificate and Flower key."""

    def __init__(self, world: Consortium, own: str, victim: str) -> None:
        from flwr.proto.node_pb2 import Node

        folder = world.hospital(own)
        known = identity.load(folder)
        self._signing, self._victim, self._world = known.signing, victim, world
        self._fleet = Fleet(address_of(folder, known), known.flower_key())
        # Its own node is online already, by the same key.
        self._fleet._node = Node(node_id=node_of(world, own))

    def close(self) -> None:
        self._fleet.close()

    def refuse(self, question: Question, heading: Heading, how: str) -> None:
        """Say in the victim's name that it withdrew.

        how: ``unsigned``; ``own key``; ``replayed``, with the victim's own signature under a reply to another message.
        """
        said = packing.pack(Refused(self._victim, heading, "withdrawn", "this hospital has withdrawn its approval"))
        signature = b""
        if how != "unsigned":
            about = "another message" if how == "replayed" else question.id
            signature = codec.sign(said, heading, self._victim, about, self._key(how))
        self._fleet.send(_reply(codec.to_records(said, signature), question), 0.1)

    def confirm(self, question: Question) -> None:
        """Tell SuperLink that the victim has received its message."""
        from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest

        self._fleet._client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=self._fleet._node, run_id=question.run, message_object_id=question.id)
        )

    def _key(self, how: str) -> SigningKey:
        return identity.load(self._world.hospital(self._victim)).signing if how == "replayed" else self._signing


def _reply(records: Any, question: Question) -> Any:
    from flwr.app import Metadata
    from flwr.app.message import make_message

    now = time.time()
    metadata = Metadata(
        run_id=question.run,
        message_id="",
        src_node_id=question.node,
        dst_node_id=1,
        reply_to_message_id=question.id,
        group_id=question.group,
        message_type=question.type,
        created_at=now,
        ttl=question.created_at + question.ttl - now,
    )
    return make_message(metadata=metadata, content=records)


# --- Hospitals that are not what they say ---


def elsewhere(world: Consortium, root: Path, address: str | None = None) -> Path:
    """Copy a coordinator's folder, so that hospitals can be enrolled that the running coordinator does not know.

    address: of another server, where the copy says another one.
    """
    made = root / "elsewhere"
    made.mkdir(parents=True)
    for name in ("secrets", "certificates"):
        shutil.copytree(world.server / name, made / name)
    for path in (*world.server.glob("*.json"), *world.server.glob("audit.*")):
        shutil.copy(path, made)
    if address is not None:
        content = json.loads((made / "consortium.json").read_text(encoding="utf-8"))
        (made / "consortium.json").write_text(json.dumps({**content, "address": address}), encoding="utf-8")
    return made


def another_consortium(world: Consortium, root: Path) -> Path:
    """Make a coordinator's folder of another consortium that says the same address."""
    address = f"localhost:{world.port}"
    coordinator.init(root / "another", "Another", address, ["127.0.0.1"], datetime.now(UTC))
    return root / "another"


def hospital(root: Path, server: Path, name: str, at: datetime, joined: datetime | None = None) -> Path:
    """Make a hospital that is enrolled with the coordinator in ``server`` and has joined.

    at: when it was enrolled; its certificate is valid for a year from then.
    """
    folder = root / name
    welcome = enrolment.enrol(server, identity.init(folder, name, at), at)
    settings.write_template(folder)
    (root / f"welcome-{name}.json").write_text(to_text(welcome), encoding="utf-8")
    identity.join(folder, root / f"welcome-{name}.json", joined or at)
    return folder


def other_flower_key() -> str:
    """A P-384 public key that nobody has enrolled, PEM."""
    return keyfiles.public_pem(keyfiles.new_key("P-384").public_key())
