"""Tests of ``nibt.metrics.absent_words``."""

import numpy as np

from tests.metrics.known_maps import of, said


def test_absent_words_of_known_scores() -> None:
    assert of("absent_words", said([2, -1, 3], [True, False, False], [False, True, False])) == 1
    assert of("absent_words", said([2, -1, 3], [True, False, False], [False, True, True])) == 0.5
    assert np.isnan(of("absent_words", said([2, -1, 3], [True, False, False])))
