"""The hospital's own report: it says what was asked, found and sent, and holds nothing of a patient."""

from __future__ import annotations

import dataclasses
import errno
import re
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import left
from client.approval import Approval
from client.data.base import RawData
from client.data.split import SiteData, site_data
from client.policy import Policy
from client.report import render, write_own_report
from shared import chain, files, metrics, scores
from shared.errors import OutputError
from shared.examples import Part
from shared.metrics import Judgement
from shared.study import Study, parse_study
from tests.unit.server.test_report import Page

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOSTILE = '<script>alert("x")</script>'
PLANTED = "Zwicky"
"""Begins every patient's id, and stands in cells that are no values."""


def study_of(question: str = "Who is sick?", label: Mapping[str, Any] | None = None, **aggregation: Any) -> Study:
    sick = {"type": "category", "levels": ["healthy", "sick"]} if label is None else label
    age = {"type": "number", "range": [0.0, 120.0], "unit": "years"}
    method: dict[str, Any] = {"name": "logistic-regression", "rounds": 3}
    if label is not None:
        method |= {"name": "neural", "options": {"architecture": "tabular_mlp"}}
    raw = {
        "study": {"name": "small", "question": question, "seed": 7},
        "data": {"kind": "table", "label": "y", "patient_id": "patient", "columns": {"age": age, "y": sick}},
        "method": method,
        "aggregation": aggregation,
    }
    return parse_study(raw, "test")


STUDY = study_of()


def data_of(study: Study = STUDY) -> SiteData:
    """A hundred patients; ten without an age, one with a name in its place, and one row without a label."""
    ages: list[Any] = [str(30.625 + row) for row in range(89)] + [""] * 10 + [f"{PLANTED} 7", "47.625"]
    labels = ["healthy", "sick"] * 50 + [""]
    if not study.data.classes:
        labels = [str(row + 0.375) for row in range(100)] + [""]
    columns = {
        "patient": np.array([f"{PLANTED}-{row}" for row in range(101)]),
        "age": np.array(ages),
        "y": np.array(labels),
    }
    return site_data(study.data, RawData(columns), "Charite", 7)


def judgement(n: int = 24) -> Judgement:
    """Of a model that is right in two of three."""
    rng = np.random.default_rng(1)
    y = (np.arange(n) % 2).astype(float)
    odds = scores.log_odds(np.stack([1.0 - y, y], axis=1) * 0.8 + rng.normal(size=(n, 2)))
    return metrics.judge(scores.count_classes(odds, y, ("healthy", "sick"), 1000, 0.5), 100, rng)


def approval_of(study: Study = STUDY) -> Approval:
    members = {name: name.encode().ljust(32) for name in ("Charite", "north", "south")}
    return Approval(study, "c" * 64, members, "d" * 64, "small", NOON, 3, Path("approvals"))


def line(
    n: int, asked: str, said: str, number: int, size: int = 1000, run: str = "r" * 64, **more: Any
) -> dict[str, Any]:
    """One line of the record, as the desk writes it; minute by minute."""
    return {
        "n": n,
        "time": f"2026-11-21T12:{n:02}:00.000Z",
        "event": "reply",
        "asked": asked,
        "said": said,
        "study": STUDY.digest,
        "run": run,
        "round": number,
        "attempt": 1,
        "bytes": size,
        "digest": "e" * 64,
        **more,
    }


RECORD = [
    {"n": 1, "time": "2026-11-21T12:01:00.000Z", "event": "approved", "study": STUDY.digest},
    line(2, "PreflightRequest", "Ready", 0, 300, run=""),
    line(3, "KeysRequest", "Keys", 1, 200),
    line(4, "ContributeRequest", "Contributed", 1, 5000),
    line(5, "ContributeRequest", "Contributed", 2),
    line(6, "ContributeRequest", "Contributed", 2, again=True),
    {**line(7, "ContributeRequest", "Contributed", 9, 77_000_000), "study": "another"},
    line(8, "RevealRequest", "Refused", 2, 100, code="below-threshold"),
    line(9, "RevealRequest", "Refused", 2, 100, code="below-threshold"),
    line(10, "PreflightRequest", "Refused", 0, 100, run="", code="code-changed"),
]


def page_of(**changes: Any) -> Page:
    arguments: dict[str, Any] = {
        "approval": approval_of(),
        "data": data_of(),
        "judgement": judgement(),
        "record": RECORD,
        "policy": Policy(),
    }
    page = Page(render(**{**arguments, **changes}))
    assert page.open == []
    return page


