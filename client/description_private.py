"""What the sums of a study with ``[privacy]`` hold, and how they are protected, in the hospital's words.

Written for the private methods (``shared/methods/``): what is not said here does not leave, and a test holds these
sentences against the layouts of the sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from shared.methods.base import Ask
from shared.privacy.accounting import SampledGaussian
from shared.privacy.mechanisms import Sharing, default_colluding
from shared.privacy.settings import Privacy
from shared.scores_private import BINS
from shared.study import Study
from shared.wording import number_text, plural

_ONCE = "a patient with several rows counts once, with their mean"


def contents(study: Study, asks: tuple[Ask, Ask, Ask], parameters: int) -> tuple[tuple[str, ...], ...]:
    """Return what the sums of preparation, training and evaluation hold, one sentence each.

    asks: for these sums; parameters: numbers that make the model.
    """
    prepare, train, evaluate = asks
    return _prepared(study, prepare), _trained(study, parameters, train), _evaluated(study, evaluate)


def _prepared(study: Study, ask: Ask) -> tuple[str, ...]:
    contract = study.data
    columns = [contract.columns[name] for name in contract.features]
    numbers = sum(column.type == "number" for column in columns)
    pairs = sum(len(column.levels) == 2 for column in columns)
    said = ["how many patients there are"]
    if numbers:
        said.append(
            f"of each of {plural(numbers, 'number column')}: how many patients have a value, and the sum and the sum of"
            " squares of the values, scaled by the declared range to -1 to 1"
        )
    if pairs:
        said.append(f"of each of {plural(pairs, 'category column')} with two levels: how many patients have each level")
    if contract.images:
        said.append(
            f"of the pixels of {plural(contract.images.channels, 'channel')}: mean and mean square of each image,"
            " summed over the patients"
        )
    return (*said, _ONCE, *_capped(study), _noise(ask))


def _trained(study: Study, parameters: int, ask: Ask) -> tuple[str, ...]:
    assert study.privacy is not None
    cut = f"cut to length {study.privacy.clipping_norm:g} for every patient"
    if study.privacy.unit == "site":
        return (
            f"how far this hospital's patients would move each of {parameters:,} numbers of the model, not times"
            f" patients, all together cut to length {study.privacy.clipping_norm:g}",
            _noise(ask),
        )
    if ask.event is None:
        return (f"how each patient would move the {parameters:,} numbers of the model, {cut}", _ONCE, _noise(ask))
    return (
        f"how far this hospital's patients would move each of {parameters:,} numbers of the model, not times patients",
        *_descent(ask, cut),
    )


def _evaluated(study: Study, ask: Ask) -> tuple[str, ...]:
    if len(study.data.classes) == 2:
        said = [f"how many patients of each class got each of {BINS:,} steps of the model's score"]
    else:
        said = [
            f"how many patients in and outside each class got each of {BINS:,} steps of the model's score for it",
            "for how many patients the class was called right, and for how many wrong",
        ]
    if study.evaluation.subgroups:
        groups = [
            f"{name} = {level}" for name in study.evaluation.subgroups for level in study.data.columns[name].levels
        ]
        said.append(f"all of it for everyone, and again for {', '.join(groups)}")
    return (*said, _ONCE, *_capped(study), _noise(ask))


def _capped(study: Study) -> tuple[str, ...]:
    if study.privacy and study.privacy.unit == "site":
        return (
            "a hospital with more patients than the study says counts as one with so many: its sums are scaled down",
        )
    return ()


def _noise(ask: Ask) -> str:
    assert ask.influence is not None and ask.noise_multiplier is not None
    multiplier, most = ask.noise_multiplier, ask.influence.l2
    whose = "this hospital" if ask.patient_influence else "one patient"
    return (
        f"noise of standard deviation {number_text(multiplier * most)} at least in each of these numbers of the total:"
        f" {number_text(multiplier)} times (the noise multiplier) the most that {whose} changes it,"
        f" {number_text(most)} in L2 norm"
    )


def _descent(ask: Ask, cut: str) -> Iterator[str]:
    assert isinstance(ask.event, SampledGaussian)
    steps = plural(ask.event.count, "step")
    yield (
        f"made here in {steps} of DP-SGD, each on patients drawn with probability {ask.event.sampling_rate:g}, each"
        f" patient's part {cut}; noise of {number_text(ask.event.noise_multiplier)} times (the noise multiplier) that"
        " length in each number of every step, drawn at this hospital"
    )


def guarantee(study: Study, sites: int, least: int) -> Iterator[str]:
    """Yield what noise promises, and what it rests on.

    sites: number of hospitals in the roster; least: fewest hospitals in a sum.

    Raises: StudyError if colluding hospitals could be all that there are in a sum.
    """
    privacy = study.privacy
    assert privacy is not None
    hidden = "one patient is in your data" if privacy.unit == "patient" else "your patients are in the sums at all"
    yield (
        f"Differential privacy for the whole run, epsilon {privacy.epsilon:g} and delta {privacy.delta:g}: whoever sees"
        f" all that leaves, the model too, learns little about whether {hidden}. The odds that"
        f" anybody gives to that change by at most {number_text(math.exp(privacy.epsilon), 2)} times, but for a chance"
        f" of {privacy.delta:g}."
    )
    yield from _unit(privacy)
    sites = max(sites, least)
    sharing = Sharing(sites, least, _colluding(study, sites))
    yield (
        f"Noise of a total is spread: each hospital adds at least 1/{sharing.honest} of its variance to its own"
        f" numbers, in secret, before they are masked. {plural(sharing.honest, 'honest hospital')} in a total are"
        f" enough for all of it: the guarantee holds while at most {sharing.colluding} of {sites} give theirs away to"
        " the coordinator. Without its masks your own sum would have its share alone."
    )


def _unit(privacy: Privacy) -> Iterator[str]:
    if privacy.unit == "site":
        yield (
            "The unit is a hospital: sums with your patients' contributions, and with zeros in their place, are told"
            " apart no better than this. That your hospital takes part is public, and what is true of all hospitals"
            " alike is no secret."
        )
        yield (
            "Your ledger is in patients' units: it is charged the most that the same noise lets be learned about one of"
            " your patients, which may be about twice the study's epsilon."
        )
        return
    yield (
        "The unit is one patient at one hospital, with all rows: data with and without that patient are told apart no"
        " better than this. Somebody who is a patient at two hospitals is two, and what is true of all patients alike"
        " is no secret."
    )
    yield ("Patients to train on pay for preparation and training, those held out for evaluation; nobody is both.")


def _colluding(study: Study, sites: int) -> int:
    assert study.privacy is not None
    stated = study.privacy.colluding_sites
    return default_colluding(sites) if stated is None else stated
