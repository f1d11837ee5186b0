"""A k-d tree over points, and each point's nearest neighbours, in numba.

The nodes are halves of a permutation of the points: node i has the children 2 i + 1 and 2 i + 2, and all leaves lie at
the same depth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.running.compiled import njit

_LEAF_SIZE = 12


@dataclass(frozen=True)
class PointTree:
    """A k-d tree.

    Attributes:
        order: int64 [n], row of each point of the tree in the array that it was made of.
        points: float64 [n, 3] (m), in the order of the tree.
        bounds: int64 [nodes, 2], the points [start, end) of each node.
        low, high: float64 [nodes, 3], corners of the nodes' bounding boxes (m).
    """

    order: NDArray[np.int64]
    points: NDArray[np.float64]
    bounds: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def build_tree(xyz: NDArray[np.float64]) -> PointTree:
    """A tree of the points [n, 3], n > 0, with at most 12 of them in a leaf."""
    depth = max(0, int(np.ceil(np.log2(len(xyz) / _LEAF_SIZE))))
    order, points = np.arange(len(xyz)), np.array(xyz, np.float64, order="C")
    return PointTree(order, points, *_split_nodes(order, points, depth))


def nearest_neighbors(tree: PointTree, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `count` < n nearest other points of each: int64 [n, count], and their squared distances, float64 (m²)."""
    return _nearest(tree.points, tree.bounds, tree.low, tree.high, count)


@njit(cache=True, nogil=True)
def _split_nodes(order, points, depth):  # type: ignore[no-untyped-def]
    """Permutes order and points into the tree's; per node its range and its bounding box."""
    num_nodes = 2 ** (depth + 1) - 1
    bounds = np.empty((num_nodes, 2), np.int64)
    low, high = np.empty((num_nodes, 3)), np.empty((num_nodes, 3))
    bounds[0] = 0, len(points)
    for node in range(num_nodes):
        start, end = bounds[node]
        low[node], high[node] = points[start], points[start]
        for i in range(start + 1, end):
            for axis in range(3):
                low[node, axis] = min(low[node, axis], points[i, axis])
                high[node, axis] = max(high[node, axis], points[i, axis])
        if 2 * node + 2 < num_nodes:
            middle = (start + end) // 2
            _partition(order, points, start, end, middle, np.argmax(high[node] - low[node]))
            bounds[2 * node + 1] = start, middle
            bounds[2 * node + 2] = middle, end
    return bounds, low, high


@njit(cache=True, nogil=True)
def _partition(order, points, start, end, middle, axis):  # type: ignore[no-untyped-def]
    """Moves the points that are lower along the axis before `middle`, the others behind (Hoare's selection)."""
    first, last = start, end - 1
    while first < last:
        pivot = _median(points[first, axis], points[(first + last) // 2, axis], points[last, axis])
        i, j = first, last
        while i <= j:
            while points[i, axis] < pivot:
                i += 1
            while points[j, axis] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                for k in range(3):
                    points[i, k], points[j, k] = points[j, k], points[i, k]
                i += 1
                j -= 1
        if middle <= j:
            last = j
        elif middle >= i:
            first = i
        else:
            return


@njit(cache=True, nogil=True)
def _median(a, b, c):  # type: ignore[no-untyped-def]
    return max(min(a, b), min(max(a, b), c))


@njit(cache=True, nogil=True)
def box_gap(low, high, a, b):  # type: ignore[no-untyped-def]
    """Squared distance between the boxes of the nodes a and b."""
    total = 0.0
    for axis in range(3):
        gap = max(max(low[a, axis] - high[b, axis], low[b, axis] - high[a, axis]), 0.0)
        total += gap * gap
    return total


@njit(cache=True, nogil=True)
def point_gap(x, y, z, low, high, node):  # type: ignore[no-untyped-def]
    """Squared distance of a point from a node's box."""
    dx = max(max(low[node, 0] - x, x - high[node, 0]), 0.0)
    dy = max(max(low[node, 1] - y, y - high[node, 1]), 0.0)
    dz = max(max(low[node, 2] - z, z - high[node, 2]), 0.0)
    return dx * dx + dy * dy + dz * dz


@njit(cache=True, nogil=True)
def _nearest(points, bounds, low, high, count):  # type: ignore[no-untyped-def]
    """For each leaf: its own points, then from the bottom up all other leaves that may hold nearer ones."""
    index, distance = np.full((len(points), count), -1, np.int64), np.full((len(points), count), np.inf)
    farthest_slot = np.zeros(len(points), np.int64)
    stack = np.empty(64, np.int64)
    num_inner = len(bounds) // 2
    for leaf in range(num_inner, len(bounds)):
        limit = _nearest_in_leaf(points, bounds, low, high, leaf, leaf, index, distance, farthest_slot)
        node = leaf
        while node > 0:
            stack[0], top = sibling(node), 1
            node = (node - 1) // 2
            while top > 0:
                top -= 1
                other = stack[top]
                if box_gap(low, high, leaf, other) >= limit:
                    continue
                if other < num_inner:
                    stack[top], stack[top + 1] = 2 * other + 1, 2 * other + 2
                    top += 2
                else:
                    limit = _nearest_in_leaf(points, bounds, low, high, leaf, other, index, distance, farthest_slot)
    return index, distance


@njit(cache=True, nogil=True)
def sibling(node):  # type: ignore[no-untyped-def]
    """The other child of the node's parent."""
    return node + 1 if node % 2 else node - 1


@njit(cache=True, nogil=True)
def _nearest_in_leaf(points, bounds, low, high, leaf, other, index, distance, farthest_slot):  # type: ignore[no-untyped-def]
    """Takes up neighbours in the leaf `other` for the points of `leaf`; the largest distance that still counts.

    A nearer point takes the place of the farthest, `farthest_slot` of each point: cheaper than keeping them in order.
    """
    overall = 0.0
    for i in range(bounds[leaf, 0], bounds[leaf, 1]):
        x, y, z, slot = points[i, 0], points[i, 1], points[i, 2], farthest_slot[i]
        limit = distance[i, slot]
        if point_gap(x, y, z, low, high, other) < limit:
            for j in range(bounds[other, 0], bounds[other, 1]):
                dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
                d = dx * dx + dy * dy + dz * dz
                if d < limit and i != j:
                    limit, distance[i, slot], index[i, slot] = d, d, j
                    for k in range(distance.shape[1]):
                        if distance[i, k] > limit:
                            limit, slot = distance[i, k], k
            farthest_slot[i] = slot
        overall = max(overall, limit)
    return overall
