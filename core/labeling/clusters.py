"""Clusters of the points that are not ground."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.labeling.density import density_clusters
from core.labeling.parameters import ClustererParameters


def find_clusters(xyz: NDArray[np.floating], parameters: ClustererParameters) -> NDArray[np.int32]:
    """Density clusters (HDBSCAN).

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
    clusterer = import_hdbscan().HDBSCAN(
        min_cluster_size=parameters.min_cluster_size,
        cluster_selection_epsilon=parameters.cluster_selection_epsilon,
        core_dist_n_jobs=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return clusterer.fit_predict(xyz).astype(np.int32)


def check_clusterer(name: str) -> None:
    """Raises UserError for an unknown clusterer and for one whose package is missing."""
    if name not in ("hdbscan", "hdbscan_numba"):
        raise UserError(f"dataset.clusterer.name: no clusterer is named '{name}' (known: hdbscan, hdbscan_numba)")
    if name == "hdbscan":
        import_hdbscan()


def import_hdbscan() -> Any:
    """The hdbscan package, or a UserError that says how to install it."""
    try:
        import hdbscan
    except ImportError as error:
        raise UserError(
            f"dataset.clusterer.name is hdbscan, a package that does not import ({error}): "
            "pip install hdbscan==0.8.40, or choose clusterer.name hdbscan_numba"
        ) from error
    return hdbscan
