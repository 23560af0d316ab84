"""What options of several methods are checked for, and the generators that those which draw at random draw from."""

import numpy as np

from nibt.errors import BadOption


def at_least(low: int, **options: int | float) -> None:
    """Whether numbers are large enough.

    Raises:
        BadOption: One is not.

    """
    for name, value in options.items():
        if not value >= low:
            raise BadOption(f"{name} must be at least {low} (got {value})")


def above_zero(**options: int | float) -> None:
    """Whether numbers are positive.

    Raises:
        BadOption: One is not.

    """
    for name, value in options.items():
        if not value > 0:
            raise BadOption(f"{name} must be above 0 (got {value})")


def generator(seed: int, *place: int) -> np.random.Generator:
    """A generator of its own for each place (a row, say): what is drawn there depends on no other place.

    It works on the CPU, and nobody's global generator is touched.
    """
    return np.random.default_rng((seed, *place))
