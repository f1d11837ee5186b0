"""Clusters of the points that are not ground, by the package hdbscan."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.labeling.annotation.parameters import ClustererParameters

_LEAF_SIZE = 40  # of the package's search tree; its default


def find_clusters(xyz: NDArray[np.floating], parameters: ClustererParameters) -> NDArray[np.int32]:
    """Density clusters (HDBSCAN), the same for any order of the points, on every CPU and for every version of NumPy.

    These are the steps of `hdbscan.HDBSCAN(min_cluster_size, cluster_selection_epsilon=...)`. In between the edges of
    the spanning tree are sorted here: many are of equal length, the clusters depend on their order, and the package
    leaves it to NumPy's quickest sort, whose order of equals differs between CPUs and versions.

    Args:
        xyz: [N, 3] (m).
    Returns int32 [N]: cluster of each point, 0, 1, ...; -1 = noise.
    """
    size, clusters = parameters.min_cluster_size, np.full(len(xyz), -1, np.int32)
    if len(xyz) <= size:
        return clusters
    from hdbscan._hdbscan_boruvka import KDTreeBoruvkaAlgorithm
    from hdbscan._hdbscan_linkage import label
    from hdbscan.hdbscan_ import _tree_to_labels
    from sklearn.neighbors import KDTree

    order = np.lexsort(xyz.T[::-1])
    points = np.ascontiguousarray(xyz[order], np.float64)
    tree = KDTree(points, leaf_size=_LEAF_SIZE)
    search = KDTreeBoruvkaAlgorithm(tree, size, leaf_size=_LEAF_SIZE // 3, approx_min_span_tree=True, n_jobs=1)
    edges = search.spanning_tree()
    hierarchy = label(edges[np.argsort(edges[:, 2], kind="stable")])
    epsilon = parameters.cluster_selection_epsilon
    clusters[order] = _tree_to_labels(points, hierarchy, size, cluster_selection_epsilon=epsilon)[0]
    return clusters


def check_hdbscan() -> dict[str, Any]:
    """What of the package the clusters depend on, for meta.json; UserError where it does not import."""
    try:
        import hdbscan  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"weak labels need the package hdbscan, which does not import ({error}): pip install hdbscan==0.8.40"
        ) from error
    from importlib.metadata import version

    return {"hdbscan": f"{version('hdbscan')}, points and edges sorted"}