def test_what_left_is_added_up_by_step_in_the_order_of_a_run() -> None:
    """Three answers with sums, one of them repeated: 5000 + 1000 + 1000 bytes."""
    gone = left.everything(RECORD, STUDY.digest)
    assert ["PreflightRequest", "KeysRequest", "ContributeRequest", "RevealRequest"] == list(gone.steps)
    sums = gone.steps["ContributeRequest"]
    assert (3, 1, 0, 7000, {1, 2}) == (sums.messages, sums.again, sums.refused, sums.size_bytes, sums.rounds)
    assert (8, 3, 7800) == (gone.total.messages, gone.total.refused, gone.total.size_bytes)
    assert (2, 10) == gone.lines


def test_what_left_is_added_up_by_run() -> None:
    gone = left.everything(RECORD, STUDY.digest)
    assert {"": 2, "r" * 64: 6} == {run: each.messages for run, each in gone.runs.items()}
    assert ("2026-11-21 12:03:00", "2026-11-21 12:09:00") == (left.run_rows(gone)[1].first, left.run_rows(gone)[1].last)


def test_refusals_are_added_up_by_code_and_step_and_are_in_no_round() -> None:
    gone = left.everything(RECORD, STUDY.digest)
    below, changed = left.refusal_rows(gone)
    assert ("below-threshold", "Removing masks", "2") == (below.code, below.step, below.times)
    assert "approves the study again" in changed.advice
    assert set() == gone.steps["RevealRequest"].rounds


def test_a_record_without_this_study_has_nothing_that_left() -> None:
    gone = left.everything(RECORD, "0" * 64)
    assert (None, 0, {}) == (gone.lines, gone.total.messages, gone.steps)
    assert "Nothing: the record has no answer to this study." in page_of(record=[]).text


def test_a_line_that_lacks_fields_is_counted_and_harms_nobody() -> None:
    gone = left.everything([{"event": "reply", "study": STUDY.digest, "bytes": -5, "round": "x"}], STUDY.digest)
    assert (1, 0, set()) == (gone.total.messages, gone.total.size_bytes, gone.total.rounds)


def test_the_page_says_what_was_asked_found_and_sent() -> None:
    text = page_of().text
    for wanted in (
        "Charite took part with 100 patients and gave 2 sums; 7.8 kB left in all.",
        "3 questions were refused.",
        "Members pinned Charite, north, south",
        "Approved 2026-11-21 12:00 UTC, for 3 runs",
        "All 100 100 50 50.0 % 50 50.0 %",
        "Left out: 1 row(s) without a label.",
        "age 10 10.0 % 1",
        "masked sums over this hospital's patients",
        "below-threshold",
        "your policy does not let the coordinator see them",
        STUDY.digest,
        "c" * 64,
        "d" * 64,
    ):
        assert wanted in text


def test_the_model_is_judged_on_the_hospitals_own_patients_with_intervals() -> None:
    judged = judgement(200)
    auroc = judged.metrics["auroc"]
    text = page_of(judgement=judged).text
    assert f"On this hospital's own 200 held-out rows, the model reaches AUROC {auroc.value:.3f}" in text
    assert f"{auroc.low:.3f} to {auroc.high:.3f}" in text
    assert "intervals are wide" not in text


def test_few_patients_and_missing_classes_are_said() -> None:
    """Seven healthy patients: no ranking, so no AUROC."""
    healthy = scores.count_classes(np.zeros((7, 2)), np.zeros(7), ("healthy", "sick"), 1000, 0.5)
    text = page_of(judgement=metrics.judge(healthy, 100, np.random.default_rng(0))).text
    assert "AUROC is not defined on this hospital's own 7 held-out rows." in text
    assert "Only 7 rows: intervals are wide" in text
    assert "Not every class occurs among them" in text


def test_before_the_end_of_a_run_there_is_no_judgement() -> None:
    text = page_of(judgement=None).text
    assert "The model was not judged here yet." in text
    assert "No run has come to its end here yet" in text


def test_what_the_policy_shows_by_name_is_said_where_it_left() -> None:
    shown = "how many rows and patients it brings"
    assert shown in page_of(policy=Policy(show_counts=True)).text
    assert shown not in page_of().text
    assert "your policy lets the coordinator see the metrics" in page_of(policy=Policy(show_metrics=True)).text


