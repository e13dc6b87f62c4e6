"""metrics.json: stable, documented, and valid JSON whatever is undefined."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.outcome import Outcome, metrics_of, shown_judgement
from shared.messages import Shown
from tests.unit.server.outcomes import (
    deployed_outcome,
    judgement,
    masked_outcome,
    outcome_of,
    private_outcome,
    study_of,
)

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")


def keys_of(value: Any, path: str = "") -> Iterator[str]:
    """Yield every dotted key below ``value``, leaving out names that the study or a hospital chose."""
    chosen = {"sites", "local", "local_at_home", "per_site", "subgroups", "dropped", "noted", "out_of_contract"}
    chosen |= {"privacy.noise_multipliers", "privacy.epsilon_by_stage", "privacy.pld_epsilon_by_stage"}
    if path in {"left_out", "dropped", "noted", "out_of_contract", "versions", "intervals", "history.dropped"}:
        return
    if isinstance(value, list):
        for item in value[:1]:
            yield from keys_of(item, path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if path in chosen:
                yield from keys_of(inner, path)
            else:
                yield f"{path}.{key}" if path else key
                yield from keys_of(inner, f"{path}.{key}" if path else key)


@pytest.mark.parametrize("outcome", [outcome_of(), outcome_of("number"), private_outcome()])
def test_every_key_is_documented(outcome: Outcome) -> None:
    keys = {key.rsplit(".", 1)[-1] for key in keys_of(metrics_of(outcome))}
    assert [key for key in sorted(keys) if f"`{key}`" not in PAGE] == []


def test_the_keys_are_those_that_readers_rely_on() -> None:
    promised = (
        "study digest method secure_aggregation sites rounds_completed federated pooled local per_site history"
        " bytes_up bytes_down seconds_total seconds_rounds peak_memory_bytes versions"
        " local_at_home subgroups intervals dropped noted out_of_contract deployed left_out privacy federated_exact"
        " interpretation tuning"
    )
    assert set(promised.split()) == metrics_of(outcome_of()).keys()
    classes = {"auroc", "average_precision", "accuracy", "brier", "log_loss", "n"}
    assert classes == metrics_of(outcome_of())["federated"].keys()
    assert {"mae", "rmse", "r2", "n"} == metrics_of(outcome_of("number"))["federated"].keys()


def test_sums_over_exchanges_and_rounds_are_right() -> None:
    """Five exchanges of half a second, 1000 bytes up and 200 down; south missed one of three training rounds."""
    found = metrics_of(outcome_of())
    assert (5000, 1000, 2.5) == (found["bytes_up"], found["bytes_down"], found["seconds_rounds"])
    assert found["rounds_completed"] == 3
    assert {"patients": 260, "rows": 260, "contributed_rounds": 2} == found["sites"]["south"]
    assert found["dropped"] == {"train 2": {"south": "no-reply"}}
    assert [0.7, 0.5, 0.4] == [line["loss"] for line in found["history"]]
    assert found["history"][1]["contributors"] == ["north"]


def test_secure_aggregation_is_told_in_three_facts() -> None:
    """Four hospitals: floor(2 * 4 / 3) + 1 = 3 remove the masks; one was lost in one round."""
    found = metrics_of(masked_outcome("number", lost={"south": "no-reply"}))
    assert {"masked": True, "threshold": 3, "smallest": 3} == found["secure_aggregation"]


def test_a_stated_threshold_is_the_one_that_is_told() -> None:
    assert metrics_of(masked_outcome(threshold=4))["secure_aggregation"]["threshold"] == 4


def test_bare_words_have_no_threshold() -> None:
    """Of the two hospitals, one was lost in one round."""
    assert {"masked": False, "threshold": None, "smallest": 1} == metrics_of(outcome_of())["secure_aggregation"]


def test_a_run_without_sums_has_no_smallest_one() -> None:
    assert metrics_of(outcome_of(history=()))["secure_aggregation"]["smallest"] is None


def test_what_is_undefined_is_null_and_never_nan() -> None:
    study = study_of()
    undefined = judgement(study, auroc=(math.nan, math.nan, math.nan))
    found = metrics_of(outcome_of(study=study, federated=undefined, pooled=None, local={}))
    text = json.dumps(found, allow_nan=False)
    assert found["federated"]["auroc"] is None
    assert found["intervals"]["auroc"] == [None, None]
    assert found["pooled"] is None
    assert "NaN" not in text


def test_what_a_hospital_does_not_show_is_null() -> None:
    found = metrics_of(deployed_outcome())
    assert {"patients": 260, "rows": 260, "contributed_rounds": 3} == found["sites"]["south"]
    assert {"patients": None, "rows": None, "contributed_rounds": 3} == found["sites"]["east"]


def test_a_run_between_hospitals_has_nothing_to_compare_with() -> None:
    found = metrics_of(deployed_outcome())
    assert (True, None, {}, {}) == tuple(found[key] for key in ("deployed", "pooled", "local", "local_at_home"))
    assert ["north"] == list(found["per_site"])
    assert {"lakeside": "not-approved", "hilltop": "offline"} == found["left_out"]


def test_a_metric_that_a_hospital_could_not_compute_is_null() -> None:
    """North has patients of one class only: it shows no AUROC."""
    shown = shown_judgement(7, {"accuracy": Shown(0.5, 0.4, 0.6)})
    found = metrics_of(deployed_outcome(per_site={"north": shown}))["per_site"]["north"]
    assert {"auroc": None, "average_precision": None, "accuracy": 0.5, "brier": None, "log_loss": None, "n": 7} == found


def test_a_hospital_cannot_put_what_is_no_metric_into_the_numbers() -> None:
    """It says these itself: unknown names, infinities and metrics of another task."""
    said = {"auroc": Shown(math.inf, 0.0, 1.0), "<b>": Shown(0.5, 0.4, 0.6), "mae": Shown(0.5, 0.4, 0.6)}
    assert ["mae"] == list(shown_judgement(7, said).metrics)
    found = metrics_of(deployed_outcome(per_site={"north": shown_judgement(-7, said)}))["per_site"]["north"]
    assert (0, None) == (found.pop("n"), found["auroc"])
    assert "mae" not in found


def test_a_private_run_says_what_it_promises_and_what_each_stage_cost() -> None:
    found = metrics_of(private_outcome())["privacy"]
    assert {
        "unit": "patient",
        "epsilon": 5.0,
        "delta": 1e-4,
        "epsilon_training": 4.96,
        "epsilon_held_out": 4.98,
        "noise_multipliers": {"prepare": 4.0, "train": 2.5, "evaluate": 0.85},
        "epsilon_by_stage": {"prepare": 0.9, "train": 4.75, "evaluate": 4.98},
        "pld_epsilon_by_stage": {"prepare": None, "train": 4.5, "evaluate": None},
    } == found


def test_a_simulation_of_a_private_run_has_the_exact_metrics_beside_the_noised_ones() -> None:
    found, deployed = metrics_of(private_outcome()), metrics_of(private_outcome(deployed=True))
    assert found["federated_exact"]["n"] == 120
    assert found["federated"]["log_loss"] is None
    assert found["federated"].keys() == found["federated_exact"].keys()
    assert found["federated"]["auroc"] != found["federated_exact"]["auroc"]
    assert deployed["federated_exact"] is None


def test_a_run_without_privacy_has_neither() -> None:
    found = metrics_of(outcome_of())
    assert (None, None) == (found["privacy"], found["federated_exact"])


def test_a_private_run_has_no_loss() -> None:
    assert [None] * 3 == [line["loss"] for line in metrics_of(private_outcome())["history"]]


def test_a_private_study_without_its_guarantee_is_no_outcome() -> None:
    with pytest.raises(ValueError, match="exactly if its study has a privacy part"):
        private_outcome(privacy=None)
