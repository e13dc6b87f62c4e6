"""What ``consilium-client status`` shows: node, connection, studies, certificate, and the last lines of the record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from client import approval, identity, record, standing, store
from client.approval import Approval
from client.preflight import SOON
from client.retention import PROCESSES
from client.running import NODE, node_log
from shared import process_status
from shared.errors import Refusal
from shared.plan import exchanges
from shared.process_status import ProcessStatus

_SHOWN_LINES = 5
_MINUTE = "%Y-%m-%d %H:%M UTC"


@dataclass(frozen=True)
class StudyStatus:
    """Where one approved study stands.

    state: ``approved``, or the code with which the node refuses it; hint: what that means.
    released: how many sums left this hospital, all runs together; allowed: how many may, in the runs approved.
    """

    name: str
    digest: str
    state: str
    hint: str
    runs: int
    released: int
    allowed: int


@dataclass(frozen=True)
class Status:
    """Where a hospital stands. Times are UTC, as texts; empty where there is none.

    node: its process: running, pid, started_at, restarts, last_exit; last_words: its last warning or error.
    supervised: whether ``start`` runs.
    connected: whether the consortium answered the node last; since: when that changed; why: it does not.
    last_answer: the line of the record of the last message that was answered.
    certificate: until when it is valid; renew: whether that is soon, or over.
    record: the record's last lines, in words.
    """

    name: str
    fingerprint: str
    consortium: str
    address: str
    supervised: bool
    node: dict[str, Any]
    last_words: str
    connected: bool
    since: str
    why: str
    last_answer: dict[str, Any]
    certificate: str
    renew: bool
    studies: tuple[StudyStatus, ...]
    record: tuple[str, ...]


def gather(folder: Path, code: str, now: datetime) -> Status:
    """Return where a hospital stands.

    folder: the hospital's.
    code: digest of the code that is installed.
    now: in UTC.

    Raises: ConsiliumError if a file of the folder is damaged.
    """
    own = identity.load(folder)
    processes = {each.name: each for each in process_status.status(folder / PROCESSES)}
    process = processes.get(NODE) or ProcessStatus(NODE, None, False, None, 0, None)
    stands = standing.read(folder)
    found = record.lines(folder)
    expires = own.expires_at if own.welcome else None
    return Status(
        name=own.name,
        fingerprint=own.fingerprint,
        consortium=own.welcome.consortium if own.welcome else "",
        address=own.welcome.address if own.welcome else "",
        supervised=process_status.supervisor_pid(folder / PROCESSES) is not None,
        node={
            "running": process.running,
            "pid": process.pid,
            "started_at": _time(process.started_at),
            "restarts": process.restarts,
            "last_exit": process.last_exit or "",
        },
        last_words=standing.last_words(node_log(folder)),
        connected=process.running and stands.get("connected") is True,
        since=str(stands.get("since", "")),
        why=str(stands.get("why", "")) if process.running else "the node does not run",
        last_answer=dict(record.last_answer(found) or {}),
        certificate=_time(expires),
        renew=expires is not None and expires - now <= SOON,
        studies=tuple(_study(folder, each, code) for each in approval.read_all(folder).values()),
        record=tuple(record.in_words(found, _SHOWN_LINES)),
    )


def describe(status: Status) -> str:
    """Return it as people read it."""
    lines = [
        f"{status.name}  {status.fingerprint[:16]}",
        f"consortium   {status.consortium} at {status.address}" if status.consortium else "consortium   not joined yet",
        f"node         {_node(status)}",
        f"connection   {_connection(status)}",
    ]
    if status.certificate:
        advice = "; renew it: `consilium-client renew DIR`" if status.renew else ""
        lines.append(f"certificate  valid until {_short(status.certificate)}{advice}")
    if status.last_words:
        lines.append(f"last words   {status.last_words}")
    lines.append("\nstudies" if status.studies else "\nno study is approved here: consilium-client approve DIR STUDY")
    for each in status.studies:
        state = "approved" if each.state == "approved" else f"{each.state}: {each.hint}"
        lines.append(f"  {each.name}  {each.digest[:16]}  {each.released} of {each.allowed} sums released  {state}")
    if status.record:
        lines += ["\nthe record's last lines", *status.record]
    return "\n".join(lines)


def _study(folder: Path, each: Approval, code: str) -> StudyStatus:
    released, state, hint = 0, "approved", ""
    try:
        released = sum(store.read(folder / approval.STATES / each.digest).released.values())
        approval.check(each, code)
    except Refusal as refusal:
        state, hint = refusal.code, refusal.hint
    allowed = exchanges(each.study) * each.runs
    return StudyStatus(each.study.name, each.digest, state, hint, each.runs, released, allowed)


def _node(status: Status) -> str:
    node = status.node
    exits = f"; ended last with {node['last_exit']}" if node["last_exit"] else ""
    again = f", started again {node['restarts']} time(s)" if node["restarts"] else ""
    if node["running"]:
        return f"running since {_short(node['started_at'])}{again}{exits}"
    if status.supervised:
        return f"not running at the moment, it is started again{exits}"
    return f"not running: `consilium-client start DIR`{exits}"


def _connection(status: Status) -> str:
    since = f" since {_short(status.since)}" if status.since else ""
    answered = f"; last answered a message on {_short(status.last_answer['time'])}" if status.last_answer else ""
    if status.connected:
        return f"connected{since}{answered}"
    return f"not connected: {status.why or 'the node was never online'}{answered}"


def _time(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def _short(time: str) -> str:
    return datetime.fromisoformat(time).strftime(_MINUTE) if time else ""
