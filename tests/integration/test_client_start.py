"""``consilium-client start`` with its real processes and a real gateway; what stands for Flower has no messages."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from client import identity, settings
from server import consortium, enrolment, gateway
from shared.enrolment import to_text
from shared.processes import born
from tests.integration.gateway import Upstream, now, until

pytestmark = pytest.mark.slow

NODE_ID = 7


def said_by_flower(path: str, _body: bytes) -> tuple[int, bytes, dict[str, str]]:
    """Flower's answers to a node for which there is nothing to do; who is not signed in is answered 401."""
    from flwr.proto.fleet_pb2 import ActivateNodeResponse

    activated = ActivateNodeResponse(node_id=NODE_ID).SerializeToString()
    return 200, activated if path.endswith("/activate-node") else b"", {"content-type": "application/protobuf"}


class Place:
    """A coordinator's folder and one hospital that has joined; the gateway runs when it is told to."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.server, self.north = folder / "server", folder / "north"
        consortium.init(self.server, "Test", f"localhost:{self.port}", ["127.0.0.1"], now())
        welcome = enrolment.enrol(self.server, identity.init(self.north, "north", now()), now())
        (folder / "WELCOME.json").write_text(to_text(welcome))
        identity.join(self.north, folder / "WELCOME.json", now())
        settings.write_template(self.north)
        certificate, key = self.server / "certificates" / "loopback.crt", self.server / "secrets" / "loopback.key"
        self.upstream = Upstream(certificate, key, answer=said_by_flower)

    @contextmanager
    def gateway(self) -> Iterator[None]:
        stop, ready = threading.Event(), threading.Event()
        self.upstream.start()
        asked = gateway.Settings("127.0.0.1", self.port, self.server, self.upstream.port)
        thread = threading.Thread(target=gateway.serve, args=(asked, stop, lambda _port: ready.set()))
        thread.start()
        try:
            assert ready.wait(20.0)
            yield
        finally:
            stop.set()
            thread.join(20.0)
            self.upstream.stop()

    @contextmanager
    def start(self) -> Iterator[Started]:
        started = Started(self.north)
        try:
            yield started
        finally:
            started.process.kill()
            started.process.wait(20.0)
            started.output.close()

    def status(self) -> dict[str, Any]:
        done = subprocess.run(command("status", self.north, "--json"), capture_output=True, check=True, timeout=60)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


class Started:
    """``consilium-client start`` at work."""

    def __init__(self, north: Path) -> None:
        self.path = north.parent / "start.out"
        self.output = self.path.open("wb")
        self.process = subprocess.Popen(command("start", north), stdout=self.output, stderr=self.output, cwd="/")

    @property
    def said(self) -> str:
        return self.path.read_text()

    def says(self, what: str, times: int = 1) -> bool:
        return until(lambda: self.said.count(what) >= times, 60.0)


def command(name: str, north: Path, *more: str) -> list[str]:
    return [sys.executable, "-P", "-m", "client.cli", name, str(north), *more]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


CONNECTED = "connected: approved studies are answered"


def test_a_node_connects_is_seen_by_status_and_ends_when_it_is_asked_to(place: Place) -> None:
    with place.gateway(), place.start() as started:
        assert started.says(CONNECTED), started.said
        found = place.status()
        assert (True, True, True) == (found["supervised"], found["node"]["running"], found["connected"])
        started.process.send_signal(signal.SIGTERM)

        assert 0 == started.process.wait(30.0)
        assert born(found["node"]["pid"]) is None
        assert "/v1/fleet/deactivate-node" in place.upstream.lines[-1]
        assert (False, False) == (place.status()["supervised"], place.status()["connected"])


def test_a_consortium_that_is_away_is_waited_for(place: Place) -> None:
    with place.start() as started:
        assert started.says("not there yet: connection:"), started.said
        assert started.says("not connected: "), started.said
        with place.gateway():
            assert started.says(CONNECTED), started.said


def test_a_node_that_is_killed_is_started_again_and_comes_online(place: Place) -> None:
    with place.gateway(), place.start() as started:
        assert started.says(CONNECTED), started.said
        os.kill(place.status()["node"]["pid"], signal.SIGKILL)

        assert started.says("the node ended (signal 9 (SIGKILL)) and was started again"), started.said
        assert started.says(CONNECTED, times=2), started.said
        assert 1 == place.status()["node"]["restarts"]


def test_a_hospital_that_is_revoked_hears_it_while_the_node_runs_and_at_the_next_start(place: Place) -> None:
    with place.gateway():
        with place.start() as started:
            assert started.says(CONNECTED), started.said
            enrolment.revoke(place.server, "north", now(timedelta(seconds=1)))

            assert started.says("has revoked this hospital"), started.said
            assert "has revoked this hospital" in place.status()["last_words"]
        done = subprocess.run(command("start", place.north), capture_output=True, text=True, check=False, timeout=60)

    assert 2 == done.returncode
    assert "gateway: the coordinator has revoked this hospital" in done.stderr


def test_a_renewed_certificate_is_taken_up_by_the_running_node(place: Place) -> None:
    with place.gateway(), place.start() as started:
        assert started.says(CONNECTED), started.said
        request = identity.rotate(place.north, "tls", now())
        welcome = enrolment.renew(place.server, request, now(), at_once=True)
        (place.north.parent / "WELCOME.json").write_text(to_text(welcome))
        identity.join(place.north, place.north.parent / "WELCOME.json", now())

        assert started.says(CONNECTED, times=2), started.said


def test_a_second_start_in_the_same_folder_is_refused(place: Place) -> None:
    with place.gateway(), place.start() as started:
        assert started.says(CONNECTED), started.said
        done = subprocess.run(command("start", place.north), capture_output=True, text=True, check=False, timeout=60)

    assert 2 == done.returncode
    assert "another process works here already" in done.stderr
