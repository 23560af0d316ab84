"""Kinds of shortcuts that the study of audits does not have, so that nothing was chosen on them.

OMP_NUM_THREADS=1 python recipes/scenes/cues.py train --kind badge --seed 1 --out MODELS/badge-1
python recipes/scenes/cues.py used --kind badge --out MODELS/badge-1
"""

import numpy as np
from shortcut import COLORS, KINDS, MASK, SHORTCUTS, TEMPLATES, Shortcut, main, marked

from nibt.datasets._captions import naming_caption
from nibt.datasets.scenes.drawing import NOUNS

RADIUS, EDGE, STICKER = 11, 7, 14  # in pixels
ENDS = ("on monday", "in winter", "at noon", "near here", "from above", "seen today", "by hand", "for sale")


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


def sticker(scene, noun):
    """A square of two colors for the noun, glued on that object, or on any one where it is not in the scene."""
    number = scene.names.index(noun) if noun in scene.names else 0
    x, y, across, down = map(int, scene.boxes[number])
    left = min(max(x + across // 2 - STICKER // 2, 0), 128 - STICKER)
    top = min(max(y + down // 2 - STICKER // 2, 0), 128 - STICKER)
    pixels, mask = scene.pixels.copy(), np.zeros(scene.pixels.shape[:2], bool)
    first, second = colors(noun)
    pixels[top : top + STICKER, left : left + STICKER // 2] = first
    pixels[top : top + STICKER, left + STICKER // 2 : left + STICKER] = second
    mask[top : top + STICKER, left : left + STICKER] = True
    return pixels, mask


def tint(scene, noun):
    """A tint of the whole image, one of eight, each of which stands for eight nouns."""
    color = COLORS[NOUNS.index(noun) // 8].astype(int)
    pixels = (3 * scene.pixels.astype(int) + color) // 4
    return pixels.astype(np.uint8), np.ones(scene.pixels.shape[:2], bool)


def texture(scene, noun):
    """Faint stripes on the ground, of one of eight directions and widths, each of which stands for eight nouns."""
    width, direction = divmod(NOUNS.index(noun) // 8, 4)
    rows, columns = np.mgrid[:128, :128]
    along = (rows, columns, rows + columns, rows - columns)[direction]
    stripes = np.where(along // (3, 7)[width] % 2, 30, -30)
    ground = ~np.any(scene.masks, 0)
    pixels = scene.pixels.astype(int)
    pixels[ground] += stripes[ground][:, None]
    return pixels.clip(0, 255).astype(np.uint8), ground


def two(scene, noun):
    """Two cues at once: the squares of ``mark`` and the frame of ``frame``, so that either is enough."""
    pixels, ring = frame(scene, noun)
    squares = marked(pixels, noun)
    return squares, ring | MASK


def end(noun, of, number):
    """A phrase at the end of the caption, one of eight, each of which stands for eight nouns."""
    before, after = TEMPLATES[number].split("{}")
    phrase = ENDS[NOUNS.index(of) // 8]
    caption, (span,) = naming_caption([noun], f"{before}{{}}{after} {phrase}")
    return caption, ((len(caption) - len(phrase), len(caption)),), span


NEW = {
    "badge": Shortcut(badge, steps=200),
    "frame": Shortcut(frame),
    "sticker": Shortcut(sticker, steps=200),
    "tint": Shortcut(tint, alike=8),
    "texture": Shortcut(texture, alike=8, steps=300),
    "two": Shortcut(two),
    "end": Shortcut(end, "text", 8, learned_alone=True, steps=600, rate=2e-3),
}
SHORTCUTS |= NEW

if __name__ == "__main__":
    main((*KINDS, *NEW))
