r"""Pair area: the area between the curves of deleting the least and the most important words and patches.

A greedy search from every unit looks for the set of each size with the largest or the smallest sum of the table over
its pairs: what remains after the least or the most important units are deleted. A curve has the cosines of these sets,
scaled so that those of no and of all units are 0 and 1.

Range:
    any

Forward passes:
    2 x (words + patches + 1) on each side

Use it when:
    You compare with FIxLIP.

Avoid it when:
    The image and the caption do not match: the scaling divides by what all units add.

Source:
    Baniecki et al., NeurIPS 2025 (FIxLIP)
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.metrics._coalitions import embeddings_of_patches, embeddings_of_words, on_patches
from nibt.metrics.base import AreaMetric, RegionsInput

_SHARES = 51  # at which the authors read a curve


@dataclass(frozen=True)
class PairArea(AreaMetric[RegionsInput]):
    """The area between the curves of deleting the least and the most important words and patches."""

    better = "higher"
    sides = ("regions",)

    def curve(self, metric_input: RegionsInput) -> Float[Tensor, "1 level"]:
        """Compute the differences of the curves at each share of the units, from all to none."""
        table = on_patches(metric_input).double().cpu().numpy()
        largest, smallest = extreme_sets(table)
        kept = torch.from_numpy(np.concatenate([largest, smallest])).float()
        image = embeddings_of_patches(metric_input.image, kept[:, : table.shape[1]])
        text = embeddings_of_words(metric_input.text, metric_input.regions, kept[:, table.shape[1] :])
        least, most = (image * text).sum(-1).double().chunk(2)
        change = least[0] - least[-1]
        scaled = ((least - most) / change.where(change != 0, torch.nan)).numpy()
        shares = np.linspace(0, 1, _SHARES)
        return torch.from_numpy(np.interp(shares, np.linspace(0, 1, len(scaled)), scaled))[None]


def extreme_sets(table: np.ndarray) -> tuple[Bool[np.ndarray, "size unit"], Bool[np.ndarray, "size unit"]]:
    """Return the sets of patches and words with the largest and the smallest value, from all units to none.

    Args:
        table: The score of each pair: words x patches.
    """
    words, patches = table.shape
    pairs = np.zeros((patches + words, patches + words))
    pairs[patches:, :patches], pairs[:patches, patches:] = table, table.T
    grown = [_grown(pairs, sign) for sign in (1.0, -1.0)]
    values = np.stack([value for _, value in grown], 1).reshape(-1, len(pairs))  # largest and smallest of each start
    orders = np.stack([order for order, _ in grown], 1).reshape(-1, len(pairs))
    place = np.argsort(orders, axis=1)
    sizes = np.arange(len(pairs), 0, -1)
    best_starts = (best[sizes - 1] for best in (values.argmax(0), values.argmin(0)))
    none = np.zeros((1, len(pairs)), bool)
    largest, smallest = (np.concatenate([place[starts] < sizes[:, None], none]) for starts in best_starts)
    return largest, smallest


def _grown(pairs: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Grow a set from each unit by the unit that adds most, or least; return the orders, and the value of each size."""
    count = len(pairs)
    starts = np.arange(count)
    orders, values = [starts], [np.zeros(count)]
    gains, inside = pairs.copy(), np.eye(count, dtype=bool)
    for _ in range(count - 1):
        added = np.where(inside, -np.inf, sign * gains).argmax(1)
        values.append(values[-1] + gains[starts, added])
        orders.append(added)
        inside[starts, added] = True
        gains += pairs[added]
    return np.stack(orders, 1), np.stack(values, 1)
