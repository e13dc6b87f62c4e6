"""Outcomes for tests, made by hand: two hospitals, three rounds, values that a test sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from server.outcome import Outcome, RoundRecord, SiteSummary, shown_judgement
from server.privacy import PrivacySummary, StageCost
from shared import metrics, metrics_private, scores, scores_private
from shared.messages import Counts, Shown
from shared.metrics import Interval, Judgement
from shared.preparation import FeatureColumn, Preparation
from shared.privacy.settings import Privacy
from shared.study import Study, parse_study

Triple = tuple[float, float, float]

LABELS: Mapping[str, dict[str, Any]] = {
    "binary": {"type": "category", "levels": ["healthy", "ill"]},
    "multiclass": {"type": "category", "levels": ["a", "b", "c"]},
    "number": {"type": "number", "range": [0.0, 100.0], "unit": "mmHg"},
}


def study_of(
    task: str = "binary",
    aggregation: Mapping[str, Any] | None = None,
    privacy: Mapping[str, Any] | None = None,
    **about: Any,
) -> Study:
    """A study of age and sex, without masks; ``about`` replaces keys of the ``[study]`` part."""
    columns = {
        "age": {"type": "number", "range": [0.0, 120.0], "unit": "years", "description": "at admission"},
        "sex": {"type": "category", "levels": ["female", "male"]},
        "y": LABELS[task],
    }
    method: dict[str, Any] = {"name": "logistic-regression", "rounds": 3}
    if task == "number":
        method |= {"name": "neural", "options": {"architecture": "tabular_mlp"}}
    raw = {
        "study": {"name": "small", "question": "Who is ill?", "seed": 7, **about},
        "data": {"kind": "table", "label": "y", "columns": columns},
        "method": method,
        "aggregation": {"secure": False} if aggregation is None else aggregation,
    }
    if privacy:
        raw["method"]["name"] = "private-logistic-regression"
        raw["privacy"] = dict(privacy)
    return parse_study(raw, "test")


def judgement(study: Study, n: int = 120, **values: Triple) -> Judgement:
    """A judgement of n rows whose metrics are then set: ``auroc=(value, low, high)``."""
    rng = np.random.default_rng(3)
    if study.data.task == "number":
        y = rng.uniform(0, 100, n)
        made = metrics.judge(scores.count_numbers(y + rng.normal(size=n), y, (0.0, 100.0), 1000), 100, rng)
    else:
        k = len(study.data.classes)
        y = np.arange(n) % k
        odds = scores.log_odds(rng.normal(size=(n, k)) + 2 * np.eye(k)[y])
        made = metrics.judge(scores.count_classes(odds, y.astype(float), study.data.classes, 1000, 0.5), 100, rng)
    changed = {name: Interval(*triple) for name, triple in values.items()}
    return dataclasses.replace(made, metrics={**made.metrics, **changed})


def noised_judgement(study: Study, n: int = 120, noise: float = 1.0) -> Judgement:
    """A judgement of n patients from counts with noise of this deviation in each bin."""
    rng = np.random.default_rng(4)
    classes = study.data.classes
    k = len(classes)
    y = np.arange(n) % k
    odds = scores.log_odds(rng.normal(size=(n, k)) + 2 * np.eye(k)[y])
    edges = scores_private.edges_of(0.5 if k == 2 else None, k)
    exact = scores_private.count_patients(odds, y.astype(float), np.ones(n), edges)
    outside, inside, calls = (counts + noise * rng.normal(size=counts.shape) for counts in exact)
    sums = scores_private.PrivateSums(classes, edges, outside, inside, calls if k > 2 else None, noise, noise)
    return metrics_private.judge(sums, 100, rng)


SUMMARY = PrivacySummary(
    unit="patient",
    epsilon=5.0,
    delta=1e-4,
    stages={
        "prepare": StageCost(noise_multiplier=4.0, exchanges=1, epsilon=0.9),
        "train": StageCost(noise_multiplier=2.5, exchanges=3, epsilon=4.75, pld_epsilon=4.5),
        "evaluate": StageCost(noise_multiplier=0.85, exchanges=1, epsilon=4.98),
    },
    epsilon_training=4.96,
    epsilon_held_out=4.98,
)


def private_outcome(task: str = "binary", deployed: bool = False, **changes: Any) -> Outcome:
    """A private run: in a simulation with exact numbers beside the noised ones, between hospitals without any."""
    study = study_of(task, {"secure": True}, {"epsilon": 5.0, "delta": 1e-4})
    base = deployed_outcome(task) if deployed else masked_outcome(task)
    prepared = dataclasses.replace(preparation_of(study), rows=398, missing={}, outside={}, class_rows=())
    private = dataclasses.replace(
        base,
        study=study,
        description="A small private model.",
        preparation=prepared,
        history=tuple(dataclasses.replace(each, measurements={}) for each in base.history),
        federated=noised_judgement(study),
        federated_exact=None if deployed else judgement(study),
        per_site={} if deployed else base.per_site,
        privacy=SUMMARY,
    )
    if deployed:
        hidden = tuple(dataclasses.replace(site, counts=None) for site in private.sites)
        private = dataclasses.replace(private, sites=hidden)
    return dataclasses.replace(private, **changes)


def site_outcome(**changes: Any) -> Outcome:
    """The same for unit ``site``: each hospital pays one epsilon for all stages."""
    base = private_outcome(**changes)
    privacy = Privacy(epsilon=5.0, delta=1e-4, unit="site", patients_per_site=100)
    study = dataclasses.replace(base.study, privacy=privacy)
    return dataclasses.replace(
        base,
        study=study,
        privacy=dataclasses.replace(SUMMARY, unit="site", epsilon_training=4.99, epsilon_held_out=4.99),
    )


def preparation_of(study: Study) -> Preparation:
    """Ten missing ages, three of them out of contract."""
    return Preparation(
        contract=study.data,
        columns=(
            FeatureColumn("age", levels=0, center=61.25, scale=12.5, fill=63.0, indicator=True),
            FeatureColumn("sex", levels=2, center=0.0, scale=1.0, fill=0.5, indicator=False),
        ),
        image_mean=(),
        image_deviation=(),
        label_mean=50.0 if study.data.task == "number" else 0.0,
        label_deviation=20.0 if study.data.task == "number" else 1.0,
        rows=400,
        missing={"age": 10, "sex": 0},
        outside={"age": 3, "sex": 0},
        class_rows=tuple(400 // len(study.data.classes) for _ in study.data.classes),
    )


def record(stage: str, number: int, dropped: Mapping[str, str] | None = None, loss: float | None = None) -> RoundRecord:
    """One exchange of hospitals north and south."""
    dropped = dropped or {}
    return RoundRecord(
        stage=stage,
        round=number,
        measurements={} if loss is None else {"loss": loss},
        seconds=0.5,
        contributors=tuple(site for site in ("north", "south") if site not in dropped),
        dropped=dropped,
        noted={},
        bytes_up=1000,
        bytes_down=200,
    )


def masked_outcome(task: str = "binary", lost: Mapping[str, str] | None = None, **aggregation: Any) -> Outcome:
    """An outcome of hospitals north, south, east, west under secure aggregation; three of them remove the masks.

    lost: reason codes of those missing in the second training round.
    """
    outcome = outcome_of(study=study_of(task, {"secure": True, **aggregation}))
    names = ("north", "south", "east", "west")
    sites = tuple(dataclasses.replace(outcome.sites[0], name=name) for name in names)
    history = tuple(
        dataclasses.replace(
            each,
            contributors=tuple(name for name in names if each.round != 2 or name not in (lost or {})),
            dropped=lost or {} if each.round == 2 else {},
        )
        for each in outcome.history
    )
    return dataclasses.replace(outcome, sites=sites, history=history)


def with_counts(site: SiteSummary, **changes: Any) -> SiteSummary:
    """The same hospital with other counts."""
    assert site.counts is not None
    return dataclasses.replace(site, counts=dataclasses.replace(site.counts, **changes))


def deployed_outcome(task: str = "binary", **changes: Any) -> Outcome:
    """A masked run between hospitals north, south, east, west; east and west do not show how much they bring.

    Only north shows how good the model is at home, and two more hospitals are enrolled.
    """
    outcome = masked_outcome(task)
    north, south, east, west = outcome.sites
    hidden = tuple(dataclasses.replace(site, counts=None) for site in (east, west))
    prepared = tuple(2 * rows for rows in outcome.preparation.class_rows)
    metrics = outcome.per_site["north"].metrics
    shown = {name: Shown(each.value, each.low, each.high) for name, each in metrics.items()}
    deployed = dataclasses.replace(
        outcome,
        sites=(north, south, *hidden),
        preparation=dataclasses.replace(outcome.preparation, rows=800, class_rows=prepared),
        federated=judgement(outcome.study, 240),
        per_site={"north": shown_judgement(60, shown)},
        pooled=None,
        local={},
        local_at_home={},
        deployed=True,
        left_out={"lakeside": "not-approved", "hilltop": "offline"},
    )
    return dataclasses.replace(deployed, **changes)


def outcome_of(task: str = "binary", study: Study | None = None, **changes: Any) -> Outcome:
    """An outcome in which together is a little better than each hospital alone, and like pooled."""
    study = study or study_of(task)
    weights = {"coef": np.array([[0.5, -1.0, 2.0]]), "intercept": np.array([0.25])}
    classes = tuple(200 // len(study.data.classes) for _ in study.data.classes)
    history = (
        record("prepare", 1),
        record("train", 1, loss=0.7),
        record("train", 2, {"south": "no-reply"}, loss=0.5),
        record("train", 3, loss=0.4),
        record("evaluate", 1),
    )
    outcome = Outcome(
        study=study,
        sites=tuple(SiteSummary(name, Counts(260, 260, 200, 60, classes, {"age": 3})) for name in ("north", "south")),
        preparation=preparation_of(study),
        weights=weights,
        history=history,
        federated=judgement(study),
        subgroups={},
        per_site={name: judgement(study, 60) for name in ("north", "south")},
        pooled=judgement(study),
        local={name: judgement(study) for name in ("north", "south")},
        local_at_home={name: judgement(study, 60) for name in ("north", "south")},
        attributions=("Data by A. Author, CC BY 4.0.",),
        description="A small model.",
        seconds_total=12.5,
        peak_memory_bytes=250_000_000,
        versions={"consilium": "0.1.0"},
        privacy=SUMMARY if study.privacy else None,
    )
    return dataclasses.replace(outcome, **changes)
