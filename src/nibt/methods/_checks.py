"""Checks of options that several methods have, and their random generators."""

import numpy as np

from nibt.errors import BadOption


def at_least(low: int, **options: int | float) -> None:
    """Check that options are at least ``low``.

    Raises:
        BadOption: An option is smaller.

    """
    for name, value in options.items():
        if not value >= low:
            raise BadOption(f"{name} must be at least {low} (got {value})")


def above_zero(**options: int | float) -> None:
    """Check that options are positive.

    Raises:
        BadOption: An option is not.

    """
    for name, value in options.items():
        if not value > 0:
            raise BadOption(f"{name} must be above 0 (got {value})")


def generator(seed: int, *place: int) -> np.random.Generator:
    """Return a random generator for each place, such as a row, so that draws do not depend on other places.

    The generator works on the CPU and leaves global generators untouched.
    """
    return np.random.default_rng((seed, *place))
