"""An audit finds mistakes that were planted, and nothing where there is none.

Three hospitals, epsilon 1 at delta 1e-5; 90 canaries in ten runs, 81 guesses. A lower bound is one with 95 %
confidence, so of audits of a correct study one in twenty may contradict it; noise and coins are the same every time.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import NoEstimate, StudyError
from shared.examples import Part
from shared.privacy.noise import Stream
from simulations import audit_page
from simulations.audit import Audit, Effort, audit, audit_of
from simulations.audit_canaries import judge_guesses
from tests.builders import table_study
from tests.unit.simulations.attacks import planted
from tests.unit.simulations.attacks.audited import insecure_entropy, private_study, three_hospitals

RUNS = Effort(runs=10, shadows=0)


def audited(seed: int = 1, effort: Effort = RUNS, **changes: Any) -> Audit:
    return audit(private_study(**changes), three_hospitals(), effort, entropy=insecure_entropy(seed))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_correct_study_passes(seed: int) -> None:
    found = audited(seed)

    assert () == found.contradictions
    assert found.canary.bound < 1.0 < found.canary.largest
    assert all(reach.ratio <= 1.0 + 1e-9 for reach in found.canary.reaches.values())


def test_noise_left_out_is_found_with_95_percent_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    planted.noise_left_out(monkeypatch)
    found = audited()

    assert found.canary.guessed.guesses == found.canary.guessed.right
    assert found.canary.bound > 3.0
    assert "epsilon is above 3.28 with 95 % confidence: 81 of 81 guesses" in found.contradictions[0]


def test_a_tenth_of_the_noise_is_found_with_95_percent_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    planted.a_tenth_of_the_noise(monkeypatch)
    found = audited()

    assert found.canary.bound > 1.0
    assert 1 == len(found.contradictions)


def test_skipped_clipping_is_found_with_95_percent_confidence_and_by_the_size_of_a_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted.clipping_skipped(monkeypatch)
    found = audited()

    assert found.canary.bound > 1.0
    assert found.canary.reaches["train"].ratio > 100.0
    assert "In stage 'train' one patient changed a sum" in found.contradictions[1]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("keras") is None, reason="networks need the extra keras")
def test_noise_left_out_of_a_networks_training_is_found_with_95_percent_confidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DP-SGD at the sites: only the sum over them and over many steps is seen, of batches that nobody knows."""
    network: dict[str, Any] = {
        "method__name": "neural",
        "method__rounds": 3,
        "method__options__architecture": "tabular_mlp",
        "privacy__clipping_norm": 1.0,
        "privacy__patients_per_site": 60,
        "privacy__sampling_rate": 0.2,
    }
    correct = audited(**network)
    monkeypatch.setattr(Stream, "gaussian", lambda _self, size, dtype=np.float32: np.zeros(size, dtype))

    assert () == correct.contradictions
    assert audited(**network).canary.bound > 1.0


def test_so_many_runs_are_made_as_can_contradict_the_studys_epsilon() -> None:
    found = audited(effort=Effort(canaries=4, shadows=0), privacy__epsilon=2.8)

    assert found.canary.largest > 1.05 * 2.8
    assert found.canary.runs > 10


def test_a_study_without_privacy_promises_nothing_and_gives_every_canary_away() -> None:
    found = audit(
        table_study(8, method__rounds=2), three_hospitals(), Effort(runs=2, shadows=0), entropy=insecure_entropy(1)
    )

    assert found.epsilon is None
    assert found.canary.guessed.guesses == found.canary.guessed.right
    assert () == found.contradictions
    assert "promises no differential privacy" in audit_page.verdict(found)


def test_the_surest_nine_tenths_are_guessed() -> None:
    """Ten canaries; the wrong one is the least sure."""
    present = np.array([True, False] * 5)
    scores = np.where(present, 1.0, -1.0) * np.arange(1, 11)
    scores[0] = -0.1

    judged = judge_guesses(present, scores)

    assert (9, 9) == (judged.guesses, judged.right)


def test_an_audit_that_could_not_contradict_the_study_says_so() -> None:
    found = audited(effort=Effort(runs=1, shadows=0), privacy__epsilon=5.0)

    assert "but this audit could not: at most it could have shown" in audit_page.verdict(found)


