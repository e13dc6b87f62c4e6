"""What a run ended with: the one value from which ``metrics.json`` and ``report.html`` are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.privacy import PrivacySummary
from shared.examples import Arrays
from shared.interpretation import Interpretation
from shared.messages import Counts, Shown
from shared.methods.tuning import Choice
from shared.metrics import Interval, Judgement
from shared.preparation import Preparation
from shared.secagg import roster
from shared.study import Study
from shared.wording import METRIC_WORDS


@dataclass(frozen=True)
class RoundRecord:
    """One exchange.

    stage: ``prepare``, ``tune``, ``train`` or ``evaluate``.
    round: number within its stage, from 1.
    measurements: what the method reported, such as ``loss``.
    seconds: wall time of the exchange and the step.
    contributors: names of the sites in the sum.
    dropped: reason code by name of every site that was asked and is not in the sum.
    noted: code by name of sites that did something odd without spoiling the round.
    bytes_up, bytes_down: payload from and to all sites.
    """

    stage: str
    round: int
    measurements: Mapping[str, float]
    seconds: float
    contributors: tuple[str, ...]
    dropped: Mapping[str, str]
    noted: Mapping[str, str]
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True)
class SiteSummary:
    """One hospital, as far as its policy lets it be shown.

    counts: how much it brings; None where its policy does not show that.
    notes: sentences for the report, such as that a class is absent.
    """

    name: str
    counts: Counts | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything that a run leaves behind, besides its checkpoint.

    weights: of the released model.
    history: every exchange, in order.
    federated: the released model on all held-out rows.
    subgroups: the same on the rows of each subgroup, by ``column=level``.
    per_site: the same on each site's own held-out rows, for sites that show it; these may have no curves.
    pooled: the model trained as if all data lay in one place, on all held-out rows; None when not compared.
    local: each site's own model on all held-out rows; local_at_home: on the site's own held-out rows. Empty when not
        compared.
    attributions: texts that the data's licences ask for.
    description: of the model, for the card.
    cautions: sentences about this run that a reader of its numbers must know.
    deployed: whether it ran between real hospitals, where nobody has the data to compare with.
    left_out: reason code by name of enrolled hospitals that did not take part.
    privacy: the guarantee of a study with ``[privacy]``. ``federated`` and ``subgroups`` are then from noised sums, and
        whatever was compared or computed from one site's data alone is not private.
    federated_exact: of such a study in a simulation, the released model on all held-out rows, without noise; a run
        between hospitals cannot know it.
    interpretation: what the released model says.
    choice: of a study that tunes, what each candidate reached, and which one was trained.

    Raises: ValueError if the study has a privacy part and there is no ``privacy``, or the other way round.
    """

    study: Study
    sites: tuple[SiteSummary, ...]
    preparation: Preparation
    weights: Arrays
    history: tuple[RoundRecord, ...]
    federated: Judgement
    subgroups: Mapping[str, Judgement]
    per_site: Mapping[str, Judgement]
    pooled: Judgement | None
    local: Mapping[str, Judgement]
    local_at_home: Mapping[str, Judgement]
    attributions: tuple[str, ...]
    description: str
    seconds_total: float
    peak_memory_bytes: int
    versions: Mapping[str, str] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    deployed: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)
    privacy: PrivacySummary | None = None
    federated_exact: Judgement | None = None
    interpretation: Interpretation = field(default_factory=Interpretation)
    choice: Choice | None = None

    def __post_init__(self) -> None:
        if (self.privacy is None) != (self.study.privacy is None):
            raise ValueError("an outcome has a privacy summary exactly if its study has a privacy part")

    @property
    def together(self) -> Judgement:
        """The released model as it is compared with others: judged without noise where that is known."""
        return self.federated_exact or self.federated

    @property
    def noised(self) -> bool:
        """Whether ``together`` is from noised sums."""
        return self.privacy is not None and self.federated_exact is None

    @property
    def compared(self) -> bool:
        """Whether another model was trained to compare with."""
        return bool(self.local) or self.pooled is not None

    @property
    def without_counts(self) -> tuple[str, ...]:
        """Names of the hospitals that do not show how much they bring."""
        return tuple(site.name for site in self.sites if site.counts is None)

    @property
    def training(self) -> tuple[RoundRecord, ...]:
        """The training rounds."""
        return tuple(record for record in self.history if record.stage == "train")

    def contributed_rounds(self, site: str) -> int:
        """Return in how many training rounds the site was counted."""
        return sum(site in record.contributors for record in self.training)

    @property
    def threshold(self) -> int | None:
        """How many hospitals remove the masks of a sum when all hold shares; None for bare words."""
        aggregation = self.study.aggregation
        if not aggregation.secure:
            return None
        return aggregation.threshold or roster.default_threshold(len(self.sites))

    @property
    def smallest_sum(self) -> int | None:
        """Fewest hospitals in a sum of the run; None for a run without sums."""
        return min((len(record.contributors) for record in self.history), default=None)

    @property
    def in_some_sums(self) -> tuple[str, ...]:
        """Names of the hospitals that are in some sums and not in others, so that sums can be subtracted."""
        counted = [set(record.contributors) for record in self.history]
        return tuple(
            site.name for site in self.sites if 0 < sum(site.name in names for names in counted) < len(counted)
        )


