"""One more level of trees from sums: what a hospital adds up at each open node, and which split the sums give.

At an open node, for each column that the node may split on, the rows are counted by bin, and with them what the method
sums (classes, gradients). The best split follows from the totals alone: the largest gain, of equal ones that of the
lowest column, then bin. This is exact greedy growth over the bins (Breiman et al. 1984; Friedman 2001, Annals of
Statistics 29(5); Chen and Guestrin 2016, arXiv:1603.02754, Algorithm 1).

A hospital's patients in a node are a subset that the data choose. Where a split would divide them into a part of fewer
than ``min_patients`` and the rest, the hospital stops there: its rows leave the tree at that node, so that neither the
small part nor, by subtraction from the node, its sibling is summed. With 1 nothing is held back, and the trees are
those of the pooled rows.

Boosting grows all its trees on the same rows, so parts of two trees could differ by one patient. There a hospital's
patients go through all trees in groups that were made before (``Rows.groups``), each to the side where most of its rows
belong: parts, and sums and differences of parts, are then of whole groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.methods import trees as forest
from shared.methods.subsets import patients_in
from shared.methods.tree_bins import Bins
from shared.methods.trees import LEAF, OPEN, Floats, Ints, Trees

SMALLEST_GAIN = 1e-9
"""Least gain of a split for each row of its node: less is the last digits of float64."""
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the sums of one level stand.

    nodes: array of shape (m,): open nodes, tree by tree.
    features: array of shape (m, c): columns that each may split on, growing.
    firsts: array of shape (m, c): where the bins of each begin.
    size: number of bins in all.
    """

    nodes: NDArray[np.int64]
    features: NDArray[np.int64]
    firsts: NDArray[np.int64]
    size: int


def layout(nodes: NDArray[np.int64], features: NDArray[np.int64], bins: Bins) -> Layout:
    """Return the layout of these nodes and columns."""
    widths = bins.widths[features]
    ends = np.cumsum(widths.ravel()).reshape(widths.shape)
    return Layout(nodes, features, ends - widths, int(widths.sum()))


