"""The table of docs/privacy.md, "How it is tested": what an audit of a shipped study finds if something is wrong.

``pytest -s tests/unit/simulations/test_audit_planted.py`` prints its rows. Canaries and noise are the same every time;
other versions of a library, or another processor, may move a number a little.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from shared.study import load_study
from simulations.audit import Audit, Effort, audit
from simulations.hospitals import hospitals_of
from simulations.local import gather
from tests.unit.simulations.attacks import planted
from tests.unit.simulations.attacks.audited import insecure_entropy
from tests.unit.simulations.attacks.planted import Plant

ROOT = Path(__file__).parents[3]
ROW = r"\| {} \| (\d+) of (\d+) \| ([\d.]+) \| (.*) \|"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "CONSILIUM_DATA" not in os.environ, reason="needs the published files: set CONSILIUM_DATA to their folder"
    ),
]


def audited() -> Audit:
    study = load_study(ROOT / "simulations" / "studies" / "heart_disease_private.toml")
    data = gather(study, hospitals_of(study, None, None, []).raw).data
    return audit(study, data, Effort(shadows=0), entropy=insecure_entropy(1))


def verdict(found: Audit) -> str:
    """The last cell of a row."""
    if not found.contradictions:
        return "nothing contradicts epsilon 5"
    if found.canary.bound > 5.0:
        return "contradicted, 95 % confidence"
    reach = found.canary.reaches["train"].ratio
    return f"contradicted: one canary changed a sum {reach:.0f} times as much as counted on"


def _without_ratio(said: str) -> str:
    return re.sub(r"\d+ times", "times", said)


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("nothing wrong", planted.nothing_wrong),
        ("noise left out", planted.noise_left_out),
        ("a tenth of the noise", planted.a_tenth_of_the_noise),
        ("clipping skipped", planted.clipping_skipped),
    ],
)
def test_a_planted_mistake_is_found_as_the_privacy_page_says(
    name: str, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    found = audited()
    canary = found.canary
    print(f"\n| {name} | {canary.guessed.right} of {canary.guessed.guesses} | {canary.bound:.2f} | {verdict(found)} |")
    page = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    row = re.search(ROW.format(name), page)
    assert row

    assert _without_ratio(verdict(found)) == _without_ratio(row[4])
    assert float(row[3]) == pytest.approx(canary.bound, abs=0.1)
    assert int(row[1]) / int(row[2]) == pytest.approx(canary.guessed.right / canary.guessed.guesses, abs=0.03)
