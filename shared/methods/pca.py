"""Principal components: the directions in which prepared rows differ most (Hotelling 1933, J. Educ. Psychol. 24).

One sum over the training rows: how many there are, the column sums, and the products of every two columns. The
covariance follows (divisor n - 1), and its eigenvectors by falling eigenvalue are the components, as those of
scikit-learn's ``PCA`` on the pooled prepared rows; of each, the loading of largest absolute value is positive. Products
travel to the last digit of a float64 (``shared/methods/two_words.py``), each by the bounds of its two columns. Prepared
columns have means near zero or are 0 and 1, so nothing is lost by summing products before the mean is known.

The state holds ``round``, ``weights/...`` and ``fit/...``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.errors import NoEstimate
from shared.examples import Arrays, Examples, Part
from shared.interpretation import Interpretation, Table, Value
from shared.methods import two_words
from shared.methods.averaging import norm, weights_of
from shared.methods.base import (
    NOTHING,
    Ask,
    Contribution,
    Forecast,
    Measurements,
    Total,
    forecast_of,
    under,
)
from shared.methods.plain import PlainMethod
from shared.methods.unsupervised import Explained, Floats, check_study, rows_of, terms_of
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness
from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study

MOST_COLUMNS = 2000
"""Beyond this the products alone would be 32 MB from each hospital."""


_NOTHING = 1e-12
"""Loadings of columns that do not vary are the last digits of float64."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class PcaOptions:
    """``[method.options]`` of ``pca``.

    components: how many components are kept.
    """

    components: Annotated[int, Field(ge=1, le=MOST_COLUMNS)] = 2


