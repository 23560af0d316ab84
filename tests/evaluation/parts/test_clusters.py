"""Tests of ``nibt.evaluation.parts.clusters``."""

import numpy as np
import pytest

from nibt.evaluation.parts.clusters import clustered, kmeans, nearest, squared_distances

DRAWS = np.random.default_rng(0)
CENTERS = 10 * np.eye(3, 5)
GROUPS = np.arange(90) % 3
POINTS = CENTERS[GROUPS] + DRAWS.normal(size=(90, 5))
EQUAL_WEIGHTS = np.ones(90)
IMAGES = np.arange(90) // 3


def test_the_heaviest_group_comes_first() -> None:
    weights = np.array([1.0, 3.0, 2.0])[GROUPS]
    clusters = clustered(POINTS, weights, IMAGES, 3, seed=0)
    order = [int(GROUPS[clusters.members == cluster][0]) for cluster in range(3)]
    assert order == [1, 2, 0]
    for cluster, group in enumerate(order):
        assert set(GROUPS[clusters.members == cluster]) == {group}
        np.testing.assert_allclose(clusters.centers[cluster], POINTS[GROUPS == group].mean(0))
    assert clusters.stability.tolist() == [1, 1, 1]


def test_clusters_of_noise_are_not_stable() -> None:
    noise = np.random.default_rng(1).normal(size=(120, 40))
    clusters = clustered(noise, np.ones(120), np.arange(120), 12, seed=0)
    assert clusters.stability.mean() < 0.3


def test_weights_count_as_copies() -> None:
    points = np.array([[0.0], [1.0], [10.0], [14.0]])
    centers = kmeans(points, np.array([1.0, 3.0, 1.0, 1.0]), 2, np.random.default_rng(0))
    assert sorted(centers[:, 0].tolist()) == pytest.approx([0.75, 12.0])


def test_the_cost_is_not_above_that_of_scikit_learn() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    noise = np.random.default_rng(2).normal(size=(60, 3))
    weights = np.random.default_rng(3).uniform(0.1, 1, 60)
    ours = kmeans(noise, weights, 4, np.random.default_rng(0))
    cost = (weights * squared_distances(noise, ours).min(1)).sum()
    theirs = cluster.KMeans(4, n_init=10, random_state=0).fit(noise, sample_weight=weights)
    assert cost <= 1.05 * theirs.inertia_


def test_one_seed_gives_the_same_bits() -> None:
    first, second = (clustered(POINTS, EQUAL_WEIGHTS, IMAGES, 5, seed=4) for _ in range(2))
    assert np.array_equal(first.centers, second.centers)
    assert np.array_equal(first.stability, second.stability)


def test_fewer_different_points_than_clusters_give_fewer_parts() -> None:
    clusters = clustered(np.repeat(CENTERS[:2], 3, 0), np.ones(6), np.arange(6), 4, seed=0)
    assert len(clusters.centers) == 2
    assert nearest(CENTERS[:2], clusters.centers).tolist() in ([0, 1], [1, 0])
