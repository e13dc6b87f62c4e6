"""Utility against epsilon: the steps behind ``consilium-simulate sweep``.

A study with ``[privacy]`` is run at each of several epsilons and, as the reference, without noise on all data in one
place. What is compared is the exact metric on all held-out patients, which only a simulation knows: the noised one that
a study releases would mix the model's loss with the evaluation's. Each seed is another split of the same patients, and
the same for every epsilon. Noise is drawn anew in every run.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from server.training import Observers
from shared.errors import StudyError
from shared.judgement import judge
from shared.plan import multipliers_of
from shared.study import Study
from simulations.comparison import compare, exact_sums
from simulations.hospitals import Hospitals
from simulations.local import Consortium, gather

LARGEST = 100.0
"""Largest epsilon of a study."""


@dataclass(frozen=True)
class Spread:
    """Values of one metric over the seeds, those that are defined."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean; NaN for none."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Their standard deviation; 0 for one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class Point:
    """One epsilon.

    epsilon: None for the reference without noise.
    noise_multiplier: of the training; None for the reference.
    metrics: by name.
    """

    epsilon: float | None
    noise_multiplier: float | None
    metrics: dict[str, Spread]


@dataclass(frozen=True)
class Sweep:
    """A study at several epsilons.

    points: by rising epsilon, the reference last.
    """

    study: Study
    seeds: int
    points: tuple[Point, ...]
    seconds: float

    @property
    def metric(self) -> str:
        """Name of the metric that is drawn, the study's first."""
        return next(iter(self.points[-1].metrics))


def epsilons_of(text: str) -> tuple[float, ...]:
    """Return the numbers of ``0.5,1,2``, rising, each once.

    Raises: StudyError.
    """
    try:
        epsilons = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        epsilons = ()
    if not epsilons or not all(0.0 < epsilon <= LARGEST for epsilon in epsilons):
        raise StudyError(
            f"--epsilon: expected numbers above 0 and at most {LARGEST:g}, as in 0.5,1,2. Received: {text!r}"
        )
    return epsilons


def check(study: Study) -> None:
    """Raise StudyError unless the study has ``[privacy]``."""
    if study.privacy is None:
        advice = ' and, in [method], name = "private-logistic-regression"' if study.method.name != "neural" else ""
        raise StudyError(
            f"{study.name}: a sweep over epsilon needs a study with [privacy]. Received: none. Write into the study"
            f" [privacy] with epsilon = 1.0 and delta = 1e-5, at most one over the number of patients{advice}."
        )


def sweep(
    study: Study,
    hospitals: Callable[[Study], Hospitals],
    epsilons: Sequence[float],
    seeds: int,
    tell: Callable[[str], None],
) -> Sweep:
    """Run a study at each epsilon and without noise, for each seed, and return the exact metrics.

    hospitals: where a study's data come from.
    seeds: the study's own seed and those that follow.
    tell: called with what is being done.

    Raises: StudyError if the study has no ``[privacy]``, or no noise keeps it within one of the epsilons.
    """
    from threadpoolctl import threadpool_limits

    check(study)
    started = time.perf_counter()
    at = {epsilon: _at(study, epsilon) for epsilon in epsilons}
    noise = {epsilon: multipliers_of(one) for epsilon, one in at.items()}
    values: dict[float | None, list[dict[str, float | int | None]]] = {epsilon: [] for epsilon in (*epsilons, None)}
    with threadpool_limits(limits=study.study.threads):
        for number in range(seeds):
            about = dataclasses.replace(study.study, seed=study.study.seed + number)
            seeded = dataclasses.replace(study, study=about)
            tell(f"seed {about.seed} ({number + 1} of {seeds}): hospitals check their data")
            consortium = gather(seeded, hospitals(seeded).raw)
            for epsilon in epsilons:
                tell(f"seed {about.seed} ({number + 1} of {seeds}): epsilon {epsilon:g}")
                values[epsilon].append(_private(Consortium(_at(seeded, epsilon), consortium.data)))
            tell(f"seed {about.seed} ({number + 1} of {seeds}): without noise")
            values[None].append(_reference(consortium))
    points = [
        Point(epsilon, None if epsilon is None else getattr(noise[epsilon], "train", None), _spreads(found))
        for epsilon, found in values.items()
    ]
    return Sweep(study, seeds, tuple(points), time.perf_counter() - started)


def _at(study: Study, epsilon: float) -> Study:
    assert study.privacy is not None
    return dataclasses.replace(study, privacy=dataclasses.replace(study.privacy, epsilon=epsilon))


def _quickly(study: Study) -> Study:
    """Return the study with as few resamples as there may be: a sweep shows the spread over seeds."""
    return dataclasses.replace(study, evaluation=dataclasses.replace(study.evaluation, bootstrap_replicates=100))


def _private(consortium: Consortium) -> dict[str, float | int | None]:
    """Return the exact metrics of one private run, on everybody's held-out rows."""
    plan, progress = consortium.run(Observers(clock=time.perf_counter))
    sums = exact_sums(consortium, plan, progress, list(consortium.data))
    return judge(_quickly(consortium.study), "sweep", sums).values()


def _reference(consortium: Consortium) -> dict[str, float | int | None]:
    """Return the metrics of the model without noise, on the same rows; nothing if it diverged."""
    study = _quickly(consortium.study)
    alone = dataclasses.replace(study, simulation=dataclasses.replace(study.simulation, compare=("pooled",)))
    compared = compare(Consortium(alone, consortium.data), list(consortium.data), time.perf_counter, lambda _what: None)
    return compared.pooled.values() if compared.pooled else {}


def _spreads(found: Sequence[dict[str, Any]]) -> dict[str, Spread]:
    names = dict.fromkeys(name for values in found for name in values if name != "n")
    return {name: Spread(tuple(values[name] for values in found if values.get(name) is not None)) for name in names}


def sweep_of(found: Sweep) -> dict[str, Any]:
    """Return the content of ``sweep.json``."""
    return {
        "study": found.study.name,
        "digest": found.study.digest,
        "method": found.study.method.name,
        "delta": found.study.privacy.delta if found.study.privacy else None,
        "seeds": found.seeds,
        "first_seed": found.study.study.seed,
        "points": [
            {
                "epsilon": point.epsilon,
                "noise_multiplier": point.noise_multiplier,
                "metrics": {
                    name: {
                        "mean": spread.mean if spread.values else None,
                        "deviation": spread.deviation if spread.values else None,
                        "values": list(spread.values),
                    }
                    for name, spread in point.metrics.items()
                },
            }
            for point in found.points
        ],
        "seconds": found.seconds,
    }
