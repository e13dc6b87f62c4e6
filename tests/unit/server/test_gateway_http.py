"""A request's head as the gateway reads it: what goes on, and what is not taken."""

from __future__ import annotations

import pytest

from server import gateway_http
from server.gateway_http import Answer, Refused, Request
from tests.enrolling import NOON

LIMIT = 100
FIELDS = (
    "Host: localhost",
    "Content-Type: application/protobuf",
    "Content-Length: 7",
    "flwr-public-key: a2V5",
    "flwr-timestamp: now",
    "flwr-signature: c2ln",
)
LINE = "POST /v1/fleet/pull-messages HTTP/1.1"


def parse(*lines: str) -> Request | Refused:
    return gateway_http.parse("\r\n".join([*lines, "", ""]).encode("latin-1"), LIMIT)


def without(name: str) -> list[str]:
    return [field for field in FIELDS if not field.startswith(name)]


def test_a_head_as_flower_writes_it_becomes_a_constant_path_and_its_signature() -> None:
    expected = Request(
        "/v1/fleet/pull-messages",
        {"flwr-public-key": "a2V5", "flwr-timestamp": "now", "flwr-signature": "c2ln"},
        7,
    )

    assert expected == parse(LINE, *FIELDS)


def test_headers_that_are_not_listed_do_not_go_on() -> None:
    more = (
        "X-Forwarded-For: 127.0.0.1",
        "Connection: flwr-signature",
        "Upgrade: h2c",
        "Cookie: a=b",
        "Forwarded: for=x",
    )

    assert parse(LINE, *FIELDS) == parse(LINE, *FIELDS, *more)


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "TE,close"])
def test_a_node_that_ends_the_connection_says_so(value: str) -> None:
    request = parse(LINE, *FIELDS, f"Connection: {value}")

    assert isinstance(request, Request)
    assert request.last


@pytest.mark.parametrize(
    "path", ["register-node", "unregister-node", "get-fab", "", "pull-messages/", "Pull-Messages", "pull-messages;a"]
)
def test_a_path_of_flower_that_is_not_on_the_list_is_not_found(path: str) -> None:
    refused = parse(f"POST /v1/fleet/{path} HTTP/1.1", *FIELDS)

    assert isinstance(refused, Refused)
    assert 404 == refused.status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "post"])
def test_only_post_is_answered(method: str) -> None:
    refused = parse(f"{method} /v1/fleet/pull-messages HTTP/1.1", *FIELDS)

    assert isinstance(refused, Refused)
    assert 404 == refused.status


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (400, [LINE, *FIELDS, "Content-Length: 7"]),
        (400, [LINE, *FIELDS, "Content-Length: 8"]),
        (400, [LINE, *without("Content-Length"), "Content-Length: 7, 7", "Content-Length: 7"]),
        (400, [LINE, *without("Content-Length"), "Content-Length: -1"]),
        (400, [LINE, *without("Content-Length"), "Content-Length: 0x7"]),
        (400, [LINE, *without("Content-Length"), "Content-Length: +7"]),
        (411, [LINE, *without("Content-Length")]),
        (411, [LINE, *FIELDS, "Transfer-Encoding: chunked"]),
        (411, [LINE, *without("Content-Length"), "Transfer-Encoding: chunked"]),
        (400, [LINE, *FIELDS, "Transfer-Encoding: xchunked"]),
        (400, [LINE, *FIELDS, "Transfer-Encoding: chunked", "Transfer-Encoding: identity"]),
        (400, [LINE, *FIELDS, "Transfer-Encoding : chunked"]),
        (400, [LINE, *FIELDS, "X-Folded: a", " Transfer-Encoding: chunked"]),
        (400, [LINE, " Host: other", *FIELDS]),
        (400, [LINE, *FIELDS, "flwr-public-key: b3RoZXI="]),
        (400, [LINE, *FIELDS, "FLWR-Signature: b3RoZXI="]),
        (400, [LINE, *FIELDS, "Host: other"]),
        (400, [LINE, *without("Host")]),
        (400, [LINE, *without("flwr-signature"), "flwr-signature: \xe9"]),
        (400, [LINE, *without("flwr-signature"), "flwr-signature: a\x01b"]),
        (400, [LINE, *FIELDS, "no colon"]),
        (400, [LINE + " ", *FIELDS]),
        (400, ["POST  /v1/fleet/pull-messages HTTP/1.1", *FIELDS]),
        (400, ["POST /v1/fleet/pull-messages HTTP/1.0", *FIELDS]),
        (400, ["POST /v1/fleet/pull-messages HTTP/2.0", *FIELDS]),
        (400, ["POST /v1/fleet/pull-messages", *FIELDS]),
        (400, ["PRI * HTTP/2.0"]),
        (413, [LINE, *without("Content-Length"), "Content-Length: 101"]),
        (415, [LINE, *without("Content-Type")]),
        (415, [LINE, *without("Content-Type"), "Content-Type: application/json"]),
        (417, [LINE, *FIELDS, "Expect: 100-continue"]),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_a_head_with_two_readings_is_not_taken(status: int, lines: list[str]) -> None:
    refused = parse(*lines)

    assert isinstance(refused, Refused)
    assert status == refused.status


@pytest.mark.parametrize(
    ("end", "data"),
    [
        (0, b""),
        (0, b"POST / HTTP/1.1\r\nHost: a\r\n"),
        (0, b"POST / HTTP/1.1\r"),
        (17, b"POST / HTTP/1\r\n\r\nbody"),
        (17, b"POST / HTTP/1\r\n\r\n\n\n"),
        (-1, b"POST / HTTP/1.1\nHost: a\r\n\r\n"),
        (-1, b"POST / HTTP/1.1\rHost: a"),
        (-1, b"POST / HTTP/1.1\r\nHost: a\n\n"),
    ],
)
def test_a_head_ends_with_an_empty_line_and_lines_end_in_one_way(end: int, data: bytes) -> None:
    assert end == gateway_http.end_of_head(bytearray(data))


def test_a_refusal_is_written_with_its_code_and_its_text() -> None:
    expected = (
        b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\nconsilium-refusal: no-such-path\r\n"
        b"content-length: 5\r\nconnection: close\r\ndate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\r\nNone\n"
    )

    assert expected == gateway_http.to_bytes(Refused(404, "no-such-path", "None"), close=True, now=NOON)


def test_a_503_says_when_to_try_again() -> None:
    assert b"retry-after: 2\r\n" in gateway_http.to_bytes(Refused(503, "down", "Later."), close=False, now=NOON)


def test_an_answers_head_has_the_length_of_its_body() -> None:
    answer = Answer(200, {"content-type": "application/protobuf"}, b"12345")
    expected = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/protobuf\r\ncontent-length: 5\r\nconnection: keep-alive\r\n"
        b"date: Sat, 21 Nov 2026 12:00:00 GMT\r\n\r\n"
    )

    assert expected == gateway_http.to_bytes(answer, close=False, now=NOON)


def test_what_a_stranger_asked_for_is_shortened_and_escaped_for_the_log() -> None:
    refused = parse("POST /" + "a" * 100 + "\x1b HTTP/1.1", *FIELDS)
    shown = parse("POST /" + "a" * 100 + " HTTP/1.1", *FIELDS)

    assert isinstance(refused, Refused)
    assert isinstance(shown, Refused)
    assert "\x1b" not in refused.log
    assert f"asked for POST /{'a' * 59}..., which is not on the list" == shown.log
