"""A study as one method: prepare, tune, train, evaluate. Both halves make it from the study alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shared.errors import StudyError
from shared.examples import Arrays
from shared.methods import METHODS
from shared.methods.base import PlainMean, ServerOptimizer
from shared.methods.capped_sums import CappedSums
from shared.methods.combinators import InTurn, Results, SideBySide, Stage
from shared.methods.evaluation import EvaluationMethod
from shared.methods.evaluation_private import PrivateEvaluationMethod
from shared.methods.importance import PermutedEvaluation
from shared.methods.preparation import PreparationMethod
from shared.methods.preparation_private import PrivatePreparationMethod, blank
from shared.methods.row_count import RowCount
from shared.methods.tuning import CrossValidation
from shared.preparation import Preparation
from shared.privacy import calibration, mechanisms
from shared.privacy.accounting import SampledGaussian
from shared.privacy.calibration import Multipliers, Releases, Steps
from shared.secagg import roster
from shared.study import Study
from shared.tuning import tuned, words

PREPARE, TUNE, TRAIN, EVALUATE = "prepare", "tune", "train", "evaluate"
EVERYONE = "everyone"
"""Name of the evaluation over all held-out rows; subgroups are called ``column=level``."""
DEALT = "dealt anew: "
"""Begins the name of an evaluation with the values of a column dealt anew."""


def plan_of(study: Study, optimizer: ServerOptimizer) -> InTurn:
    """Return the method that a whole study is.

    optimizer: how the aggregator moves weights with their mean; sites never use it.

    Raises: StudyError if no noise keeps the study within its ``[privacy]``.
    """
    noise = multipliers_of(study)

    def prepare(_results: Results) -> Any:
        if not METHODS[study.method.name].prepared:
            return RowCount(study.data)
        return _private_preparation(study, noise.prepare) if noise else PreparationMethod(study.data)

    # Every candidate on every fold is a method: they are made once for a preparation, not in each round.
    tune = _remembered(lambda results: _cross_validation(study, results[PREPARE], optimizer), PREPARE)
    own = _remembered(lambda results: chosen(study, results), TUNE) if study.tuning else lambda _results: study

    def train(results: Results) -> Any:
        return _training(own(results), results[PREPARE], optimizer, noise.train if noise else None)

    def evaluate(results: Results) -> Any:
        method = train(results)
        if noise:
            return _private_evaluation(study, method, results[TRAIN], results[PREPARE], noise.evaluate)
        return SideBySide(_evaluations(study, method, results))

    tuning = [Stage(TUNE, tune)] if study.tuning else []
    return InTurn([Stage(PREPARE, prepare), *tuning, Stage(TRAIN, train), Stage(EVALUATE, evaluate)])


def _remembered(make: Callable[[Results], Any], stage: str) -> Callable[[Results], Any]:
    """Return ``make``, which looks at the result of one stage alone and is not called again for the same object."""
    last: list[tuple[Any, Any]] = []

    def made(results: Results) -> Any:
        if not last or last[0][0] is not results[stage]:
            last[:] = [(results[stage], make(results))]
        return last[0][1]

    return made


def chosen(study: Study, results: Results) -> Study:
    """Return the study with the options that tuning chose; the study itself where nothing is tuned.

    results: of the stages up to tuning, at least.
    """
    return tuned(study, study.tuning.candidates[results[TUNE].chosen]) if study.tuning else study


def _cross_validation(study: Study, preparation: Preparation, optimizer: ServerOptimizer) -> CrossValidation:
    assert study.tuning is not None
    candidates = {
        words(each): _training(tuned(study, each), preparation, optimizer, None) for each in study.tuning.candidates
    }
    return CrossValidation(candidates, preparation, study.tuning.folds, study.evaluation.threshold)


def _evaluations(study: Study, method: Any, results: Results) -> dict[str, EvaluationMethod]:
    """Return how the model is judged: on everyone, on subgroups, and with each column's values dealt anew."""
    model = (method, results[TRAIN], results[PREPARE])
    bins, threshold = study.evaluation.histogram_bins, study.evaluation.threshold
    judged = {name: EvaluationMethod(*model, bins, threshold, group) for name, group in _groups(study).items()}
    columns = study.data.features if study.evaluation.importance else ()
    dealt = {f"{DEALT}{column}": PermutedEvaluation(*model, threshold, column) for column in columns}
    return {**judged, **dealt}


