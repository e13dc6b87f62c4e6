"""A killed aggregator goes on from its journal: the same contributors, the same bits, and no second set of answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from server import journal
from server.secagg_state import Secured
from server.strategies import server_optimizer
from server.training import Observers, Progress, run_study
from shared.errors import CheckpointError, NotWritten
from shared.plan import plan_of
from simulations.local import LocalTransport, local_sites
from tests.builders import random_consortium, table_study, ticking
from tests.secure import Loss, LossyTransport

STUDY = table_study(features=3, aggregation={"secure": True, "min_sites": 3})
CONSORTIUM = random_consortium(STUDY, {"a": 20, "b": 30, "c": 25, "d": 15})
PLAN = plan_of(STUDY, server_optimizer(STUDY))
ENTRIES = 2 * 5
"""Before the contributions and before the reveal of preparation, three rounds and evaluation."""


class Killed(Exception):
    """The aggregator's process is gone; the hospitals' are not."""


def run(folder: Path, killed_after: int = 0, losses: Sequence[Loss] = ()) -> tuple[Progress, int]:
    """Run the study, with one kill after that many entries of the journal; return its end and the entries written."""
    sites = local_sites(STUDY, PLAN, CONSORTIUM.data)
    transport = LossyTransport(LocalTransport(sites), losses)
    identities = {name: site.member.signing.public for name, site in sites.items()}
    saved = [Progress("", PLAN.start())]
    entries = 0

    def write(secured: Secured) -> None:
        nonlocal entries
        journal.write(folder, secured)
        entries += 1
        if entries == killed_after:
            raise Killed

    observers: Observers = dataclasses.replace(ticking(), save=saved.append, journal=write)
    try:
        return run_study(STUDY, PLAN, identities, transport, saved[0], observers), entries
    except Killed:
        secured = journal.read(folder)
        assert secured is not None
        progress = dataclasses.replace(saved[-1], run=secured.session.run, secured=secured)
        return run_study(STUDY, PLAN, identities, transport, progress, observers), entries


def test_killed_at_any_entry_the_run_ends_with_the_same_bits_and_contributors(tmp_path: Path) -> None:
    whole, entries = run(tmp_path)
    assert entries == ENTRIES
    for moment in range(1, ENTRIES + 1):
        resumed, _ = run(tmp_path, moment)
        assert [record.contributors for record in resumed.history] == [("a", "b", "c", "d")] * 5
        for name, array in whole.state.items():
            assert array.tobytes() == resumed.state[name].tobytes(), (moment, name)


def test_a_round_that_was_asked_for_goes_on_without_those_who_were_away_at_its_set_up(tmp_path: Path) -> None:
    """Set up anew with those who are back, every site that had answered would refuse to answer again."""
    losses = [Loss("d", 1, "keys"), Loss("a", 5, "keys")]
    whole, entries = run(tmp_path, losses=losses)
    assert whole.history[0].contributors == ("a", "b", "c")
    for moment in range(1, entries + 1):
        resumed, _ = run(tmp_path, moment, losses)
        assert [record.contributors for record in resumed.history] == [record.contributors for record in whole.history]


def test_the_journal_holds_nothing_before_the_first_round(tmp_path: Path) -> None:
    assert journal.read(tmp_path) is None


def test_masked_words_and_contributors_come_back_as_they_were_written(tmp_path: Path) -> None:
    written: list[Secured] = []
    sites = local_sites(STUDY, PLAN, CONSORTIUM.data)
    identities = {name: site.member.signing.public for name, site in sites.items()}
    observers = dataclasses.replace(ticking(), journal=written.append)
    run_study(STUDY, PLAN, identities, LocalTransport(sites), Progress("", PLAN.start()), observers)
    for secured in written:
        # Revealed in place since then: the words are of the sum, and come back all the same.
        journal.write(tmp_path, secured)
        read = journal.read(tmp_path)
        assert read is not None
        assert (read.session.run, read.session.identities) == (secured.session.run, secured.session.identities)
        assert read.asked
        assert read.ready is not None
        assert secured.ready is not None
        assert (read.ready.roster, read.ready.sealed) == (secured.ready.roster, secured.ready.sealed)
        if secured.total:
            assert read.total is not None
            assert read.total.receipts == secured.total.receipts
            assert np.array_equal(read.total.words, secured.total.words)


@pytest.mark.parametrize("damage", [b"", b"not an archive"])
def test_a_damaged_journal_is_named(tmp_path: Path, damage: bytes) -> None:
    run(tmp_path)
    path = tmp_path / journal.FILE
    path.write_bytes(damage)
    with pytest.raises(CheckpointError, match="not a readable journal"):
        journal.read(tmp_path)


def test_a_journal_cut_short_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / journal.FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a readable journal"):
        journal.read(tmp_path)


def test_a_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotWritten, match="cannot be written"):
        run(tmp_path / "missing")
