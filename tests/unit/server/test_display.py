"""What a person sees while a run goes on."""

from __future__ import annotations

import pytest

from server.display import LiveLine
from server.outcome import RoundRecord


def record(stage: str, number: int, dropped: dict[str, str] | None = None) -> RoundRecord:
    return RoundRecord(stage, number, {"loss": 0.5} if stage == "train" else {}, 2.0, ("a",), dropped or {}, {}, 0, 0)


def test_ten_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveLine(rounds=100, exchanges=102) as line:
        line.round(record("prepare", 1))
        for number in range(1, 101):
            line.round(record("train", number))
        line.round(record("evaluate", 1))
    shown = capsys.readouterr()
    assert shown.out == ""  # standard output belongs to --json
    lines = shown.err.splitlines()
    assert len(lines) == 12
    assert lines[1] == "train round 10/100  loss 0.5000  182 s left"  # 91 exchanges of 2 s each are left


def test_tuning_takes_one_exchange_more_than_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveLine(rounds=4, exchanges=11) as line:
        line.round(record("tune", 2))
    assert "tune round 2/5  20 s left\n" == capsys.readouterr().err


def test_a_dropped_site_is_always_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveLine(rounds=100, exchanges=102) as line:
        line.round(record("train", 3, {"b": "late"}))
    assert "dropped b" in capsys.readouterr().err
