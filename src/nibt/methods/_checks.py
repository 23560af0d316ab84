"""Random generators of methods."""

import numpy as np


def generator(seed: int, *place: int) -> np.random.Generator:
    """Return a random generator for each place, such as a row, so that draws do not depend on other places."""
    return np.random.default_rng((seed, *place))
