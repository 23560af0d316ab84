"""Figures whose lines and texts are no pixels: the strongest links of words, and files of pictures as PDF, SVG and EPS.

This module imports matplotlib, and does not touch its global state.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch.nn.functional as F
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from PIL import Image

from nibt.data.objects import Box, read_box
from nibt.data.pair import as_list
from nibt.errors import BadInput
from nibt.options import Top, parsed
from nibt.report.colors import Appearance, appearance
from nibt.report.image.layout import TEXTS, font_for, shortened
from nibt.report.image.parts import photograph
from nibt.report.request import method_line
from nibt.results.base import require_result
from nibt.results.regions import Regions, word_indices
from nibt.torch_modes import plain_torch

_DPI = 100  # pixels of a picture per inch
_NO_DATES: dict[str, dict[str, str | None]] = {
    "pdf": {"Creator": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
    "png": {"Software": None},
}


def saved(figure: Figure, file_type: str, signature: str, dpi: int = 200) -> bytes:
    """Return the bytes of a figure as a signed PDF, SVG or EPS file; equal figures have equal bytes."""
    buffer = BytesIO()
    metadata = _NO_DATES.get(file_type, {})
    if signature and file_type != "eps":
        metadata = {**metadata, {"pdf": "Subject", "svg": "Description"}[file_type]: signature}
    figure.savefig(buffer, format=file_type, dpi=dpi, metadata=metadata)
    data = buffer.getvalue()
    if file_type == "eps":  # into which matplotlib writes no subject or description
        return re.sub(rb"%%CreationDate: .*\n", b"", data) + f"% {signature}\n".encode()

    if file_type == "svg":  # whose names of parts are random
        names: dict[bytes, bytes] = {}
        data = re.sub(
            rb'(?<=[#"])[a-z]+[0-9a-f]{10}(?=[")])', lambda name: names.setdefault(name[0], b"p%d" % len(names)), data
        )

    return data


def with_texts(picture: Image.Image, file_type: str, signature: str) -> bytes:
    """Return the file of a picture that was drawn in ``apart``: its pixels below its texts."""
    figure = Figure((picture.width / _DPI, picture.height / _DPI), layout="none")  # pyright: ignore[reportArgumentType]
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.asarray(picture), extent=(0, picture.width, picture.height, 0), aspect="auto", interpolation="none")
    axes.set_axis_off()
    for text in picture.info.get(TEXTS, ()):
        font = font_manager.FontProperties(fname=text.font, size=text.size * 72 / _DPI)
        color = "#{:02x}{:02x}{:02x}".format(*text.ink)
        line = drawable(text.line, text.font)
        axes.text(text.left, text.baseline, line, fontproperties=font, color=color, va="baseline", parse_math=False)

    return saved(figure, file_type, signature)


def drawable(line: str, font: str) -> str:
    """Return a line of text with a box in place of each character that a font lacks."""
    characters = font_manager.get_font(font)
    return "".join(character if characters.get_char_index(ord(character)) else "\u25a1" for character in line)


def font_file(line: str) -> str:
    """Return the file of a font that has the characters of a line of text."""
    path = getattr(font_for(line, 13), "path", None)  # not a path for Pillow's own font, which has Latin letters
    return path if isinstance(path, str) else font_manager.findfont("DejaVu Sans")


MOST_CELLS = 12
"""The largest number of parts of the image along each axis; finer tables are summed over blocks of cells."""
# in inches
_WIDTH = 7.0  # of the figure
_WORDS = 0.75  # the row of words
_MARGIN = 0.5  # the scale
_LONGEST = 0.75 * 72 * _WIDTH  # points: a word


@dataclass(frozen=True)
class WordLink:
    """A word and a part of the image with their score."""

    word: int
    row: int
    column: int
    score: float


@plain_torch()
def draw_links(
    regions: Regions,
    top: int = 10,
    words: Sequence[str | int] = (),
    box: Box | None = None,
    positive_only: bool = False,
    cmap: str = "red_blue",
) -> Image.Image:
    """Draw the largest entries of a table as curves from words to parts of the image.

    Args:
        regions: The word-region table.
        top: The number of links, those with the largest absolute scores.
        words: Only links of these words, by their texts or positions; empty means all.
        box: Only links into this box: left, top, width and height in pixels of the upright image.
        positive_only: Whether negative links are left out.
        cmap: The colors, as in ``draw``.

    Raises:
        BadOption: ``top`` is below 1, or there is no such color map.
        BadInput: A word is not in the table, the box is outside of the region that the model saw, or the image of a
            loaded table is missing.
    """
    require_result(regions, "draw_links", Regions)
    look = appearance(positive_only, cmap=cmap)
    return Image.open(BytesIO(links_figure(regions, top, words, box, look))).convert("RGB")


def links_figure(
    regions: Regions,
    top: int,
    words: Sequence[str | int],
    box: Box | None,
    look: Appearance,
    file_type: str = "png",
    signature: str = "",
) -> bytes:
    """Return the figure as a file with its signature; negative links are left out if the look hides them."""
    links, table = strongest_links(regions, top, as_list(words), box)
    look = look.pale if regions.is_noise() else look
    links = [link for link in links if link.score > 0 or not look.positive_only]

    image = photograph(regions.input, regions.source).convert("RGB")
    width, height = regions.size
    tall = _WIDTH * min(height / width, 1.4)
    figure = Figure((_WIDTH, tall + _WORDS + _MARGIN), layout="none")  # pyright: ignore[reportArgumentType]
    figure_height = figure.get_figheight()
    axes = figure.add_axes((0.02, (_WORDS + 0.35) / figure_height, 0.96, tall / figure_height))
    image.thumbnail((1000, 1000))
    axes.imshow(np.asarray(image), extent=(0, width, height, 0), interpolation="bilinear")
    axes.set_axis_off()

    frame = _Frame(figure, axes, figure_height, look, max((abs(link.score) for link in links), default=0.0))
    places = _draw_words(frame, regions, {link.word for link in links})
    for link in links:
        _draw_link(frame, regions, link, table.shape[1:], places[link.word])
    _draw_scale(frame, method_line(regions).removeprefix("method "))
    return saved(figure, file_type, signature)


def strongest_links(
    regions: Regions, top: int, words: Sequence[str | int] = (), box: Box | None = None
) -> tuple[list[WordLink], np.ndarray]:
    """Return the strongest links, the weakest first, and the table of the parts of the image."""
    top = parsed("top", top, Top)
    down, across = (  # of cells that are summed
        next(cells for cells in range(1, size + 1) if size % cells == 0 and size // cells <= MOST_CELLS)
        for size in (regions.grid.rows, regions.grid.columns)
    )
    table = (F.avg_pool2d(regions.table, (down, across)) * (down * across)).double().numpy()

    rows = word_indices(regions.words, words) if words else range(len(regions.words))
    inside = np.ones(table.shape[1:], bool)
    if box is not None:
        inside = _inside(regions, box, table.shape[1:])
    links = [
        WordLink(word, int(row), int(column), float(table[word, row, column]))
        for word in rows
        for row, column in np.argwhere(inside)
    ]
    strongest = sorted(links, key=lambda link: -abs(link.score))[:top]
    return [link for link in reversed(strongest) if link.score != 0], table


def _inside(regions: Regions, box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """Return which parts have their center in a box."""
    left, top, width, height = read_box(box)
    region = regions.region
    down = region.top + (np.arange(shape[0]) + 0.5) * region.height / shape[0]
    across = region.left + (np.arange(shape[1]) + 0.5) * region.width / shape[1]
    inside = ((down >= top) & (down < top + height))[:, None] & ((across >= left) & (across < left + width))[None]
    if not inside.any():
        raise BadInput(f"the box must have the center of a part of the image that the model saw (got {box})")
    return inside


@dataclass(frozen=True)
class _Frame:
    """The figure of matplotlib, the axes of the photograph, the height in inches, the colors and the largest score."""

    figure: Figure
    axes: Axes
    figure_height: float
    look: Appearance
    most: float

    def color(self, score: float) -> str:
        rgb = self.look.palette.positive if score > 0 else self.look.palette.negative
        return "#{:02x}{:02x}{:02x}".format(*rgb)

    def share(self, score: float) -> float:
        return abs(score) / self.most if self.most > 0 else 0.0


def _draw_words(frame: _Frame, regions: Regions, linked: set[int]) -> list[tuple[float, float]]:
    """Draw the words in rows below the photograph, and return the place above the middle of each."""
    renderer = FigureCanvasAgg(frame.figure).get_renderer()  # which measures words
    colors = ["#222222" if place in linked else "#999999" for place in range(len(regions.words))]
    texts = []
    for word, color in zip(regions.words, colors, strict=True):
        text = shortened(word.text, 13, _LONGEST)
        name = font_file(text)
        font = font_manager.FontProperties(fname=name, size=13)
        text = drawable(text, name)
        texts.append(frame.figure.text(0, 0, text, fontproperties=font, color=color, va="center", parse_math=False))

    widths = [text.get_window_extent(renderer).width / frame.figure.bbox.width for text in texts]
    rows: list[list[int]] = [[]]
    for place, width in enumerate(widths):
        if rows[-1] and sum(widths[earlier] + 0.02 for earlier in rows[-1]) + width > 0.96:
            rows.append([])
        rows[-1].append(place)

    tops = [(0.0, 0.0)] * len(texts)
    for number, row in enumerate(rows):
        left = 0.5 - (sum(widths[place] for place in row) + 0.02 * (len(row) - 1)) / 2
        height = (0.3 + _WORDS * (len(rows) - number - 0.5) / len(rows)) / frame.figure_height
        for place in row:
            texts[place].set_position((left, height))
            tops[place] = left + widths[place] / 2, height + 0.13 / frame.figure_height
            left += widths[place] + 0.02

    return tops


def _draw_link(
    frame: _Frame, regions: Regions, link: WordLink, shape: tuple[int, ...], start: tuple[float, float]
) -> None:
    """Draw a part of the image and a curve from a word into it."""
    region = regions.region
    share = frame.share(link.score)
    color = frame.color(link.score)
    down = region.height / shape[0]
    across = region.width / shape[1]
    corner = region.left + link.column * across, region.top + link.row * down
    frame.axes.add_patch(Rectangle(corner, across, down, facecolor=color, alpha=0.25 + 0.35 * share, edgecolor="none"))
    frame.axes.add_patch(Rectangle(corner, across, down, fill=False, edgecolor="white", linewidth=0.8))

    # the curve is drawn in the figure, since it leaves the axes of the photograph for the words below
    inverse = frame.figure.transFigure.inverted()
    beside = 0.35 if link.score > 0 else 0.65  # so that links into one part with both signs are seen
    end = inverse.transform(frame.axes.transData.transform((corner[0] + across * beside, corner[1] + down / 2)))
    start = start[0] + (-0.006 if link.score > 0 else 0.006), start[1]
    middle = (start[1] + end[1]) / 2
    curve = Path([start, (start[0], middle), (end[0], middle), tuple(end)], [1, 4, 4, 4])
    for line_color, extra in (("white", 1.4), (color, 0.0)):  # a white edge sets lines apart from the photograph
        line = PathPatch(
            curve,
            fill=False,
            edgecolor=line_color,
            linewidth=0.6 + 2.6 * share + extra,
            capstyle="round",
            transform=frame.figure.transFigure,
        )
        frame.figure.add_artist(line)


def _draw_scale(frame: _Frame, method: str) -> None:
    """Draw what the colors and widths mean, and the method."""
    ends = [1.0] if frame.look.positive_only else [-1.0, 1.0]
    names = {-1.0: "against", 1.0: "for"}
    for place, sign in enumerate(ends):
        left = 0.04 + 0.26 * place
        height = 0.18 / frame.figure_height
        color = frame.color(sign)
        frame.figure.add_artist(Line2D([left, left + 0.05], [height] * 2, color=color, linewidth=3.2))
        text = f"{names[sign]}, {sign * frame.most:+.2g}"
        frame.figure.text(left + 0.06, height, text, fontsize=9, color="#222222", va="center")

    frame.figure.text(0.98, 0.18 / frame.figure_height, method, fontsize=7, color="#6c6c6c", va="center", ha="right")
