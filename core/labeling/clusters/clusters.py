"""Clusters of the points that are not ground."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.labeling.annotation.parameters import ClustererParameters
from core.labeling.clusters.density import density_clusters

_LEAF_SIZE = 40  # of the package's search tree; its default


def find_clusters(xyz: NDArray[np.floating], parameters: ClustererParameters) -> NDArray[np.int32]:
    """Density clusters (HDBSCAN), the same for any order of the points.

    Args:
        xyz: [N, 3] (m).

    Returns:
        int32 [N]: cluster of each point, 0, 1, ...; -1 = noise.
    """
    check_clusterer(parameters.name)
    if len(xyz) <= parameters.min_cluster_size:
        return np.full(len(xyz), -1, np.int32)
    xyz = np.ascontiguousarray(xyz, np.float64)
    if parameters.name == "hdbscan_numba":
        return density_clusters(xyz, parameters.min_cluster_size, parameters.cluster_selection_epsilon)
    order = np.lexsort(xyz.T[::-1])
    clusters = np.empty(len(xyz), np.int32)
    clusters[order] = _package_clusters(xyz[order], parameters)
    return clusters


def _package_clusters(xyz: NDArray[np.float64], parameters: ClustererParameters) -> NDArray[np.int32]:
    """What `hdbscan.HDBSCAN(min_cluster_size, cluster_selection_epsilon=...)` computes, step by step with its parts.

    In between the edges of the spanning tree are sorted here: many are of equal length, the clusters depend on their
    order, and the package leaves it to NumPy's quickest sort, whose order of equals differs between CPUs and versions.
    """
    import_hdbscan()
    from hdbscan._hdbscan_boruvka import KDTreeBoruvkaAlgorithm
    from hdbscan._hdbscan_linkage import label
    from hdbscan.hdbscan_ import _tree_to_labels
    from sklearn.neighbors import KDTree

    size = parameters.min_cluster_size
    search = KDTreeBoruvkaAlgorithm(KDTree(xyz, leaf_size=_LEAF_SIZE), size, leaf_size=_LEAF_SIZE // 3, n_jobs=1)
    edges = search.spanning_tree()
    hierarchy = label(edges[np.argsort(edges[:, 2], kind="stable")])
    labels = _tree_to_labels(xyz, hierarchy, size, cluster_selection_epsilon=parameters.cluster_selection_epsilon)[0]
    return labels.astype(np.int32)


def check_clusterer(name: str) -> dict[str, Any]:
    """What of the clusterer, besides its parameters, the labels depend on, for meta.json.

    Raises UserError for an unknown clusterer and for one whose package is missing.
    """
    if name not in ("hdbscan", "hdbscan_numba"):
        raise UserError(f"dataset.clusterer.name: no clusterer is named '{name}' (known: hdbscan, hdbscan_numba)")
    if name == "hdbscan_numba":
        return {}
    return {"hdbscan": f"{import_hdbscan()}, points and edges in a fixed order"}


def import_hdbscan() -> str:
    """The version of the hdbscan package; UserError that says how to install it where it does not import."""
    try:
        import hdbscan  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"dataset.clusterer.name is hdbscan, a package that does not import ({error}): "
            "pip install hdbscan==0.8.40, or choose clusterer.name hdbscan_numba"
        ) from error
    from importlib.metadata import version

    return version("hdbscan")
