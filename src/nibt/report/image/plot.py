"""Small line plots: axes with ticks, and lines with their names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from nibt.report.colors import FAINT, INK, PAPER, RGB
from nibt.report.image.fonts import length, write

WIDTH, HEIGHT = 460, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 18, 40, 52  # margins of the axes
_TEXT, _TICK = 15, 13
_FINE = 3  # lines are drawn larger and reduced, since Pillow does not smooth them


@dataclass(frozen=True)
class Line:
    """A line of a plot with its name in the legend."""

    name: str
    color: RGB
    across: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Axis:
    """An axis: the numbers at its ends, and the pixels at which they lie."""

    low: float
    high: float
    first: int
    last: int
    log: bool = False

    @classmethod
    def of(cls, values: Sequence[float], first: int, last: int, log: bool = False) -> "Axis":
        """Return the axis that shows all values; if they are equal, with some room around them."""
        low, high = min(values), max(values)
        if low == high:
            low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
        return cls(low, high, first, last, log)

    def at(self, value: float) -> float:
        low, high, value = (math.log(number) if self.log else number for number in (self.low, self.high, value))
        return self.first + (self.last - self.first) * (value - low) / (high - low)

    @property
    def ticks(self) -> list[float]:
        """Round numbers on the axis: powers of ten, or about four multiples of 1, 2 or 5."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers]
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        return [step * number for number in range(math.ceil(self.low / step - 1e-9), int(self.high / step + 1e-9) + 1)]


def plot(lines: Sequence[Line], title: str, across: str, log: bool = False) -> Image.Image:
    """Draw lines over common axes."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    horizontal = Axis.of([value for line in lines for value in line.across], _LEFT, WIDTH - _RIGHT, log)
    vertical = Axis.of([value for line in lines for value in line.values], HEIGHT - _BOTTOM, _TOP, log)
    pen = ImageDraw.Draw(image)
    _rules(pen, horizontal, vertical)
    _draw_lines(image, lines, horizontal, vertical)
    pen = ImageDraw.Draw(image)
    write(pen, (_LEFT, 8), title, INK, _TEXT)
    write(pen, ((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 22), across, FAINT, _TICK, anchor="mt")
    left = WIDTH - _RIGHT
    for line in reversed(lines):
        write(pen, (left, 8), line.name, line.color, _TEXT, anchor="rt")
        left -= round(length(line.name, _TEXT)) + 14
    return image


def _rules(pen: ImageDraw.ImageDraw, horizontal: Axis, vertical: Axis) -> None:
    """Draw the ticks with their numbers, and faint rules at those of the vertical axis."""
    for number in vertical.ticks:
        down = vertical.at(number)
        pen.line((horizontal.first, down, horizontal.last, down), (225, 225, 225))
        write(pen, (horizontal.first - 8, down), _number(number), FAINT, _TICK, anchor="rm")
    for number in horizontal.ticks:
        place = horizontal.at(number)
        pen.line((place, vertical.first, place, vertical.first + 5), FAINT)
        write(pen, (place, vertical.first + 8), _number(number), FAINT, _TICK, anchor="mt")
    pen.line((horizontal.first, vertical.first, horizontal.last, vertical.first), FAINT)


def _number(value: float) -> str:
    return f"{value:.3g}".replace("e-0", "e-")


def _draw_lines(image: Image.Image, lines: Sequence[Line], horizontal: Axis, vertical: Axis) -> None:
    fine = image.resize((_FINE * image.width, _FINE * image.height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(fine)
    for line in lines:
        pairs = zip(line.across, line.values, strict=True)
        points = [(_FINE * horizontal.at(place), _FINE * vertical.at(value)) for place, value in pairs]
        pen.line(points, line.color, 2 * _FINE, joint="curve")
        for place, down in points:
            size = 2.5 * _FINE
            pen.ellipse((place - size, down - size, place + size, down + size), line.color)
    image.paste(fine.resize(image.size, Image.Resampling.LANCZOS))
