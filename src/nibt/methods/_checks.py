"""The values of options of methods, and their random generators."""

import numpy as np

from nibt.options import OneOf


class Either(OneOf):
    """The values that an option may have, which messages list with "or"."""

    def __str__(self) -> str:
        return f"{', '.join(self[:-1])} or {self[-1]}"


def generator(seed: int, *place: int) -> np.random.Generator:
    """Return a random generator for each place, such as a row, so that draws do not depend on other places."""
    return np.random.default_rng((seed, *place))
