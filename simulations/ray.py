"""The same study on Flower's own simulation engine: hospitals that any of several Ray worker processes may be.

``consilium-simulate run --engine ray``. Between the aggregator's loop and a hospital's steps stands what stands there
between machines, except the network: ``FlowerTransport``, Flower's messages and ServerApp, ``client_app``, and the
hospital's signature under each reply. What differs is that this is a simulation: a worker is one hospital for one
message and another one for the next, so a hospital's state, the secrets of the round included, lies in Flower's
context between two messages, where a real one keeps its secrets in its own process. Flower hands contexts, and the app
with the hospitals' signing keys, to the workers by Ray's own serialization (flwr 1.41.0,
``simulation/ray_transport/ray_actor.py``); rows of patients are in Ray's shared memory once, whatever the workers.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from client.contributors import Sums
from client.data.split import SiteData
from client.policy import Policy
from client.secagg_state import Member
from client.site import Site, SiteState, answer
from server.training import Progress
from server.transport import FlowerTransport, Node, Transport
from shared import codec, files, packing
from shared.errors import DeploymentError
from shared.messages import Request
from shared.methods.base import PlainMean
from shared.methods.combinators import InTurn
from shared.packing import Packed
from shared.plan import plan_of
from shared.secagg.keys import Entropy, SigningKey
from shared.study import Study
from simulations.ray_cluster import cluster, require, without_tensorflow

if TYPE_CHECKING:
    from flwr.app import Context, RecordDict
    from flwr.serverapp import Grid

log = logging.getLogger("consilium.simulation")

_NODES, _LOG = "nodes.json", "hospitals.log"
_REGISTERED_EVERY_S, _LAST_WORDS_S = 0.02, 10.0
_WORKER_EACH: dict[str, Any] = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
"""One processor for each worker: Flower's own choice of two leaves half of the machine idle."""


def on_ray(sites: Mapping[str, Site], sums: Sums, work: Callable[[Transport], Progress]) -> Progress:
    """Do the aggregator's work with the hospitals on Flower's simulation engine; a ``simulations.local.Engine``.

    Raises: DependencyMissing without Ray; MixedInstallation if Ray's workers import other code; DeploymentError if the
        engine breaks down; what ``work`` raises.
    """
    require()
    first = next(iter(sites.values())).member
    with cluster(len(sites), first.study.study.threads) as folder:
        import ray

        handed = _Handed(
            folder=str(folder),
            study=first.study,
            policy=first.policy,
            entropy=first.entropy,
            secrets={name: site.member.signing.secret for name, site in sites.items()},
            # Into shared memory, one by one: what the workers get are references.
            data={name: ray.put(site.data) for name, site in sites.items()},
            sums=sums,
        )
        try:
            return _simulate(handed, work)
        finally:
            _pass_on(folder / _LOG)


@dataclass(frozen=True)
class _Handed:
    """What a worker process needs in order to be any of the hospitals. Two of one run are equal.

    folder: the run's own: which node is which hospital, and what the workers log.
    secrets: seeds of the signing keys, by site.
    data: references into Ray's shared memory, by site.
    sums: what the hospitals remember of earlier sums.
    """

    folder: str
    study: Study = field(compare=False)
    policy: Policy = field(compare=False)
    entropy: Entropy = field(compare=False)
    secrets: Mapping[str, bytes] = field(compare=False, repr=False)
    data: Mapping[str, Any] = field(compare=False, repr=False)
    sums: Sums = field(compare=False)


def _simulate(handed: _Handed, work: Callable[[Transport], Progress]) -> Progress:
    """Run Flower's engine with the aggregator's work as its ServerApp, and return what that comes to.

    ``run_simulation`` is deprecated in favour of a command that leaves a server process behind; in flwr 1.41.0 both run
    the same engine.
    """
    from flwr.serverapp import ServerApp

    from client.app import client_app

    with without_tensorflow():
        from flwr.simulation import run_simulation

    identities = {name: SigningKey(secret).public for name, secret in handed.secrets.items()}
    finished: list[Progress] = []
    failed: list[BaseException] = []
    stopped, ended = threading.Event(), threading.Event()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, _context: Context) -> None:
        try:
            nodes = _Nodes(grid, tuple(handed.secrets), Path(handed.folder), stopped)
            finished.append(work(FlowerTransport(grid, lambda: identities, nodes)))
        except BaseException as error:
            failed.append(error)
        finally:
            ended.set()

    try:
        with _quiet("flwr"), _interruptible(stopped):
            run_simulation(server, client_app(partial(_answer, handed)), len(identities), backend_config=_WORKER_EACH)
    except RuntimeError:
        failed.append(DeploymentError("Flower's simulation engine broke down. What it wrote above says why."))
    finally:
        # Whatever ended it, nothing of this run is written any more afterwards.
        stopped.set()
        ended.wait(_LAST_WORDS_S)
    if failed:
        raise failed[0]
    return finished[0]


