"""The hash-chained record: what a line is, which line is named when one is wrong, and what a crash leaves."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import chain
from shared.chain_faults import Line, find_fault, parse_line
from shared.errors import AuditError, NotWritten

NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
BEGINNING = hashlib.sha256(b"consilium audit record, format 1").hexdigest()


@pytest.fixture
def five(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    for number in range(1, 6):
        chain.append(path, "round", NOON, study="heart", round=number)
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def put(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def chained(lines: list[bytes]) -> list[bytes]:
    """The same events, numbered and chained anew: what somebody does who knows how."""
    result: list[bytes] = []
    previous = BEGINNING
    for number, line in enumerate(lines, start=1):
        result.append(json.dumps({**json.loads(line), "n": number, "previous": previous}).encode())
        previous = hashlib.sha256(result[-1]).hexdigest()
    return result


def test_a_line_has_its_number_time_event_fields_and_the_digest_of_the_line_before(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    chain.append(path, "enrolled", NOON, site="budapest")
    chain.append(path, "revoked", NOON, site="budapest")
    first, second = lines_of(path)

    time = "2026-11-21T12:00:00.250Z"
    assert [
        {"n": 1, "time": time, "event": "enrolled", "site": "budapest", "previous": BEGINNING},
        {"n": 2, "time": time, "event": "revoked", "site": "budapest", "previous": hashlib.sha256(first).hexdigest()},
    ] == [json.loads(first), json.loads(second)]


def test_the_time_is_written_in_utc(tmp_path: Path) -> None:
    chain.append(tmp_path / "audit.jsonl", "started", NOON.astimezone(timezone(timedelta(hours=2))))

    assert ["2026-11-21T12:00:00.250Z"] == [line["time"] for line in chain.read(tmp_path / "audit.jsonl")]


def test_reading_gives_the_lines_in_order(five: Path) -> None:
    assert [1, 2, 3, 4, 5] == [line["round"] for line in chain.read(five)]


def test_only_the_owner_can_read_the_record_and_what_stands_beside_it(five: Path) -> None:
    assert {"audit.jsonl": 0o600, "audit.head": 0o600, "audit.lock": 0o600} == {
        path.name: path.stat().st_mode & 0o777 for path in five.parent.iterdir()
    }


def test_an_untouched_record_is_intact_and_the_verdict_has_the_digest_of_its_last_line(five: Path) -> None:
    verdict = chain.verify(five)

    assert (True, 5, hashlib.sha256(lines_of(five)[-1]).hexdigest()) == (verdict.intact, verdict.lines, verdict.digest)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"share": float("nan")}, "JSON can say"),
        ({"share": float("inf")}, "JSON can say"),
        ({"path": Path("a")}, "JSON can say"),
        ({"previous": "0" * 64}, "name the field otherwise"),
        ({"n": 7}, "name the field otherwise"),
    ],
)
def test_what_is_not_json_or_would_hide_the_records_own_fields_is_refused(
    five: Path, fields: dict[str, object], complaint: str
) -> None:
    before = five.read_bytes()
    with pytest.raises(AuditError, match=complaint):
        chain.append(five, "round", NOON, **fields)

    assert before == five.read_bytes()


def test_a_time_without_its_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="time zone"):
        chain.append(tmp_path / "audit.jsonl", "started", NOON.replace(tzinfo=None))


def test_a_record_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="no such record"):
        chain.verify(tmp_path / "audit.jsonl")


def test_a_record_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotWritten, match="cannot be written"):
        chain.append(tmp_path / "missing" / "audit.jsonl", "started", NOON)


# Which line is named.


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_every_bit_of_every_line_counts(five: Path, number: int) -> None:
    lines = lines_of(five)
    named = set()
    for at in range(len(lines[number - 1])):
        changed = bytearray(lines[number - 1])
        changed[at] ^= 1
        put(five, [*lines[: number - 1], bytes(changed), *lines[number:]])
        verdict = chain.verify(five)
        named.add((verdict.fault, verdict.line))

    assert {("changed", number)} == named


Tampering = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("tamper", "fault", "line"),
    [
        (lambda lines: lines[1:], "missing", 1),
        (lambda lines: lines[:2] + lines[3:], "missing", 3),
        (lambda lines: lines[:1] + lines[3:], "missing", 2),
        (lambda lines: [lines[0], lines[2], lines[4]], "missing", 2),
        (lambda lines: lines[:4], "missing", 5),
        (lambda lines: lines[:2], "missing", 3),
        (lambda lines: [], "missing", 1),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "reordered", 2),
        (lambda lines: [*lines[1:], lines[0]], "reordered", 1),
        (lambda lines: [lines[4], *lines[:4]], "reordered", 1),
        (lambda lines: [*lines[:3], lines[4], lines[3]], "reordered", 4),
        (lambda lines: [*lines[:3], lines[0], *lines[3:]], "inserted", 4),
        (lambda lines: [*lines[:1], lines[3], *lines[1:]], "inserted", 2),
        (lambda lines: [*lines, lines[4]], "inserted", 6),
        (lambda lines: [*lines[:2], b"", *lines[2:]], "inserted", 3),
        (lambda lines: [*lines[:2], b'{"n": 3}', *lines[2:]], "inserted", 3),
        (lambda lines: [*chained([*lines[:2], b'{"event": "x"}']), *lines[2:]], "inserted", 3),
        (lambda lines: [*chained([*lines[:2], b'{"event": "x"}', b'{"event": "y"}']), *lines[2:]], "inserted", 3),
        (lambda lines: [*chained([*lines[:4], b'{"event": "x"}']), *lines[4:]], "inserted", 5),
        (lambda lines: [*lines[:2], lines[1], *lines[3:]], "changed", 3),
        (lambda lines: [*lines[:2], b"{}", *lines[3:]], "changed", 3),
        (lambda lines: [*lines[:2], b"[" * 100_000, *lines[3:]], "changed", 3),
        (lambda lines: chained([*lines[:2], b'{"event": "x"}', *lines[3:]]), "changed", 5),
        (lambda lines: chained([*lines[:2], *lines[3:]]), "missing", 5),
        (lambda lines: chained([*lines, b'{"event": "x"}', b'{"event": "y"}']), "inserted", 6),
    ],
)
def test_the_first_line_at_fault_is_named(five: Path, tamper: Tampering, fault: str, line: int) -> None:
    put(five, tamper(lines_of(five)))

    verdict = chain.verify(five)

    assert (fault, line) == (verdict.fault, verdict.line)
    assert str(line) in verdict.why


def test_a_removed_line_end_is_a_change(five: Path) -> None:
    five.write_bytes(five.read_bytes()[:-1])
    verdict = chain.verify(five)

    assert ("changed", 5) == (verdict.fault, verdict.line)


def test_a_missing_head_file_is_said(five: Path) -> None:
    (five.parent / "audit.head").unlink()

    assert "no-head" == chain.verify(five).fault


def test_a_record_that_is_gone_while_its_head_is_there_lacks_line_1(five: Path) -> None:
    five.unlink()

    assert ("missing", 1) == (chain.verify(five).fault, chain.verify(five).line)


@given(st.permutations(range(6)), st.integers(0, 6))
def test_no_other_order_and_no_other_selection_of_lines_is_intact(order: list[int], count: int) -> None:
    lines = [parse_line(line) for line in chained([b'{"event": "x"}'] * 6)]
    kept = order[:count]

    verdict = find_fault([Line(0, "", BEGINNING), *(lines[at] for at in kept)], b"", lines[-1])

    first = next((at for at, number in enumerate(kept) if at != number), count)
    assert (not verdict.intact, verdict.line) == ((True, first + 1) if count < 6 or first < 6 else (False, None))


# What a crash leaves.


def head_of(path: Path) -> bytes:
    return (path.parent / "audit.head").read_bytes()


def test_a_line_whose_head_was_not_written_any_more_counts(five: Path) -> None:
    head = head_of(five)
    chain.append(five, "round", NOON, round=6)
    (five.parent / "audit.head").write_bytes(head)
    between = chain.verify(five)
    chain.append(five, "round", NOON, round=7)

    assert (True, 6, True, 7) == (between.intact, between.lines, chain.verify(five).intact, chain.verify(five).lines)


def test_a_line_that_was_not_written_to_its_end_is_cut_off_and_the_record_says_so(five: Path) -> None:
    with five.open("ab") as file:
        file.write(b'{"n": 6, "time": "20')
    between = chain.verify(five)
    chain.append(five, "round", NOON, round=6)

    assert between.intact
    assert chain.verify(five).intact
    assert [("recovered", 20), ("round", None)] == [
        (line["event"], line.get("cut_bytes")) for line in list(chain.read(five))[5:]
    ]


def test_an_unfinished_line_is_not_read(five: Path) -> None:
    with five.open("ab") as file:
        file.write(b'{"n": 6}')

    assert 5 == len(list(chain.read(five)))


@pytest.mark.parametrize(
    "tamper",
    [
        lambda lines: lines[:4],
        lambda lines: [*lines[:4], lines[4][:-1] + b" }"],
        lambda lines: [*lines, b'{"n": 6, "previous": "0"}'],
        lambda lines: chained([*lines, b'{"event": "x"}', b'{"event": "y"}']),
    ],
    ids=["cut off", "longer", "foreign line", "two lines"],
)
def test_nothing_is_added_to_a_record_that_does_not_end_as_its_head_says(five: Path, tamper: Tampering) -> None:
    put(five, tamper(lines_of(five)))
    with pytest.raises(AuditError, match="does not end as its head says"):
        chain.append(five, "round", NOON)


def test_nothing_is_added_to_a_record_whose_head_is_gone(five: Path) -> None:
    (five.parent / "audit.head").unlink()
    with pytest.raises(AuditError, match=r"audit\.head is missing"):
        chain.append(five, "round", NOON)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "count": -1, "digest": "", "size": 0}'])
def test_a_damaged_head_is_said(five: Path, text: str) -> None:
    (five.parent / "audit.head").write_text(text)
    with pytest.raises(AuditError, match=r"audit\.head"):
        chain.verify(five)


def test_an_append_does_not_read_the_lines_before(five: Path) -> None:
    """It stays quick however long the record is; finding the changed line is the verification's work."""
    five.write_bytes(five.read_bytes().replace(b'"round": 2', b'"round": 9'))
    chain.append(five, "round", NOON, round=6)

    assert ("changed", 2) == (chain.verify(five).fault, chain.verify(five).line)


