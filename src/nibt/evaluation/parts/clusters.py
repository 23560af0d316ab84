"""Weighted k-means of descriptors, and how often a cluster is found again in other draws of the images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Points = Float[np.ndarray, "point dim"]
Centers = Float[np.ndarray, "center dim"]

RESAMPLES = 20
"""The number of draws of half of the images."""
SAME = 0.5
"""Two clusters are the same if their common weight is at least this share of the weight of both (Jaccard's index)."""
_STARTS = 4
_STEPS = 50


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of points, the heaviest first.

    Attributes:
        centers: The center of each cluster, (cluster, dim).
        members: The cluster of each point, (point).
        stability: For each cluster, the share of draws of half of the images in which the same cluster is found.
    """

    centers: Centers
    members: Int[np.ndarray, " point"]
    stability: Float[np.ndarray, " cluster"]


def clustered(
    points: Points, weights: Float[np.ndarray, " point"], images: Int[np.ndarray, " point"], count: int, seed: int
) -> Clusters:
    """Cluster points, and measure how stable each cluster is.

    Hennig (2007) calls a cluster dissolved in a resample if no cluster there has a Jaccard index of at least 0.5 with
    it. The resamples here are halves of the images.

    Args:
        points: The points.
        weights: Their weights.
        images: The image of each point: the points of an image are drawn together.
        count: The number of clusters.
        seed: The seed of all draws.
    """
    draws = np.random.default_rng(seed)
    centers = kmeans(points, weights, count, draws)
    members = nearest(points, centers)
    totals = np.bincount(members, weights, len(centers))
    order = np.argsort(-totals, kind="stable")
    order = order[totals[order] > 0]
    centers = centers[order]
    members = nearest(points, centers)

    matches = np.zeros(len(centers))
    every = np.unique(images)
    for _ in range(RESAMPLES):
        half = draws.permutation(every)[: max(1, len(every) // 2)]
        is_drawn = np.isin(images, half)
        others = nearest(points, kmeans(points[is_drawn], weights[is_drawn], count, draws))
        matches += _overlaps(members, others, weights, len(centers)).max(1) >= SAME

    return Clusters(centers, members, matches / RESAMPLES)


def kmeans(points: Points, weights: Float[np.ndarray, " point"], count: int, draws: np.random.Generator) -> Centers:
    """Return the centers of the best of a few runs of weighted k-means (Lloyd) from k-means++ starts.

    scikit-learn's adds up in the order in which threads end, so that two calls may differ.
    """
    best: Centers = points[:0]
    least = np.inf
    for _ in range(_STARTS):
        centers = _start(points, weights, count, draws)
        members = nearest(points, centers)
        for _ in range(_STEPS):
            centers = _means(points, weights, members, centers)
            moved = nearest(points, centers)
            if np.array_equal(moved, members):
                break
            members = moved

        cost = float((weights * squared_distances(points, centers).min(1)).sum())
        if cost < least:
            best = centers
            least = cost

    return best


def nearest(points: Points, centers: Centers) -> Int[np.ndarray, " point"]:
    """Return the position of the nearest center of each point."""
    return squared_distances(points, centers).argmin(1)


def nearest_within(
    points: Points, centers: Centers, reaches: Float[np.ndarray, " center"]
) -> Int[np.ndarray, " point"]:
    """Return the position of the nearest center of each point, or -1 if the point is beyond the reach of it."""
    distances = np.sqrt(squared_distances(points, centers))
    closest = distances.argmin(1)
    return np.where(distances.min(1) <= reaches[closest], closest, -1)


def squared_distances(points: Points, centers: Centers) -> Float[np.ndarray, "point center"]:
    """Return the squared distance of each point from each center."""
    lengths = (points**2).sum(1)[:, None] + (centers**2).sum(1)
    return np.maximum(lengths - 2 * points @ centers.T, 0)


def _start(points: Points, weights: Float[np.ndarray, " point"], count: int, draws: np.random.Generator) -> Centers:
    """Draw starting centers, each the likelier the farther it is from those before (Arthur and Vassilvitskii, 2007)."""
    chosen = [int(draws.choice(len(points), p=weights / weights.sum()))]
    distances = squared_distances(points, points[chosen])[:, 0]
    while len(chosen) < count:
        likely = weights * distances
        if likely.sum() <= 0:  # fewer different points than clusters
            break

        chosen.append(int(draws.choice(len(points), p=likely / likely.sum())))
        distances = np.minimum(distances, squared_distances(points, points[chosen[-1:]])[:, 0])

    return points[chosen]


def _means(points: Points, weights: Float[np.ndarray, " point"], members: np.ndarray, centers: Centers) -> Centers:
    """Return the weighted mean of each cluster; an empty one keeps its center."""
    is_member = (members == np.arange(len(centers))[:, None]) * weights
    totals = is_member.sum(1)
    means = is_member @ points / np.maximum(totals, 1e-30)[:, None]
    return np.where(totals[:, None] > 0, means, centers)


def _overlaps(first: np.ndarray, second: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Return the Jaccard index of each cluster of two clusterings of the same points, by weight."""
    many = int(second.max()) + 1
    common = np.bincount(first * many + second, weights, count * many).reshape(count, many)
    either = common.sum(1)[:, None] + common.sum(0) - common
    return common / np.maximum(either, 1e-30)
