"""Tests of ``nibt.core.perturbation.generator``."""

import numpy as np

from nibt.core.perturbation import generator


def test_generator_draws_depend_on_the_seed_and_the_place() -> None:
    assert np.array_equal(generator(3, 1, 2).random(4), np.random.default_rng((3, 1, 2)).random(4))
    draws = [generator(*key).random() for key in ((3,), (4,), (3, 1), (3, 2), (3, 1, 1))]
    assert len(set(draws)) == 5
