"""The gateway as a process: it says when it is ready, stops when asked, and explains why it cannot start."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.integration import gateway
from tests.integration.gateway import PULL, WAIT_S


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "server.gateway", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_says_where_it_listens_serves_and_ends_with_0_on_sigterm(tmp_path: Path) -> None:
    world = gateway.make_world(tmp_path)
    world.upstream.start()
    arguments = (str(world.folder), "--upstream-port", str(world.upstream.port), "--host", "127.0.0.1", "--port", "0")
    with start(*arguments) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            world.port = int(line.rpartition(":")[2])
            answer = world.post("Aarhus", PULL)[:2]
            missing = world.post("Aarhus", "/v1/control/list-nodes")[0]
            process.send_signal(signal.SIGTERM)
            rest, log = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
            world.upstream.stop()

    assert f"gateway ready: 127.0.0.1:{world.port}\n" == line
    assert (200, b"done", 404) == (*answer, missing)
    assert (0, "") == (process.returncode, rest)
    assert "refused: Aarhus at 127.0.0.1: asked for POST /v1/control/list-nodes, which is not on the list" in log
    assert ["Aarhus"] == list(json.loads((world.folder / "seen.json").read_text()))


def ended(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "server.gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    return done.returncode, done.stderr


def test_it_listens_at_the_port_of_the_consortiums_address_and_says_when_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        world = gateway.make_world(tmp_path, f"fl.example.org:{port}")
        code, error = ended(str(world.folder), "--upstream-port", "1")

    assert 2 == code
    assert error.startswith(f"0.0.0.0:{port}: nothing can listen there: Address already in use.")


def test_a_folder_that_is_no_coordinators_is_explained(tmp_path: Path) -> None:
    code, error = ended(str(tmp_path), "--upstream-port", "1")

    assert 2 == code
    assert error.startswith(f"{tmp_path}/consortium.json: no such file.")


def test_a_folder_without_certificates_is_explained(tmp_path: Path) -> None:
    world = gateway.make_world(tmp_path)
    (world.folder / "certificates" / "ca.crt").unlink()
    code, error = ended(str(world.folder), "--upstream-port", "1", "--host", "127.0.0.1", "--port", "0")

    assert 2 == code
    assert error.startswith(f"{world.folder}: the certificates cannot be used: ")