@dataclass(frozen=True, eq=False)
class Rows:
    """A hospital's training rows as trees see them.

    bins, codes: of the columns; codes is an array of shape (n, p), from ``Bins.codes``.
    patients: array of shape (n,): number of each row's patient.
    names: the patients, by number.
    groups: array of shape (n,): in which group each row goes through the trees; None where it goes alone.
    walked, parts, scored: what the last questions gave, so that it need not be found again: where the rows stood, which
        patients some trees are grown on, and what the finished trees say.
    """

    bins: Bins
    codes: Ints
    patients: NDArray[np.int64]
    names: NDArray[np.str_]
    groups: NDArray[np.int64] | None = None
    walked: list[tuple[Trees, dict[int, Places]]] = field(default_factory=list)
    parts: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    scored: list[tuple[Trees, Floats, Floats]] = field(default_factory=list)

    def people(self, rows: NDArray[np.int64], place: NDArray[np.int64], places: int) -> NDArray[np.int64]:
        """Return how many patients have a row in each place, shape (places,)."""
        if len(self.names) < len(self.patients):
            return patients_in(place, self.patients[rows], places)
        return np.bincount(place, minlength=places)


Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows of one tree, and the node at which each stands; rows that left the tree are not there."""


def walk(trees: Trees, rows: Rows, begin: Callable[[int], NDArray[np.int64]], min_patients: int) -> dict[int, Places]:
    """Return where the rows of each tree with an open node stand.

    begin: from a tree's number to the rows that it is grown on.
    """
    known, before = rows.walked[0] if rows.walked else (trees, {})
    if not extends(trees, known):
        before = {}
    roots, limit = trees.roots, forest.limits(trees, rows.bins)
    places = {}
    for tree in np.unique(trees.tree[trees.open]).tolist():
        at = before.get(tree) or _root(rows, begin(tree), int(roots[tree]), min_patients)
        while len(at[1]) and np.any(trees.feature[at[1]] >= 0):
            at = _step(trees, limit, rows, at, min_patients)
        places[tree] = at
    rows.walked[:] = [(trees, places)]
    return places


def extends(trees: Trees, known: Trees) -> bool:
    """Whether trees are the known ones with some open nodes decided."""
    if len(known) > len(trees):
        return False
    decided = known.feature != OPEN
    return all(
        np.array_equal(getattr(known, name)[decided], getattr(trees, name)[: len(known)][decided])
        for name in ("feature", "bin", "left")
    )


def _root(rows: Rows, own: NDArray[np.int64], root: int, min_patients: int) -> Places:
    if rows.people(own, np.zeros(len(own), np.int64), 1)[0] < min_patients:
        own = own[:0]
    return own, np.full(len(own), root)


def _step(trees: Trees, limit: Ints, rows: Rows, at: Places, min_patients: int) -> Places:
    """Return where the rows stand one level deeper; those at leaves are done. All open nodes are of one depth."""
    own, node = at
    inside = trees.feature[node] >= 0
    own, node = own[inside], node[inside]
    right = rows.codes.ravel()[own * rows.codes.shape[1] + trees.feature[node]] > limit[node]
    if rows.groups is not None:
        group = rows.groups[own]
        right = (2 * np.bincount(group, right) > np.bincount(group))[group]
    child = trees.left[node] + right
    if min_patients > 1:
        first = int(child.min())
        people = rows.people(own, child - first, int(child.max()) - first + 2)
        small = (people > 0) & (people < min_patients)
        sibling = child - first + np.where(right, -1, 1)
        # A sibling before the first child has nobody; index -1 is the last place, which is empty too.
        stays = ~(small[child - first] | small[sibling])
        own, child = own[stays], child[stays]
    return own, child


def sums(
    layout: Layout,
    trees: Trees,
    rows: Rows,
    places: dict[int, Places],
    tally: Callable[[int, Places, NDArray[np.int64], int], Floats],
    channels: int,
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the sums of a level, shape (layout.size, channels), and how many patients are in each node that has some.

    tally: from (tree, where its rows stand, the place of each of their bins, number of places) to the sums by place;
        the places are an array of shape (rows, c).
    """
    total = np.zeros((layout.size, channels))
    rank = np.full(len(trees), -1)
    rank[layout.nodes] = np.arange(len(layout.nodes))
    # Codes number the bins of all columns; here each begins where the layout says.
    shift = layout.firsts - rows.bins.firsts[layout.features]
    ends = np.append(layout.firsts[:, 0], layout.size)
    counts = [np.zeros(0, np.int64)]
    for tree, first, last in _by_tree(trees.tree[layout.nodes]):
        own, node = places[tree]
        at = rank[node]
        own, at = own[at >= 0], at[at >= 0]
        if not len(own):
            continue
        people = rows.people(own, at - first, last - first)
        counts.append(people[people > 0])
        start, size = int(ends[first]), int(ends[last] - ends[first])
        index = own[:, None] * rows.codes.shape[1] + layout.features[at]
        place = rows.codes.ravel()[index] + (shift[at] - start)
        total[start : start + size] = tally(tree, (own, at), place, size)
    return total, np.concatenate(counts)


def _by_tree(tree: Ints) -> Iterator[tuple[int, int, int]]:
    """Yield (tree, its first, its end) of runs of equal numbers."""
    starts = np.flatnonzero(np.diff(tree, prepend=-1))
    for first, last in zip(starts.tolist(), [*starts[1:].tolist(), len(tree)], strict=True):
        yield int(tree[first]), first, last


@dataclass(frozen=True)
class Criterion:
    """What a split is chosen by.

    quality: from sums, shape (k, channels), to a number that a split shall make larger, shape (k,).
    rows: from sums to how many rows they are over, shape (k,).
    min_rows: fewest rows on each side.
    unit: sums are whole multiples of it, so that they add exactly.
    """

    quality: Callable[[Floats], Floats]
    rows: Callable[[Floats], Floats]
    min_rows: int
    unit: float


@dataclass(frozen=True, eq=False)
class Split:
    """What the totals say of m open nodes.

    feature, bin: arrays of shape (m,): where each is split best; ``LEAF`` and 0 where no split gains.
    gain: array of shape (m,); 0 without a split.
    here, left, right: arrays of shape (m, channels): sums of the node, and of the two sides of its split.
    """

    feature: Ints
    bin: Ints
    gain: Floats
    here: Floats
    left: Floats
    right: Floats


