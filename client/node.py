"""The hospital's node: one process that asks the consortium for messages, answers them, and connects to nobody else.

It runs the code that is installed here. What the server ships is not even fetched, and a message of another kind gets
an error. TensorFlow is imported once in the life of the process. ``consilium-client start`` keeps it running.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import findings
from client.standing import Standing, log_format
from shared import console, files
from shared.errors import DeploymentError

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.clientapp import ClientApp

    from client.connection import Fleet

log = logging.getLogger("consilium.node")

_EAGER_S, _CALM_S, _PATIENT_S = 0.1, 0.5, 1.0
"""Between two questions to the server: at least; at most while a study is at work; and otherwise."""
_AT_WORK_S = 60.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 15.0

_LOCK = "node.lock"
_UNAUTHORIZED, _CLIENT_ERRORS = 401, range(400, 500)


@dataclass(frozen=True, eq=False)
class Node:
    """What the loop works with.

    app: the hospital's Flower ClientApp.
    stopped: set when the process is asked to end.
    clock: seconds, from any zero.
    upkeep: is done between messages, and says whether the node has to start anew.
    stands: is told why the consortium does not answer, and nothing when it does.
    explain: says in words what an error means.
    renumbered: is told the node's number when the aggregator has given it another one.
    """

    fleet: Fleet
    app: ClientApp
    stopped: threading.Event
    clock: Callable[[], float] = time.monotonic
    upkeep: Callable[[], bool] = lambda: False
    stands: Callable[[str], None] = lambda _why: None
    explain: Callable[[Exception], str] = lambda error: type(error).__name__
    renumbered: Callable[[int], None] = lambda _node_id: None

    def serve(self, node_id: int) -> int:
        """Answer messages until stopped; return the node's number. A server that is away is asked ever less often.

        A message may have been lost with an answer that broke off: the node then comes online anew, by which the
        aggregator sees that it has to ask again.

        Raises: DeploymentError if the consortium does not know this node.
        """
        retry, at_work, broken = _FIRST_RETRY_S, float("-inf"), False
        while not self.stopped.is_set():
            if self.upkeep():
                log.info("the hospital's certificate or settings were changed: the node starts anew")
                break
            try:
                if broken:
                    node_id = self._come_online_anew(node_id)
                    broken = False
                message = self.fleet.receive()
            except Exception as error:
                check_known(error)
                broken = True
                self.stands(why := self.explain(error))
                log.warning("no answer from the consortium: %s Asking again in %.1f s.", why, retry)
                self.stopped.wait(retry)
                retry = min(2 * retry, _LONGEST_RETRY_S)
                continue
            self.stands("")
            retry = _FIRST_RETRY_S
            if message is None:
                self.stopped.wait(pause_s(self.clock() - at_work))
                continue
            started = self.clock()
            # A reply whose header came and whose parts did not is waited for in vain: it is asked for anew then.
            broken = not self._send(self._reply(message, node_id), started)
            at_work = self.clock()
        return node_id

    def _come_online_anew(self, node_id: int) -> int:
        # A server that was away for a minute has taken the node for offline by itself, and says no to this; one that
        # begins with an empty database does not know the number. Whether it knows the hospital, coming online says.
        with contextlib.suppress(Exception):
            self.fleet.deactivate(node_id)
        now = self.fleet.activate()
        if now != node_id:
            log.info("node=%d was node=%d before", now, node_id)
            self.renumbered(now)
        return now

    def _reply(self, message: Message, node_id: int) -> Message:
        from flwr.app import Context, Error, RecordDict
        from flwr.app import Message as FlowerMessage
        from flwr.common.constant import ErrorCode

        context = Context(message.metadata.run_id, node_id, {}, RecordDict(), {})
        try:
            return self.app(message, context)
        except Exception as error:
            # Its text would travel. Messages of another kind, such as those of Flower's agents, end here too.
            log.warning(
                "a message of type %r was not answered: %s", message.metadata.message_type, type(error).__name__
            )
        hint = "this node answers Consilium's messages only"
        return FlowerMessage(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, hint), reply_to=message)

    def _send(self, reply: Message, started: float) -> bool:
        """Send a reply, and return whether it arrived whole; one that the server does not want any more is dropped."""
        worked = self.clock() - started
        try:
            self.fleet.send(reply, worked)
        except Exception as error:
            check_known(error)
            if status_of(error) in _CLIENT_ERRORS:
                log.info("the server does not want the reply any more: its run is over")
                return True
            log.warning("a reply could not be sent: %s", self.explain(error))
            return False
        log.info("answered worked_s=%.3f sent_s=%.3f", worked, self.clock() - started - worked)
        return True


def pause_s(waited_s: float) -> float:
    """Return how long to wait before the server is asked again.

    A quarter of what was waited already: no answer is late by more than that, and the server, which works off one
    request after the other, is not kept from its work by questions whether it is done.

    waited_s: since the last message was answered.
    """
    if waited_s > _AT_WORK_S:
        return _PATIENT_S
    return min(max(_EAGER_S, waited_s / 4), _CALM_S)


def status_of(error: Exception) -> int:
    """Return the HTTP status that an error is about; 0 for none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def check_known(error: Exception) -> None:
    """Raise DeploymentError if the server said that it does not know this node, which waiting does not change."""
    if (code := findings.refusal_of(error)) in findings.UNKNOWN:
        raise DeploymentError(findings.in_words(code)) from None
    if status_of(error) == _UNAUTHORIZED:
        headers = error.response.headers  # type: ignore[attr-defined]  # it has a status, so it has an answer
        if (skew := findings.clock_skew(headers, datetime.now(UTC))) is not None:
            raise DeploymentError(skew.text) from None
        raise DeploymentError(
            "the consortium does not know this hospital's node, or not any more; or this machine's clock is wrong by"
            " more than a few seconds. Ask the coordinator whether this hospital is enrolled."
        ) from None


