"""Minimum spanning tree of points by mutual reachability distance, in numba.

Mutual reachability of two points: the largest of their distance and their core distances; a core distance is that to
the k-th nearest neighbour (Campello et al., "Density-Based Clustering Based on Hierarchical Density Estimates", 2013).
Nearest points are found in a k-d tree whose nodes are halves of a permutation of the points: node i has the children
2 i + 1 and 2 i + 2, and all leaves lie at the same depth.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

_LEAF_SIZE = 12


def spanning_tree(xyz: NDArray[np.float64], min_samples: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Edges of the minimum spanning tree, lightest first (exact; ties by a fixed order).

    Args:
        xyz: [n, 3] (m), n > min_samples.
        min_samples: a point's core distance is that to its `min_samples`-th neighbour.

    Returns:
        int64 [n - 1, 2], the points of each edge; float64 [n - 1], their mutual reachability distance (m).
    """
    depth = max(0, int(np.ceil(np.log2(len(xyz) / _LEAF_SIZE))))
    order, bounds, low, high = _build_tree(np.ascontiguousarray(xyz, np.float64), depth)
    points = np.ascontiguousarray(xyz[order], np.float64)
    core = _core_distances(points, bounds, low, high, min_samples)
    edges, weights = _boruvka(points, core, bounds, low, high)
    lightest_first = np.argsort(weights, kind="stable")
    return order[edges[lightest_first]], np.sqrt(weights[lightest_first])


@njit(cache=True, nogil=True)
def _build_tree(xyz, depth):  # type: ignore[no-untyped-def]
    """Permutation of the points; per node its range [start, end) in it and its bounding box."""
    num_nodes = 2 ** (depth + 1) - 1
    order = np.arange(len(xyz))
    bounds = np.zeros((num_nodes, 2), np.int64)
    low, high = np.empty((num_nodes, 3)), np.empty((num_nodes, 3))
    bounds[0] = 0, len(xyz)
    for node in range(num_nodes):
        start, end = bounds[node]
        for axis in range(3):
            low[node, axis], high[node, axis] = np.inf, -np.inf
            for i in order[start:end]:
                low[node, axis] = min(low[node, axis], xyz[i, axis])
                high[node, axis] = max(high[node, axis], xyz[i, axis])
        if 2 * node + 2 < num_nodes:
            widest = np.argmax(high[node] - low[node])
            by_position = np.argsort(xyz[order[start:end], widest], kind="mergesort")
            order[start:end] = order[start:end][by_position]
            middle = (start + end) // 2
            bounds[2 * node + 1] = start, middle
            bounds[2 * node + 2] = middle, end
    return order, bounds, low, high


@njit(cache=True, nogil=True)
def _box_distance(x, y, z, low, high):  # type: ignore[no-untyped-def]
    """Squared distance of a point from a box."""
    dx = max(max(low[0] - x, x - high[0]), 0.0)
    dy = max(max(low[1] - y, y - high[1]), 0.0)
    dz = max(max(low[2] - z, z - high[2]), 0.0)
    return dx * dx + dy * dy + dz * dz


@njit(cache=True, nogil=True)
def _core_distances(points, bounds, low, high, min_samples):  # type: ignore[no-untyped-def]
    """Squared distance of each point to its `min_samples`-th neighbour."""
    core = np.empty(len(points))
    stack, gaps = np.empty(64, np.int64), np.empty(64)
    nearest = np.empty(min_samples + 1)  # ascending; the point itself is among them
    for i in range(len(points)):
        x, y, z = points[i]
        nearest[:] = np.inf
        stack[0], gaps[0], top = 0, 0.0, 1
        while top > 0:
            top -= 1
            node = stack[top]
            if gaps[top] >= nearest[-1]:
                continue
            if 2 * node + 2 < len(bounds):
                top = _push_children(x, y, z, node, low, high, stack, gaps, top)
                continue
            for j in range(bounds[node, 0], bounds[node, 1]):
                dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
                distance = dx * dx + dy * dy + dz * dz
                if distance < nearest[-1]:
                    k = min_samples
                    while k > 0 and nearest[k - 1] > distance:
                        nearest[k] = nearest[k - 1]
                        k -= 1
                    nearest[k] = distance
        core[i] = nearest[-1]
    return core


