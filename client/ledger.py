"""The hospital's ledger: what noised sums told about its patients, charged before anything is released.

``ledger/NAME.jsonl`` is a hash-chained file (``shared/chain.py``), one for each set of patients, across all studies and
researchers. Its first line fixes the orders at which the budget is kept (``client/budget.py``); every other one is a
charge with its events, so that what was spent can be computed anew from the file alone. A charge is written and flushed
to the disk before the sum leaves; whatever happens between, more was charged than released, never less. One process at
a time looks at the budget and charges (flock(2)). Nothing of a ledger is sent anywhere: a refusal says that the budget
does not cover a sum, not what was spent.

A charge is made once for each *draw* of noise, not for each time that its words leave. The caller guarantees:

1. a draw's name (``Charge.draw``) is used for one draw of noise only, and never again: a digest of the noised words, or
   32 random bytes drawn and stored with them;
2. the reply is stored before it leaves, and the same request is answered with the stored reply, without new noise;
3. if the reply was not stored, or is not there any more, noise drawn anew gets a new name, and is charged again.

**A damaged ledger is never an empty one.** Beside it stands its head (number of lines, digest of the last), and each
charge also writes number and digest into the hospital's record ``audit.jsonl``. So a line that was changed, moved or
cut off, a ledger that was deleted or brought back from an older backup, with its head or without, is noticed, and every
charge is refused. What is not noticed: ledger, head and record brought back together from one older backup (a whole
machine's snapshot), or all rewritten by somebody who can. Against that, note the number and digest that
``consilium-client ledger`` prints in another place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote

from client.budget import Budget, Cost, Orders, Spending, orders_for, plan_cost
from client.charges import EVENT, OPENED, Charge, Entry, parsed, to_plain
from shared import audit, chain, files
from shared.errors import AuditError, NotWritten, Refusal

log = logging.getLogger("consilium.client")

FOLDER = "ledger"
_SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Ledger:
    """A ledger that was read and found whole.

    orders: at which the budget is kept; None before it is begun.
    lines: of the file; digest: of the last line, empty where there is none.
    """

    orders: Orders | None = None
    entries: tuple[Entry, ...] = ()
    lines: int = 0
    digest: str = ""

    @property
    def spendings(self) -> tuple[Spending, ...]:
        """Of all charges."""
        return tuple(entry.charge.spending for entry in self.entries)

    def cost(self, planned: Sequence[Spending], budget: Budget, reserved: Sequence[Spending] = ()) -> Cost:
        """Return what planned events would cost on top of all charges, and whether the budget covers them.

        planned: one spending at least.
        reserved: not charged yet, and counted as if it were (``client/reserved.py``).
        """
        before = (*self.spendings, *reserved)
        return plan_cost(before, planned, budget, self.orders or orders_for(planned, budget))


def place(folder: Path, name: str) -> Path:
    """Return where a ledger is: ``ledger/NAME.jsonl``, whatever characters its name has."""
    return folder / FOLDER / f"{quote(name, safe='')}{_SUFFIX}"


def names(folder: Path) -> list[str]:
    """Return the names of the ledgers in a hospital's folder."""
    return sorted(unquote(path.name.removesuffix(_SUFFIX)) for path in (folder / FOLDER).glob(f"*{_SUFFIX}"))


def read(folder: Path, name: str) -> Ledger:
    """Check a ledger against its head and the hospital's record, and return it; nothing is written.

    folder: the hospital's.

    Raises: AuditError naming the first line at fault, or if the ledger is not there although there were charges.
    """
    path = place(folder, name)
    # First: a charge that is made meanwhile is in the ledger before it is in the record.
    seen = _seen(folder, name)
    try:
        begun = path.with_suffix(".head").exists() or (path.exists() and path.stat().st_size > 0)
        verdict = chain.verify(path) if begun else None
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    except OSError as error:
        raise AuditError(f"{path}: the ledger cannot be read: {error.strerror}.") from None
    if verdict and not verdict.intact:
        raise AuditError(f"{path}: {verdict.fault}. {verdict.why}")
    digests = ["", *(hashlib.sha256(line).hexdigest() for line in lines)]
    if seen and (seen[0] >= len(digests) or digests[seen[0]] != seen[1]):
        raise AuditError(
            f"{path}: line {seen[0]} is missing or another one: {audit.FILE} says that it was written. The ledger was"
            " deleted, or is an older one from a backup. Bring the newest one back, with its .head file."
        )
    orders, entries = parsed([json.loads(line) for line in lines], name, path)
    return Ledger(orders, entries, len(lines), digests[-1])


