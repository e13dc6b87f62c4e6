"""Every failure that a node's desk knows, with a patient's name in it: what would be sent has no name in it.

The same with real processes, on the wire and on the aggregator's disk: ``tests/e2e/test_no_patient_leaves.py``.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
import pytest

from client import approval, cohort, store
from client.desk import Desk
from client.site import SiteState
from shared import files, packing
from shared.errors import ApprovalError, AuditError, ConsiliumError, DataError
from shared.messages import Refused, Reply, Request
from shared.methods.base import Contribution
from shared.methods.combinators import InTurn
from shared.packing import Packed
from tests.e2e.listening import hits
from tests.unit.client import desks
from tests.unit.client.hospitals import joined

PATIENT, PATIENT_ID = "Zebulon Quartermaine", "ZQ8675309"
NAMES = (PATIENT, PATIENT_ID)
SITE = f"""
[data.small]
path = "{PATIENT}/{PATIENT_ID}.csv"
columns = {{ patient = "CASE", age = "{PATIENT}" }}
opt_out = {{ column = "out", values = ["{PATIENT}"] }}
[policy]
unmasked = true
show_counts = true
show_metrics = true
"""
ROWS = [f"p{row},{30 + row % 50},{row % 2},no" for row in range(100)]
ROWS += [f"{PATIENT},41,1,no", f"{PATIENT_ID},42,0,no", f"p200,{PATIENT},1,no", f"p201,43,{PATIENT},no"]
ROWS += [f"p202,44,0,{PATIENT}"]


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = joined(tmp_path_factory.mktemp("once") / PATIENT, "north", "south", "west")["north"]
    (made.parent / "small.toml").write_text(desks.BARE)
    (made / PATIENT).mkdir()
    (made / PATIENT / f"{PATIENT_ID}.csv").write_text("\n".join([f"CASE,{PATIENT},sick,out", *ROWS, ""]))
    (made / "site.toml").write_text(SITE)
    desks.approve(made)
    return made


@pytest.fixture
def north(made_once: Path, tmp_path: Path) -> Path:
    """A hospital that approved a study, and in whose data, paths and settings the names are."""
    shutil.copytree(made_once.parent, tmp_path / PATIENT)
    return tmp_path / PATIENT / made_once.name


class Wire:
    """What a node would send: the bytes of its desk's answers with their signatures, and what they say."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.said, self.sent = desk, "", b""

    def ask(self, request: Request | Packed) -> None:
        packed, signature = self.desk.answer(request if isinstance(request, Packed) else packing.pack(request), "id")
        reply: Reply = packing.unpack(packed, *get_args(Reply))
        self.said += f"{reply.code if isinstance(reply, Refused) else type(reply).__name__} "
        self.sent += packed.text + bytes(packed.block) + signature


def everything(north: Path) -> Wire:
    """Ask a node, just started, whether it is ready, for its first sum, and to end."""
    wire = Wire(desks.opened(north))
    for request in (desks.preflight(north), desks.contribute(north), desks.end(north)):
        wire.ask(request)
    return wire


def test_the_data_have_the_names_and_the_snapshot_too(north: Path) -> None:
    """Else the rest would show nothing."""
    [snapshot] = north.glob(f"approvals/*/{cohort.FILE}")
    patients = cohort.load(snapshot, approval.read(north, desks.study_of(north).digest).cohort)  # type: ignore[union-attr]

    assert set(NAMES) <= {each for rows in patients.parts.values() for each in rows.patients.tolist()}


def test_when_nothing_fails(north: Path) -> None:
    wire = everything(north)

    assert "Ready Contributed Ended " == wire.said
    assert [] == hits(NAMES, {"wire": wire.sent})


def _with_note(error: Exception) -> Exception:
    error.add_note(PATIENT)
    error.__cause__ = KeyError(PATIENT_ID)
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError(PATIENT),
        KeyError(PATIENT),
        UnicodeDecodeError("utf-8", PATIENT.encode(), 0, 1, PATIENT_ID),
        OSError(errno.ENOENT, PATIENT, f"/{PATIENT_ID}"),
        ExceptionGroup(PATIENT, [ValueError(PATIENT_ID)]),
        DataError(f"{PATIENT}: no such row"),
        ApprovalError(PATIENT),
        _with_note(RuntimeError(PATIENT)),
        MemoryError(PATIENT),
        RecursionError(PATIENT),
        ConsiliumError(PATIENT),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("place", ["contribute", "keep", "asks", "settled"])
def test_when_a_method_fails(
    north: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str, error: Exception
) -> None:
    def fail(*_arguments: Any) -> NoReturn:
        raise error

    with monkeypatch.context() as patched:
        wire = Wire(desks.opened(north))
        if place == "keep":
            # What is judged is there once a model was; the state of the last exchange is not needed for failing.
            patched.setattr("client.site.own_judgement", fail)
            patched.setattr("client.site._seen", lambda _request, state, _site: _judged(state))
        else:
            patched.setattr(InTurn, place, fail)
        for request in (desks.preflight(north), desks.contribute(north), desks.end(north)):
            wire.ask(request)

    # From a state that lacks something the same errors come.
    assert {"internal-error", "bad-state"} & set(wire.said.split())
    assert [] == hits(NAMES, {"wire": wire.sent})
    assert "client/site.py" in caplog.text
    assert [] == hits(NAMES, {"the hospital's own log": caplog.text.replace(str(north), "").encode()})


