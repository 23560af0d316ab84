"""Points and boxes that an answer writes as numbers, and where they lie in the image by each usual unit."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nibt.data.images import Region

_NUMBER = r"(\d+(?:\.\d+)?)"
_NEXT = r"\s*,\s*"
_TWO = rf"{_NUMBER}{_NEXT}{_NUMBER}"
_BETWEEN = r"[\"']?\s*[=:]\s*[\"']?"
_NAMED = rf"\bx\d*{_BETWEEN}{_NUMBER}[\"']?[\s,]*[\"']?y\d*{_BETWEEN}{_NUMBER}"
_POINT = re.compile(
    rf"[(\[]\s*{_TWO}\s*[)\]]\s*,\s*[(\[]\s*{_TWO}\s*[)\]](?=\s*<)"  # of Qwen-VL, before the tag that ends a box
    rf"|[(\[]\s*{_TWO}{_NEXT}{_TWO}\s*[)\]]"
    rf"|[(\[]\s*{_TWO}\s*[)\]]"
    rf"|{_NAMED}"
)
_THOUSAND = 1000
_HUNDRED = 100
_ALIKE = 0.01  # of the sides of the image: two units whose points are nearer to each other are shown as one


@dataclass(frozen=True)
class WrittenNumber:
    """A number of a point or a box.

    Attributes:
        text: The number as it is written.
        axis: ``x`` or ``y``.
        words: The positions of the words of the answer that spell it: one, unless a token joins several.
    """

    text: str
    axis: str
    words: tuple[int, ...]

    @property
    def value(self) -> float:
        """The number."""
        return float(self.text)


@dataclass(frozen=True)
class WrittenPoint:
    """A point (x, y) or a box (left, top, right, bottom) in an answer.

    Attributes:
        text: What the answer writes.
        numbers: Its two or four numbers.
    """

    text: str
    numbers: tuple[WrittenNumber, ...]

    @property
    def noun(self) -> str:
        """``point`` or ``box``."""
        return "box" if len(self.numbers) > 2 else "point"


@dataclass(frozen=True)
class PlacedPoint:
    """Where a point or a box lies in the image if its numbers have some unit.

    Attributes:
        units: The units by which it lies there, in words.
        numbers: Its two or four numbers in pixels of the image.
    """

    units: tuple[str, ...]
    numbers: tuple[float, ...]


def written_points(answer: str, words: Sequence[str]) -> list[WrittenPoint]:
    """Return the points and boxes of an answer.

    They are pairs or four numbers in brackets, such as ``(412, 230)`` and ``[10, 20, 110, 220]``, two pairs before the
    end of a tag, ``(10,20),(110,220)</box>``, and named numbers, such as ``x="61.5" y="40.4"``.

    Args:
        answer: The answer.
        words: Its words in order.

    Examples:
        >>> (point,) = written_points("click (412, 230)", ["click", "(", "412", ",", "230", ")"])
        >>> [(number.axis, number.value, number.words) for number in point.numbers]
        [('x', 412.0, (2,)), ('y', 230.0, (4,))]
    """
    spans = list(_spans(answer, words))
    starts = [first for first, _ in spans]
    ends = [last for _, last in spans]
    points = []
    for match in _POINT.finditer(answer):
        groups = [group for group, text in enumerate(match.groups(), 1) if text is not None]
        numbers = []
        for place, group in enumerate(groups):
            start, end = match.span(group)
            spelled = tuple(range(bisect_right(ends, start), bisect_left(starts, end)))
            numbers.append(WrittenNumber(match.group(group), "xy"[place % 2], spelled))

        if all(number.words for number in numbers):  # an answer may be cut
            points.append(WrittenPoint(match.group(), tuple(numbers)))

    return points


def _spans(answer: str, words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where each word starts and ends in the answer."""
    end = 0
    for word in words:
        start = answer.find(word, end)
        if start < 0:
            start = end
        end = start + len(word)
        yield start, end


def placed_points(
    point: WrittenPoint, size: tuple[int, int], region: Region, processed_size: tuple[int, int] | None
) -> list[PlacedPoint]:
    """Return where a point or a box lies by each usual unit by which it is in the image.

    Args:
        point: The point.
        size: The width and height of the image in pixels.
        region: The part of the image that the model reads.
        processed_size: The width and height of this part in pixels after it was resized for the model; None if that is
            not known.
    """
    whole = (0.0, 0.0, float(size[0]), float(size[1]))
    seen = (region.left, region.top, region.width, region.height)
    units: list[tuple[str, tuple[float, float, float, float], tuple[float, float]]] = [
        (f"thousandths of the image (0 to {_THOUSAND})", whole, (_THOUSAND, _THOUSAND)),
        (f"pixels of the image ({size[0]} x {size[1]})", whole, (size[0], size[1])),
    ]
    if processed_size is not None:
        width, height = processed_size
        units.append((f"pixels of the image as the model reads it ({width} x {height})", seen, (width, height)))
    if any("." in number.text for number in point.numbers):
        units.insert(0, (f"percent of the image (0 to {_HUNDRED})", whole, (_HUNDRED, _HUNDRED)))
        units.insert(0, ("shares of the image (0 to 1)", whole, (1, 1)))

    placed: list[PlacedPoint] = []
    for name, (left, top, width, height), limits in units:
        values = [number.value for number in point.numbers]
        if any(value > limits[place % 2] for place, value in enumerate(values)):
            continue  # outside of the image

        starts = (left, top)
        lengths = (width, height)
        pixels = tuple(starts[k % 2] + value / limits[k % 2] * lengths[k % 2] for k, value in enumerate(values))
        alike = next((number for number, other in enumerate(placed) if _alike(other.numbers, pixels, size)), None)
        if alike is None:
            placed.append(PlacedPoint((name,), pixels))
        else:
            placed[alike] = PlacedPoint((*placed[alike].units, name), placed[alike].numbers)

    return placed


def _alike(first: Sequence[float], second: Sequence[float], size: tuple[int, int]) -> bool:
    """Return whether two points or boxes are almost in one place."""
    differences = (abs(one - other) / size[k % 2] for k, (one, other) in enumerate(zip(first, second, strict=True)))
    return max(differences) <= _ALIKE
