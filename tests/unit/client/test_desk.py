"""What the desk lets out, writes down, and says again; and that an approval of before leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from client import approval, cli, cohort, identity, locking, store
from client.desk import Desk
from client.locking import study_lock
from shared import codec, packing
from shared.errors import ApprovalError, AuditError
from shared.examples import Part
from shared.messages import Contributed, Ended, Ready, Refused
from tests.unit.client.desks import approve, asked, contribute, end, hospital, opened, preflight, state_of, study_of


@pytest.fixture
def north(tmp_path: Path) -> Path:
    return hospital(tmp_path)


def lines(north: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (north / "audit.jsonl").read_text().splitlines()]
    return [line for line in found if line["event"] == "reply"]


def code(reply: object) -> str:
    assert isinstance(reply, Refused)
    return reply.code


def test_an_approved_study_is_answered_and_written_down(north: Path) -> None:
    assert isinstance(asked(opened(north), contribute(north)), Contributed)

    [line] = lines(north)
    assert ("ContributeRequest", "Contributed", 1) == (line["asked"], line["said"], line["round"])


def test_a_sum_is_released_as_often_as_runs_were_approved(north: Path) -> None:
    desk = opened(north)
    assert isinstance(asked(desk, contribute(north)), Contributed)

    assert "runs-used-up" == code(asked(desk, contribute(north, run="another")))


def test_a_node_that_was_started_anew_says_the_same_bytes_again(north: Path) -> None:
    question = packing.pack(contribute(north))
    first, _ = opened(north).answer(question, "message")
    again, _ = opened(north).answer(question, "message")

    assert (first.text, bytes(first.block)) == (again.text, bytes(again.block))
    assert [None, True] == [line.get("again") for line in lines(north)]


def test_a_reply_that_could_not_be_written_down_is_written_down_when_it_leaves(north: Path) -> None:
    desk, record = opened(north), north / "audit.jsonl"
    question = packing.pack(contribute(north))
    kept = record.read_bytes()
    record.write_bytes(kept[:-2])
    with pytest.raises(AuditError):
        desk.answer(question, "message")
    record.write_bytes(kept)
    desk.answer(question, "message")

    assert ["Contributed"] == [line["said"] for line in lines(north)]


def test_a_hospital_whose_runs_are_used_up_is_not_ready_for_another(north: Path) -> None:
    desk = opened(north)
    assert isinstance(asked(desk, preflight(north)), Ready)
    asked(desk, contribute(north))

    assert "runs-used-up" == code(asked(desk, preflight(north)))


def test_readiness_does_not_take_the_place_of_the_last_answer(north: Path) -> None:
    desk, question = opened(north), packing.pack(contribute(north, number=2))
    first, _ = desk.answer(question, "message")
    assert isinstance(asked(desk, preflight(north)), Ready)

    assert first.text == desk.answer(question, "message")[0].text


def test_withdrawing_while_the_node_runs_is_in_force_at_once(north: Path) -> None:
    desk = opened(north)
    asked(desk, contribute(north))
    CliRunner().invoke(cli.app, ["withdraw", str(north), "small"], catch_exceptions=False)

    assert "withdrawn" == code(asked(desk, contribute(north, number=2)))


def test_approving_anew_while_the_node_runs_begins_anew_at_once(north: Path) -> None:
    desk = opened(north)
    asked(desk, contribute(north))
    approve(north)

    assert isinstance(asked(desk, contribute(north, run="another")), Contributed)


class During(Desk):
    """A desk at which something happens between computing an answer and keeping it."""

    def happens(self) -> None:
        raise NotImplementedError

    def _keep(self, study: Any, kept: Any) -> bool:
        if not self.__dict__.setdefault("happened", False):
            self.__dict__["happened"] = True
            self.happens()
        return super()._keep(study, kept)


def desk_during(north: Path, happens: Any) -> During:
    desk = During(opened(north).hospital)
    desk.happens = happens  # type: ignore[method-assign]
    return desk


def test_a_study_that_is_approved_anew_while_it_is_answered_gets_no_old_state(north: Path) -> None:
    asked(opened(north), contribute(north))
    desk = desk_during(north, lambda: approve(north))
    assert isinstance(asked(desk, contribute(north, number=2)), Contributed)

    # The first sum was released under the approval of before.
    assert {"2": 1} == dict(store.read(state_of(north)).released)


def test_a_study_that_is_withdrawn_while_it_is_answered_lets_nothing_out(north: Path) -> None:
    withdraw = ["withdraw", str(north), "small"]
    desk = desk_during(north, lambda: CliRunner().invoke(cli.app, withdraw, catch_exceptions=False))

    assert "withdrawn" == code(asked(desk, contribute(north)))
    assert {} == dict(store.read(state_of(north)).released)


def test_while_somebody_approves_the_study_the_desk_says_so(north: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "_WAIT_S", 0.1)
    desk, release, taken = opened(north), threading.Event(), threading.Event()

    def hold() -> None:
        with study_lock(north, study_of(north).digest):
            taken.set()
            release.wait(30.0)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(30.0)
    try:
        assert "being-approved" == code(asked(desk, contribute(north)))
    finally:
        release.set()
        thread.join(30.0)
    assert isinstance(asked(desk, contribute(north)), Contributed)


def test_the_hospitals_own_report_is_written_when_a_run_has_finished(north: Path) -> None:
    desk = opened(north)
    asked(desk, contribute(north))
    assert isinstance(asked(desk, end(north)), Ended)

    report = north / "reports" / f"small-{study_of(north).digest[:8]}.html"
    assert "<html" in report.read_text()
    assert 0o600 == report.stat().st_mode & 0o777


def test_a_study_that_is_withdrawn_before_its_report_is_written_gets_none(north: Path) -> None:
    withdraw = ["withdraw", str(north), "small"]
    hospital = dataclasses.replace(
        opened(north).hospital, record=lambda _event, _fields: CliRunner().invoke(cli.app, withdraw)
    )

    assert isinstance(asked(Desk(hospital), end(north)), Ended)
    assert not (north / "reports").exists()


def test_a_report_that_cannot_be_written_does_not_reach_the_reply(
    north: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (north / "reports").write_text("a file where the folder should be")

    assert isinstance(asked(opened(north), end(north)), Ended)
    assert "FileExistsError" in caplog.text


def test_a_reply_is_signed_with_the_hospitals_own_identity(north: Path) -> None:
    packed, signature = opened(north).answer(packing.pack(preflight(north)), "message")
    heading = packing.unpack(packed, Ready).heading

    assert codec.sign(packed, heading, "north", "message", identity.load(north).signing) == signature


# The frozen cohort, and the patients behind sums


def test_a_snapshot_that_was_changed_since_it_was_approved_needs_a_new_approval(north: Path) -> None:
    """A whole and well-formed snapshot of one patient fewer, in the place of the one that was approved."""
    approved = approval.read(north, study_of(north).digest)
    assert approved is not None
    data = approved.data()
    fewer = data.parts[Part.TRAINING].take(np.arange(1, len(data.parts[Part.TRAINING])))
    parts = {**data.parts, Part.TRAINING: fewer}
    cohort.freeze(approved.folder / cohort.FILE, dataclasses.replace(data, parts=parts))
    assert "cohort-changed" == code(asked(opened(north), contribute(north)))
    assert "cohort-changed" == code(asked(opened(north), preflight(north)))
    approve(north)

    assert isinstance(asked(opened(north), contribute(north)), Contributed)


def remembered(north: Path) -> list[Path]:
    return list((north / "patients").glob("*.bin"))


def leaves(north: Path, *patients: str) -> None:
    """Take patients out of the hospital's table."""
    lines = (north / "table.csv").read_text().splitlines(keepends=True)
    (north / "table.csv").write_text("".join(line for line in lines if line.partition(",")[0] not in patients))


