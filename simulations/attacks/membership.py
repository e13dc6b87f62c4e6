"""Membership inference: who trained the released model? From the model alone, and with shadow models.

Both attacks look at the model as anybody may to whom it was released. A patient's fit is the mean over the patient's
rows of the log-odds of the true class (for a number: minus the absolute error), as the method's own ``scores`` say.

- Loss threshold (Yeom, Giacomelli, Fredrikson and Jha 2018, "Privacy Risk in Machine Learning", CSF, arXiv:1709.01604):
  patients whom the model fits well are called members.
- LiRA (Carlini, Chien, Nasr, Song, Terzis and Tramer 2022, "Membership Inference Attacks From First Principles", IEEE
  S&P, arXiv:2112.03570): shadow models are trained by the same study on random patients of the same hospitals, each
  with and without a given patient. The score is the logarithm of how much likelier the fit is under the normal
  distribution of the fits of models with the patient than of those without. With few shadow models one variance serves
  all patients, as the paper does (section VI-C).

Patients who trained are members, held-out ones are not; which is which must have been chance. A shadow model trains on
each patient with the share of the patients who trained, so that it sees as many as the model under attack.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from shared.examples import Part, concatenate
from shared.metrics import Interval, interval_of
from simulations.attacks.observed import Observed

Floats = NDArray[np.float64]

LOW_RATE = 0.01
"""False positives, as a share of those who are no members, at which an attack must be good to be one on somebody."""
_REPLICATES = 1000


@dataclass(frozen=True, eq=False)
class Attack:
    """How well scores tell members from others; 0.5 and ``LOW_RATE`` are what guessing reaches.

    auc: area under the ROC curve.
    low_rate: true positive rate where at most ``LOW_RATE`` of the others are called members.
    false_positive_rate, true_positive_rate: the ROC curve, from (0, 0) to (1, 1).
    """

    auc: Interval
    low_rate: Interval
    false_positive_rate: Floats
    true_positive_rate: Floats


@dataclass(frozen=True, eq=False)
class Membership:
    """Both attacks on one model.

    members, others: numbers of patients.
    loss: by loss threshold.
    lira: None without shadow models.
    shadows: number of them.
    """

    members: int
    others: int
    loss: Attack
    lira: Attack | None
    shadows: int


class Patients:
    """All patients of all hospitals, members first or not; their order is that of every array here."""

    def __init__(self, data: Mapping[str, SiteData]) -> None:
        self._sites = {name: concatenate(list(site.parts.values())) for name, site in data.items()}
        owners = {name: np.unique(rows.patients, return_inverse=True) for name, rows in self._sites.items()}
        self._of_row = {name: inverse for name, (_, inverse) in owners.items()}
        self._counts = {name: len(unique) for name, (unique, _) in owners.items()}
        self.members = np.concatenate(
            [np.isin(unique, data[name].parts[Part.TRAINING].patients) for name, (unique, _) in owners.items()]
        )

    def fits(self, model: Observed) -> Floats:
        """Return how well a model fits each patient, shape (patients,)."""
        means = []
        for name, rows in self._sites.items():
            own = self._of_row[name]
            sums = np.bincount(own, model.log_odds(rows), self._counts[name])
            means.append(sums / np.bincount(own, minlength=self._counts[name]))
        return np.concatenate(means)

    def dealt(self, trains: NDArray[np.bool_]) -> dict[str, SiteData]:
        """Return the hospitals' data with these patients to train on; the others are held out.

        trains: array of shape (patients,); every hospital must have one.
        """
        data, start = {}, 0
        for name, rows in self._sites.items():
            own = trains[start : start + self._counts[name]][self._of_row[name]]
            data[name] = SiteData(name, {Part.TRAINING: rows.take(own), Part.HELD_OUT: rows.take(~own)})
            start += self._counts[name]
        return data

    def some(self, share: float, drawn: np.random.Generator) -> NDArray[np.bool_]:
        """Return who trains a shadow model: each patient with this chance, and one at every hospital."""
        trains = drawn.random(len(self.members)) < share
        starts = np.cumsum([0, *self._counts.values()])
        for start, end in itertools.pairwise(starts.tolist()):
            if not trains[start:end].any():
                trains[drawn.integers(start, end)] = True
        return trains


def infer(
    data: Mapping[str, SiteData],
    model: Observed,
    train: Callable[[Mapping[str, SiteData]], Observed],
    shadows: int,
    drawn: np.random.Generator,
) -> Membership:
    """Attack a model, and return how well that went.

    data: the hospitals' patients.
    model: trained on those to train on.
    train: trains a shadow model on other hospitals' data.
    shadows: number of shadow models; LiRA needs two. One that has no estimate is left out.
    """
    patients = Patients(data)
    members = patients.members
    fits = patients.fits(model)
    present, shadow_fits = [], []
    for trains in [patients.some(float(members.mean()), drawn) for _ in range(shadows if shadows >= 2 else 0)]:
        shadow = train(patients.dealt(trains))
        if not shadow.no_estimate:
            present.append(trains)
            shadow_fits.append(patients.fits(shadow))
    lira = None
    if len(present) >= 2:
        ratios = likelihood_ratios(fits, np.array(shadow_fits), np.array(present))
        lira = measure(ratios, members, drawn)
    return Membership(int(members.sum()), int((~members).sum()), measure(fits, members, drawn), lira, len(present))


def likelihood_ratios(fits: Floats, shadow_fits: Floats, present: NDArray[np.bool_]) -> Floats:
    """Return LiRA's score of each patient, shape (patients,).

    fits: of the model under attack, shape (patients,).
    shadow_fits: array of shape (shadows, patients).
    present: whom each shadow model was trained on, shape (shadows, patients).

    A patient whom all shadow models had, or none, has the mean of the other kind shifted by what a patient's presence
    changes on average.
    """
    inside, outside = _means(shadow_fits, present), _means(shadow_fits, ~present)
    shift = float(np.nanmean(inside - outside)) if np.isfinite(inside - outside).any() else 0.0
    inside, outside = (
        np.where(np.isnan(inside), outside + shift, inside),
        np.where(np.isnan(outside), inside - shift, outside),
    )
    scores = np.zeros_like(fits)
    for sign, mean, there in ((1.0, inside, present), (-1.0, outside, ~present)):
        away = (shadow_fits - mean)[there]
        variance = max(float(np.mean(away * away)) if away.size else 0.0, 1e-12)
        scores -= sign * 0.5 * (np.square(fits - mean) / variance + np.log(variance))
    return scores


def _means(values: Floats, kept: NDArray[np.bool_]) -> Floats:
    """Return the mean over the first axis of those that are kept; NaN where none is."""
    count = kept.sum(axis=0)
    total = np.where(kept, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def measure(scores: Floats, members: NDArray[np.bool_], drawn: np.random.Generator) -> Attack:
    """Return how well scores tell members from others, with 95 % intervals by bootstrap over patients of each kind.

    scores: array of shape (patients,); higher for members.
    """
    inside, outside = scores[members], scores[~members]
    samples = np.array(
        [
            _rates(inside[drawn.integers(len(inside), size=len(inside))], outside[chosen])
            for chosen in drawn.integers(len(outside), size=(_REPLICATES, len(outside)))
        ]
    )
    auc, low_rate = _rates(inside, outside)
    return Attack(interval_of(auc, samples[:, 0]), interval_of(low_rate, samples[:, 1]), *_curve(inside, outside))


def _rates(inside: Floats, outside: Floats) -> tuple[float, float]:
    """Return the area under the ROC curve, ties counting half, and the true positive rate at ``LOW_RATE``."""
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, side="left") + np.searchsorted(ordered, inside, side="right")
    allowed = int(LOW_RATE * len(ordered))
    return float(below.mean()) / (2 * len(ordered)), float((inside > ordered[len(ordered) - 1 - allowed]).mean())


def _curve(inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    thresholds = np.unique(np.concatenate([inside, outside]))[::-1]
    rates: Sequence[Floats] = [
        1.0 - np.searchsorted(np.sort(kind), thresholds, side="left") / len(kind) for kind in (outside, inside)
    ]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])
