"""Tests of ``nibt.metrics.rankings``."""

from dataclasses import replace

import numpy as np

from nibt.data.ground_truth import GroundTruth
from tests.metrics.known_maps import caption_input, of


def test_word_auc_of_known_scores() -> None:
    assert of("word_auc", caption_input([3, 1, 2], [True, False, False])) == 1
    assert of("word_auc", caption_input([1.5, 1, 2], [True, False, False])) == 0.5
    assert of("word_auc", caption_input([2, 1, 2], [True, False, False])) == 0.75
    assert np.isnan(of("word_auc", caption_input([2, 1, 2], [True, True, True])))


def test_word_auc_needs_named_words() -> None:
    metric_input = caption_input([2, 1, 2], [False, False, False])
    assert np.isnan(of("word_auc", metric_input))
    assert np.isnan(of("word_auc", replace(metric_input, truths=(GroundTruth(None),))))