def run(folder: Path, stopped: threading.Event) -> None:
    """Connect, and answer until stopped.

    folder: the hospital's own.

    Raises: ConsiliumError saying what is wrong.
    """
    from client.app import client_app
    from client.connection import Fleet
    from client.deployment import Upkeep, address_of, desk_of
    from client.identity import load

    with _alone(folder):
        identity = load(folder)
        desk, address = desk_of(folder, identity), address_of(folder, identity)
        fleet = Fleet(address, identity.flower_key())
        stands = Standing(folder)

        def explain(error: Exception) -> str:
            return findings.explain(error, address).text

        def renumbered(node_id: int) -> None:
            stands.node_id = node_id

        try:
            node_id = _activate(fleet, stopped, stands, explain)
            if node_id is None:
                return
            log.info("node=%d site=%s online", node_id, identity.name)
            app = client_app(lambda asked, message, _context: desk.answer(asked, message))
            upkeep = Upkeep(folder, desk, time.monotonic).step
            with fleet.heartbeats():
                node = Node(fleet, app, stopped, upkeep=upkeep, stands=stands, explain=explain, renumbered=renumbered)
                node_id = node.serve(node_id)
            with contextlib.suppress(Exception):
                fleet.deactivate(node_id)
            stands("the node was stopped")
        except DeploymentError as error:
            stands(str(error))
            raise
        finally:
            fleet.close()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second node out of a hospital's folder: both would answer, from one state.

    Raises: DeploymentError.
    """
    path = folder / _LOCK
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, files.SECRET_MODE)
    except OSError as error:
        raise DeploymentError(f"{path}: cannot be locked: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DeploymentError(
            f"{folder}: another node works here already. `consilium-client status` shows it."
        ) from None
    finally:
        os.close(descriptor)


def _activate(
    fleet: Fleet, stopped: threading.Event, stands: Standing, explain: Callable[[Exception], str]
) -> int | None:
    """Bring the node online, however long the server is away; None if stopped before."""
    retry = _FIRST_RETRY_S
    while not stopped.is_set():
        try:
            if stands.node_id is not None:
                # A node that was killed counts as online for a minute, and could not come online again.
                with contextlib.suppress(Exception):
                    fleet.deactivate(stands.node_id)
            node_id = fleet.activate()
        except Exception as error:
            check_known(error)
            stands(why := explain(error))
            log.warning("not online yet: %s Trying again in %.1f s.", why, retry)
            stopped.wait(retry)
            retry = min(2 * retry, _LONGEST_RETRY_S)
        else:
            stands.node_id = node_id
            stands("")
            return node_id
    return None


def main(arguments: list[str] | None = None) -> None:
    """Run the node of the folder that is named: ``python -m client.node DIR``."""
    folder = Path((arguments or sys.argv[1:])[0])
    handler = logging.StreamHandler()
    handler.setFormatter(log_format())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("httpx", "httpcore", "flwr"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    stopped = threading.Event()

    def stop(_number: int, _frame: Any) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    console.run(lambda: run(folder, stopped))


if __name__ == "__main__":
    main()
