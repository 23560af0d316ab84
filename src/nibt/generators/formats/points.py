"""The points and boxes that an answer writes, over the image, with the map of each of their numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageDraw

from nibt.formats.base import LOOK, Drawing, Result, bare
from nibt.formats.image import PictureFormat
from nibt.generators.results.points import PlacedPoint, WrittenPoint, placed_points, written_points
from nibt.report.colors import INK, PAPER, Appearance
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import MARGIN, SMALL, TILE, centered, resized, stacked, text_rows, tile, write
from nibt.report.image.parts import photograph, scale
from nibt.report.request import legend, method_line, note_lines, sentence

if TYPE_CHECKING:  # files of other results do not need it
    from nibt.generators.results.answer import AnswerExplanation

_ACROSS = 3  # panels of a row
_MOST = 20  # points that are drawn
_RADIUS = 10.0
_TITLE = 20
_LETTERS = "ABCDE"  # one for each usual unit


class Points(PictureFormat, name="points"):
    """Where the points and boxes that an answer writes lie in the image, and the map of each of their numbers."""

    endings = (".points.png", ".points.pdf", ".points.svg")
    holds = ("answer",)
    draws = LOOK

    def lacks(self, results: Sequence[Any]) -> str:
        (result,) = results
        if result.images:
            return f"points are drawn for an answer about one image (got {len(result.images)} images)"
        if not _points(result):
            return (
                "the answer must have a point or a box in numbers, such as (412, 230) or [10, 20, 110, 220] (got "
                f"{result.answer!r:.100})"
            )
        return ""

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        result: Any = bare(results[0])
        return draw_points(result, _points(result), drawing.look)


def _points(result: "AnswerExplanation") -> Sequence[WrittenPoint]:
    """Return the points and boxes that the answer writes."""
    return written_points(result.answer, [word.text for word in result.words])


def draw_points(result: "AnswerExplanation", points: Sequence[WrittenPoint], look: Appearance) -> Image.Image:
    """Draw for the first points the image with each by each unit, and the map of each of its numbers with its line."""
    not_drawn = len(points) - _MOST
    points = points[:_MOST]
    look = look.pale if result.is_noise() else look
    numbers = [number for point in points for number in point.numbers]
    maps = {number: torch.stack([result.table[word] for word in number.words]).sum(0) for number in numbers}
    most = max(float(grid.abs().max()) for grid in maps.values())
    original = resized(photograph(result.input, result.source), TILE)
    rows: list[Image.Image] = []
    width = max(_ACROSS * (max(original.width, 100) + MARGIN) + MARGIN, 640)
    for point in points:
        placed = placed_points(point, result.size, result.region, result.processed_size)
        tiles = [tile(_with_points(original, placed, result.size), point.text)]
        for place, number in enumerate(point.numbers):
            grid = maps[number]
            mapped = overlay(GridMap(grid, result.region, result.size), original, look, most)
            lines = _with_lines(mapped, placed, place, result.size)
            tiles.append(tile(lines, f"{number.axis} {number.text}", f"{float(grid.sum()):+z.2f}"))

        rows += [centered(tiles[first : first + _ACROSS], width) for first in range(0, len(tiles), _ACROSS)]
        rows.append(text_rows(list(_legend(point, placed)), width, ink=INK))

    question = "Where are the points that the answer writes, and what are their numbers read from?"
    title = text_rows([question], width, _TITLE, INK)
    head = [title, text_rows([legend(result, look)], width)]
    if result.mismatch:
        head.append(text_rows([sentence(result.mismatch)], width, ink=INK))
    lowest = min(float(grid.min()) for grid in maps.values())
    one_sided = look.is_one_sided(result.method["signed"], lowest)
    bar = scale(most, width, look, one_sided, result.method["signed"], name="numbers")
    if not_drawn > 0:
        rows.append(text_rows([f"and {not_drawn:,} further points of the answer"], width, ink=INK))
    facts = [method_line(result), *note_lines(result)]
    return stacked([*head, *rows, bar, text_rows(facts, width)], width)


def _legend(point: WrittenPoint, placed: Sequence[PlacedPoint]) -> Sequence[str]:
    """Return what the marks of a point stand for."""
    if not placed:
        return [f"{point.text} is outside of the image by any usual unit"]
    lines = []
    for letter, of_units in zip(_LETTERS, placed, strict=False):
        pixels = ", ".join(f"{value:.0f}" for value in of_units.numbers)
        lines.append(f"{letter}: {point.text} in {', or '.join(of_units.units)} is pixel {pixels} of the image")
    return lines


def _scaled(numbers: Sequence[float], size: tuple[int, int], picture: Image.Image) -> list[float]:
    """Return pixels of the image as pixels of a picture of it."""
    scales = picture.width / size[0], picture.height / size[1]
    return [value * scales[k % 2] for k, value in enumerate(numbers)]


def _with_points(picture: Image.Image, placed: Sequence[PlacedPoint], size: tuple[int, int]) -> Image.Image:
    """Draw a letter at each point, or at the second corner of each box."""
    drawn = picture.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    for letter, of_units in zip(_LETTERS, placed, strict=False):
        scaled = _scaled(of_units.numbers, size, drawn)
        if len(scaled) > 2:
            across = sorted(scaled[::2])
            down = sorted(scaled[1::2])
            box = (across[0], down[0], across[1], down[1])
            pen.rectangle(box, outline=PAPER, width=3)
            pen.rectangle(box, outline=INK, width=1)
        _mark(pen, (scaled[-2], scaled[-1]), letter)

    return drawn


def _with_lines(picture: Image.Image, placed: Sequence[PlacedPoint], place: int, size: tuple[int, int]) -> Image.Image:
    """Draw where a number is: a vertical line for x, and a horizontal one for y."""
    drawn = picture.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    for letter, of_units in zip(_LETTERS, placed, strict=False):
        at = _scaled(of_units.numbers, size, drawn)[place]
        if place % 2:
            ends = (0, at, drawn.width, at)
            mark = (_RADIUS, at)
        else:
            ends = (at, 0, at, drawn.height)
            mark = (at, _RADIUS)
        pen.line(ends, fill=PAPER, width=3)
        pen.line(ends, fill=INK, width=1)
        _mark(pen, mark, letter)

    return drawn


def _mark(pen: ImageDraw.ImageDraw, place: tuple[float, float], letter: str) -> None:
    """Draw a letter in a circle."""
    across, down = place
    pen.ellipse((across - _RADIUS, down - _RADIUS, across + _RADIUS, down + _RADIUS), fill=PAPER, outline=INK)
    write(pen, place, letter, INK, SMALL, anchor="mm")
