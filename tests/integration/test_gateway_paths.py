"""Tricks with paths and framing: whatever is sent, SuperLink sees the nine paths and nothing else.

The server behind the gateway takes down every request line that reaches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from server.gateway_http import PATHS
from tests.integration import gateway
from tests.integration.gateway import PULL, World

ALLOWED = {f"POST {path} HTTP/1.1" for path in PATHS.values()}
SECRET = "/v1/control/list-nodes"

TARGETS = [
    SECRET,
    "/v1/runtime/acquire-task",
    "/v1/fleet/register-node",
    "/v1/fleet/unregister-node",
    "/v1/fleet/get-fab",
    "/health",
    "/docs",
    "/openapi.json",
    "/",
    "*",
    "/v1/fleet/../control/list-nodes",
    "/v1/fleet/./../control/list-nodes",
    "/v1/fleet/pull-messages/../../control/list-nodes",
    "/v1/fleet/%2e%2e/control/list-nodes",
    "/v1/fleet/%2E%2E/control/list-nodes",
    "/v1/fleet/..%2fcontrol/list-nodes",
    "/v1/fleet/..%2Fcontrol%2Flist-nodes",
    "/v1/fleet/%2e%2e%2fcontrol%2flist-nodes",
    "/v1/fleet/..%252fcontrol/list-nodes",
    "/v1/fleet/..;/control/list-nodes",
    "/v1/fleet/..\\control\\list-nodes",
    "/v1%2fcontrol%2flist-nodes",
    "/v1%2ffleet%2fpull-messages",
    "//v1/fleet/pull-messages",
    "/v1//fleet/pull-messages",
    "/v1/fleet//pull-messages",
    "/v1/fleet/pull-messages/",
    "/v1/fleet/pull-messages?",
    "/v1/fleet/pull-messages?path=/v1/control/list-nodes",
    "/v1/fleet/pull-messages#/v1/control/list-nodes",
    "/v1/fleet/pull-messages%00",
    "/v1/fleet/pull%2dmessages",
    "/V1/Fleet/pull-messages",
    "v1/fleet/pull-messages",
    "http://127.0.0.1/v1/control/list-nodes",
    "https://localhost/v1/fleet/pull-messages",
    "http://localhost/v1/fleet/../control/list-nodes",
    "//localhost/v1/fleet/pull-messages",
    "/v1/fleet/pull-messages\t",
    "/v1/fleet/pull-messages ",
    " /v1/fleet/pull-messages",
    "/v1/fleet/pull-messages HTTP/1.1 /v1/control/list-nodes",
    "/v1/fleet/pull-messages\xe9",
    "/v1/fleet/\u0130pull-messages".encode().decode("latin-1"),
]

METHODS = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "post", "POST\x00", "CONNECT"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with gateway.running(gateway.make_world(tmp_path_factory.mktemp("coordinator"))) as world:
        yield world


@pytest.fixture
def world(running: World) -> World:
    running.upstream.requests.clear()
    return running


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def chunked(line: str, body: bytes, world: World, *more: str) -> bytes:
    head = gateway.head(world.hospitals["Aarhus"], line, "Transfer-Encoding: chunked", *more)
    return re.sub(rb"Content-Length: \d+\r\n", b"", head, count=1) + body


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_not_on_the_list_reaches_nobody(world: World, target: str) -> None:
    answer = world.raw("Aarhus", gateway.head(world.hospitals["Aarhus"], f"POST {target} HTTP/1.1") + b"x")

    assert [] == world.upstream.lines
    assert statuses(answer) in ([400], [404])


@pytest.mark.parametrize("method", METHODS)
def test_no_method_but_post_reaches_anybody(world: World, method: str) -> None:
    target = "127.0.0.1:443" if method == "CONNECT" else PULL
    answer = world.raw("Aarhus", gateway.head(world.hospitals["Aarhus"], f"{method} {target} HTTP/1.1") + b"x")

    assert [] == world.upstream.lines
    assert statuses(answer) in ([400], [404])


SMUGGLED = f"POST {SECRET} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
LINE = f"POST {PULL} HTTP/1.1"


@pytest.mark.parametrize(
    "more",
    [
        ["Transfer-Encoding: chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding:\tchunked"],
        ["Transfer-Encoding : chunked"],
        ["transfer-encoding: Chunked"],
        ["Transfer_Encoding: chunked", "Content-Length: 0"],
        ["X: y", " Transfer-Encoding: chunked"],
        ["X: y\n", "Z: a"],
        ["X: y\nTransfer-Encoding: chunked"],
        ["X: y\rTransfer-Encoding: chunked"],
        ["X: y\x00"],
        ["Content-Length: 1"],
        ["Content-Length: 0"],
        ["Content-Length: 1, 1"],
        ["Content-Length: 18446744073709551617"],
        ["Host: elsewhere"],
        ["flwr-public-key: eA=="],
        ["Expect: 100-continue"],
    ],
    ids=lambda more: ascii(more[-1]),
)
def test_a_head_with_two_readings_reaches_nobody(world: World, more: list[str]) -> None:
    answer = world.raw("Aarhus", gateway.head(world.hospitals["Aarhus"], LINE, *more) + b"0\r\n\r\n" + SMUGGLED)

    assert [] == world.upstream.lines
    assert 1 == len(statuses(answer))
    assert 400 <= statuses(answer)[0] < 500


@pytest.mark.parametrize(
    "body",
    [
        b"1\r\nx\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n\r\n" + SMUGGLED,
        b"800001\r\n" + b"x" * 0x800001 + b"\r\n",
    ],
    ids=["whole", "endless", "smuggling", "9 MiB"],
)
def test_a_body_in_chunks_is_not_taken(world: World, body: bytes) -> None:
    answer = world.raw("Aarhus", chunked(LINE, body, world))

    assert [] == world.upstream.lines
    assert [411] == statuses(answer)


def test_a_forbidden_request_behind_an_allowed_one_reaches_nobody(world: World) -> None:
    allowed = gateway.head(world.hospitals["Aarhus"], LINE) + b"x"
    answer = world.raw("Aarhus", allowed + gateway.head(world.hospitals["Aarhus"], f"POST {SECRET} HTTP/1.1") + b"x")

    assert [LINE] == world.upstream.lines
    assert [200, 404] == statuses(answer)


def test_a_body_that_looks_like_a_request_stays_a_body(world: World) -> None:
    data = gateway.head(world.hospitals["Aarhus"], LINE, "Connection: close", length=len(SMUGGLED)) + SMUGGLED
    assert [200] == statuses(world.raw("Aarhus", data))
    assert [(LINE, SMUGGLED)] == [(line, body) for line, _, body in world.upstream.requests]


def test_an_upgrade_to_http_2_is_not_made(world: World) -> None:
    more = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    answer = world.raw("Aarhus", gateway.head(world.hospitals["Aarhus"], LINE, *more) + b"x" + preface)

    assert [LINE] == world.upstream.lines
    assert [200, 400] == statuses(answer)


def test_http_2_from_the_first_byte_is_not_spoken(world: World) -> None:
    answer = world.raw("Aarhus", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9)

    assert [] == world.upstream.lines
    assert [400] == statuses(answer)


def test_only_listed_headers_reach_superlink(world: World) -> None:
    more = (
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "Connection: close, flwr-signature",
        "TE: trailers",
        "Cookie: a=b",
        "Authorization: Bearer a",
        "flwr-task-token: a",
        "flwr-superexec-signature: a",
        "X-HTTP-Method-Override: GET",
        "X-Original-URL: /v1/control/list-nodes",
    )
    world.raw("Aarhus", gateway.head(world.hospitals["Aarhus"], LINE, *more) + b"x")

    expected = {**world.hospitals["Aarhus"].headers, "accept": "application/protobuf", "content-length": "1"}
    assert [{**expected, "host": f"127.0.0.1:{world.upstream.port}"}] == [
        fields for _, fields, _ in world.upstream.requests
    ]


def test_all_nine_paths_reach_superlink_and_are_answered(world: World) -> None:
    assert [200] * 9 == [world.post("Aarhus", path)[0] for path in PATHS.values()]
    assert sorted(ALLOWED) == sorted(world.upstream.lines)
