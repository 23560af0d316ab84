"""Random generators of methods."""

import numpy as np


def generator(seed: int, *place: int) -> np.random.Generator:
    """Return a random generator for each place, such as a row, so that draws do not depend on other places.

    The generator works on the CPU and leaves global generators untouched.
    """
    return np.random.default_rng((seed, *place))
