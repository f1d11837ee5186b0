"""HDBSCAN in numba: exact, independent of the points' order, and several times quicker than the package of that name.

Campello, Moulavi, Sander, "Density-Based Clustering Based on Hierarchical Density Estimates", 2013; the threshold on
distances from Malzer and Baum, "A Hybrid Approach To Hierarchical Density-based Cluster Selection", 2020.
"""

import numpy as np
from numpy.typing import NDArray

from core.labeling.clusters.spanning_tree import spanning_tree
from core.running.compiled import njit


def density_clusters(
    xyz: NDArray[np.float64], min_cluster_size: int, cluster_selection_epsilon: float
) -> NDArray[np.int32]:
    """Clusters of the most stable densities; clusters born closer than epsilon (m) give way to their ancestors.

    Args:
        xyz: [n, 3] (m), n > min_cluster_size. Core distances take as many neighbours as `min_cluster_size`.

    Returns:
        int32 [n]: cluster of each point, 0, 1, ...; -1 = noise.
    """
    edges, weights = spanning_tree(xyz, min_cluster_size)
    children, sizes = _hierarchy(edges)
    cluster_of_point, parent, birth, stability = _condense(children, sizes, weights, min_cluster_size)
    chosen = _select(parent, birth, stability, cluster_selection_epsilon)
    return _label(cluster_of_point, parent, chosen)


@njit(cache=True, nogil=True)
def _hierarchy(edges):  # type: ignore[no-untyped-def]
    """Joins points along the edges, lightest first: node n + k is what edge k joins. Its children; all nodes' sizes."""
    n = len(edges) + 1
    parent = np.arange(2 * n - 1)
    sizes = np.ones(2 * n - 1, np.int64)
    children = np.empty((n - 1, 2), np.int64)
    for k in range(n - 1):
        for side in range(2):
            node = edges[k, side]
            while parent[node] != node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            children[k, side] = node
        parent[children[k, 0]] = parent[children[k, 1]] = n + k
        sizes[n + k] = sizes[children[k, 0]] + sizes[children[k, 1]]
    return children, sizes


@njit(cache=True, nogil=True)
def _condense(children, sizes, weights, min_cluster_size):  # type: ignore[no-untyped-def]
    """Walks the hierarchy from the root; only a split into two parts of enough points makes new clusters.

    Returns the last cluster of each point, and per cluster (0 = root, parents before children) its parent, the
    density (1 / distance) at its birth and its stability.
    """
    n = len(children) + 1
    cluster = np.zeros(2 * n - 1, np.int64)
    fallen = np.zeros(2 * n - 1, np.bool_)  # nodes whose points have left their cluster
    parent, birth, stability = np.full(n, -1), np.zeros(n), np.zeros(n)
    num_clusters = 1
    for node in range(2 * n - 2, n - 1, -1):
        own = cluster[node]
        density = 1 / max(weights[node - n], 1e-9)
        left, right = children[node - n]
        split = min(sizes[left], sizes[right]) >= min_cluster_size
        for child in (left, right):
            cluster[child] = own
            fallen[child] = fallen[node]
            if fallen[node]:
                continue
            if split:
                cluster[child] = num_clusters
                parent[num_clusters], birth[num_clusters] = own, density
                num_clusters += 1
            if split or sizes[child] < min_cluster_size:
                stability[own] += (density - birth[own]) * sizes[child]
                fallen[child] = not split
    return cluster[:n], parent[:num_clusters], birth[:num_clusters], stability[:num_clusters]


@njit(cache=True, nogil=True)
def _select(parent, birth, stability, epsilon):  # type: ignore[no-untyped-def]
    """The chosen clusters, bool; none is another's ancestor."""
    num_clusters = len(parent)
    subtree = np.zeros(num_clusters)  # best total stability below a cluster
    chosen = np.zeros(num_clusters, np.bool_)
    for c in range(num_clusters - 1, 0, -1):
        chosen[c] = stability[c] > 0 and subtree[c] <= stability[c]
        subtree[parent[c]] += max(stability[c], subtree[c])
    _drop_descendants(chosen, parent)
    raised = np.zeros(num_clusters, np.bool_)
    for c in np.flatnonzero(chosen):
        while birth[c] * epsilon > 1 and parent[c] != 0:
            c = parent[c]
        raised[c] = True
    _drop_descendants(raised, parent)
    return raised


@njit(cache=True, nogil=True)
def _drop_descendants(chosen, parent):  # type: ignore[no-untyped-def]
    """Clears the marks of clusters below a marked one."""
    covered = np.zeros(len(parent), np.bool_)
    for c in range(1, len(parent)):
        covered[c] = covered[parent[c]] or chosen[parent[c]]
        chosen[c] = chosen[c] and not covered[c]


@njit(cache=True, nogil=True)
def _label(cluster_of_point, parent, chosen):  # type: ignore[no-untyped-def]
    """Each point's number among the chosen clusters, int32; -1 where none is above it."""
    number = np.full(len(parent), -1, np.int32)
    count = 0
    for c in range(1, len(parent)):
        number[c] = number[parent[c]]
        if chosen[c]:
            number[c] = count
            count += 1
    return number[cluster_of_point]
