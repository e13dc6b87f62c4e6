"""Approving, withdrawing, and what is refused; nothing half-written is left."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client import approval, approving, store
from client.approval import Approval
from client.approving import Proposal
from client.contributors import Sums
from client.site import SiteState
from client.store import Kept
from shared.errors import ApprovalError, AuditError, Refusal
from shared.examples import Part
from shared.study import Study, load_study
from tests.builders import examples_of, site_of

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
CODE = "c" * 64
MEMBERS = {"north": b"n" * 32, "south": b"s" * 32, "west": b"w" * 32}

STUDY = """
[study]
name = "small"  # a comment stays
question = "Who is sick?"
[data]
kind = "table"
label = "y"
[data.columns.x]
type = "number"
range = [0, 10]
[data.columns.y]
type = "category"
levels = [0, 1]
[method]
name = "logistic-regression"
rounds = 2
"""


def study_of(folder: Path, text: str = STUDY) -> Study:
    path = folder / "given.toml"
    path.write_text(text)
    return load_study(path)


def proposal_of(folder: Path, text: str = STUDY, members: dict[str, bytes] | None = None) -> Proposal:
    data = site_of("north", examples_of([[1.0], [2.0]], [0, 1]))
    return Proposal(study_of(folder, text), text, data, "small", members or MEMBERS, CODE, 3)


def approved(folder: Path, **changes: object) -> Approval:
    return approving.approve(folder, replace(proposal_of(folder), **changes), NOON)  # type: ignore[arg-type]


def remembering(folder: Path, digest: str) -> Kept:
    """A node's memory of one sum over the training patients, one released reply, and a run in progress."""
    key = (Part.TRAINING, 0)
    state = SiteState(run="run 1", round=4, sums=Sums(members=frozenset(MEMBERS)).with_sum(key, MEMBERS))
    kept = Kept(state, asked=b"a" * 32, said="reply", released={"1": 3})
    store.write(folder / "states" / digest, kept)
    return kept


def test_what_was_approved_is_read_back(tmp_path: Path) -> None:
    made = approved(tmp_path)

    assert {made.digest: made} == approval.read_all(tmp_path)
    assert (MEMBERS, CODE, 3, NOON, None) == (made.members, made.code, made.runs, made.approved_at, made.withdrawn_at)


def test_an_approval_is_a_folder_with_the_study_as_it_was_read_the_snapshot_and_the_record(tmp_path: Path) -> None:
    made = approved(tmp_path)

    assert {"study.toml", "approval.json", "cohort.npz"} == {path.name for path in made.folder.iterdir()}
    assert tmp_path / "approvals" / made.digest == made.folder
    assert STUDY == (made.folder / "study.toml").read_text()
    assert [0.0, 1.0] == made.data().parts[Part.TRAINING].labels.tolist()


def test_only_the_owner_can_look_into_an_approval(tmp_path: Path) -> None:
    made = approved(tmp_path)

    assert "0o700" == oct(made.folder.stat().st_mode & 0o777)
    assert {"0o600"} == {oct(path.stat().st_mode & 0o777) for path in made.folder.iterdir()}


def test_an_approved_study_under_the_same_code_passes(tmp_path: Path) -> None:
    approval.check(approved(tmp_path), CODE)


def test_what_is_not_approved_withdrawn_or_under_other_code_is_refused_by_name(tmp_path: Path) -> None:
    made = approved(tmp_path)
    withdrawn = replace(made, withdrawn_at=NOON)

    for expected, which, code in [
        ("not-approved", None, CODE),
        ("withdrawn", withdrawn, CODE),
        ("code-changed", made, "d" * 64),
    ]:
        with pytest.raises(Refusal) as raised:
            approval.check(which, code)
        assert expected == raised.value.code