def begin(folder: Path, name: str, planned: Sequence[Spending], budget: Budget, now: datetime) -> None:
    """Fix the orders at which a ledger is kept, if it has none: by the plan of the first study that is approved.

    folder, name, now: as for ``charge``.
    planned: all that the study will be charged; one spending at least.

    Raises: AuditError as ``read``; NotWritten.
    """
    try:
        with _alone(folder, name):
            _begun(folder, name, read(folder, name), planned, budget, now)
    except OSError as error:
        raise NotWritten(place(folder, name), error) from None


def charge(folder: Path, name: str, wanted: Charge, budget: Budget | None, now: datetime) -> bool:
    """Charge one draw of noise, and return once that is on the disk; only then may anything of it leave.

    A ledger that was not begun is begun with this charge as its plan.

    Return whether it was charged now: False if this draw was charged before, and its stored reply leaves again.

    folder: the hospital's.
    name: of the ledger (``Settings.ledger_of``).
    now: timezone-aware.

    Raises: Refusal ``no-budget``; ``budget-exhausted`` if the budget does not cover it; ``ledger-damaged``; ``disk``;
        nothing was charged then, but for ``disk``, after which it may have been. ValueError if the draw's name was used
        for another charge.
    """
    if budget is None:
        raise Refusal("no-budget", "this hospital's site.toml has no [budget] for studies with noise")
    try:
        with _alone(folder, name):
            ledger = read(folder, name)
            if any(_is_again(entry.charge, wanted) for entry in ledger.entries):
                return False
            _check(name, wanted, ledger.cost([wanted.spending], budget))
            _begun(folder, name, ledger, [wanted.spending], budget, now)
            _write(folder, name, wanted, now)
    except AuditError as error:
        raise _refusal(name, error, "ledger-damaged", "this hospital's ledger is not as it was left") from None
    except (NotWritten, OSError) as error:
        raise _refusal(name, error, "disk", "the hospital's node cannot write its ledger") from None
    return True


def _refusal(name: str, error: Exception, code: str, hint: str) -> Refusal:
    """Return a refusal; what is wrong is for the hospital's own log, because paths and names are in it."""
    log.error("ledger=%s %s", name, error)
    return Refusal(code, hint)


def _is_again(charged: Charge, wanted: Charge) -> bool:
    if charged.draw != wanted.draw:
        return False
    if charged != wanted:
        raise ValueError("a draw of noise was charged as something else before")
    return True


def _check(name: str, wanted: Charge, cost: Cost) -> None:
    if not cost.fits:
        log.warning(
            "ledger=%s study=%s round=%d budget exhausted: %.2f %% spent, %.2f %% with this one",
            *(name, wanted.study, wanted.round, 100 * cost.share_before, 100 * cost.share_after),
        )
        raise Refusal("budget-exhausted", "this hospital's privacy budget does not cover this sum")


def _begun(folder: Path, name: str, ledger: Ledger, planned: Sequence[Spending], budget: Budget, now: datetime) -> None:
    if ledger.orders is None:
        orders = {str(part): order for part, order in orders_for(planned, budget).items()}
        chain.append(place(folder, name), OPENED, now, ledger=name, orders=orders, **dataclasses.asdict(budget))


def _write(folder: Path, name: str, wanted: Charge, now: datetime) -> None:
    """Write a charge into the ledger, and its line's number and digest into the hospital's record."""
    path = place(folder, name)
    chain.append(path, EVENT, now, ledger=name, **to_plain(wanted))
    lines = path.read_bytes().split(b"\n")[:-1]
    digest = hashlib.sha256(lines[-1]).hexdigest()
    audit.append(folder, EVENT, now, ledger=name, study=wanted.digest, run=wanted.run, line=len(lines), digest=digest)


def _seen(folder: Path, name: str) -> tuple[int, str] | None:
    """Return number and digest of a ledger's last line as the hospital's record has them; None without a charge."""
    path = folder / audit.FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuditError(f"{path}: the record cannot be read: {error.strerror}.") from None
    # The last element was not written to its end, or is empty.
    for line in reversed(data.split(b"\n")[:-1]):
        if f'"{EVENT}"'.encode() not in line:
            continue
        try:
            value = json.loads(line)
            if (value["event"], value["ledger"]) == (EVENT, name):
                return int(value["line"]), str(value["digest"])
        except (KeyError, TypeError, ValueError):
            raise AuditError(f"{path}: a line about a charge cannot be read. Run `consilium-client audit`.") from None
    return None


@contextlib.contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes and threads from charging meanwhile; the kernel ends it with its holder."""
    where = place(folder, name).with_suffix(".charging")
    if not where.parent.exists():
        files.make_folder(where.parent, files.FOLDER_MODE)
    descriptor = os.open(where, os.O_CREAT | os.O_RDWR, files.SECRET_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
