"""Random forest: trees on random parts of the patients and of the columns, averaged.

Breiman, "Random Forests", Machine Learning 45 (2001), over binned columns. Classes: splits by Gini impurity, leaves say
the shares of the classes; a number: splits by variance, leaves say the mean. Each tree is grown on a part of the
patients drawn without replacement, with chance ``sample_fraction``: that bags as well as the bootstrap (Friedman and
Hall, J. Statist. Plann. Inference 137(3), 2007), is what ranger does with ``replace = FALSE``, does not favour columns
as the bootstrap does (Strobl et al. 2007, doi 10.1186/1471-2105-8-25), and lets a leaf's rows be so many rows and not
one row many times. Whether a patient is in a tree follows from a keyed hash of the patient, so all rows of one are, or
none, at whichever hospital. A node's columns are drawn from the study's seed before anything is summed.

All trees of a level grow in one exchange, so a forest takes at most 1 + ``max_depth`` exchanges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared import randomness
from shared.examples import Arrays
from shared.methods import tree_method, trees
from shared.methods.tree_growth import Criterion, Places, Rows
from shared.methods.tree_method import UNIT, TreeMethod
from shared.methods.tree_reading import Speech
from shared.methods.trees import Floats, Trees
from shared.preparation import Preparation, Prepared
from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study

CERTAIN = 1e-6
"""Probabilities are kept so far from 0 and 1."""
_SHARING = 16
"""Trees that share a hash of a patient: each has 32 of its 512 bits."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class RandomForestOptions:
    """``[method.options]`` of ``random-forest``.

    trees: number of trees.
    max_depth: splits from a root to a leaf, at most.
    bins: into which a number column is cut, by quantiles.
    max_features: columns that a node may split on: a number, or the square root of their number.
    min_samples_leaf: fewest rows in a leaf, of all hospitals.
    sample_fraction: chance of a patient to be in a tree's part.
    min_subset_patients: fewest patients of one hospital in a node; where there would be fewer, it stops there.
    """

    trees: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_depth: Annotated[int, Field(ge=1, le=12)] = 8
    bins: Annotated[int, Field(ge=2, le=256)] = 32
    max_features: Literal["sqrt"] | Annotated[int, Field(ge=1)] = "sqrt"
    min_samples_leaf: Annotated[int, Field(ge=1)] = 5
    sample_fraction: Annotated[float, Field(gt=0, le=1)] = 0.632
    min_subset_patients: Annotated[int, Field(ge=1)] = 5