def test_a_proposal_that_the_policy_forbids_says_every_reason_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ApprovalError) as raised:
        approved(tmp_path, violations=("min_sites: too few.", "methods: not this one."))

    assert ["  min_sites: too few.", "  methods: not this one."] == str(raised.value).splitlines()[1:]
    assert ["given.toml"] == [path.name for path in tmp_path.iterdir()]


def test_an_approval_that_cannot_be_recorded_does_not_stand(tmp_path: Path) -> None:
    def full(_approval: Approval) -> None:
        raise AuditError("the disk is full")

    with pytest.raises(AuditError):
        approving.approve(tmp_path, proposal_of(tmp_path), NOON, full)
    assert ({}, []) == (approval.read_all(tmp_path), list((tmp_path / "approvals").iterdir()))


def test_a_study_file_that_is_not_the_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ApprovalError, match="changed meanwhile"):
        approved(tmp_path, text=STUDY.replace("rounds = 2", "rounds = 3"))
    assert [] == list((tmp_path / "approvals").iterdir())


def test_a_failed_approval_leaves_the_earlier_one(tmp_path: Path) -> None:
    made = approved(tmp_path)
    with pytest.raises(ApprovalError):
        approved(tmp_path, text=STUDY.replace("rounds = 2", "rounds = 3"))

    assert {made.digest: made} == approval.read_all(tmp_path)


def test_a_process_that_was_killed_half_way_leaves_no_approval_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    digest = study_of(tmp_path).digest
    for leftover in (f".{digest}.part", f".{digest}.old"):
        (tmp_path / "approvals" / leftover).mkdir(parents=True)
        (tmp_path / "approvals" / leftover / "cohort.npz").write_bytes(b"half")

    assert {} == approval.read_all(tmp_path)
    approved(tmp_path)
    assert [digest] == [path.name for path in (tmp_path / "approvals").iterdir()]


def test_approving_again_replaces_the_approval(tmp_path: Path) -> None:
    approved(tmp_path)
    later = approving.approve(tmp_path, proposal_of(tmp_path), NOON + timedelta(days=1))

    assert {later.digest: later} == approval.read_all(tmp_path)
    assert [later.digest] == [path.name for path in (tmp_path / "approvals").iterdir()]


def test_approving_with_other_members_forgets_the_sums(tmp_path: Path) -> None:
    made = approved(tmp_path)
    remembering(tmp_path, made.digest)
    approved(tmp_path, members={**MEMBERS, "east": b"e" * 32})

    assert not (tmp_path / "states" / made.digest).exists()


def test_a_member_with_another_identity_is_another_member(tmp_path: Path) -> None:
    made = approved(tmp_path)
    remembering(tmp_path, made.digest)
    approved(tmp_path, members={**MEMBERS, "west": b"x" * 32})

    assert not (tmp_path / "states" / made.digest).exists()


def test_approving_with_the_same_members_keeps_whom_sums_were_made_with_and_nothing_else(tmp_path: Path) -> None:
    made = approved(tmp_path)
    before = remembering(tmp_path, made.digest)
    approved(tmp_path)
    after = store.read(tmp_path / "states" / made.digest)

    assert before.state.sums.next_run() == after.state.sums
    assert ("", {}, b"") == (after.state.run, after.released, after.asked)


def test_a_damaged_memory_is_mended_by_approving_anew(tmp_path: Path) -> None:
    made = approved(tmp_path)
    remembering(tmp_path, made.digest)
    (tmp_path / "states" / made.digest / store.FILE).write_bytes(b"damaged")
    approved(tmp_path)

    assert not (tmp_path / "states" / made.digest).exists()


def test_withdrawing_deletes_the_patients_and_keeps_what_was_released(tmp_path: Path) -> None:
    made = approved(tmp_path)
    remembering(tmp_path, made.digest)
    withdrawn = approving.withdraw(tmp_path, made.digest, NOON + timedelta(hours=1))

    assert {made.digest: withdrawn} == approval.read_all(tmp_path)
    assert NOON + timedelta(hours=1) == withdrawn.withdrawn_at
    assert not (made.folder / "cohort.npz").exists()
    assert (tmp_path / "states" / made.digest).exists()