def another_study(north: Path) -> None:
    """Put another study in the place of the first one, with one round more."""
    text = (north.parent / "small.toml").read_text()
    (north.parent / "small.toml").write_text(text.replace("rounds = 2", "rounds = 3"))


def test_the_patients_behind_a_sum_are_on_the_disk_before_it_leaves(north: Path) -> None:
    desk = opened(north)
    asked(desk, preflight(north))
    assert [] == remembered(north)
    for number in (1, 2):
        asked(desk, contribute(north, number))

    assert 1 == len(remembered(north))


def test_a_sum_that_was_refused_leaves_no_patients_to_remember(north: Path) -> None:
    assert "beyond-plan" == code(asked(opened(north), contribute(north, number=9)))
    assert [] == remembered(north)


def test_a_sum_whose_patients_cannot_be_written_down_does_not_leave(north: Path) -> None:
    (north / "patients").write_text("a file where the folder should be")

    assert "disk" == code(asked(opened(north), contribute(north)))
    assert {} == dict(store.read(state_of(north)).released)


def approve_whatever_differs(north: Path) -> None:
    """Approve under a rule that was another one then: the node holds to the one that stands now."""
    path = north / "site.toml"
    now = path.read_text()
    path.write_text(f"{now}min_difference = 1\n")
    approve(north)
    path.write_text(now)


def test_a_study_over_nearly_the_patients_of_an_earlier_sum_is_not_approved(north: Path) -> None:
    asked(opened(north), contribute(north))
    leaves(north, "p7")

    with pytest.raises(ApprovalError, match="min_difference: an earlier sum was over nearly the same patients"):
        approve(north)


def test_the_same_study_without_one_patient_is_not_answered(north: Path) -> None:
    asked(opened(north), contribute(north))
    leaves(north, "p7")
    approve_whatever_differs(north)

    assert "nearly-the-same-patients" == code(asked(opened(north), preflight(north)))
    assert "nearly-the-same-patients" == code(asked(opened(north), contribute(north, run="another")))


def test_another_study_without_one_patient_is_not_answered_by_a_node_that_was_started_anew(north: Path) -> None:
    asked(opened(north), contribute(north))
    leaves(north, "p7")
    another_study(north)
    approve_whatever_differs(north)

    assert "nearly-the-same-patients" == code(asked(opened(north), contribute(north)))


def test_another_study_over_the_same_patients_is_answered(north: Path) -> None:
    asked(opened(north), contribute(north))
    another_study(north)
    approve(north)

    assert isinstance(asked(opened(north), contribute(north)), Contributed)


def test_withdrawing_a_study_does_not_make_its_patients_forgotten(north: Path) -> None:
    asked(opened(north), contribute(north))
    CliRunner().invoke(cli.app, ["withdraw", str(north), "small"], catch_exceptions=False)
    leaves(north, "p7")
    another_study(north)
    approve_whatever_differs(north)

    assert "nearly-the-same-patients" == code(asked(opened(north), contribute(north)))


def test_of_two_studies_at_work_the_one_whose_sum_was_first_goes_on(north: Path) -> None:
    first, desk = contribute(north), opened(north)
    assert isinstance(asked(desk, preflight(north)), Ready)
    leaves(north, "p7")
    another_study(north)
    approve(north)

    assert isinstance(asked(desk, contribute(north)), Contributed)
    assert "nearly-the-same-patients" == code(asked(desk, first))
    assert isinstance(asked(desk, contribute(north, number=2)), Contributed)
