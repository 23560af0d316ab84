"""Whether a model tells right captions from wrong ones at all: what no map can make good."""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F

from nibt.data.pair import Pair
from nibt.engine.encode import encode
from nibt.evaluation.audit.intervals import interval
from nibt.evaluation.audit.thresholds import BOUNDS
from nibt.models.base import Model
from nibt.results.audit import Check

_DIGITS = 5  # cosines that differ by less are the same but for rounding


def telling(model: Model, pairs: Sequence[Pair], seed: int) -> list[Check]:
    """For each image, among all different captions of the data: the share of wrong ones that are less near than the
    right one (ties count half), and whether the right one comes first (a tie of n counts 1/n).
    """
    captions = list(dict.fromkeys(pair.caption for pair in pairs))
    seen = F.normalize(encode(model.image, [pair.image for pair in pairs]).float(), dim=-1)
    said = F.normalize(encode(model.text, captions).float(), dim=-1)
    cosines = np.round((seen @ said.T).cpu().numpy(), _DIGITS)
    areas, first = [], []
    for row, pair in zip(cosines, pairs, strict=True):
        right = captions.index(pair.caption)
        wrong = np.delete(row, right)
        areas.append(float(np.mean((wrong < row[right]) + 0.5 * (wrong == row[right]))))
        first.append(float(row[right] == row.max()) / np.sum(row == row.max()))
    found = [("auc", interval(areas, seed), None), ("recall", interval(first, seed), 1 / len(captions))]
    return [BOUNDS[name].check(name, "", "", mean, fails) for name, mean, fails in found if mean]
