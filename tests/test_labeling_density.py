"""HDBSCAN in numba: the spanning tree against brute force, the clusters against the hdbscan package."""

import warnings

import hdbscan
import numpy as np
import pytest
from hdbscan._hdbscan_linkage import label as package_linkage
from hdbscan.hdbscan_ import _tree_to_labels as package_labels
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from core.labeling.clusters.density import density_clusters
from core.labeling.clusters.spanning_tree import spanning_tree


def blobs(seed, count=25):
    """Blobs of 5 to 60 points of random width, and 60 scattered points (m)."""
    rng = np.random.default_rng(seed)
    groups = [rng.normal(rng.uniform(-20, 20, 3), rng.uniform(0.1, 1), (rng.integers(5, 60), 3)) for _ in range(count)]
    return np.concatenate([*groups, rng.uniform(-25, 25, (60, 3))])


def package_clusters(xyz, epsilon):
    """By the package's exact algorithm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hdbscan.HDBSCAN(min_cluster_size=5, cluster_selection_epsilon=epsilon, algorithm="generic").fit_predict(
            xyz
        )


def package_clusters_of_our_tree(xyz, epsilon):
    """By the package, from our spanning tree on."""
    edges, weights = spanning_tree(xyz, 5)
    hierarchy = package_linkage(np.column_stack([edges.astype(float), weights]))
    return package_labels(xyz, hierarchy, 5, cluster_selection_epsilon=epsilon)[0]


@pytest.mark.parametrize("count", [6, 12, 13, 40, 300])
def test_spanning_tree_against_brute_force(count):
    xyz = np.random.default_rng(count).normal(size=(count, 3))
    distance = cdist(xyz, xyz)
    core = np.sort(distance, 1)[:, 5]
    reach = np.maximum(distance, np.maximum(core[:, None], core[None]))
    np.fill_diagonal(reach, 0)
    expected = np.sort(minimum_spanning_tree(reach).data)
    edges, weights = spanning_tree(xyz, 5)
    np.testing.assert_allclose(weights, expected, rtol=1e-9)
    np.testing.assert_allclose(weights, reach[edges[:, 0], edges[:, 1]], rtol=1e-9)
    reached = {0}
    for _ in range(count):
        reached |= {b for edge in edges.tolist() for b in edge if reached & set(edge)}
    assert len(reached) == count and len(edges) == count - 1


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_same_clusters_as_the_package(seed, epsilon):
    xyz = blobs(seed)
    ours, theirs = density_clusters(xyz, 5, epsilon), package_clusters_of_our_tree(xyz, epsilon)
    np.testing.assert_array_equal(ours < 0, theirs < 0)
    assert adjusted_rand_score(ours, theirs) == 1.0
    # the tree is not unique (edges as long as a core distance tie), so that its own tree gives a few other rim points
    assert adjusted_rand_score(ours, package_clusters(xyz, epsilon)) > 0.97


def test_epsilon_keeps_near_clusters_together():
    rng = np.random.default_rng(0)
    pair = np.concatenate([rng.normal(0, 0.02, (30, 3)), rng.normal(0, 0.02, (30, 3)) + [0.3, 0, 0]])
    xyz = np.concatenate([pair, rng.normal(0, 0.02, (30, 3)) + [9, 0, 0]])
    assert [len(set(density_clusters(xyz, 5, e)[:60]) - {-1}) for e in (0.0, 0.5)] == [2, 1]
    assert len(set(density_clusters(xyz, 5, 0.5)) - {-1}) == 2


def test_points_on_top_of_each_other():
    xyz = np.repeat(np.array([[0.0, 0, 0], [5, 0, 0], [9, 9, 9]]), 10, 0)
    cluster = density_clusters(xyz, 5, 0.5)
    assert [len(set(cluster[k : k + 10])) for k in (0, 10, 20)] == [1, 1, 1] and len(set(cluster)) == 3
    assert set(density_clusters(np.zeros((50, 3)), 5, 0.5)) == {-1}, "the whole is no cluster"


def test_order_of_the_points_does_not_matter():
    xyz = blobs(7)
    shuffled = np.random.default_rng(0).permutation(len(xyz))
    ours, again = density_clusters(xyz, 5, 0.5), np.empty(len(xyz), int)
    again[shuffled] = density_clusters(xyz[shuffled], 5, 0.5)
    assert adjusted_rand_score(ours, again) == 1.0
    np.testing.assert_array_equal(ours < 0, again < 0)
    np.testing.assert_array_equal(ours, density_clusters(xyz.copy(), 5, 0.5))