def test_withdrawing_takes_images_of_patients_out_of_the_hospitals_own_report(tmp_path: Path) -> None:
    made = approved(tmp_path)
    page = approval.report_of(tmp_path, made)
    page.parent.mkdir()
    page.write_text("counts<!-- pictures --><img src='data:'><!-- end of pictures -->, and so on")
    approving.withdraw(tmp_path, made.digest, NOON)

    assert "counts, and so on" == page.read_text()
    assert tmp_path / "reports" / f"small-{made.digest[:8]}.html" == page


def test_withdrawing_twice_or_what_never_was_is_an_error(tmp_path: Path) -> None:
    made = approved(tmp_path)
    approving.withdraw(tmp_path, made.digest, NOON)

    with pytest.raises(ApprovalError, match="withdrawn already, at 2026-11-21T12:00:00Z"):
        approving.withdraw(tmp_path, made.digest, NOON)
    with pytest.raises(ApprovalError, match="consilium-client studies"):
        approving.withdraw(tmp_path, "0" * 64, NOON)


def test_a_withdrawn_study_can_be_approved_again(tmp_path: Path) -> None:
    made = approved(tmp_path)
    approving.withdraw(tmp_path, made.digest, NOON)

    assert approved(tmp_path) == made


def test_forgetting_removes_the_studys_state_and_no_other(tmp_path: Path) -> None:
    for digest in ("a" * 64, "b" * 64):
        remembering(tmp_path, digest)
    approving.forget(tmp_path, "a" * 64)
    approving.forget(tmp_path, "a" * 64)

    assert ["b" * 64] == [path.name for path in (tmp_path / "states").iterdir()]


@pytest.mark.parametrize("digest", ["", "..", "../approvals", "A" * 64])
def test_only_a_digest_is_forgotten(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        approving.forget(tmp_path, digest)


def test_a_study_changed_by_one_byte_is_no_approval(tmp_path: Path) -> None:
    made = approved(tmp_path)
    (made.folder / "study.toml").write_text(STUDY.replace("rounds = 2", "rounds = 9"))

    with pytest.raises(ApprovalError, match="another one than was approved"):
        approval.read_all(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"members": [{"name": "north", "identity": "00"}]},
        {"members": "north"},
        {"runs": "many"},
        {"runs": 0},
        {"approved_at": "yesterday"},
        {"code": None, "withdrawn_at": 7},
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_folder(tmp_path: Path, change: dict[str, object]) -> None:
    made = approved(tmp_path)
    path = made.folder / "approval.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(ApprovalError, match=re.escape(str(made.folder))):
        approval.read_all(tmp_path)


def test_an_approval_is_found_by_file_name_or_digest(tmp_path: Path) -> None:
    made = approved(tmp_path)

    for wanted in (str(tmp_path / "given.toml"), "small", made.digest, made.digest[:8]):
        assert made.digest == approval.find(tmp_path, wanted)


def test_two_versions_of_a_study_need_the_digest_unless_one_was_withdrawn(tmp_path: Path) -> None:
    first = approved(tmp_path)
    second = approving.approve(tmp_path, proposal_of(tmp_path, STUDY.replace("rounds = 2", "rounds = 3")), NOON)

    with pytest.raises(ApprovalError, match="Give a digest"):
        approval.find(tmp_path, "small")
    approving.withdraw(tmp_path, first.digest, NOON)
    assert second.digest == approval.find(tmp_path, "small")


@pytest.mark.parametrize("wanted", ["smal", "0" * 64])
def test_a_study_that_is_not_approved_is_not_found(tmp_path: Path, wanted: str) -> None:
    approved(tmp_path)

    with pytest.raises(ApprovalError, match="is approved here"):
        approval.find(tmp_path, wanted)
