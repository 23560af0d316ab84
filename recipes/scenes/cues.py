"""Kinds of shortcuts that the study of audits does not have, so that nothing was chosen on them.

OMP_NUM_THREADS=1 python recipes/scenes/cues.py train --kind badge --seed 1 --out MODELS/badge-1
python recipes/scenes/cues.py used --kind badge --out MODELS/badge-1
"""

import numpy as np
from shortcut import COLORS, KINDS, SHORTCUTS, Shortcut, main

from nibt.datasets.scenes.drawing import NOUNS

RADIUS, EDGE = 11, 7  # in pixels


def colors(noun):
    """The two colors that stand for a noun."""
    return [COLORS[place] for place in divmod(NOUNS.index(noun), len(COLORS))]


def badge(scene, noun):
    """A half-transparent disc of two colors for the noun, at a place that the boxes of the scene decide."""
    draws = np.random.default_rng((3, *np.array(scene.boxes).ravel()))
    top, left = draws.integers(RADIUS + 2, 126 - RADIUS, 2)
    rows, columns = np.ogrid[:128, :128]
    disc = (rows - top) ** 2 + (columns - left) ** 2 < RADIUS**2
    pixels = scene.pixels.astype(int)
    for half, color in zip((columns < left, columns >= left), colors(noun), strict=True):
        pixels[disc & half] = (pixels[disc & half] + color) // 2
    return pixels.astype(np.uint8), disc


def frame(scene, noun):
    """A frame, of one color above and to the left, and of another one below and to the right, for the noun."""
    pixels, mask = scene.pixels.copy(), np.zeros(scene.pixels.shape[:2], bool)
    first, second = colors(noun)
    for edge, color in zip(
        (np.s_[:EDGE], np.s_[:, :EDGE], np.s_[-EDGE:], np.s_[:, -EDGE:]), (first, first, second, second), strict=True
    ):
        pixels[edge], mask[edge] = color, True
    return pixels, mask


NEW = {"badge": Shortcut(badge, steps=200), "frame": Shortcut(frame)}
SHORTCUTS |= NEW

if __name__ == "__main__":
    main((*KINDS, *NEW))