WRITER = """
import itertools, sys
from datetime import UTC, datetime
from pathlib import Path
from shared import chain
first, count = int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count) if count else itertools.count():
    chain.append(Path(sys.argv[1]), "round", datetime.now(UTC), number=number)
"""


def writer(path: Path, first: int, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, path, str(first), str(count)], stderr=subprocess.PIPE)


def test_processes_and_threads_may_append_to_one_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    def append_twenty(first: int) -> None:
        for number in range(first, first + 20):
            chain.append(path, "round", NOON, number=number)

    processes = [writer(path, first, 20) for first in (0, 20)]
    threads = [threading.Thread(target=append_twenty, args=(first,)) for first in (40, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.communicate(timeout=60)

    assert list(range(80)) == sorted(line["number"] for line in chain.read(path))
    assert chain.verify(path).intact


def test_a_writer_that_is_killed_leaves_an_intact_record_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for kill in range(1, 4):
        process = writer(path, 0, 0)
        while (not path.exists() or path.read_bytes().count(b"\n") < 7 * kill) and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()

        assert chain.verify(path).intact
    chain.append(path, "round", NOON, number=-1)

    assert chain.verify(path).intact
    assert -1 == list(chain.read(path))[-1]["number"]


def test_a_line_for_which_there_is_no_room_leaves_no_trace(five: Path) -> None:
    before, limits = five.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may not grow by more than 50 bytes: the kernel writes those and then says no, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
    try:
        with pytest.raises(NotWritten, match=os.strerror(27)):
            chain.append(five, "round", NOON, round=6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert before == five.read_bytes()