@contextlib.contextmanager
def _interruptible(stopped: threading.Event) -> Iterator[None]:
    """Let Ctrl-C end the aggregator's work, after which the engine ends by itself.

    In the middle of the engine it would stop Ray under Flower's threads, which then wait for its answer for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda _number, _frame: stopped.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(eq=False)
class _Nodes:
    """Which of Flower's nodes is which hospital; the workers read it in a file.

    stopped: set by Ctrl-C, and when the engine is at its end, whatever the aggregator still waits for.
    """

    grid: Grid
    names: tuple[str, ...]
    folder: Path
    stopped: threading.Event
    _found: Mapping[str, Node] = field(default_factory=dict)

    def __call__(self) -> Mapping[str, Node]:
        """Return each hospital's node.

        Raises: KeyboardInterrupt once the engine is at its end.
        """
        while not self._found:
            self._check()
            ids = sorted(self.grid.get_node_ids())
            if len(ids) == len(self.names):
                named = dict(zip(self.names, ids, strict=True))
                files.replace_json(self.folder / _NODES, {str(node): name for name, node in named.items()})
                self._found = {name: Node(node, "") for name, node in named.items()}
            else:
                time.sleep(_REGISTERED_EVERY_S)
        self._check()
        return self._found

    def _check(self) -> None:
        if self.stopped.is_set():
            raise KeyboardInterrupt


def _pass_on(path: Path) -> None:
    """Log what the workers logged: their own files go with them."""
    with contextlib.suppress(FileNotFoundError):
        log.warning("logged by the hospitals:\n%s", path.read_text(encoding="utf-8").rstrip())


# From here on: in a worker process.


def _answer(handed: _Handed, asked: Packed, message: str, context: Context) -> tuple[Packed, bytes]:
    """Be the hospital of this node for one message; see ``client.app.Answer``."""
    from threadpoolctl import threadpool_limits

    site = _site(handed, int(context.node_id))
    request = packing.unpack(asked, *get_args(Request))
    with threadpool_limits(limits=handed.study.study.threads):
        reply, state = answer(request, remembered(context.state, handed.sums), site)
    context.state = kept(state)
    packed = packing.pack(reply)
    return packed, codec.sign(packed, request.heading, site.member.name, message, site.member.signing)


def kept(state: SiteState) -> RecordDict:
    """Return a hospital's state as Flower's context keeps it, with the secrets of the round in progress."""
    return codec.to_records(packing.pack(state))


def remembered(records: RecordDict, sums: Sums) -> SiteState:
    """Return the state that a context has; before the first message, one of nothing but earlier sums."""
    if not records:
        return SiteState(sums=sums)
    packed, _ = codec.from_records(records)
    state: SiteState = packing.unpack(packed, SiteState)
    return state


@cache
def _site(handed: _Handed, node: int) -> Site:
    import ray

    name = files.read_json(Path(handed.folder) / _NODES, DeploymentError, "")[str(node)]
    signing = {each: SigningKey(secret) for each, secret in handed.secrets.items()}
    pinned = {each: key.public for each, key in signing.items()}
    member = Member(name, signing[name], pinned, handed.policy, handed.study, handed.entropy)
    data: SiteData = ray.get(handed.data[name])
    return Site(member, data, _plan(handed))


@cache
def _plan(handed: _Handed) -> InTurn:
    """Return the study's plan, one for all hospitals that this process is; its log begins with it."""
    handler = logging.FileHandler(Path(handed.folder) / _LOG, delay=True)
    handler.setLevel(logging.WARNING)
    logging.getLogger("consilium").addHandler(handler)
    return plan_of(handed.study, PlainMean())
