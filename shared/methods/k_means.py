"""K-means by Lloyd's algorithm (Lloyd 1982, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2)).

A round is one sum over the training rows: by cluster, how many rows are nearest to its centre, and their column sums;
the means are the next centres. An empty cluster keeps its centre. Several starts go side by side in one exchange until
no centre moves; that of the smallest summed squared distance wins, the first of equals. A start is drawn from the
study's seed: the mean of the prepared columns, and a tenth of their deviations times standard normal numbers. So small
a step makes the first clusters cones around the mean, of which few are empty. One last sum tells of the chosen clusters
how the label is distributed in them.

Sums are over subsets that the data choose: a cluster of one patient is that patient, and so is the difference of two
rounds in which one patient alone changed the cluster. So a hospital's patients are in clusters by groups of at least
``min_subset_patients`` who are like each other, made before anything is asked: the rows of a group are all in the
cluster whose centre is nearest to them together (``shared/methods/subsets.py``). Whatever sums are put together, of
several rounds and starts and at whatever centres, they are over whole groups. With 1 it is Lloyd's algorithm on the
pooled rows, and where one patient alone changes the cluster the totals of two rounds give that row away.

The state holds ``round``; ``phase``: 0 while centres move, then 1, and 2 when all is done; ``centres`` (starts,
clusters, d), of the chosen start alone from phase 1 on; ``mean`` (d,) of all rows; ``fit/...``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.errors import Refusal
from shared.examples import Arrays, Examples, Part
from shared.interpretation import Interpretation
from shared.layout import Entry
from shared.methods import k_means_labels, k_means_tables, subsets
from shared.methods.base import NOTHING, ROOM, Ask, Contribution, Forecast, Measurements, Total
from shared.methods.plain import PlainMethod
from shared.methods.unsupervised import Explained, Floats, check_study, rows_of, spread_of, terms_of
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness, generator
from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study

_STEP = 0.1
"""Of the drawn centres from the mean, in deviations."""
_COUNT_PRECISION = 0.5
_SUM_PRECISION = 1e-6
_MOVING, _TELLING, _DONE = range(3)


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class KMeansOptions:
    """``[method.options]`` of ``k-means``.

    clusters: how many.
    starts: how many draws of the first centres are tried.
    min_subset_patients: fewest patients of one hospital who are in clusters together; 1 for the pooled result.
    """

    clusters: Annotated[int, Field(ge=2, le=100)]
    starts: Annotated[int, Field(ge=1, le=100)] = 8
    min_subset_patients: Annotated[int, Field(ge=1)] = 5


class KMeans(PlainMethod):
    """One prepared study; weights are ``centres`` (clusters, d), the largest cluster first, and ``mean`` (d,).

    ``fit/rows`` (clusters,) says how many rows are in each, and ``fit/labels`` how the label is distributed: rows by
    class, the last column not told apart, or mean and deviation of a number.
    """

    Options: ClassVar[type[Any]] = KMeansOptions
    outputs: ClassVar[str] = "the number of its cluster, and its distance to the centre"

    def __init__(self, study: Study, preparation: Preparation) -> None:
        self.options: KMeansOptions = study.method.options
        self.rounds, self.seed = study.method.rounds, study.study.seed
        self.preparation = preparation
        self.contract = study.data
        self.max_rows = float(study.data.max_rows_per_site)
        self.terms = terms_of(preparation)
        self.bounds = np.array([term.bound for term in self.terms])
        # Centres are means of rows, or drawn and cut to the columns' bounds.
        centres = self.options.starts * self.options.clusters + 1
        self.state_norm_bound = 1.001 * math.sqrt(centres) * float(np.linalg.norm(self.bounds))

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table or images, and has a round for the last sum.

        With groups, also for ``[tuning]``.
        """
        check_study(study, "k-means")
        subsets.check_tuning(study)
        if study.method.rounds < 2:
            raise ValueError("k-means: expected rounds of at least 2, the last for the label. Received: 1")

    def start(self) -> Arrays:
        """Return the drawn centres."""
        options, d = self.options, len(self.terms)
        shape = (options.starts, options.clusters, d)
        mean, deviation = spread_of(self.preparation)
        drawn = mean + _STEP * deviation * generator(self.seed, "k-means", "start").standard_normal(shape)
        return {
            "round": np.array(0),
            "phase": np.array(_MOVING),
            "centres": np.clip(drawn, -self.bounds, self.bounds),
            "mean": np.zeros(d),
            "fit/rows": np.zeros(options.clusters),
            "fit/labels": np.zeros((options.clusters, k_means_labels.width(self.contract))),
        }

    def asks(self, state: Arrays) -> Ask:
        """Return the layout: by start and cluster, rows and column sums; then the label's distribution.

        Raises: Refusal ``state-out-of-bounds`` for centres that the study has not.
        """
        options, most, d = self.options, self.max_rows, len(self.terms)
        telling = int(state["phase"]) != _MOVING
        starts = 1 if telling else options.starts
        expected = (starts, options.clusters, d)
        if state["centres"].shape != expected:
            raise Refusal("state-out-of-bounds", f"expected centres of shape {expected}")
        entries = [
            Entry("rows", (starts, options.clusters), most, _COUNT_PRECISION),
            Entry("distance", (starts,), most * ROOM, _SUM_PRECISION),
        ]
        if not telling:
            entries.append(Entry("sums", expected, most * ROOM, _SUM_PRECISION))
        else:
            precision = _COUNT_PRECISION if self.contract.classes else _SUM_PRECISION
            entries.append(Entry("labels", (options.clusters, k_means_labels.width(self.contract)), most, precision))
        return Ask(
            part=Part.TRAINING,
            entries=tuple(entries),
            weight_bound=most,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=float(np.linalg.norm(state["centres"])),
            state_norm_bound=self.state_norm_bound,
            subset_patients=self.options.min_subset_patients,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums."""
        rows = rows_of(self.preparation.transform(examples), self.terms)
        patients = examples.patient_index
        centres = state["centres"]
        groups = [self._clusters(rows, own, examples, patients) for own in centres]
        moving = int(state["phase"]) == _MOVING
        made: dict[str, list[Any]] = {"rows": [], "distance": [], **({"sums": []} if moving else {})}
        for own, group in zip(centres, groups, strict=True):
            inside = np.eye(self.options.clusters)[group]
            made["rows"].append(inside.sum(axis=0))
            made["distance"].append(np.square(rows - own[group]).sum() / (4.0 * float(self.bounds @ self.bounds)))
            if moving:
                made["sums"].append(inside.T @ rows / self.bounds)
        arrays = {name: np.array(each) for name, each in made.items()}
        fewest = [subsets.fewest(group, patients) for group in groups]
        if not moving:
            of = (self.options.clusters, self.options.min_subset_patients)
            arrays["labels"], few = k_means_labels.sums(self.contract, groups[0], examples, patients, *of)
            fewest.append(few)
        return Contribution(arrays, float(len(rows)), min(fewest)), NOTHING

    def _clusters(
        self, rows: Floats, centres: Floats, examples: Examples, patients: subsets.Indices
    ) -> subsets.Indices:
        """Return the cluster of each row: of the nearest centre, to the rows of its group together."""
        apart, least = _distances(rows, centres), self.options.min_subset_patients
        if least == 1:
            return np.asarray(apart.argmin(axis=1))
        alike = np.zeros(len(rows), np.int64)
        groups = examples.derived(
            "groups", least, lambda: subsets.similar(subsets.columns_of(examples), alike, patients, least)
        )
        together = np.stack([np.bincount(groups, column) for column in apart.T], axis=1)
        return np.asarray(together.argmin(axis=1)[groups])

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the moved centres of all starts; or of the chosen one what its clusters hold."""
        n = max(total.weight, 1.0)
        distances = total.arrays["distance"] * 4.0 * float(self.bounds @ self.bounds) / n
        measured = {"loss": float(distances.min())}
        if int(state["phase"]) != _MOVING:
            return self._finish(state, total), measured
        rows, sums = total.arrays["rows"][:, :, None], total.arrays["sums"] * self.bounds
        centres = np.where(rows > 0, sums / np.maximum(rows, 1.0), state["centres"])
        done = int(state["round"]) + 1
        mean = sums[0].sum(axis=0) / n
        following = {**state, "round": np.array(done), "centres": centres, "mean": mean}
        if done >= self.rounds - 1 or np.array_equal(centres, state["centres"]):
            chosen = [int(distances.argmin())]
            following |= {"phase": np.array(_TELLING), "centres": centres[chosen]}
        return following, measured

    def _finish(self, state: Arrays, total: Total) -> Arrays:
        rows = total.arrays["rows"][0]
        labels = k_means_labels.told(self.contract, rows, total.arrays["labels"])
        order = np.argsort(-rows, kind="stable")
        return {
            **state,
            "round": state["round"] + 1,
            "phase": np.array(_DONE),
            "centres": state["centres"][:, order],
            "fit/rows": rows[order],
            "fit/labels": labels[order],
        }

    def finished(self, state: Arrays) -> bool:
        """Whether the label's distribution has been told."""
        return int(state["phase"]) == _DONE

    def result(self, state: Arrays) -> Arrays:
        """Return the centres of the chosen start, the mean, and what the clusters hold."""
        return {"centres": state["centres"][0], **{name: state[name] for name in ("mean", "fit/rows", "fit/labels")}}

    def scores(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return each row's cluster, from 1, and its distance to the centre, shape (n, 2)."""
        apart = _distances(rows_of(prepared, self.terms), weights["centres"])
        return np.column_stack([apart.argmin(axis=1) + 1.0, np.sqrt(apart.min(axis=1))])

    def distances(self, weights: Arrays, rows: Floats) -> tuple[Floats, Floats]:
        """Return squared distances to the nearest centre, and to the mean."""
        return _distances(rows, weights["centres"]).min(axis=1), _distances(rows, weights["mean"][None])[:, 0]

    def measure(self) -> Explained:
        """Return how the centres are judged: by how near held-out rows are."""
        return Explained(self, self.preparation, self.terms)

    def forecast(self) -> Forecast:
        """Return what a training sum holds."""
        state, least = self.start(), self.options.min_subset_patients
        clusters = f"of each of {self.options.clusters} clusters, for {self.options.starts} starts side by side"
        together = f"; groups of at least {least} of your patients are in clusters together" if least > 1 else ""
        contents = (
            f"{clusters}: how many rows are nearest to its centre, and the sum of each of their columns{together}",
            f"once, how {self.contract.label} is distributed in each cluster; classes with fewer than {least} of your"
            " patients are not told apart",
        )
        return Forecast(self.asks(state), sum(array.size for array in self.result(state).values()), contents)

    def description(self) -> str:
        """Return two sentences for the model card."""
        options = self.options
        least = (
            ""
            if options.min_subset_patients == 1
            else f" Patients of a hospital were in clusters by groups of at least {options.min_subset_patients}, so"
            " clusters differ from those of the pooled rows."
        )
        return (
            f"K-means: {options.clusters} clusters of {len(self.terms)} prepared columns by Lloyd's algorithm on sums"
            f" over all hospitals, the best of {options.starts} starts. Nothing is predicted; the label only describes"
            f" the clusters.{least}"
        )

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return how large the clusters are, their centres, and how the label is distributed in them."""
        return k_means_tables.interpretation(weights, self.contract, self.terms, self.options.min_subset_patients)


def _distances(rows: Floats, centres: Floats) -> Floats:
    """Return squared distances, shape (n, centres)."""
    squares = np.square(rows).sum(axis=1)[:, None] + np.square(centres).sum(axis=1)
    return np.asarray(np.maximum(squares - 2.0 * rows @ centres.T, 0.0))
