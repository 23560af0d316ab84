"""Tests of ``nibt.metrics.intrinsic``."""

import numpy as np

from tests.metrics.known_maps import caption_input, of


def test_absent_words_of_known_scores() -> None:
    assert of("absent_words", caption_input([2, -1, 3], [True, False, False], [False, True, False])) == 1
    assert of("absent_words", caption_input([2, -1, 3], [True, False, False], [False, True, True])) == 0.5
    assert np.isnan(of("absent_words", caption_input([2, -1, 3], [True, False, False])))


def test_absent_words_count_only_negative_scores() -> None:
    assert of("absent_words", caption_input([2, 0, -1], [True, False, False], [False, True, True])) == 0.5
    assert np.isnan(of("absent_words", caption_input([2, -1, 3], [True, False, False], [False, False, False])))