def patients_and_rows(outcome: Outcome) -> tuple[int | None, int]:
    """Return how many patients and rows all hospitals brought; None for patients unless every hospital shows them.

    Rows are then those that trained the model and those that judged it, which the sums say; noised sums say patients.
    """
    shown = [site.counts for site in outcome.sites if site.counts]
    if len(shown) < len(outcome.sites):
        return None, outcome.preparation.rows + outcome.federated.n
    return sum(counts.patients for counts in shown), sum(counts.rows for counts in shown)


def metrics_of(outcome: Outcome) -> dict[str, Any]:
    """Return the content of ``metrics.json``; keys are stable and documented in docs/metrics.md."""
    sites = {
        site.name: {
            "patients": site.counts.patients if site.counts else None,
            "rows": site.counts.rows if site.counts else None,
            "contributed_rounds": outcome.contributed_rounds(site.name),
        }
        for site in outcome.sites
    }
    history = [
        {
            "round": record.round,
            "loss": record.measurements.get("loss"),
            "seconds": record.seconds,
            "contributors": list(record.contributors),
            "dropped": dict(record.dropped),
        }
        for record in outcome.training
    ]
    return {
        "study": outcome.study.name,
        "digest": outcome.study.digest,
        "method": outcome.study.method.name,
        "secure_aggregation": {
            "masked": outcome.study.aggregation.secure,
            "threshold": outcome.threshold,
            "smallest": outcome.smallest_sum,
        },
        "sites": sites,
        "rounds_completed": len(history),
        "privacy": _privacy(outcome.privacy) if outcome.privacy else None,
        "federated": outcome.federated.values(),
        "federated_exact": outcome.federated_exact.values() if outcome.federated_exact else None,
        "pooled": outcome.pooled.values() if outcome.pooled else None,
        "local": {name: judgement.values() for name, judgement in outcome.local.items()},
        "local_at_home": {name: judgement.values() for name, judgement in outcome.local_at_home.items()},
        "per_site": {name: _same_metrics(outcome.federated, each) for name, each in outcome.per_site.items()},
        "subgroups": {name: judgement.values() for name, judgement in outcome.subgroups.items()},
        "intervals": {
            name: [_finite(interval.low), _finite(interval.high)]
            for name, interval in outcome.federated.metrics.items()
        },
        "interpretation": outcome.interpretation.as_plain() if outcome.interpretation else None,
        "tuning": _tuning(outcome.study, outcome.choice) if outcome.choice else None,
        "history": history,
        "deployed": outcome.deployed,
        "left_out": dict(outcome.left_out),
        "dropped": _odd(outcome.history, lambda record: record.dropped),
        "noted": _odd(outcome.history, lambda record: record.noted),
        "out_of_contract": dict(outcome.preparation.outside),
        "bytes_up": sum(record.bytes_up for record in outcome.history),
        "bytes_down": sum(record.bytes_down for record in outcome.history),
        "seconds_total": outcome.seconds_total,
        "seconds_rounds": sum(record.seconds for record in outcome.history),
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "versions": dict(outcome.versions),
    }


def _tuning(study: Study, choice: Choice) -> dict[str, Any]:
    assert study.tuning is not None
    candidates = [dict(candidate) for candidate in study.tuning.candidates]
    reached = [
        {
            "options": options,
            "mean": _finite(found.mean),
            "deviation": _finite(found.deviation),
            "folds": [_finite(value) for value in found.values],
        }
        for options, found in zip(candidates, choice.candidates, strict=True)
    ]
    return {"metric": choice.metric, "chosen": candidates[choice.chosen], "candidates": reached}


def _privacy(privacy: PrivacySummary) -> dict[str, Any]:
    return {
        "unit": privacy.unit,
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "epsilon_training": privacy.epsilon_training,
        "epsilon_held_out": privacy.epsilon_held_out,
        "noise_multipliers": {name: stage.noise_multiplier for name, stage in privacy.stages.items()},
        "epsilon_by_stage": {name: stage.epsilon for name, stage in privacy.stages.items()},
        "pld_epsilon_by_stage": {name: stage.pld_epsilon for name, stage in privacy.stages.items()},
    }


def shown_judgement(rows: int, metrics: Mapping[str, Shown]) -> Judgement:
    """Return what a hospital shows of the model on its own held-out rows, as a judgement without curves.

    What is no metric of ours, or not finite, is left out: these are the hospital's words.

    rows: held-out rows behind the metrics.
    """
    known = {name: metrics[name] for name in METRIC_WORDS if name in metrics}
    intervals = {
        name: Interval(said.value, said.low, said.high)
        for name, said in known.items()
        if all(map(math.isfinite, (said.value, said.low, said.high)))
    }
    return Judgement(intervals, max(0, rows), curves=())


def _same_metrics(federated: Judgement, judgement: Judgement) -> dict[str, float | int | None]:
    """Return the values of exactly the study's metrics: a hospital that shows its own may leave some undefined."""
    values = judgement.values()
    return {name: values.get(name) for name in federated.values()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _odd(
    history: Sequence[RoundRecord], codes: Callable[[RoundRecord], Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """Return the codes by site of every exchange that has some, by ``STAGE ROUND``."""
    return {f"{record.stage} {record.round}": dict(codes(record)) for record in history if codes(record)}