def multipliers_of(study: Study) -> Multipliers | None:
    """Return the noise of each stage; None for a study without ``[privacy]``.

    Raises: StudyError if no noise is enough.
    """
    if study.privacy is None:
        return None
    try:
        return calibration.multipliers(study.privacy, releases_of(study))
    except ValueError as error:
        raise StudyError(f"[privacy] epsilon and delta: {error}") from None


def releases_of(study: Study) -> Releases:
    """Return what a study with ``[privacy]`` releases, before any data are known."""
    nothing = blank(study.data)
    method = _training(study, nothing, PlainMean(), 1.0)
    state = method.start()
    train = method.asks(state)
    evaluation = _private_evaluation(study, method, method.result(state), nothing, 1.0)
    preparation = _private_preparation(study, 1.0)
    steps = train.event
    return Releases(
        prepare=preparation.asks(preparation.start()),
        train=Steps(steps.count, steps.sampling_rate) if isinstance(steps, SampledGaussian) else train,
        evaluate=evaluation.asks(evaluation.start()),
        rounds=study.method.rounds,
    )


def _training(study: Study, preparation: Preparation, optimizer: ServerOptimizer, noise: float | None) -> Any:
    kind: Any = METHODS[study.method.name]
    if noise is None:
        return kind.create(study, preparation, optimizer)
    return kind.create(study, preparation, optimizer, noise_multiplier=noise)


def _private_preparation(study: Study, noise: float) -> Any:
    return _summed(study, lambda noise: PrivatePreparationMethod(study.data, noise), noise, _patients(study))


def _private_evaluation(study: Study, method: Any, weights: Arrays, preparation: Preparation, noise: float) -> Any:
    def make(noise: float) -> PrivateEvaluationMethod:
        return PrivateEvaluationMethod(
            method,
            weights,
            preparation,
            study.evaluation.threshold,
            _groups(study),
            noise,
            honest=lambda contributors: _honest(study, contributors),
            bins=study.evaluation.histogram_bins,
        )

    return _summed(study, make, noise, _held_out(study))


def _summed(study: Study, make: Callable[[float], Any], noise: float, patients: int) -> Any:
    """Return a method of sums over patients, by its noise multiplier, for the study's unit of privacy.

    patients: for how many a whole site counts at most.
    """
    if study.privacy is None or study.privacy.unit == "patient":
        return make(noise)
    return CappedSums(make, patients, noise)


def _patients(study: Study) -> int:
    """Return for how many training patients a whole site counts at most."""
    return (study.privacy and study.privacy.patients_per_site) or 1


def _held_out(study: Study) -> int:
    """Return for how many held-out patients: as many as go with those training patients, where a fraction is held out.

    More would be more noise, and no hospital would have them.
    """
    if study.data.split_column:
        return _patients(study)
    fraction = study.data.test_fraction
    return max(1, round(_patients(study) * fraction / (1.0 - fraction)))


def _honest(study: Study, sites: int) -> int:
    """Return how many honest shares of noise a sum over so many sites is reckoned with: every site adds one share."""
    privacy, aggregation = study.privacy, study.aggregation
    colluding = privacy.colluding_sites if privacy else 0
    colluding = mechanisms.default_colluding(sites) if colluding is None else colluding
    threshold = aggregation.threshold or roster.default_threshold(sites)
    return max(1, max(threshold, aggregation.min_sites) - colluding)


def exchanges(study: Study) -> int:
    """Return how many sums a run of the study is, at most: preparation, tuning, training rounds, evaluation."""
    tuning = study.method.rounds + 1 if study.tuning else 0
    return study.method.rounds + tuning + 2


def _groups(study: Study) -> Mapping[str, tuple[str, int] | None]:
    """Return who is judged: everyone, and each level of each subgroup column."""
    groups: dict[str, tuple[str, int] | None] = {EVERYONE: None}
    for column in study.evaluation.subgroups:
        for index, level in enumerate(study.data.columns[column].levels):
            groups[f"{column}={level}"] = (column, index)
    return groups
