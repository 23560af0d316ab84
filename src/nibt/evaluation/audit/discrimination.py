"""Question 7: whether the model distinguishes right captions from wrong ones."""

from collections.abc import Sequence

import numpy as np

from nibt.data.pair import Pair
from nibt.engine.encode import encode
from nibt.evaluation.audit.thresholds import BOUNDS
from nibt.evaluation.statistics import interval
from nibt.models.base import Model
from nibt.results.audit import Check

_DIGITS = 5  # smaller differences of similarities are rounding errors


def discrimination_checks(model: Model, pairs: Sequence[Pair]) -> list[Check]:
    """Check the rank of each image's caption among all different captions of the data."""
    captions = list(dict.fromkeys(pair.caption for pair in pairs))
    images, texts = encode(model.image, [pair.image for pair in pairs]), encode(model.text, captions)
    similarities = np.round(model.similarity.to_each(images.float(), texts.float()).cpu().numpy(), _DIGITS)
    areas, recalls = [], []
    for row, pair in zip(similarities, pairs, strict=True):
        right = captions.index(pair.caption)
        wrong = np.delete(row, right)
        areas.append(float(np.mean((wrong < row[right]) + 0.5 * (wrong == row[right]))))
        recalls.append(float(row[right] == row.max()) / np.sum(row == row.max()))
    return [
        BOUNDS["auc"].check("auc", "", "", interval(areas), len(areas)),
        BOUNDS["recall"].check("recall", "", "", interval(recalls), len(recalls), fails=1 / len(captions)),
    ]