def test_the_page_and_the_numbers_are_written_and_need_nothing_else(tmp_path: Path) -> None:
    found = audited(effort=Effort(runs=1, shadows=2), study__question="<script>alert(1)</script>?")
    audit_page.write(found, tmp_path)

    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "LiRA, 2 shadow models" in page
    numbers = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    assert audit_of(found) == numbers
    assert (1.0, 1e-5, 0.95) == (numbers["epsilon"], numbers["delta"], numbers["confidence"])
    assert {"l1": pytest.approx(0.3), "l2": pytest.approx(0.1)} == numbers["canaries"]["influence"]["train"]["declared"]
    assert 180 == numbers["membership"]["members"]
    assert {} == numbers["alone_in_a_total"]


def test_where_a_column_marks_the_held_out_patients_the_attacked_model_is_trained_on_others() -> None:
    """Every patient who is marked as held out has twice the others' values: a loss tells that, not who trained."""
    data = three_hospitals()
    for hospital in data.values():
        hospital.parts[Part.HELD_OUT].values[:] *= 2.0
    study = table_study(8, method__rounds=5, data__split_column="part")

    told: list[str] = []
    found = audit(study, data, Effort(runs=1, shadows=0), told.append, insecure_entropy(1))

    assert "membership: the model on another split, by chance" in told
    assert found.membership is not None
    assert 240 == found.membership.members + found.membership.others
    assert found.membership.loss.auc.low < 0.5 < found.membership.loss.auc.high


def test_a_study_for_whole_hospitals_is_not_audited_by_invented_patients() -> None:
    study = table_study(
        method__name="logistic-regression",
        aggregation__secure=True,
        privacy={"epsilon": 5.0, "delta": 1e-4, "unit": "site", "patients_per_site": 40},
    )
    with pytest.raises(StudyError, match="one hospital"):
        audit(study, {}, Effort())


def test_a_method_that_reads_no_prepared_columns_is_refused_before_anything_runs() -> None:
    study = table_study(method__name="describe", method__rounds=1)
    with pytest.raises(
        StudyError, match=r"by logistic-regression, .*treatment-policy. Received: the method 'describe'"
    ):
        audit(study, {}, Effort())


WITHOUT_NOISE: dict[str, dict[str, Any]] = {
    "linear-regression": {"method__options__alpha": 1.0, "data__columns__y": {"type": "number", "range": [0, 1]}},
    "glm": {"method__options": {"family": "logistic", "l2": 1.0}},
    "svm": {},
    "random-forest": {"method__options__trees": 2, "method__options__max_depth": 2},
    "gradient-boosting": {"method__options__iterations": 1, "method__options__max_depth": 2},
}


@pytest.mark.parametrize("method", WITHOUT_NOISE)
def test_training_sums_without_noise_tell_who_was_in_whatever_the_method(method: str) -> None:
    """Hospitals hold back what is of fewer than five of their patients where the data choose; a sum still tells."""
    study = table_study(8, method__name=method, method__rounds=25, **WITHOUT_NOISE[method])

    found = audit(study, three_hospitals(15, 5), Effort(runs=1, shadows=0), entropy=insecure_entropy(1))

    told = found.canary.stages["train"]
    assert told.guesses == told.right
    assert told.guesses >= 5
    assert found.membership is not None


def test_of_a_model_that_predicts_no_label_only_the_sums_are_attacked(tmp_path: Path) -> None:
    study = table_study(8, method__name="pca", method__rounds=1)
    found = audit(study, three_hospitals(), Effort(runs=1), entropy=insecure_entropy(1))
    audit_page.write(found, tmp_path)

    assert found.membership is None
    assert ["attack", "canaries: 9 in 1 run", "totals of prepare", "totals of train"] == [
        row[0] for row in audit_page.rows(found)
    ]
    assert "says its values on the principal components, and not the label" in (tmp_path / "audit.html").read_text()


def test_a_study_without_an_estimate_has_nothing_to_attack() -> None:
    """Of each hospital's patients the label is the sign of the first feature: the classes are separated."""
    data = three_hospitals()
    for hospital in data.values():
        for rows in hospital.parts.values():
            rows.labels[:] = rows.values[:, 0] > 0

    study = table_study(8, method__name="glm", method__rounds=30, method__options__family="logistic")
    with pytest.raises(NoEstimate, match="x0"):
        audit(study, data, Effort(), entropy=insecure_entropy(1))