def private_study() -> Study:
    raw = {
        "study": {"name": "small", "question": "Who is sick?", "seed": 7},
        "data": {
            "kind": "table",
            "label": "y",
            "patient_id": "patient",
            "columns": {
                "age": {"type": "number", "range": [0.0, 120.0], "unit": "years"},
                "y": {"type": "category", "levels": ["healthy", "sick"]},
            },
        },
        "method": {"name": "private-logistic-regression", "rounds": 3},
        "privacy": {"epsilon": 5.0, "delta": 1e-4},
    }
    return parse_study(raw, "test")


def test_a_study_with_noise_says_its_guarantee_and_how_often_it_was_charged() -> None:
    study = private_study()
    charges = [
        {"n": 11 + number, "event": "charged", "ledger": "heart", "study": digest}
        for number, digest in enumerate([study.digest, "another", study.digest])
    ]
    text = page_of(approval=approval_of(study), record=[*RECORD, *charges]).text

    assert "Privacy epsilon 5 and delta 0.0001 in one run, for each patient at this hospital" in text
    assert "Charged 2 sums, to the ledger heart" in text
    assert "noise of standard deviation" in text
    assert "No noise was added" not in text
    assert "No noise was added" in page_of().text


def test_under_noise_nothing_is_said_to_be_shown_whatever_the_policy_says() -> None:
    study = private_study()
    record = [{**each, "study": study.digest} for each in RECORD]
    policy = Policy(show_counts=True, show_metrics=True)
    text = page_of(approval=approval_of(study), record=record, policy=policy).text

    assert "how many rows and patients it brings" not in text
    assert "your policy does not let the coordinator see them" in text


def test_bare_sums_are_not_called_masked() -> None:
    study = study_of(secure=False)
    record = [{**each, "study": study.digest} for each in RECORD]
    text = page_of(approval=approval_of(study), record=record).text
    assert "bare sums over this hospital's patients" in text
    assert "off: the aggregator saw this hospital's sums" in text


def test_a_number_has_neither_classes_nor_a_confusion_table() -> None:
    pytest.importorskip("keras")
    study = study_of(label={"type": "number", "range": [0.0, 200.0], "unit": "mmHg"})
    rng = np.random.default_rng(1)
    y = rng.uniform(0, 200, 60)
    judged = metrics.judge(scores.count_numbers(y + 1.0, y, (0.0, 200.0), 1000), 100, rng)
    text = page_of(approval=approval_of(study), data=data_of(study), judgement=judged).text
    assert "the model reaches Mean absolute error" in text
    assert "True class" not in text


@pytest.mark.parametrize("part", list(Part))
def test_no_patients_id_or_value_is_on_the_page(part: Part) -> None:
    data = data_of()
    html = render(approval_of(), data, judgement(), RECORD, Policy(show_counts=True, show_metrics=True))
    assert PLANTED not in html
    ages = data.parts[part].values[:, 0]
    assert [age for age in ages[~np.isnan(ages)].tolist() if str(age) in html] == []


def test_texts_of_others_are_escaped() -> None:
    members = {HOSTILE: b"1" * 32, "north": b"2" * 32, "Charite": b"3" * 32}
    hostile = dataclasses.replace(approval_of(study_of(question=HOSTILE)), members=members, dataset=HOSTILE)
    record = [{**each, "study": hostile.digest, "code": HOSTILE, "run": HOSTILE} for each in RECORD]
    html = render(hostile, data_of(), judgement(), record, Policy())
    assert "<script" not in html
    assert HOSTILE in Page(html).text


def test_the_page_needs_no_network_and_runs_no_script() -> None:
    html = render(approval_of(), data_of(), judgement(), RECORD, Policy())
    page = Page(html)
    assert page.tags.keys().isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base"})
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"@import|url\((?!#)|\bon[a-z]+=", html)
    assert "default-src 'none'; style-src 'unsafe-inline'\"" in html


def test_the_page_is_made_from_the_record_as_it_lies_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for each in RECORD:
        fields = {name: value for name, value in each.items() if name not in ("n", "time", "event")}
        chain.append(path, each["event"], NOON, **fields)
    report = tmp_path / "report.html"
    write_own_report(report, approval_of(), data_of(), judgement(), chain.read(path), Policy())
    text = Page(report.read_text(encoding="utf-8")).text
    assert "added up from lines 2 to 10 of this hospital's record" in text
    assert files.SECRET_MODE == stat.S_IMODE(report.stat().st_mode)


def test_a_full_disk_leaves_the_page_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "replace_text", full)
    with pytest.raises(OutputError, match=r"report\.html: the hospital's own report cannot be written: No space left"):
        write_own_report(path, approval_of(), data_of(), judgement(), RECORD, Policy())
    assert path.read_text() == "old"
