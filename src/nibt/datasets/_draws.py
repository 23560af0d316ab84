"""Random numbers that are equal on every machine and with every version of NumPy.

NumPy guarantees this for the raw stream of a bit generator, but not for distributions. So integers are computed from
the raw stream.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


class Draws:
    """A stream of random integers; each item and purpose has an independent one."""

    def __init__(self, seed: int, item: int, purpose: int) -> None:
        self._source = np.random.PCG64(np.random.SeedSequence((seed, item, purpose)))
        self._next = iter(())

    def below(self, bound: int) -> int:
        """Draw an integer from 0 to bound - 1."""
        raw = next(self._next, None)
        if raw is None:
            self._next = iter(self._source.random_raw(64).tolist())
            raw = next(self._next)
        return raw % bound

    def between(self, low: int, high: int) -> int:
        """Draw an integer from low to high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """Return True with a probability in percent."""
        return self.below(100) < percent

    def one_of(self, choices: Sequence[Choice]) -> Choice:
        """Draw one of the choices, all equally likely."""
        return choices[self.below(len(choices))]

    def several_of(self, choices: Sequence[Choice], count: int) -> list[Choice]:
        """Draw ``count`` different choices, in random order."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def color(self) -> np.ndarray:
        """Draw red, green and blue, from 0 to 255."""
        return self.bytes(3)

    def bytes(self, *shape: int) -> np.ndarray:
        """Draw an array of integers from 0 to 255."""
        count = int(np.prod(shape))
        raw = self._source.random_raw((count + 7) // 8)
        return raw.astype("<u8").view(np.uint8)[:count].reshape(shape)