@njit(cache=True, nogil=True)
def _push_children(x, y, z, node, low, high, stack, gaps, top):  # type: ignore[no-untyped-def]
    """Puts both children of `node` on the stack, the nearer one on top."""
    left, right = 2 * node + 1, 2 * node + 2
    left_gap = _box_distance(x, y, z, low[left], high[left])
    right_gap = _box_distance(x, y, z, low[right], high[right])
    if left_gap <= right_gap:
        left, right, left_gap, right_gap = right, left, right_gap, left_gap
    stack[top], gaps[top] = left, left_gap
    stack[top + 1], gaps[top + 1] = right, right_gap
    return top + 2


@njit(cache=True, nogil=True)
def _boruvka(points, core, bounds, low, high):  # type: ignore[no-untyped-def]
    """Spanning tree edges: in each round every component takes its lightest edge to another (squared weights)."""
    n = len(points)
    parent, component = np.arange(n), np.arange(n)
    node_component = np.empty(len(bounds), np.int64)
    # of each point: a lower bound of the weight of its edges that leave its component, and the other end where known
    least, partner = core.copy(), np.full(n, -1)
    edges, weights = np.empty((n - 1, 2), np.int64), np.empty(n - 1)
    num_edges = 0
    best, best_from = np.empty(n), np.empty(n, np.int64)
    stack, gaps = np.empty(64, np.int64), np.empty(64)
    while num_edges < n - 1:
        _mark_nodes(component, bounds, node_component)
        best[:] = np.inf
        best_from[:] = -1
        for i in range(n):
            if partner[i] >= 0 and component[partner[i]] == component[i]:
                partner[i] = -1
            if partner[i] >= 0 and least[i] < best[component[i]]:
                best[component[i]], best_from[component[i]] = least[i], i
        for i in range(n):
            c = component[i]
            if partner[i] < 0 and least[i] < best[c]:
                weight, j = _lightest_edge(
                    i, best[c], points, core, component, node_component, bounds, low, high, stack, gaps
                )
                least[i], partner[i] = weight, j
                if j >= 0:
                    best[c], best_from[c] = weight, i
        for c in range(n):
            i = best_from[c]
            if i >= 0:
                a, b = _root(parent, i), _root(parent, partner[i])
                if a != b:
                    parent[max(a, b)] = min(a, b)
                    edges[num_edges] = i, partner[i]
                    weights[num_edges] = best[c]
                    num_edges += 1
        for i in range(n):
            component[i] = _root(parent, i)
    return edges, weights


@njit(cache=True, nogil=True)
def _mark_nodes(component, bounds, node_component):  # type: ignore[no-untyped-def]
    """The component that all points of a node are of, or -1."""
    for node in range(len(bounds) - 1, -1, -1):
        if 2 * node + 2 < len(bounds):
            left, right = node_component[2 * node + 1], node_component[2 * node + 2]
            node_component[node] = left if left == right else -1
        else:
            start, end = bounds[node]
            node_component[node] = component[start]
            for i in range(start, end):
                if component[i] != component[start]:
                    node_component[node] = -1


@njit(cache=True, nogil=True)
def _lightest_edge(i, bound, points, core, component, node_component, bounds, low, high, stack, gaps):  # type: ignore[no-untyped-def]
    """Weight and other end of the lightest edge of point i out of its component; (bound, -1) if none is lighter."""
    x, y, z = points[i]
    own, own_core = component[i], core[i]
    found = -1
    stack[0], gaps[0], top = 0, 0.0, 1
    while top > 0 and own_core < bound:
        top -= 1
        node = stack[top]
        if gaps[top] >= bound or node_component[node] == own:
            continue
        if 2 * node + 2 < len(bounds):
            top = _push_children(x, y, z, node, low, high, stack, gaps, top)
            continue
        for j in range(bounds[node, 0], bounds[node, 1]):
            if component[j] != own and core[j] < bound:
                dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
                weight = max(max(own_core, core[j]), dx * dx + dy * dy + dz * dz)
                if weight < bound:
                    bound, found = weight, j
    return bound, found


@njit(cache=True, nogil=True)
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i