class RandomForest(TreeMethod):
    """One prepared study."""

    Options: ClassVar[type[Any]] = RandomForestOptions
    options: RandomForestOptions

    def __init__(self, study: Study, preparation: Preparation) -> None:
        super().__init__(study, preparation)
        self.planted = self.most = self.options.trees
        self.channels = self.classes or 2
        self.outputs_of_leaf = self.bases = self.classes or 1
        self.bound = 1.0
        self.summed = "how many rows of each class" if self.classes else "how many rows, and the sum of their labels"
        features, wanted = len(preparation.feature_names), self.options.max_features
        self.columns = max(1, int(features**0.5)) if wanted == "sqrt" else min(wanted, features)
        quality, rows, unit = (_purity, _all, 1.0) if self.classes else (_closeness, _counted, UNIT)
        self.criterion = Criterion(quality, rows, self.options.min_samples_leaf, unit)

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table, without ``[privacy]``, and has rounds for every level."""
        tree_method.check(study, 1 + study.method.options.max_depth, "random-forest")

    def candidates(self, trees: Trees) -> NDArray[np.int64]:
        """Return the columns drawn for each open node."""
        nodes, features = trees.open, len(self.preparation.feature_names)
        found = np.empty((len(nodes), self.columns), np.int64)
        for place, node in enumerate(nodes.tolist()):
            drawn = columns_of(self.seed, int(trees.tree[node]), int(trees.depth[node]), features, self.columns)
            found[place] = drawn[trees.path[node]]
        return found

    def begin(self, rows: Rows, tree: int) -> NDArray[np.int64]:
        """Return the rows of the patients in a tree's part."""
        first = tree - tree % _SHARING
        if first not in rows.parts:
            rows.parts.clear()
            together = range(first, first + _SHARING)
            rows.parts[first] = in_part(rows.names, self.seed, together, self.options.sample_fraction)
        return np.flatnonzero(rows.parts[first][rows.patients, tree - first])

    def tally(self, trees: Trees, base: Floats, rows: Rows, labels: Floats) -> Callable[..., Floats]:
        """Return the function that counts rows by class, or rows and their labels."""
        if self.classes:
            classes = labels.astype(np.int64)

            def by_class(_tree: int, at: Places, place: NDArray[np.int64], size: int) -> Floats:
                cells = place * self.classes + classes[at[0]][:, None]
                counts = np.bincount(cells.ravel(), minlength=size * self.classes)
                return counts.reshape(size, self.classes).astype(np.float64)

            return by_class

        def by_number(_tree: int, at: Places, place: NDArray[np.int64], size: int) -> Floats:
            cells, summed = place.ravel(), np.repeat(labels[at[0]], place.shape[1])
            return np.stack([np.bincount(cells, weights, size) for weights in (None, summed)], axis=1)

        return by_number

    def base(self, labels: Floats) -> Floats:
        """Return the shares of the classes, or the mean: what a tree says that has no rows."""
        return np.asarray(labels / labels.sum() if self.classes else labels[1:] / labels[0])

    def leaf(self, base: Floats, sums: Floats) -> Floats:
        """Return shares of classes, or means."""
        rows = self.criterion.rows(sums)[:, None]
        counted = sums if self.classes else sums[:, 1:]
        return np.where(rows > 0, counted / np.maximum(rows, 1.0), base)

    def closed(self, sums: Floats) -> NDArray[np.bool_]:
        """Return whether there are too few rows to split, or only those of one class."""
        few = super().closed(sums)
        return few | ((sums > 0).sum(axis=1) < 2) if self.classes else few

    def scores(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return log-odds of the mean of the trees' probabilities, or the mean of their numbers."""
        bins, _, grown = self._read(weights)
        said = np.zeros((len(prepared), self.outputs_of_leaf))
        for _, each in trees.predict(grown, range(len(grown.roots)), bins, bins.codes(prepared.x)):
            said += each
        said /= len(grown.roots)
        if self.classes:
            said = np.clip(said, CERTAIN, 1.0 - CERTAIN)
            return np.asarray(np.log(said) - np.log1p(-said))
        low, high = self.label_range
        return low + (high - low) * said

    def speech(self, grown: Trees, base: Floats) -> Speech:
        """Return the trees' mean, in words."""
        shares = grown.value / len(grown.roots)
        if not self.classes:
            low, high = self.label_range
            return Speech((self.contract.label,), (high - low) * shares, np.array([low]))
        told = slice(1, None) if self.classes == 2 else slice(None)
        names = tuple(f"probability of {name}" for name in self.contract.classes[told])
        return Speech(names, shares[:, told], np.zeros(len(names)))

    def description(self) -> str:
        """Return two sentences for the model card."""
        options = self.options
        share = f"{100 * options.sample_fraction:.0f} %"
        return (
            f"Random forest of {options.trees} trees, at most {options.max_depth} deep, grown from sums over all"
            f" hospitals by node and bin; each tree on {share} of the patients. A leaf has at"
            f" least {options.min_samples_leaf} rows."
        )


def _all(sums: Floats) -> Floats:
    return np.asarray(sums.sum(axis=1))


def _purity(sums: Floats) -> Floats:
    """Return rows times (1 - Gini impurity)."""
    return np.asarray(np.square(sums).sum(axis=1) / sums.sum(axis=1))


def _counted(sums: Floats) -> Floats:
    return sums[:, 0]


def _closeness(sums: Floats) -> Floats:
    """Return what the variance is smaller for, times rows: (sum of labels)^2 / rows."""
    return np.asarray(np.square(sums[:, 1]) / sums[:, 0])


@lru_cache(maxsize=4096)
def columns_of(seed: int, tree: int, depth: int, features: int, count: int) -> NDArray[np.int64]:
    """Return the columns that each node of a tree's level may split on, by its path, shape (2**depth, count)."""
    drawn = randomness.generator(seed, "columns", tree, depth).random((2**depth, features))
    return np.sort(np.argsort(drawn, axis=1, kind="stable")[:, :count], axis=1)


def in_part(patients: NDArray[np.str_], seed: int, trees: range, fraction: float) -> NDArray[np.bool_]:
    """Return which patients each tree is grown on, shape (n, len(trees)): a keyed hash of the patient says.

    patients: array of shape (n,), text.
    trees: so many as ``_SHARING`` from a multiple of it on.
    """
    key = hashlib.blake2b(f"{seed}/{trees.start}".encode(), digest_size=32, person=b"consilium-part").digest()
    digests = b"".join(hashlib.blake2b(each.encode(), digest_size=64, key=key).digest() for each in patients.tolist())
    drawn = np.frombuffer(digests, dtype="<u4").reshape(len(patients), _SHARING)
    return drawn < round(fraction * 2**32)