def _judged(state: SiteState) -> SiteState:
    import dataclasses

    return dataclasses.replace(state, judged={"coef": np.ones(1)})


def test_when_a_sum_is_not_a_number(north: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = InTurn.contribute

    def spoiled(self: InTurn, *arguments: Any) -> Any:
        found, memory = whole(self, *arguments)
        return Contribution({name: np.full_like(each, np.nan) for name, each in found.arrays.items()}, 1.0), memory

    monkeypatch.setattr(InTurn, "contribute", spoiled)
    wire = everything(north)

    assert "Ready not-finite Ended " == wire.said
    assert [] == hits(NAMES, {"wire": wire.sent})


def overwrite(pattern: str) -> Callable[[Path], None]:
    def damage(north: Path) -> None:
        [path] = north.glob(pattern)
        path.write_text(f'{{"{PATIENT}": "{PATIENT_ID}"}}\n')

    damage.__name__ = pattern
    return damage


def cohort_is_missing(north: Path) -> None:
    next(north.glob(f"approvals/*/{cohort.FILE}")).unlink()


def state_is_damaged(north: Path) -> None:
    folder = desks.state_of(north)
    folder.mkdir(parents=True)
    (folder / store.FILE).write_text(PATIENT)


def state_is_no_folder(north: Path) -> None:
    (north / "states").write_text(PATIENT)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (overwrite(f"approvals/*/{cohort.FILE}"), "cohort-changed"),
        (cohort_is_missing, "cohort-changed"),
        (overwrite("approvals/*/approval.json"), "internal-error"),
        (overwrite("approvals/*/study.toml"), "internal-error"),
        (state_is_damaged, "state-damaged"),
        (state_is_no_folder, "disk"),
    ],
)
def test_when_what_the_node_keeps_is_damaged(north: Path, damage: Callable[[Path], None], code: str) -> None:
    damage(north)
    wire = everything(north)

    assert code in wire.said
    assert "Contributed" not in wire.said
    assert [] == hits(NAMES, {"wire": wire.sent})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, 0])
def test_when_the_disk_is_full_or_can_only_be_read(north: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    whole = files.replace

    def fail(path: Path, *arguments: Any) -> None:
        if path.name == store.FILE:
            raise OSError(number, PATIENT, str(path)) if number else OSError(PATIENT)
        whole(path, *arguments)

    monkeypatch.setattr(files, "replace", fail)
    wire = everything(north)

    assert "Ready disk disk " == wire.said
    assert [] == hits(NAMES, {"wire": wire.sent})


def test_when_the_hospitals_own_report_fails(
    north: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("client.report.write_own_report", _fail_with_name)
    wire = everything(north)

    assert "Ready Contributed Ended " == wire.said
    assert "failed=ValueError" in caplog.text
    assert [] == hits(NAMES, {"wire": wire.sent, "log": caplog.text.replace(str(north), "").encode()})


def _fail_with_name(*_arguments: Any, **_more: Any) -> NoReturn:
    raise ValueError(PATIENT)


def test_when_an_answer_cannot_be_packed(north: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, desk = packing.pack, desks.opened(north)
    question = packing.pack(desks.contribute(north))

    def pack(value: Any) -> Packed:
        if type(value).__name__ == "Contributed":
            raise TypeError(PATIENT)
        return whole(value)

    monkeypatch.setattr(packing, "pack", pack)
    wire = Wire(desk)
    wire.ask(question)

    assert "internal-error " == wire.said
    assert [] == hits(NAMES, {"wire": wire.sent})


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff", b"{", b"[]", b'{"protocol": 1}', b'{"protocol": 1, "kind": "ContributeRequest", "value": {}}'],
)
def test_when_a_question_cannot_be_read(north: Path, text: bytes) -> None:
    wire = Wire(desks.opened(north))
    wire.ask(Packed(text))

    assert "malformed " == wire.said
    assert [] == hits(NAMES, {"wire": wire.sent})


def test_when_nothing_can_be_written_into_the_record_flower_says_no_more_than_that(
    north: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The desk raises, for nothing leaves that is not written down; the node answers with an error of its own."""
    import threading

    from flwr.app import Message
    from flwr.common.serde import message_to_proto
    from flwr.supercore.task_identity import TaskIdentity

    from client.app import client_app
    from client.node import Node
    from shared import codec

    overwrite("audit.jsonl")(north)
    desk = desks.opened(north)
    with pytest.raises(AuditError):
        desk.answer(packing.pack(desks.contribute(north)), "id")
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    try:
        app = client_app(lambda asked, message, _context: desk.answer(asked, message))
        asked = Message(codec.to_records(packing.pack(desks.contribute(north))), 1, codec.MESSAGE_TYPE)
        reply = Node(None, app, threading.Event())._reply(asked, 1)  # type: ignore[arg-type]
    finally:
        TaskIdentity._run_id = TaskIdentity._node_id = TaskIdentity._task_id = None

    assert reply.has_error()
    assert [] == hits(NAMES, {"wire": message_to_proto(reply).SerializeToString(), "log": caplog.text.encode()})