class Pca(PlainMethod):
    """One prepared study; weights are ``mean`` (d,), ``components`` (m, d); ``fit/variance`` (m,), ``fit/total`` ()."""

    Options: ClassVar[type[Any]] = PcaOptions
    outputs: ClassVar[str] = "its values on the principal components"

    def __init__(self, study: Study, preparation: Preparation) -> None:
        options: PcaOptions = study.method.options
        self.count = options.components
        self.preparation = preparation
        self.max_rows = float(study.data.max_rows_per_site)
        self.terms = terms_of(preparation)
        self.bounds = np.array([term.bound for term in self.terms])
        self.upper = np.triu_indices(len(self.terms))
        # Means lie within the columns' bounds, components have length 1.
        self.state_norm_bound = 1.001 * math.hypot(float(np.linalg.norm(self.bounds)), math.sqrt(self.count))

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table or small images with as many columns as components."""
        check_study(study, "pca")
        data, wanted = study.data, study.method.options.components
        levels = [len(data.columns[name].levels) for name in data.features]
        fewest = sum(count if count > 2 else 1 for count in levels)
        if data.images:
            fewest = data.images.height * data.images.width * data.images.channels
        if not wanted <= fewest <= MOST_COLUMNS:
            raise ValueError(
                f"pca: expected at most {MOST_COLUMNS} columns or pixels, and at most as many components. Received:"
                f" {fewest} columns, components = {wanted}"
            )

    def start(self) -> Arrays:
        """Return zeros."""
        d, m = len(self.terms), self.count
        weights = {"mean": np.zeros(d), "components": np.zeros((m, d))}
        fit = {"fit/variance": np.zeros(m), "fit/total": np.array(0.0)}
        return {"round": np.array(0), **under("weights", {**weights, **fit})}

    def _parts(self) -> tuple[two_words.Part, ...]:
        """Return what is summed, each column as a share of its bound."""
        d = len(self.terms)
        products = two_words.Part("products", (d * (d + 1) // 2,), self.max_rows)
        return (two_words.Part("sums", (d,), self.max_rows), products)

    def asks(self, state: Arrays) -> Ask:
        """Return the layout: column sums, and products of every two columns."""
        weights = weights_of(state)
        return Ask(
            part=Part.TRAINING,
            entries=two_words.entries(self._parts()),
            weight_bound=self.max_rows,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=norm({name: weights[name] for name in ("mean", "components")}),
            state_norm_bound=self.state_norm_bound,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums."""
        rows = rows_of(self.preparation.transform(examples), self.terms) / self.bounds
        sums = {"sums": rows.sum(axis=0), "products": (rows.T @ rows)[self.upper]}
        return Contribution(two_words.split(self._parts(), sums), float(len(rows))), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the components.

        Raises: NoEstimate with fewer rows than components and one more.
        """
        n, m = total.weight, self.count
        if n <= m:
            raise NoEstimate(
                f"pca has no estimate: {m} components need more than {m} training rows. Received: {n:.0f}. Lower"
                " [method.options] components."
            )
        sums = two_words.join(self._parts(), total.arrays)
        mean = sums["sums"] / n
        products = np.zeros((len(mean), len(mean)))
        products[self.upper] = sums["products"]
        centred = (products + np.triu(products, 1).T - n * np.outer(mean, mean)) / (n - 1)
        values, vectors = np.linalg.eigh(centred * np.outer(self.bounds, self.bounds))
        components = vectors[:, ::-1][:, :m].T
        largest = components[np.arange(m), np.abs(components).argmax(axis=1)]
        values = np.maximum(values[::-1], 0.0)
        fit = {"fit/variance": values[:m].copy(), "fit/total": np.array(values.sum())}
        weights = {"mean": mean * self.bounds, "components": components * np.sign(largest)[:, None], **fit}
        return {"round": np.array(1), **under("weights", weights)}, {}

    def finished(self, state: Arrays) -> bool:
        """Whether the one exchange has been made."""
        return bool(state["round"] >= 1)

    def result(self, state: Arrays) -> Arrays:
        """Return the mean, the components and their variances."""
        return weights_of(state)

    def scores(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """Return each row's values on the components, shape (n, components)."""
        return np.asarray((rows_of(prepared, self.terms) - weights["mean"]) @ weights["components"].T)

    def distances(self, weights: Arrays, rows: Floats) -> tuple[Floats, Floats]:
        """Return squared distances to what the components say of a row, and to the mean."""
        off = rows - weights["mean"]
        rest = off - (off @ weights["components"].T) @ weights["components"]
        return np.square(rest).sum(axis=1), np.square(off).sum(axis=1)

    def measure(self) -> Explained:
        """Return how the components are judged: by how much of held-out rows they explain."""
        return Explained(self, self.preparation, self.terms)

    def forecast(self) -> Forecast:
        """Return what a training sum holds."""
        return forecast_of(self, "the sum of each prepared column, and of the products of every two columns")

    def description(self) -> str:
        """Return one sentence for the model card."""
        return (
            f"Principal component analysis of {len(self.terms)} prepared columns: {self.count} components of the"
            " covariance over all hospitals' training rows, from one sum. Nothing is predicted; the label is not read."
        )

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return the variance that each component has, and the loadings."""
        variance, total = weights["fit/variance"], float(weights["fit/total"])
        shares = variance / total if total > 0 else np.zeros_like(variance)
        names = tuple(f"component {index + 1}" for index in range(self.count))
        rows = tuple(
            (name, float(value), float(share), float(so_far))
            for name, value, share, so_far in zip(names, variance, shares, np.cumsum(shares), strict=True)
        )
        head = ("component", "variance", "share of the variance", "so far")
        loadings: tuple[tuple[Value, ...], ...] = tuple(
            (term.name, *(float(value) if abs(value) > _NOTHING else 0.0 for value in column))
            for term, column in zip(self.terms, weights["components"].T, strict=True)
        )
        note = (
            "Components have length 1 and point to where their largest loading is positive. A number counts in standard"
            " deviations, a level as 0 or 1, a pixel in standard deviations of all pixels."
        )
        return Interpretation(
            tables=(Table("Variance by component", head, rows), Table("Loadings", ("column", *names), loadings, note))
        )
