"""Tests of ``nibt.methods._checks``."""

import math

import numpy as np
import pytest

from nibt.errors import BadOption
from nibt.methods._checks import above_zero, at_least, generator


def test_at_least_names_the_first_option_below_the_bound() -> None:
    at_least(2, steps=2, masks=3)
    at_least(0, beta=0.0)
    with pytest.raises(BadOption, match=r"^masks must be at least 2 \(got 1\)$"):
        at_least(2, steps=2, masks=1, seeds=0)
    with pytest.raises(BadOption, match="got nan"):
        at_least(0, beta=math.nan)


def test_above_zero_rejects_zero() -> None:
    above_zero(rate=1e-30, steps=1)
    for value in (0, 0.0, -1.0, math.nan):
        with pytest.raises(BadOption, match=rf"^rate must be above 0 \(got {value}\)$"):
            above_zero(spread=1.0, rate=value)


def test_generator_draws_depend_on_the_seed_and_the_place() -> None:
    assert np.array_equal(generator(3, 1, 2).random(4), np.random.default_rng((3, 1, 2)).random(4))
    draws = [generator(*key).random() for key in ((3,), (4,), (3, 1), (3, 2), (3, 1, 1))]
    assert len(set(draws)) == 5
