"""Reason codes: each has a sentence, and those that somebody can act on say what to do."""

from __future__ import annotations

import re
from pathlib import Path

from shared import reasons

SOURCES = "".join(
    path.read_text(encoding="utf-8")
    for part in ("server", "client", "shared", "simulations")
    for path in (Path(__file__).parents[3] / part).rglob("*.py")
    if path.name != "reasons.py"
)


def test_every_reason_code_has_a_meaning() -> None:
    raised = set(re.findall(r'(?:Refusal|ProtocolError)\(\s*"([a-z-]+)"', SOURCES))
    assert len(raised) > 40
    assert raised - reasons.CODE_MEANINGS.keys() == set()


def test_every_meaning_is_of_a_code_that_occurs() -> None:
    assert [code for code in reasons.CODE_MEANINGS if f'"{code}"' not in SOURCES] == []


def test_an_unknown_reason_code_points_to_the_hospital() -> None:
    assert reasons.code_meaning("never-heard-of") == "the hospital's own log says more"


def test_who_is_missing_is_named_with_a_code_and_each_code_explained_once() -> None:
    said = "b (late), c (late), d (unmasked). late: the answer came after the deadline. unmasked: the hospital refused"

    assert reasons.told({"b": "late", "c": "late", "d": "unmasked"}).startswith(said)


def test_advice_is_for_codes_that_have_a_meaning() -> None:
    assert set() == reasons.CODE_ADVICE.keys() - reasons.CODE_MEANINGS.keys()


def test_whoever_keeps_a_hospital_out_of_a_run_is_told_what_to_do() -> None:
    codes = ("offline", "not-approved", "withdrawn", "code-changed", "another-code", "not-pinned", "protocol-version")
    assert [code for code in codes if not reasons.code_advice(code)] == []


def test_an_attack_that_was_refused_has_no_advice() -> None:
    assert reasons.code_advice("lists-overlap") == ""
