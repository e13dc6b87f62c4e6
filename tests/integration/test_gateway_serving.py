"""What enrolled hospitals get through the gateway; what happens to one that is revoked, too fast, slow or large."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from server.gateway_limits import Limits
from tests.integration import gateway
from tests.integration.gateway import PULL, PUSH, WAIT_S, World

QUICK = Limits(check_s=0.05, seen_s=0.05)
CUT = (OSError, http.client.HTTPException)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with gateway.running(gateway.make_world(tmp_path_factory.mktemp("coordinator")), QUICK) as world:
        yield world


@pytest.fixture
def world(running: World) -> World:
    running.upstream.requests.clear()
    running.upstream.answer = lambda path, body: (200, b"done", {})
    running.enrol()
    return running


@pytest.fixture
def folder(tmp_path: Path) -> World:
    """A coordinator's folder whose gateway a test starts itself."""
    return gateway.make_world(tmp_path)


def says(caplog: pytest.LogCaptureFixture, what: str) -> bool:
    return gateway.until(lambda: any(what in message for message in caplog.messages))


def is_cut(connection: ssl.SSLSocket) -> bool:
    """Whether the other side ends the connection without a word, before the time-out."""
    try:
        return b"" == connection.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_body_and_its_answer_arrive_as_they_were_sent(world: World) -> None:
    body, answer = bytes(range(256)) * 20480, bytes(reversed(range(256))) * 20480
    world.upstream.answer = lambda path, body: (200, answer, {"content-type": "application/protobuf"})
    status, received, headers = world.post("Aarhus", PUSH, body)

    assert (200, answer) == (status, received)
    assert "application/protobuf" == headers["content-type"]
    assert [body] == [body for _, _, body in world.upstream.requests]


def test_an_empty_body_is_one(world: World) -> None:
    assert 200 == world.post("Aarhus", PULL, b"")[0]
    assert [b""] == [body for _, _, body in world.upstream.requests]


def test_of_superlinks_headers_only_the_listed_ones_come_back(world: World) -> None:
    more = {"flwr-version-incompatibility-message": "old", "set-cookie": "a=b", "location": "/v1/control"}
    world.upstream.answer = lambda path, body: (412, b"{}", {"content-type": "application/json", **more})
    expected = {
        "content-type": "application/json",
        "flwr-version-incompatibility-message": "old",
        "content-length": "2",
        "connection": "keep-alive",
    }

    status, body, headers = world.post("Aarhus", PULL)
    # The gateway's own clock, by which a hospital sees that its own is wrong.
    assert parsedate_to_datetime(headers.pop("date")).tzinfo is not None
    assert (412, b"{}", expected) == (status, body, headers)


def test_many_requests_share_one_connection(world: World) -> None:
    with world.client("Aarhus") as connection:
        answers = [gateway.ask(connection, world.hospitals["Aarhus"], PULL, b"x" * size)[0] for size in (1, 0, 99999)]

    assert [200, 200, 200] == answers


def test_a_node_key_of_another_hospital_is_refused(world: World, caplog: pytest.LogCaptureFixture) -> None:
    other = world.hospitals["Basel"].headers["flwr-public-key"]
    status, text, headers = world.post("Aarhus", PULL, flwr_public_key=other)

    assert (503, "wrong-node-key", "close") == (status, headers["consilium-refusal"], headers["connection"])
    assert b"The Flower key of this request is not the one that Aarhus was enrolled with.\n" == text
    assert [] == world.upstream.lines
    assert ["refused: Aarhus at 127.0.0.1: the certificate is Aarhus's, the Flower key of the request is not"] == [
        message for message in caplog.messages if other[:20] not in message
    ]


