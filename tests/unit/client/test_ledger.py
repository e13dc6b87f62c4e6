"""The hospital's ledger: charged before anything leaves, by one at a time, and never taken for an empty one."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client import ledger
from client.budget import Budget, Spending, compose, orders_for
from client.charges import Charge
from client.ledger import charge, read
from shared import audit, chain
from shared.errors import AuditError, NotWritten, Refusal
from shared.examples import Part
from shared.privacy import accounting
from shared.privacy.accounting import Event, Gaussian, SampledGaussian, Skellam

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TEN = Gaussian(10.0)
AMPLE = Budget(epsilon=50.0, delta=1e-5)
FOR_TEN = Budget(epsilon=accounting.epsilon([Gaussian(10.0, count=10)], 1e-5) * (1 + 1e-9), delta=1e-5)
"""Covers ten charges of ``TEN``."""


def one(draw: str, *events: Event, part: Part = Part.TRAINING, split: str = "cohort") -> Charge:
    spending = Spending(split=split, parts=(part,), events=events or (TEN,))
    return Charge(
        study="heart", digest="ab" * 32, run="cd" * 32, round=1, attempt=1, stage="train", draw=draw, spending=spending
    )


def charged(folder: Path, *draws: str, name: str = "heart", budget: Budget = AMPLE) -> None:
    for draw in draws:
        assert charge(folder, name, one(draw), budget, NOON)


def refusal(folder: Path, wanted: Charge, budget: Budget | None = AMPLE) -> Refusal:
    with pytest.raises(Refusal) as raised:
        charge(folder, "heart", wanted, budget, NOON)
    return raised.value


def draws(folder: Path) -> list[str]:
    return [entry.charge.draw for entry in read(folder, "heart").entries]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def five(tmp_path: Path) -> Path:
    charged(tmp_path, *"abcde")
    return tmp_path


# What a line is.


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger" / "heart.jsonl").read_text().splitlines()]


def test_what_was_spent_is_computed_anew_from_the_file_alone(tmp_path: Path) -> None:
    events = (Gaussian(10.0, count=3), SampledGaussian(1.1, 0.01, count=50, sampler_error=1e-12), Skellam(3, 2, 900.0))
    for draw, event in zip("abc", events, strict=True):
        charge(tmp_path, "heart", one(draw, event), AMPLE, NOON)
    found = [accounting.from_plain(event) for line in lines_of(tmp_path)[1:] for event in line["events"]]

    assert list(events) == found
    assert accounting.epsilon(found, 1e-5) == pytest.approx(compose(read(tmp_path, "heart").spendings).epsilon(1e-5))


def test_a_line_says_which_ledger_study_run_round_attempt_stage_split_part_and_draw(tmp_path: Path) -> None:
    charged(tmp_path, "a")

    assert {
        "n": 2,
        "time": "2026-11-21T12:00:00.000Z",
        "event": "charged",
        "ledger": "heart",
        "study": "heart",
        "digest": "ab" * 32,
        "run": "cd" * 32,
        "round": 1,
        "attempt": 1,
        "stage": "train",
        "draw": "a",
        "split": "cohort",
        "parts": ["training"],
        "events": [accounting.to_plain(TEN)],
    } == {key: value for key, value in lines_of(tmp_path)[1].items() if key != "previous"}


def test_the_first_line_has_the_orders_and_the_budget_of_the_first_plan(tmp_path: Path) -> None:
    plan = [
        Spending(split="s", parts=(Part.TRAINING,), events=(SampledGaussian(1.1, 0.1, count=120),)),
        Spending(split="s", parts=(Part.HELD_OUT,), events=(TEN,)),
    ]
    budget = Budget(epsilon=8.0, delta=1e-5)
    ledger.begin(tmp_path, "heart", plan, budget, NOON)
    expected = {"training": 3, "held-out": 4}

    assert expected == orders_for(plan, budget)
    assert ("opened", "heart", expected, 8.0, 1e-5) == tuple(
        lines_of(tmp_path)[0][key] for key in ("event", "ledger", "orders", "epsilon", "delta")
    )


def test_the_orders_of_a_ledger_stay_whatever_is_planned_later(five: Path) -> None:
    before, orders = content(five), read(five, "heart").orders
    ledger.begin(five, "heart", [one("x", SampledGaussian(0.6, 0.01, count=999)).spending], AMPLE, NOON)
    charge(five, "heart", one("x", SampledGaussian(0.6, 0.01)), AMPLE, NOON)

    assert orders == read(five, "heart").orders
    assert before["heart.jsonl"] == content(five)["heart.jsonl"][: len(before["heart.jsonl"])]


def test_a_ledger_gives_back_what_was_charged(tmp_path: Path) -> None:
    wanted = [one("a"), one("b", TEN, Gaussian(5.0), part=Part.HELD_OUT), one("c", split="another")]
    for each in wanted:
        charge(tmp_path, "heart", each, AMPLE, NOON)

    assert wanted == [entry.charge for entry in read(tmp_path, "heart").entries]
    assert [(2, NOON), (3, NOON), (4, NOON)] == [(entry.n, entry.time) for entry in read(tmp_path, "heart").entries]


def test_only_the_owner_can_read_a_ledger(five: Path) -> None:
    assert 0o700 == (five / "ledger").stat().st_mode & 0o777
    assert {0o600} == {path.stat().st_mode & 0o777 for path in (five / "ledger").iterdir()}


@pytest.mark.parametrize("name", ["heart.v2", "a/b", "..", "Herz und Lunge", "\N{GREEK SMALL LETTER ALPHA}"])
def test_every_name_of_data_has_a_ledger_of_its_own_in_the_folder(tmp_path: Path, name: str) -> None:
    charged(tmp_path, "a", name=name)
    charged(tmp_path, "b", name="heart")

    assert sorted(["heart", name]) == ledger.names(tmp_path)
    assert tmp_path / "ledger" == ledger.place(tmp_path, name).parent
    assert ["a"] == [entry.charge.draw for entry in read(tmp_path, name).entries]


def test_without_charges_there_is_no_ledger_and_looking_makes_none(tmp_path: Path) -> None:
    assert ((), 0) == (read(tmp_path, "heart").entries, read(tmp_path, "heart").lines)
    assert {} == content(tmp_path)


# The filter.


def test_the_budget_covers_so_many_charges_and_no_more(tmp_path: Path) -> None:
    charged(tmp_path, *"abcdefghij", budget=FOR_TEN)
    before = content(tmp_path)

    assert "budget-exhausted" == refusal(tmp_path, one("k"), FOR_TEN).code
    assert before == content(tmp_path)


def test_a_refusal_does_not_say_what_was_spent(tmp_path: Path) -> None:
    charged(tmp_path, *"abcdefghij", budget=FOR_TEN)

    assert "this hospital's privacy budget does not cover this sum" == refusal(tmp_path, one("k"), FOR_TEN).hint


def test_the_orders_of_the_first_plan_hold_for_what_would_fit_at_others(tmp_path: Path) -> None:
    budget = Budget(epsilon=8.0, delta=1e-5)
    all_of_it = Gaussian(accounting.calibrate(lambda z: [Gaussian(z)], 8.0, 1e-5))
    ledger.begin(tmp_path, "heart", [one("a", SampledGaussian(1.1, 0.1, count=120)).spending], budget, NOON)

    assert "budget-exhausted" == refusal(tmp_path, one("b", all_of_it), budget).code
    assert charge(tmp_path, "lungs", one("b", all_of_it), budget, NOON)


def test_a_smaller_charge_may_still_fit_after_a_refusal(tmp_path: Path) -> None:
    charged(tmp_path, *"abcdefghi", budget=FOR_TEN)

    assert "budget-exhausted" == refusal(tmp_path, one("j", Gaussian(5.0)), FOR_TEN).code
    assert charge(tmp_path, "heart", one("k"), FOR_TEN, NOON)


def test_held_out_patients_have_the_whole_budget_too_but_not_in_another_split(tmp_path: Path) -> None:
    charged(tmp_path, *"abcdefghij", budget=FOR_TEN)

    assert charge(tmp_path, "heart", one("k", part=Part.HELD_OUT), FOR_TEN, NOON)
    assert "budget-exhausted" == refusal(tmp_path, one("l", part=Part.HELD_OUT, split="another"), FOR_TEN).code


def test_each_ledger_has_the_budget_for_itself(tmp_path: Path) -> None:
    charged(tmp_path, *"abcdefghij", budget=FOR_TEN)
    charged(tmp_path, *"abcdefghij", name="lungs", budget=FOR_TEN)


def test_a_budget_that_was_lowered_holds_at_once(five: Path) -> None:
    assert "budget-exhausted" == refusal(five, one("f"), Budget(epsilon=0.1, delta=1e-5)).code


def test_without_a_budget_nothing_is_charged_and_it_is_said_what_is_missing(tmp_path: Path) -> None:
    found = refusal(tmp_path, one("a"), None)

    assert "no-budget" == found.code
    assert "[budget]" in found.hint
    assert {} == content(tmp_path)


# One draw of noise, one charge.


def test_a_draw_whose_stored_reply_leaves_again_is_charged_once(five: Path) -> None:
    before = content(five)

    assert not charge(five, "heart", one("c"), AMPLE, NOON)
    assert before == content(five)


def test_a_stored_reply_may_leave_again_when_the_budget_is_spent(tmp_path: Path) -> None:
    charged(tmp_path, *"abcdefghij", budget=FOR_TEN)

    assert not charge(tmp_path, "heart", one("j"), FOR_TEN, NOON)


def test_the_same_question_with_noise_drawn_anew_is_charged_again(five: Path) -> None:
    assert charge(five, "heart", one("anew"), AMPLE, NOON)
    assert [*"abcde", "anew"] == draws(five)


@pytest.mark.parametrize(
    "changes", [{"round": 2}, {"digest": "ef" * 32}, {"spending": one("a", Gaussian(1.0)).spending}]
)
def test_a_draw_is_not_charged_as_two_things(five: Path, changes: dict[str, object]) -> None:
    before = content(five)
    with pytest.raises(ValueError, match="as something else"):
        charge(five, "heart", dataclasses.replace(one("c"), **changes), AMPLE, NOON)  # type: ignore[arg-type]

    assert before == content(five)


@pytest.mark.parametrize("changes", [{"draw": ""}, {"round": -1}, {"attempt": True}, {"study": 7}])
def test_a_charge_that_does_not_say_what_for_is_none(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a charge has"):
        dataclasses.replace(one("a"), **changes)  # type: ignore[arg-type]


# A ledger that is not as it was left.

Tampering = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b"10.0", b"99.0"), *lines[3:]], "changed. Line 3 was changed"),
        (lambda lines: lines[:1] + lines[2:], "missing. Line 2 is missing"),
        (lambda lines: lines[:5], "missing. Line 6 is missing"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "reordered. Line 2"),
        (lambda lines: [*lines[:3], lines[1], *lines[3:]], "inserted. Line 4 is a copy of line 2"),
        (lambda lines: [], "missing. Line 1 is missing"),
    ],
)
def test_a_line_that_is_not_as_it_was_is_named_and_nothing_is_charged(
    five: Path, tamper: Tampering, named: str
) -> None:
    path = five / "ledger" / "heart.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in tamper(path.read_bytes().splitlines())))
    before = content(five)
    with pytest.raises(AuditError, match=named):
        read(five, "heart")
    found = refusal(five, one("f"))

    assert ("ledger-damaged", False) == (found.code, str(five) in found.hint)
    assert before == content(five)


@pytest.mark.parametrize("gone", [["heart.jsonl"], ["heart.head"], ["heart.jsonl", "heart.head", "heart.lock"]])
def test_a_ledger_that_was_deleted_is_not_an_empty_one(five: Path, gone: list[str]) -> None:
    for name in gone:
        (five / "ledger" / name).unlink()

    with pytest.raises(AuditError, match=r"heart\.(jsonl|head)"):
        read(five, "heart")
    assert "ledger-damaged" == refusal(five, one("f")).code


def test_a_folder_of_ledgers_that_was_deleted_is_not_an_empty_one(five: Path) -> None:
    shutil.rmtree(five / "ledger")

    assert "ledger-damaged" == refusal(five, one("f")).code
    with pytest.raises(AuditError, match=r"line 6 is missing .* audit.jsonl says that it was written"):
        read(five, "heart")


@pytest.mark.parametrize("later", ["d", "de"])
def test_a_ledger_from_an_older_backup_is_noticed_by_the_record(tmp_path: Path, later: str) -> None:
    charged(tmp_path, *"abc")
    shutil.copytree(tmp_path / "ledger", tmp_path / "backup")
    charged(tmp_path, *later)
    shutil.rmtree(tmp_path / "ledger")
    (tmp_path / "backup").rename(tmp_path / "ledger")

    assert chain.verify(tmp_path / "ledger" / "heart.jsonl").intact
    assert "ledger-damaged" == refusal(tmp_path, one("f")).code


def test_a_ledger_that_was_written_anew_is_noticed_by_the_record(five: Path) -> None:
    for draw in "abcde":
        charge(five / "forged", "heart", one(draw, Gaussian(1000.0)), AMPLE, NOON)
    shutil.rmtree(five / "ledger")
    (five / "forged" / "ledger").rename(five / "ledger")

    assert "ledger-damaged" == refusal(five, one("f")).code


def test_two_ledgers_that_changed_places_are_noticed(five: Path) -> None:
    charged(five, *"abcdef", name="lungs")
    for suffix in ("jsonl", "head"):
        heart, lungs = (five / "ledger" / f"{name}.{suffix}" for name in ("heart", "lungs"))
        heart.rename(five / "aside")
        lungs.rename(heart)
        (five / "aside").rename(lungs)

    assert "ledger-damaged" == refusal(five, one("f")).code


def test_a_copy_under_another_name_is_not_the_other_ledger(five: Path) -> None:
    for suffix in ("jsonl", "head"):
        shutil.copy(five / "ledger" / f"heart.{suffix}", five / "ledger" / f"lungs.{suffix}")

    with pytest.raises(AuditError, match="line 1 is not one of the ledger lungs"):
        read(five, "lungs")


def test_a_whole_folder_from_an_older_backup_is_found_by_the_noted_digest_only(tmp_path: Path) -> None:
    folder = tmp_path / "hospital"
    charged(folder, *"abc")
    shutil.copytree(folder, tmp_path / "backup")
    charged(folder, *"de")
    noted = read(folder, "heart")
    shutil.rmtree(folder)
    (tmp_path / "backup").rename(folder)
    found = read(folder, "heart")

    assert (6, 4) == (noted.lines, found.lines)
    assert noted.digest != found.digest


def test_a_record_that_has_only_other_events_says_nothing_of_a_ledger(tmp_path: Path) -> None:
    audit.append(tmp_path, "approved", NOON, name="charged", ledger="heart", line=7, digest="0")

    assert charge(tmp_path, "heart", one("a"), AMPLE, NOON)


def test_a_charge_of_a_later_version_is_not_passed_over(five: Path) -> None:
    chain.append(five / "ledger" / "heart.jsonl", "refunded", NOON, draw="a")

    with pytest.raises(AuditError, match="line 7 is not one of the ledger heart that this version can read"):
        read(five, "heart")


def test_a_charge_before_the_orders_were_fixed_is_not_passed_over(five: Path) -> None:
    path = five / "another" / "ledger" / "heart.jsonl"
    path.parent.mkdir(parents=True)
    chain.append(path, "charged", NOON, **{k: v for k, v in lines_of(five)[1].items() if k not in chain._OURS})

    with pytest.raises(AuditError, match="line 1 is not one of the ledger heart that this version can read"):
        read(five / "another", "heart")


def test_orders_are_not_fixed_twice(five: Path) -> None:
    chain.append(five / "ledger" / "heart.jsonl", "opened", NOON, ledger="heart", orders={"training": 2, "held-out": 2})

    with pytest.raises(AuditError, match="line 7 is not one of the ledger heart that this version can read"):
        read(five, "heart")


def test_a_kind_of_event_that_is_not_known_is_not_passed_over(five: Path) -> None:
    path = five / "ledger" / "heart.jsonl"
    fields = {key: value for key, value in lines_of(five)[1].items() if key not in chain._OURS}
    chain.append(path, "charged", NOON, **{**fields, "events": [{"kind": "laplace", "scale": 1.0}]})

    with pytest.raises(AuditError, match="line 7 is not a charge that this version can read"):
        read(five, "heart")


def test_a_ledger_whose_place_is_taken_charges_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file")

    assert "disk" == refusal(tmp_path, one("a")).code
    with pytest.raises(NotWritten, match="cannot be written"):
        ledger.begin(tmp_path, "heart", [one("a").spending], AMPLE, NOON)


# Crashes.


def left_by_a_crash(folder: Path, cut_bytes: int) -> None:
    """What a crash in mid-charge leaves: a line, or some of it, with the head and the record of before."""
    before = {name: (folder / name).read_bytes() for name in ("ledger/heart.head", "audit.jsonl", "audit.head")}
    charged(folder, "lost")
    for name, old in before.items():
        (folder / name).write_bytes(old)
    path = folder / "ledger" / "heart.jsonl"
    path.write_bytes(path.read_bytes()[: -cut_bytes or None])


def test_a_charge_whose_line_is_whole_counts_after_a_crash(five: Path) -> None:
    left_by_a_crash(five, cut_bytes=0)

    assert [*"abcde", "lost"] == draws(five)
    charged(five, "next")
    assert [*"abcde", "lost", "next"] == draws(five)


@pytest.mark.parametrize("cut_bytes", [1, 40])
def test_a_charge_whose_line_was_not_finished_was_never_made(five: Path, cut_bytes: int) -> None:
    left_by_a_crash(five, cut_bytes)

    assert [*"abcde"] == draws(five)
    charged(five, "next")
    assert [*"abcde", "next"] == draws(five)


def test_a_first_charge_that_was_interrupted_before_its_first_line_leaves_an_empty_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "heart.jsonl").touch()

    assert () == read(tmp_path, "heart").entries
    charged(tmp_path, "a")
    assert ["a"] == draws(tmp_path)


CHILD = """
import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from client.budget import Budget, Spending
from client.charges import Charge
from client.ledger import charge
from shared.errors import Refusal
from shared.examples import Part
from shared.privacy.accounting import Gaussian

