"""Decision trees as arrays: one forest of binary trees, whose nodes a state can carry and a hospital can check.

A row goes left at a node where its bin of the node's column is at most the node's ``bin``, else right
(Breiman, Friedman, Olshen, Stone, "Classification and Regression Trees", 1984). Nodes stand in the order in which they
were made, so a child comes after its parent, and the right child after the left. An ``OPEN`` node waits for its sums.

What a state says is checked before a row is looked at: every node is a root or the child of one other node, columns and
bins exist, no tree is deeper than the study says. Anything else is a ``ProtocolError``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProtocolError
from shared.examples import Arrays
from shared.methods.tree_bins import Bins

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

LEAF, OPEN = -1, -2
"""What stands for a column where a node has none: it stays a leaf, or its sums are asked for next."""
STORED = ("feature", "bin", "left", "value", "fit/weight", "fit/gain")
"""Names of the arrays that make trees; no score is made of those under ``fit/``."""


@dataclass(frozen=True, eq=False)
class Trees:
    """N nodes of some trees.

    feature: array of shape (N,), int32: column of a split, ``LEAF`` or ``OPEN``.
    bin: array of shape (N,), int32: largest bin that goes left.
    left: array of shape (N,), int32: the left child of a split; the right one stands next to it. 0 elsewhere.
    value: array of shape (N, outputs): what the tree says of a row that ends here.
    weight: array of shape (N,): rows that came here, of all sites.
    gain: array of shape (N,): how much the split improved the trees' criterion; 0 for a leaf.
    tree, depth, path: arrays of shape (N,), int32: which tree; how deep; and the turns that lead here in binary,
        1 for right. They follow from the others.
    """

    feature: Ints
    bin: Ints
    left: Ints
    value: Floats
    weight: Floats
    gain: Floats
    tree: Ints
    depth: Ints
    path: Ints

    def __len__(self) -> int:
        return len(self.feature)

    @property
    def roots(self) -> NDArray[np.int64]:
        """Nodes at which the trees begin, tree by tree."""
        return np.flatnonzero(self.depth == 0)

    @property
    def open(self) -> NDArray[np.int64]:
        """Nodes that wait for their sums, tree by tree."""
        nodes = np.flatnonzero(self.feature == OPEN)
        return nodes[np.argsort(self.tree[nodes], kind="stable")]

    def arrays(self) -> dict[str, Floats]:
        """Return the arrays that ``read`` takes, all float64: weights are real numbers, whole ones too."""
        return {name: np.asarray(getattr(self, name.removeprefix("fit/")), np.float64) for name in STORED}


def none(outputs: int) -> Trees:
    """Return no tree."""
    ints, floats = np.zeros(0, np.int32), np.zeros(0)
    return Trees(ints, ints, ints, np.zeros((0, outputs)), floats, floats, ints, ints, ints)


def plant(trees: Trees, count: int) -> Trees:
    """Return the trees and ``count`` more, each an open root."""
    start, planted = len(trees.roots), np.zeros(count, np.int32)
    value = np.zeros((count, trees.value.shape[1]))
    tree = np.arange(start, start + count, dtype=np.int32)
    more = Trees(planted + OPEN, planted, planted, value, np.zeros(count), np.zeros(count), tree, planted, planted)
    return join(trees, more)


def join(trees: Trees, more: Trees) -> Trees:
    """Return the nodes of both."""
    return Trees(*(np.concatenate([getattr(trees, name), getattr(more, name)]) for name in Trees.__match_args__))


def read(arrays: Arrays, bins: Bins, outputs: int, max_depth: int) -> Trees:
    """Return the trees that a state holds.

    outputs: numbers that a leaf says.

    Raises: ProtocolError ``bad-trees`` if they are no trees over these bins, or deeper than ``max_depth``.
    """
    trees = _typed(arrays, outputs)
    size, feature, left = len(trees), trees.feature, trees.left
    split = np.flatnonzero(feature >= 0)
    if np.any(feature < OPEN) or np.any(feature >= len(bins.widths)):
        raise _bad("columns exist")
    if np.any(trees.bin[split] < 0) or np.any(trees.bin[split] > bins.widths[feature[split]] - 2):
        raise _bad("both sides of a split have bins")
    if np.any(left[split] <= split) or np.any(left[split] > size - 2):
        raise _bad("children come after their parents")
    children = np.concatenate([left[split], left[split] + 1])
    of = np.bincount(children, minlength=size)
    if np.any(of > 1):
        raise _bad("each node has one parent")
    level = np.flatnonzero(of == 0)
    trees.tree[level] = np.arange(len(level))
    for depth in range(max_depth + 1):
        trees.depth[level] = depth
        level = level[feature[level] >= 0]
        for turn in (0, 1):
            trees.tree[left[level] + turn] = trees.tree[level]
            trees.path[left[level] + turn] = 2 * trees.path[level] + turn
        level = np.concatenate([left[level], left[level] + 1])
    if len(level):
        raise _bad(f"no tree is deeper than {max_depth}")
    return trees


def _typed(arrays: Arrays, outputs: int) -> Trees:
    stored = [arrays[name] for name in STORED]
    size = stored[0].shape[0] if stored[0].ndim == 1 else -1
    shapes = [(size, outputs) if name == "value" else (size,) for name in STORED]
    if [array.shape for array in stored] != shapes or any(array.dtype != np.float64 for array in stored):
        raise _bad("the arrays have the shapes of one list of nodes, float64")
    if not all(np.isfinite(array).all() for array in stored):
        raise _bad("numbers are finite")
    if any(np.abs(array).max(initial=0.0) >= 2**31 or np.any(array != np.rint(array)) for array in stored[:3]):
        raise _bad("columns, bins and children are whole numbers")
    if any(np.any(array < 0) for array in stored[4:]):
        raise _bad("rows and gains are not negative")
    feature, cut, left = (array.astype(np.int32) for array in stored[:3])
    return Trees(feature, cut, left, *stored[3:], *(np.zeros(size, np.int32) for _ in range(3)))


def _bad(expected: str) -> ProtocolError:
    return ProtocolError("bad-trees", f"expected trees in which {expected}")


def limits(trees: Trees, bins: Bins) -> Ints:
    """Return the largest code that goes left at each node, shape (N,); see ``Bins.codes``."""
    return np.asarray(bins.firsts[np.maximum(trees.feature, 0)] + trees.bin, dtype=np.int32)


def predict(trees: Trees, which: Iterable[int], bins: Bins, codes: Ints) -> Iterable[tuple[int, Floats]]:
    """Yield (number of the tree, what it says of each row, shape (n, outputs)).

    which: numbers of trees.
    codes: array of shape (n, features), from ``Bins.codes``.
    """
    roots, rows = trees.roots, np.arange(len(codes)) * codes.shape[1]
    flat = codes.ravel()
    # A leaf is its own left child, and every code goes left there.
    leaf = trees.feature < 0
    left = np.where(leaf, np.arange(len(trees)), trees.left)
    limit = np.where(leaf, np.iinfo(np.int32).max, limits(trees, bins))
    feature = np.maximum(trees.feature, 0)
    depths = np.zeros(len(roots), np.int64)
    np.maximum.at(depths, trees.tree, trees.depth)
    for number in which:
        node = np.full(len(codes), roots[number])
        for _ in range(depths[number]):
            node = left[node] + (flat[rows + feature[node]] > limit[node])
        yield number, trees.value[node]