def best(layout: Layout, bins: Bins, total: Floats, criterion: Criterion) -> Split:
    """Return the best split of each node; ties go to the lowest column, then bin.

    total: array of shape (layout.size, channels), over all sites.
    """
    # In whole units, running sums over many nodes are exact.
    whole = np.rint(total / criterion.unit).astype(np.int64)
    ends = np.append(layout.firsts[:, 0], layout.size)
    parts = []
    for first in range(0, len(layout.nodes), _CHUNK):
        last = min(first + _CHUNK, len(layout.nodes))
        features, starts = layout.features[first:last], layout.firsts[first:last] - ends[first]
        parts.append(_best(whole[ends[first] : ends[last]], features, starts, bins.widths[features], criterion))
    return Split(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _best(
    whole: NDArray[np.int64],
    features: NDArray[np.int64],
    starts: NDArray[np.int64],
    widths: NDArray[np.int64],
    criterion: Criterion,
) -> tuple[Ints, Ints, Floats, Floats, Floats, Floats]:
    """Return the fields of ``Split`` of some nodes. starts, widths: of each node's columns, shape (m, c)."""
    running = np.concatenate([np.zeros((1, whole.shape[1]), np.int64), np.cumsum(whole, axis=0)])
    before = running[starts.ravel()]
    of_column = running[(starts + widths).ravel()] - before
    column = np.repeat(np.arange(starts.size), widths.ravel())
    left = (running[1:] - before[column]) * criterion.unit
    right = of_column[column] * criterion.unit - left
    here = of_column[:: starts.shape[1]] * criterion.unit
    with np.errstate(divide="ignore", invalid="ignore"):
        score = criterion.quality(left) + criterion.quality(right)
        unsplit = criterion.quality(here)
    score[np.minimum(criterion.rows(left), criterion.rows(right)) < max(criterion.min_rows, 1)] = -np.inf
    top = np.maximum.reduceat(score, starts[:, 0])
    node = column // starts.shape[1]
    at = np.flatnonzero(score == top[node])
    at = at[np.unique(node[at], return_index=True)[1]]
    gain = np.where(np.isfinite(top), top - unsplit, 0.0)
    splits = gain > SMALLEST_GAIN * criterion.rows(here)
    feature = np.where(splits, features.ravel()[column[at]], LEAF)
    cut = np.where(splits, at - starts.ravel()[column[at]], 0)
    gain = np.where(splits, gain, 0.0)
    return feature.astype(np.int32), cut.astype(np.int32), gain, here, left[at], right[at]


def grow(
    trees: Trees,
    nodes: NDArray[np.int64],
    split: Split,
    criterion: Criterion,
    say: Callable[[Floats], Floats],
    closed: Callable[[Floats], NDArray[np.bool_]],
    max_depth: int,
) -> Trees:
    """Return the trees with their open nodes decided, and the children of those that split.

    nodes: the open nodes, in the order of ``split``.
    say: from sums to what leaves of them say, shape (k, outputs).
    closed: from sums to whether nothing is gained by splitting further, shape (k,).
    """
    feature, cut, left = trees.feature.copy(), trees.bin.copy(), trees.left.copy()
    value, weight, gain = trees.value.copy(), trees.weight.copy(), trees.gain.copy()
    feature[nodes], cut[nodes], gain[nodes] = split.feature, split.bin, split.gain
    # What any other node says, its parent's split has given.
    rooted = trees.depth[nodes] == 0
    value[nodes[rooted]], weight[nodes[rooted]] = say(split.here[rooted]), criterion.rows(split.here[rooted])
    parents = nodes[split.feature >= 0]
    left[parents] = len(trees) + 2 * np.arange(len(parents))
    decided = Trees(feature, cut, left, value, weight, gain, trees.tree, trees.depth, trees.path)
    both, turns = np.repeat(parents, 2), np.tile(np.array([0, 1], np.int32), len(parents))
    sums = np.stack([split.left, split.right], axis=1)[split.feature >= 0].reshape(len(both), split.left.shape[1])
    depth, blank = trees.depth[both] + 1, np.zeros(len(both), np.int32)
    waiting = np.where(closed(sums) | (depth == max_depth), LEAF, OPEN).astype(np.int32)
    path = 2 * trees.path[both] + turns
    rows, nothing = criterion.rows(sums), np.zeros(len(both))
    children = Trees(waiting, blank, blank, say(sums), rows, nothing, trees.tree[both], depth, path)
    return forest.join(decided, children)