folder, epsilon, who = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
budget = Budget(epsilon=epsilon, delta=1e-5)
spending = Spending(split="cohort", parts=(Part.TRAINING,), events=(Gaussian(10.0),))
if sys.argv[5] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * [(folder / "ledger" / "heart.jsonl").stat().st_size]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[4])):
    draw = f"{who}{number}"
    wanted = Charge(
        study="heart", digest="ab", run="cd", round=1, attempt=1, stage="train", draw=draw, spending=spending
    )
    try:
        charge(folder, "heart", wanted, budget, datetime.now(UTC))
    except Refusal as refusal:
        print(refusal.code, flush=True)
        break
    print("charged", flush=True)
    if sys.argv[5] == "hold":
        sys.stdin.readline()
    print("released", draw, flush=True)
"""


def child(folder: Path, epsilon: float, who: str, count: int, how: str = "") -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CHILD, str(folder), repr(epsilon), who, str(count), how]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_process_that_is_killed_between_charge_and_release_has_paid_for_nothing(tmp_path: Path) -> None:
    with child(tmp_path, 50.0, "a", 1, "hold") as process:
        assert "ready" == line_of(process)
        begin(process)
        assert "charged" == line_of(process)
        process.kill()
        assert "" == line_of(process)

    assert -signal.SIGKILL == process.returncode
    assert ["a0"] == draws(tmp_path)
    charged(tmp_path, "anew")
    assert ["a0", "anew"] == draws(tmp_path)


def test_a_process_that_is_killed_anywhere_has_charged_all_that_it_released(tmp_path: Path) -> None:
    with child(tmp_path, 50.0, "a", 10_000) as process:
        begin(process)
        seen = [line_of(process) for _ in range(20)]
        process.kill()
        assert process.stdout is not None
        seen += process.stdout.read().splitlines()
    released = [line.removeprefix("released ") for line in seen if line.startswith("released ")]
    paid = draws(tmp_path)

    assert len(released) >= 9
    assert released == paid[: len(released)]
    assert len(paid) <= len(released) + 1
    charged(tmp_path, "next")


def test_on_a_full_disk_nothing_is_charged_and_it_is_said(five: Path) -> None:
    with child(five, 50.0, "a", 1, "full") as process:
        said = process.communicate("go\n", timeout=60)[0].split()

    assert (["ready", "disk"], [*"abcde"]) == (said, draws(five))
    charged(five, "next")


def test_of_processes_that_race_for_the_last_of_a_budget_one_gets_it(tmp_path: Path) -> None:
    # Many events, so that reading takes long, and all would look before one has written.
    many = tuple(Gaussian(1000.0 + number % 7) for number in range(2000))
    enough = Budget(epsilon=accounting.epsilon([*many, TEN], 1e-5) * (1 + 1e-9), delta=1e-5)
    ledger.begin(tmp_path, "heart", [one("all", *many, TEN).spending], enough, NOON)
    charge(tmp_path, "heart", one("many", *many), enough, NOON)
    racers = [child(tmp_path, enough.epsilon, who, 1) for who in "pq"]
    for process in racers:
        assert "ready" == line_of(process)
    for process in racers:
        begin(process)
    said = sorted(process.communicate(timeout=60)[0].split()[0] for process in racers)

    assert ["budget-exhausted", "charged"] == said
    assert 2 == len(draws(tmp_path))
