"""Detection of text in images by rule: shapes of one level of gray, next to each other on a line, on an even ground."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

_SIDE = 512
"""The most pixels of the longer side that is searched. Images of at most half of it are enlarged, to divide letters."""
_LEVELS = range(24, 240, 16)
"""Levels that divide an image into dark and light shapes."""
_AGREEING = 2
"""The number of levels that must have text at a place."""
_LEAST = 3
"""The least number of letters of a line."""
_MOST = 3000
"""The largest number of shapes of a level that are searched."""
_CONTRAST = 40  # of 255
_EVEN = 0.3
"""The most that letters, or the ground, may vary, relative to their difference."""
_FOREIGN = 0.3
"""The most area of shapes between the letters, relative to that of the letters."""


def text_mask(image: Image.Image) -> np.ndarray:
    """Find the text in an image.

    It finds horizontal lines of at least three letters, if the letters have one level of gray and the ground another.
    It often misses text on a textured ground, vertical text, handwriting and connected letters.

    Args:
        image: An RGB image.

    Returns:
        True in the boxes of the lines of text, with the shape (height, width) of the image.
    """
    longest = max(image.size)
    scale = _SIDE / longest if longest > _SIDE else 2 if longest <= _SIDE / 2 else 1
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    resample = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    gray = np.asarray(image.convert("L").resize(size, resample), np.float32)
    counts = np.zeros((2, *gray.shape), int)  # for dark and light letters
    for level in _LEVELS:
        for count, binary in zip(counts, (gray < level, gray >= level), strict=True):
            seen = np.zeros(gray.shape, bool)
            for box in _lines(gray, binary):
                seen[box] = True
            count += seen

    mask = np.asarray((counts >= _AGREEING).any(0))
    return np.array(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))


def _lines(gray: np.ndarray, binary: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Yield the box of each line of text among the shapes of a binary image."""
    labeled: Any = ndimage.label(binary, np.ones((3, 3)))
    labels, count = labeled
    if count < _LEAST:
        return

    boxes = np.array([(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)])
    numbers, fill, stroke = _letters(binary, labels, boxes)
    if not _LEAST <= len(numbers) <= _MOST:
        return

    for members in _neighbors(boxes[numbers], stroke):
        letters = numbers[members]
        if _is_line(boxes[letters], fill[members]):
            left, top, right, bottom = *boxes[letters, :2].min(0), *boxes[letters, 2:].max(0)
            box = slice(top, bottom), slice(left, right)
            if _is_printed(gray[box], binary[box], np.isin(labels[box], letters + 1)):
                yield box


def _letters(binary: np.ndarray, labels: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the shapes that may be letters, by their positions, with the filled shares of their boxes and strokes."""
    (height, width), (across, down) = binary.shape, (boxes[:, 2:] - boxes[:, :2]).T
    area = np.bincount(labels.ravel())[1:]
    core = binary[1:-1, 1:-1] & binary[:-2, 1:-1] & binary[2:, 1:-1] & binary[1:-1, :-2] & binary[1:-1, 2:]
    edge = labels.copy()
    edge[1:-1, 1:-1][core] = 0
    stroke = 2 * area / np.bincount(edge.ravel(), minlength=len(area) + 1)[1:]
    fill = area / (across * down)
    touches_border = (boxes[:, :2] == 0).any(1) | (boxes[:, 2:] == (width, height)).any(1)
    is_block = (fill > 0.85) & (across > 0.45 * down)
    fits = (down >= 5) & (down <= height / 2) & (across <= 2 * down) & (fill >= 0.15)
    numbers = np.flatnonzero(fits & ~is_block & ~touches_border & (stroke <= np.maximum(0.3 * down, 2)))
    return numbers, fill[numbers], stroke[numbers]


def _neighbors(boxes: np.ndarray, stroke: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the positions of shapes that are a chain from left to right, of similar heights and strokes."""
    first, second = _near(boxes)
    left, top, right, bottom = boxes.T
    height = bottom - top
    largest = np.maximum(height[first], height[second])
    smallest = np.minimum(height[first], height[second])
    shared = np.minimum(bottom[first], bottom[second]) - np.maximum(top[first], top[second])
    gap = left[second] - right[first]
    linked = (left[second] > left[first]) & (gap > -0.15 * smallest) & (gap < 0.9 * largest)
    linked &= (shared >= 0.6 * smallest) & (largest <= 2 * smallest)
    strokes = stroke[first], stroke[second]
    linked &= np.maximum(*strokes) <= 1.6 * np.minimum(*strokes) + 1
    pairs = first[linked], second[linked]
    graph = coo_matrix((np.ones(len(pairs[0])), pairs), (len(boxes), len(boxes)))
    chains = connected_components(graph, directed=False)[1]
    for number in np.flatnonzero(np.bincount(chains) >= _LEAST):
        yield np.flatnonzero(chains == number)


def _near(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of shapes that are near enough to be linked: their centers, relative to the height of one."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    height = boxes[:, 3] - boxes[:, 1]
    near = KDTree(centers).query_ball_point(centers, 5 * height)
    counts = [len(each) for each in near]
    return np.repeat(np.arange(len(boxes)), counts), np.concatenate(near).astype(int)


def _is_line(boxes: np.ndarray, fill: np.ndarray) -> bool:
    """Return whether shapes have one height and one base line, as letters do, but not one width, as fences do."""
    left, top, right, bottom = boxes.T
    height = bottom - top
    width = right - left
    if right.max() - left.min() < 2 * height.mean() or height.std() > 0.35 * height.mean():
        return False
    if width.std() < 0.1 * width.mean() or (fill > 0.85).mean() > 0.5:
        return False

    slope, start = np.polyfit((left + right) / 2, bottom, 1)
    off_line = np.abs(bottom - start - slope * (left + right) / 2)
    return bool(abs(slope) <= 0.5 and np.median(off_line) <= 0.2 * height.mean())


def _is_printed(gray: np.ndarray, binary: np.ndarray, letters: np.ndarray) -> bool:
    """Return whether the letters in a box and the ground between them have a level each, with nothing else between."""
    ground = np.logical_not(ndimage.binary_dilation(letters))
    if not ground.any() or (binary & ~letters).sum() > _FOREIGN * letters.sum():
        return False

    levels = [np.median(gray[area]) for area in (letters, ground)]
    contrast = abs(levels[0] - levels[1])
    varies = max(np.abs(gray[area] - level).mean() for area, level in zip((letters, ground), levels, strict=True))
    return bool(contrast >= _CONTRAST and varies <= _EVEN * contrast)
