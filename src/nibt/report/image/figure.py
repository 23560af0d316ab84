"""Figures of single results for papers: as wide as a column, with the font of the text, as PDF, SVG and EPS.

Maps are pixels; words, numbers and color scales are text and lines. This module imports matplotlib.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from nibt.errors import BadOption
from nibt.io import one_line
from nibt.report.colors import FAINT, INK, RGB, Appearance, ink_on, on_paper
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import resized
from nibt.report.image.links import drawable, font_file, saved
from nibt.report.image.parts import photograph
from nibt.report.image.words import words_view
from nibt.report.request import is_signed, method_line, runs, sentence, shared_word_scale, side_look
from nibt.report.view import view_of
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.base import ResultWithMaps
from nibt.results.explanation import Explanation

FONTS = {"sans": "DejaVu Sans", "serif": "STIXGeneral"}
"""Names of fonts that ship with matplotlib: one without serifs, and Times."""
_SIZE = 8.0  # points
_SMALL = 7.0
# in inches
_GAP = 0.06
_LINE = 1.35 * _SIZE / 72
_SPACE = 0.03
_WIDEST_END = 0.45  # a number at the end of a scale
_WORD_MAP = 1.05  # the least width of the map of a word
_BAR = (1.2, 0.09)
_PIXELS = 300  # of maps, per inch


@dataclass(frozen=True)
class MapPanel:
    """A map over its image, with the text above it."""

    picture: Image.Image
    title: str


@dataclass
class Page:
    """A figure that is laid out from its top downwards, in inches, before its height is known.

    Attributes:
        figure: The figure.
        renderer: What measures texts.
        width: Its width.
        font: The file of its font.
        top: Where the next row begins.
        texts: Texts with the place of their middle line, from the left and the top.
        pictures: Pictures with left, top, width and height.
    """

    figure: Figure
    renderer: RendererAgg
    width: float
    font: str
    top: float = _GAP
    texts: list[tuple[Text, float, float]] = field(default_factory=list)
    pictures: list[tuple[np.ndarray, float, float, float, float]] = field(default_factory=list)

    def measured(self, text: str, size: float = _SIZE, color: RGB = INK) -> tuple[Text, float]:
        """Return a text that has no place yet, with its width; another font draws what the font lacks."""
        line = one_line(text)
        file = _file_for(line, self.font)
        font = font_manager.FontProperties(fname=file, size=size)
        written = self.figure.text(
            0, 0, drawable(line, file), fontproperties=font, color=_hex(color), va="center", parse_math=False
        )
        return written, written.get_window_extent(self.renderer).width / self.figure.dpi

    def row(self, texts: Sequence[tuple[Text, float]], gap: float = 0.0) -> None:
        """Place texts in rows that are as wide as the figure, each row in the middle."""
        rows: list[list[tuple[Text, float]]] = [[]]
        for text, across in texts:
            used = sum(width for _, width in rows[-1]) + gap * len(rows[-1])
            if rows[-1] and used + across > self.width:
                rows.append([])
            rows[-1].append((text, across))

        for of_row in rows:
            left = (self.width - sum(across for _, across in of_row) - gap * (len(of_row) - 1)) / 2
            for text, across in of_row:
                self.texts.append((text, max(0.0, left), self.top + _LINE / 2))
                left += across + gap
            self.top += _LINE

    def lines(self, text: str, color: RGB = INK) -> None:
        """Place a text, wrapped to the width of the figure."""
        words = [self.measured(word, _SMALL, color) for word in text.split()]
        self.row(words, _SPACE)

    def panels(self, panels: Sequence[MapPanel], across: int) -> None:
        """Place pictures side by side in rows, each below its title."""
        size = (self.width - _GAP * (across - 1)) / across
        for first in range(0, len(panels), across):
            of_row = panels[first : first + across]
            start = (self.width - size * len(of_row) - _GAP * (len(of_row) - 1)) / 2
            lefts = [start + place * (size + _GAP) for place in range(len(of_row))]
            titled = any(panel.title for panel in of_row)
            for panel, left in zip(of_row, lefts, strict=True):
                written, wide = self.measured(panel.title, _SMALL)
                self.texts.append((written, left + max(0.0, size - wide) / 2, self.top + _LINE / 2))
                height = size * panel.picture.height / panel.picture.width
                place = left, self.top + _LINE * titled, size, height
                self.pictures.append((np.asarray(panel.picture), *place))
            self.top = max(top + height for _, _, top, _, height in self.pictures) + _GAP

    def scale(self, name: str, most: float, look: Appearance, one_sided: bool) -> None:
        """Place a color scale with its name and its ends."""
        if most == 0:
            self.row([self.measured(f"{name}: all scores are 0", _SMALL)])
            return

        low = self.measured("0" if one_sided else f"{-most:.2g}", _SMALL)
        high = self.measured(f"{most:.2g}", _SMALL)
        label = self.measured(name, _SMALL)

        # names have one room for the number between them and the bar, so that those of several bars are aligned
        left = (self.width - _BAR[0]) / 2
        middle = self.top + _LINE / 2
        self.texts.append((label[0], max(0.0, left - _WIDEST_END - label[1] - _GAP), middle))
        self.texts.append((low[0], left - low[1] - _GAP / 2, middle))
        self.texts.append((high[0], left + _BAR[0] + _GAP / 2, middle))

        shares = np.linspace(0 if one_sided else -1, 1, 256, dtype=np.float32)[None]
        self.pictures.append((on_paper(shares, look.palette), left, middle - _BAR[1] / 2, *_BAR))
        self.top += _LINE

    def finish(self) -> None:
        """Give the figure its height, and everything its place."""
        height = self.top + _GAP
        self.figure.set_size_inches(self.width, height)
        for text, left, middle in self.texts:
            text.set_position((left / self.width, 1 - middle / height))
        for pixels, left, top, across, down in self.pictures:
            box = left / self.width, 1 - (top + down) / height, across / self.width, down / height
            axes = self.figure.add_axes(box)
            axes.imshow(pixels, aspect="auto", interpolation="none")
            axes.set_axis_off()


def _hex(color: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def find_font(name: str) -> str:
    """Return the file of a font: one of ``FONTS``, or a family that is installed.

    Raises:
        BadOption: There is no such font.
    """
    try:
        return font_manager.findfont(FONTS.get(name, name), fallback_to_default=False)
    except ValueError as error:
        raise BadOption(
            f"font must be {', '.join(FONTS)} or the name of a font that is installed (got {name!r:.60})"
        ) from error


def _file_for(line: str, file: str) -> str:
    """Return the file of a font, or of another one if it lacks characters of a line."""
    characters = font_manager.get_font(file)
    if all(characters.get_char_index(ord(character)) for character in line if not character.isspace()):
        return file
    return font_file(line)


def paper_figure(
    result: ResultWithMaps, look: Appearance, width: float, font: str, file_type: str, signature: str
) -> bytes:
    """Return the figure of a result as a signed file.

    Raises:
        BadOption: There is no such font.
    """
    file = find_font(font)
    if isinstance(result, Explanation):
        panels = [*_panels_of_images(result, look, width)]
    else:
        panels = [*_panels_of_words(result, look, width)]

    with rc_context({"pdf.fonttype": 42, "ps.fonttype": 42}):  # text that can be searched and edited
        figure = Figure((width, width), dpi=_PIXELS, layout="none")  # pyright: ignore[reportArgumentType]
        page = Page(figure, FigureCanvasAgg(figure).get_renderer(), width, file)
        if result.mismatch:
            page.lines(sentence(result.mismatch))
        page.panels(panels, _across(result, len(panels), width))
        _add_scales(page, result, look)
        name, value = view_of(result).score(result)
        page.lines(f"{name} {value:z.3f}; {method_line(result)}", FAINT)
        page.finish()
        return saved(figure, file_type, signature, dpi=_PIXELS)


def _across(result: ResultWithMaps, count: int, width: float) -> int:
    """Return how many maps are side by side: a photograph and its map, or as many words as the width has room for."""
    if isinstance(result, Explanation):
        return 2
    return max(2, min(count, int((width + _GAP) / (_WORD_MAP + _GAP))))


def _add_scales(page: Page, result: ResultWithMaps, look: Appearance) -> None:
    """Place the captions on their colors, and the color scales of maps and of words."""
    signed = is_signed(result)
    if not isinstance(result, Explanation):
        table: Any = result
        most = words_view(result).largest_score(table)
        page.scale("maps", most, look, look.is_one_sided(signed, float(table.table.min())))
        return

    grids = [side.grid for side in result.sides.values() if isinstance(side, ImageAttribution)]
    if grids:
        lowest = min(float(grid.min()) for grid in grids)
        most = max(float(grid.abs().max()) for grid in grids)
        page.scale("image", most, look, look.is_one_sided(signed, lowest))

    shared = shared_word_scale(result)
    for name, side in result.sides.items():
        if not isinstance(side, TextAttribution):
            continue
        own = side_look(result, name, look)
        page.top += _GAP
        page.row([_colored(page, word.text, word.background) for word in runs(side, own, shared)], _GAP)
        scores = [word.score for word in side.words]
        most = max(map(abs, scores), default=0.0) if shared is None else shared
        page.top += _GAP / 2
        one_sided = look.is_one_sided(signed, min(scores, default=0.0))
        page.scale("other words" if name == "against" else "words", most, own, one_sided)


def _colored(page: Page, word: str, background: RGB) -> tuple[Text, float]:
    """Return a word on its color, with its width."""
    text, across = page.measured(word, color=ink_on(background))
    text.set_bbox({"facecolor": _hex(background), "edgecolor": "none", "pad": 1.2})
    return text, across


def _panels_of_images(result: Explanation, look: Appearance, width: float) -> Iterator[MapPanel]:
    """Yield each photograph and its map; two images share a scale."""
    images = {name: side for name, side in result.sides.items() if isinstance(side, ImageAttribution)}
    most = max((float(side.grid.abs().max()) for side in images.values()), default=0.0)
    for name, side in images.items():
        original = resized(photograph(side.input, side.source), round(_PIXELS * width / 2))
        value = result.target[name]["value"]
        mapped = result if name == "image" else side  # of which the explanation knows what decides
        title = "" if value == result.similarity else f"{result.target[name]['name']} {value:z.3f}"
        yield MapPanel(original, "")
        yield MapPanel(overlay(mapped, original, side_look(result, name, look), most), title)


def _panels_of_words(result: ResultWithMaps, look: Appearance, width: float) -> Iterator[MapPanel]:
    """Yield the map of each word, all on one scale."""
    view = words_view(result)
    words: Any = result
    original = resized(photograph(words.input, words.source), round(_PIXELS * min(width, 2 * _WORD_MAP)))
    most = view.largest_score(words)
    look = look.pale if result.is_noise() else look
    entries = zip(
        words.words, words.table, view.errors(words), view.parts(words), view.words_matter(words), strict=True
    )
    for word, grid, error, part, matters in entries:
        mapped = GridMap(grid, words.region, words.size, error, part)
        yield MapPanel(overlay(mapped, original, look if matters else look.pale, most), word.text)
