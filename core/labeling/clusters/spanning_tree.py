"""Minimum spanning tree of points by mutual reachability distance, in numba.

Mutual reachability of two points: the largest of their distance and their core distances; a core distance is that to
the k-th nearest neighbour (Campello et al., "Density-Based Clustering Based on Hierarchical Density Estimates", 2013).
Many edges are as long as a core distance and tie: the tree takes the one between nearer points, and so does not depend
on the order of the points. Boruvka's algorithm: in each round every component takes its lightest edge to another; edges
to nearest neighbours are looked at first, and give a bound for the search in a k-d tree.
"""

import numpy as np
from numpy.typing import NDArray

from core.labeling.clusters.point_tree import box_gap, build_tree, nearest_neighbors, point_gap, sibling
from core.running.compiled import njit


def spanning_tree(xyz: NDArray[np.float64], min_samples: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Edges of the minimum spanning tree, lightest first, those of the same weight in a random order (exact).

    The random order is drawn from the edges' lengths: the same for any order of the points. With shorter ones first,
    say, more points at the rims of clusters would become noise.

    Args:
        xyz: [n, 3] (m), n > min_samples.
        min_samples: a point's core distance is that to its `min_samples`-th neighbour.

    Returns:
        int64 [n - 1, 2], the points of each edge; float64 [n - 1], their mutual reachability distance (m).
    """
    tree = build_tree(xyz)
    neighbor, distance = nearest_neighbors(tree, min_samples)
    edges, weights, lengths = _boruvka(tree.points, neighbor, distance, tree.bounds, tree.low, tree.high)
    lightest_first = _sort_ties(np.argsort(weights, kind="stable"), weights, _scramble(lengths))
    return tree.order[edges[lightest_first]], np.sqrt(weights[lightest_first])


@njit(cache=True, nogil=True)
def _boruvka(points, neighbor, distance, bounds, low, high):  # type: ignore[no-untyped-def]
    """Spanning tree edges with their squared weights and lengths."""
    n = len(points)
    core = _row_maxima(distance)
    parent, component = np.arange(n), np.arange(n)
    roots = np.arange(n)  # of the components
    mixed = np.arange(n)  # points with a nearest neighbour in another component
    node_component = np.empty(len(bounds), np.int64)
    least = core.copy()  # of each point: no edge that leaves its component is lighter
    weight, length = np.empty(n), np.empty(n)  # of each component's lightest edge so far, by its root
    ends = np.empty((n, 2), np.int64)
    edges, weights, lengths = np.empty((n - 1, 2), np.int64), np.empty(n - 1), np.empty(n - 1)
    num_edges = 0
    while num_edges < n - 1:
        weight[roots], length[roots] = np.inf, np.inf
        mixed = _offer_neighbors(mixed, neighbor, distance, core, component, weight, length, ends)
        _mark_nodes(component, bounds, node_component)
        _search_tree(
            points, core, least, component, node_component, bounds, low, high, num_edges == 0, weight, length, ends
        )
        for c in roots:
            a, b = _root(parent, ends[c, 0]), _root(parent, ends[c, 1])
            if a != b:
                parent[max(a, b)] = min(a, b)
                edges[num_edges], weights[num_edges], lengths[num_edges] = ends[c], weight[c], length[c]
                num_edges += 1
        for i in range(n):
            least[i] = max(least[i], weight[component[i]])
            component[i] = _root(parent, i)
        roots = np.array([c for c in roots if parent[c] == c])
    return edges, weights, lengths


@njit(cache=True, nogil=True)
def _row_maxima(table):  # type: ignore[no-untyped-def]
    maxima = table[:, 0].copy()
    for i in range(len(table)):
        for value in table[i, 1:]:
            maxima[i] = max(maxima[i], value)
    return maxima


@njit(cache=True, nogil=True)
def _offer(i, j, c, w, d, weight, length, ends):  # type: ignore[no-untyped-def]
    """Takes the edge from i to j for component c if it is lighter than what that has."""
    if w < weight[c] or (w == weight[c] and d < length[c]):
        weight[c], length[c], ends[c, 0], ends[c, 1] = w, d, i, j


@njit(cache=True, nogil=True)
def _offer_neighbors(mixed, neighbor, distance, core, component, weight, length, ends):  # type: ignore[no-untyped-def]
    """Offers the edges from the points `mixed` to their nearest neighbours; returns the points that had any."""
    still_mixed, count = np.empty_like(mixed), 0
    for i in mixed:
        found = False
        for k in range(neighbor.shape[1]):
            j = neighbor[i, k]
            if component[j] != component[i]:
                found = True
                w = max(core[i], core[j])  # nearest neighbours are no farther than the core distance
                _offer(i, j, component[i], w, distance[i, k], weight, length, ends)
                _offer(i, j, component[j], w, distance[i, k], weight, length, ends)
        if found:
            still_mixed[count] = i
            count += 1
    return still_mixed[:count]


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
            for i in range(start + 1, end):
                if component[i] != component[start]:
                    node_component[node] = -1


@njit(cache=True, nogil=True)
def _search_tree(  # type: ignore[no-untyped-def]
    points, core, least, component, node_component, bounds, low, high, first_round, weight, length, ends
):
    """Looks from each leaf, from the bottom up, for edges lighter than what the components of its points have.

    In the first round the nearest neighbours have shown all edges as light as a core distance.
    """
    stack = np.empty(64, np.int64)
    num_inner = len(bounds) // 2
    for leaf in range(num_inner, len(bounds)):
        limit = _search_limit(leaf, bounds, least, component, first_round, weight)
        if limit < 0:
            continue
        own, node = node_component[leaf], leaf
        stack[0], top = leaf, 1
        while True:
            while top > 0:
                top -= 1
                other = stack[top]
                if (own >= 0 and node_component[other] == own) or box_gap(low, high, leaf, other) > limit:
                    continue
                if other < num_inner:
                    stack[top], stack[top + 1] = 2 * other + 1, 2 * other + 2
                    top += 2
                else:
                    if _search_leaf(
                        points, core, least, component, bounds, low, high, leaf, other, weight, length, ends
                    ):
                        limit = _search_limit(leaf, bounds, least, component, first_round, weight)
            if node == 0:
                break
            stack[0], top = sibling(node), 1
            node = (node - 1) // 2


@njit(cache=True, nogil=True)
def _search_limit(leaf, bounds, least, component, first_round, weight):  # type: ignore[no-untyped-def]
    """Squared distance up to which other points may offer an edge to a point of the leaf; -1 if none can."""
    limit = -1.0
    for i in range(bounds[leaf, 0], bounds[leaf, 1]):
        w = weight[component[i]]
        if least[i] < w or (least[i] == w and not first_round):
            limit = max(limit, w)
    return limit


@njit(cache=True, nogil=True)
def _search_leaf(  # type: ignore[no-untyped-def]
    points, core, least, component, bounds, low, high, leaf, other, weight, length, ends
):
    """Offers the edges from the points of `leaf` to those of `other`."""
    improved = False
    for i in range(bounds[leaf, 0], bounds[leaf, 1]):
        c = component[i]
        x, y, z, own_core = points[i, 0], points[i, 1], points[i, 2], core[i]
        best, best_length, found = weight[c], length[c], -1
        if least[i] > best or point_gap(x, y, z, low, high, other) > best:
            continue
        for j in range(bounds[other, 0], bounds[other, 1]):
            dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
            d = dx * dx + dy * dy + dz * dz
            w = max(max(own_core, core[j]), d)
            if w <= best and component[j] != c and (w < best or d < best_length):
                best, best_length, found = w, d, j
        if found >= 0:
            improved = True
            _offer(i, found, c, best, best_length, weight, length, ends)
            _offer(i, found, component[found], best, best_length, weight, length, ends)
    return improved


def _scramble(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """A random number for each value, the same for the same one (the end of splitmix64)."""
    bits = values.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return bits ^ (bits >> np.uint64(27))


@njit(cache=True, nogil=True)
def _sort_ties(by_weight, weights, ranks):  # type: ignore[no-untyped-def]
    """Orders edges of the same weight by rank, the others being in order (insertion sort)."""
    for k in range(1, len(by_weight)):
        edge, place = by_weight[k], k
        while place > 0:
            before = by_weight[place - 1]
            if weights[before] != weights[edge] or (ranks[before], before) < (ranks[edge], edge):
                break
            by_weight[place] = before
            place -= 1
        by_weight[place] = edge
    return by_weight


@njit(cache=True, nogil=True)
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i
