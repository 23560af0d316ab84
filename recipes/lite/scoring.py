"""How a map is judged against boxes: the pointing game, the energy within the boxes, and the AUC of words.

Nothing here knows how a map was made: a map is a grid of signed scores (or one score a word), and the truth is a
mask on pixels (or the words that name something in the image).
"""

import numpy as np
import torch

TOLERANCE = 15 / 640  # of the long side, as in the pointing game of Zhang et al. 2018


def union_mask(boxes, size):
    """The pixels that lie in any of the boxes [left, top, width, height] of an image of (width, height)."""
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for left, top, width, height in boxes:
        rows = slice(max(round(top), 0), max(round(top + height), round(top) + 1))
        mask[rows, max(round(left), 0) : max(round(left + width), round(left) + 1)] = True
    return mask


def upsample(scores, size):
    """The grid of scores, bilinearly, on the pixels of an image of (width, height)."""
    grid = torch.as_tensor(scores, dtype=torch.float32)[None, None]
    return torch.nn.functional.interpolate(grid, size=(size[1], size[0]), mode="bilinear")[0, 0].numpy()


def points(scores, mask):
    """Whether the (mean) place of the maximum lies in the mask, or as near to it as the tolerance."""
    place = np.argwhere(scores == scores.max()).mean(axis=0)
    reach = TOLERANCE * max(mask.shape)
    inside = np.argwhere(mask)
    return float(
        (np.abs(inside - place).max(axis=1).min() if reach < 1 else np.sqrt(((inside - place) ** 2).sum(axis=1)).min())
        <= max(reach, 0.5)
    )


def energy(scores, mask):
    """The share of the positive part that lies in the mask; a map without a positive part has none."""
    positive = np.clip(scores, 0, None)
    return float(positive[mask].sum() / positive.sum()) if positive.sum() > 0 else 0.0


def ranking(scores, truth):
    """The area under the ROC curve of the scores, ties counted half; None if only one kind is there."""
    scores, truth = np.asarray(scores, dtype=float), np.asarray(truth, dtype=bool)
    if truth.all() or not truth.any():
        return None
    difference = scores[truth][:, None] - scores[~truth][None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def interval(values, draws=2000, seed=0):
    """Mean and bootstrap 95 % interval of the mean."""
    values = np.asarray(values, dtype=float)
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)