def test_a_valid_certificate_that_nobody_enrolled_is_refused(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = world.trust()
    context.load_cert_chain(*gateway.client_certificate(world.ca, "Aarhus", tmp_path))
    with contextlib.closing(http.client.HTTPSConnection("localhost", world.port, context=context)) as connection:
        status, _, headers = gateway.ask(connection, world.hospitals["Aarhus"], PULL)

    assert (503, "unknown-certificate") == (status, headers["consilium-refusal"])
    assert [] == world.upstream.lines
    assert says(caplog, "is valid but belongs to no enrolled hospital")


def test_a_revoked_hospital_is_told_so_and_refused(world: World) -> None:
    world.enrol(revoked=("Aarhus",))
    status, text, headers = world.post("Aarhus", PULL)

    assert (503, "revoked", "close") == (status, headers["consilium-refusal"], headers["connection"])
    assert b"The coordinator has revoked Aarhus. Ask the coordinator.\n" == text
    assert [] == world.upstream.lines
    assert 200 == world.post("Basel", PULL)[0]


def test_a_hospital_that_is_revoked_while_it_is_connected_is_cut_off(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with world.client("Aarhus") as cut, world.client("Basel") as kept:
        for name, connection in (("Aarhus", cut), ("Basel", kept)):
            assert 200 == gateway.ask(connection, world.hospitals[name], PULL)[0]
        world.enrol(revoked=("Aarhus",))
        assert isinstance(cut.sock, ssl.SSLSocket)
        assert is_cut(cut.sock)
        assert 200 == gateway.ask(kept, world.hospitals["Basel"], PULL)[0]

    assert says(caplog, "refused: Aarhus at 127.0.0.1: connection cut: Aarhus was revoked")


def test_a_hospital_that_is_revoked_while_it_waits_gets_no_answer(world: World) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        asked.set()
        go_on.wait(WAIT_S)
        return 200, b"for Aarhus", {}

    world.upstream.answer = answer
    with world.connect(world.context("Aarhus")) as connection:
        connection.sendall(gateway.head(world.hospitals["Aarhus"], f"POST {PULL} HTTP/1.1") + b"x")
        assert asked.wait(WAIT_S)
        world.enrol(revoked=("Aarhus",))
        assert is_cut(connection)
        go_on.set()


def test_a_hospital_enrolled_anew_is_let_in_without_a_restart(world: World) -> None:
    world.enrol(revoked=("Aarhus",))
    refused = world.post("Aarhus", PULL)[0]
    world.enrol()

    assert (503, 200) == (refused, world.post("Aarhus", PULL)[0])


def test_a_connection_ends_with_its_certificate(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    short = replace(world.hospitals["Aarhus"], certificate=tmp_path / "Aarhus.crt", key=tmp_path / "Aarhus.key")
    gateway.client_certificate(world.ca, "Aarhus", tmp_path, timedelta(days=-365, seconds=2))
    kept = world.hospitals["Aarhus"]
    world.hospitals["Aarhus"] = short
    try:
        world.enrol()
        with world.connect(world.context("Aarhus")) as connection:
            assert is_cut(connection)
    finally:
        world.hospitals["Aarhus"] = kept

    assert says(caplog, "connection cut: its certificate has expired")


def test_a_body_that_is_too_large_is_not_read(world: World) -> None:
    data = gateway.head(world.hospitals["Aarhus"], f"POST {PUSH} HTTP/1.1", length=8 * 1024 * 1024 + 1)

    assert world.raw("Aarhus", data).startswith(b"HTTP/1.1 413 ")
    assert [] == world.upstream.lines


def test_a_head_that_is_too_large_is_not_taken(world: World) -> None:
    data = gateway.head(world.hospitals["Aarhus"], f"POST {PUSH} HTTP/1.1", "X: " + "y" * 16384)

    assert world.raw("Aarhus", data).startswith(b"HTTP/1.1 431 ")
    assert [] == world.upstream.lines


def test_an_answer_that_is_too_large_does_not_come_back(world: World) -> None:
    world.upstream.answer = lambda path, body: (200, b"x" * (12 * 1024 * 1024 + 1), {})

    assert 502 == world.post("Aarhus", PULL)[0]


def test_an_answer_that_breaks_off_is_not_passed_on(world: World) -> None:
    world.upstream.answer = lambda path, body: (200, b"half", {"content-length": "8", "connection": "close"})

    assert 503 == world.post("Aarhus", PULL)[0]


def test_when_each_hospital_was_last_seen_is_written_down(world: World) -> None:
    path = world.folder / "seen.json"
    path.unlink(missing_ok=True)
    before = dict.fromkeys(("Aarhus", "Basel"))

    def seen() -> bool:
        # A second request in a later second changes the file.
        before.update({name: world.post(name, PULL)[0] for name in before})
        return path.exists() and {"Aarhus", "Basel"} <= set(json.loads(path.read_text()))

    assert gateway.until(seen)


def test_a_refused_hospital_was_not_seen(folder: World) -> None:
    folder.enrol(revoked=("Aarhus",))
    with gateway.running(folder, QUICK) as world:
        world.post("Aarhus", PULL)
        world.post("Basel", PULL)

    assert ["Basel"] == list(json.loads((folder.folder / "seen.json").read_text()))


def test_without_superlink_the_answer_is_to_try_again_and_then_it_works_again(
    folder: World, caplog: pytest.LogCaptureFixture
) -> None:
    with gateway.running(folder) as world, world.client("Aarhus") as connection:
        world.upstream.stop()
        down = gateway.ask(connection, world.hospitals["Aarhus"], PULL)
        world.upstream.start()
        up = gateway.ask(connection, world.hospitals["Aarhus"], PULL)

    assert (503, "2", 200) == (down[0], down[2]["retry-after"], up[0])
    assert says(caplog, "SuperLink does not answer, the node was told to try again: ConnectionRefusedError")


def test_a_connection_that_superlink_ended_while_it_was_idle_is_not_used_again(folder: World) -> None:
    folder.upstream.ends = True
    with gateway.running(folder) as world, world.client("Aarhus") as connection:
        answers = []
        for _ in range(3):
            answers.append(gateway.ask(connection, world.hospitals["Aarhus"], PULL)[0])
            # Until SuperLink's end of the connection has arrived at the gateway.
            time.sleep(0.1)

    assert [200, 200, 200] == answers


def test_superlink_with_a_certificate_of_another_authority_is_not_asked(folder: World) -> None:
    gateway.server_certificate(folder.ca, "loopback", folder.folder / "hospitals")
    folder.upstream.certificate = folder.folder / "hospitals" / "loopback.crt"
    folder.upstream.key = folder.folder / "hospitals" / "loopback.key"
    with gateway.running(folder) as world:
        assert 503 == world.post("Aarhus", PULL)[0]
        assert [] == world.upstream.lines


def test_superlink_that_is_too_slow_is_given_up(folder: World) -> None:
    with gateway.running(folder, Limits(upstream_s=0.2)) as world:
        go_on = threading.Event()
        world.upstream.answer = lambda path, body: (200 if go_on.wait(WAIT_S) else 500, b"", {})
        status = world.post("Aarhus", PULL)[0]
        go_on.set()

    assert 504 == status


def test_a_hospital_that_asks_too_fast_is_told_to_try_again(folder: World) -> None:
    with gateway.running(folder, Limits(requests_per_s=0.0, request_burst=2, patience_s=0.0)) as world:
        answers = [world.post("Aarhus", PULL) for _ in range(3)]
        other = world.post("Basel", PULL)[0]

    assert [200, 200, 503] == [status for status, _, _ in answers]
    assert ("too-fast", "2") == (answers[2][2]["consilium-refusal"], answers[2][2]["retry-after"])
    assert 200 == other


def test_a_burst_is_slowed_down_before_it_is_refused(folder: World) -> None:
    limits = Limits(requests_per_s=20.0, request_burst=1, patience_s=WAIT_S)
    with gateway.running(folder, limits) as world, world.client("Aarhus") as connection:
        answers = [gateway.ask(connection, world.hospitals["Aarhus"], PULL)[0] for _ in range(5)]

    assert [200] * 5 == answers


def test_one_hospitals_connections_do_not_keep_out_another(folder: World, caplog: pytest.LogCaptureFixture) -> None:
    with gateway.running(folder, Limits(connections_per_site=2)) as world, contextlib.ExitStack() as held:
        for _ in range(2):
            connection = held.enter_context(world.client("Aarhus"))
            assert 200 == gateway.ask(connection, world.hospitals["Aarhus"], PULL)[0]
        with pytest.raises(CUT):
            world.post("Aarhus", PULL)
        assert 200 == world.post("Basel", PULL)[0]

    assert says(caplog, "refused: Aarhus at 127.0.0.1: has 2 connections already, which is the limit")


def test_connections_without_a_certificate_do_not_pile_up(folder: World, caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(handshakes_per_address=2, handshake_s=WAIT_S)
    with gateway.running(folder, limits) as world, contextlib.ExitStack() as held:
        idle = [held.enter_context(socket.create_connection(("127.0.0.1", world.port), WAIT_S)) for _ in range(3)]
        # Which of them came third is the gateway's to say; one is ended at once.
        assert says(caplog, "refused: 127.0.0.1: too many connections that have not shown a certificate yet")
        for connection in idle:
            connection.close()
        assert gateway.until(lambda: _works(world))


def _works(world: World) -> bool:
    try:
        return 200 == world.post("Aarhus", PULL)[0]
    except CUT:
        return False


def test_a_gateway_that_is_full_takes_nobody_more(folder: World, caplog: pytest.LogCaptureFixture) -> None:
    with gateway.running(folder, Limits(connections=1)) as world:
        with world.client("Aarhus") as connection:
            assert 200 == gateway.ask(connection, world.hospitals["Aarhus"], PULL)[0]
            with pytest.raises(CUT):
                world.post("Basel", PULL)
        assert gateway.until(lambda: _works(world))

    assert says(caplog, "1 connections are open, which is the limit")


@pytest.mark.parametrize(
    ("limits", "sent", "said"),
    [
        (Limits(header_s=0.2), b"POST /v1/fl", "began a request and did not finish its head"),
        (Limits(body_s=0.2), b"head and half a body", "sent 1 of a body of 2 bytes, then no more"),
        (Limits(idle_s=0.2), b"", ""),
    ],
    ids=["head", "body", "idle"],
)
def test_a_connection_on_which_nothing_more_comes_is_ended(
    folder: World, limits: Limits, sent: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    if sent.startswith(b"head"):
        sent = gateway.head(folder.hospitals["Aarhus"], f"POST {PULL} HTTP/1.1", length=2) + b"x"
    with gateway.running(folder, limits) as world, world.connect(world.context("Aarhus")) as connection:
        connection.sendall(sent)
        assert is_cut(connection)
        assert [] == world.upstream.lines

    assert not said or says(caplog, f"refused: Aarhus at 127.0.0.1: {said}")


def test_a_request_under_way_is_finished_when_the_gateway_stops(folder: World) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        asked.set()
        go_on.wait(WAIT_S)
        return 200, b"last", {}

    folder.upstream.answer = answer
    received: list[bytes] = []
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(gateway.running(folder))
        client = threading.Thread(target=lambda: received.append(world.post("Aarhus", PULL)[1]))
        client.start()
        assert asked.wait(WAIT_S)
        threading.Timer(0.3, go_on.set).start()
    client.join(WAIT_S)

    assert [b"last"] == received
