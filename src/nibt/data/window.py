"""The window of a gray image, which may follow its name: ``scan.dcm#window=40,400``."""

import math
import os
from typing import NamedTuple

import numpy as np

from nibt.errors import BadInput
from nibt.io import WINDOW


class Window(NamedTuple):
    """The values that are mapped from black to white.

    Attributes:
        level: The value in the middle, which becomes gray.
        width: The length of the range of values, above 0.
    """

    level: float
    width: float

    def __str__(self) -> str:
        return f"level {self.level:g} and width {self.width:g}"


def split_window(name: str) -> tuple[str, Window | None]:
    """Return the path of an image and its window; None without one, or if a file has the whole name.

    Examples:
        >>> split_window("scan.dcm#window=40,400")
        ('scan.dcm', Window(level=40.0, width=400.0))

    Raises:
        BadInput: The window has no level and width.
    """
    path, mark, text = name.rpartition(WINDOW)
    if not mark or os.path.exists(name):
        return name, None

    try:
        level, width = map(float, text.split(","))
    except ValueError:
        level = width = math.nan
    if not (math.isfinite(level) and math.isfinite(width) and width > 0):
        raise BadInput(
            f"a window must be LEVEL,WIDTH with a width above 0, as in scan.dcm#window=40,400 (got {text!r:.60})"
        )
    return path, Window(level, width)


def without_window(name: str) -> str:
    """Return the path of an image without its window, whatever that has."""
    path, mark, _ = name.rpartition(WINDOW)
    return path if mark and not os.path.exists(name) else name


def windowed(values: np.ndarray, window: Window) -> np.ndarray:
    """Map values linearly: 0 below the window, 1 above it."""
    low = window.level - window.width / 2
    return ((values.astype(np.float64) - low) / window.width).clip(0, 1)
