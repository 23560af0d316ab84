"""The layout of images: rows below each other, images side by side, and texts with fonts that have their characters.

The fonts are Pillow's own, matplotlib's, or a system font. In ``apart``, texts are not drawn but kept beside the pixels
of a picture, for files of other kinds.
"""

from base64 import b64encode
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from nibt.io import one_line
from nibt.report.colors import ALERT, ALERT_EDGE, FAINT, INK, PAPER, RGB

TEXTS = "texts"
"""The key of the texts in the ``info`` of a picture."""
_apart: ContextVar[bool] = ContextVar("_apart", default=False)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
ELLIPSIS = "\u2026"
_NAMES = (
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "Arial Unicode.ttf",
    "NotoEmoji-Regular.ttf",
    "Symbola.ttf",
)


@dataclass(frozen=True)
class Text:
    """A line of text that is not among the pixels of a picture: its start on the baseline, in pixels, and its font."""

    left: int | float
    baseline: int | float
    line: str
    ink: RGB
    size: int
    font: str


@contextmanager
def apart() -> Iterator[None]:
    """Keep texts apart from the pixels of the pictures that the block draws."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def write(
    pen: ImageDraw.ImageDraw, place: tuple[float | int, float | int], text: str, ink: RGB, size: int, anchor: str = "la"
) -> None:
    """Draw a text on one line."""
    line = one_line(text)
    font = font_for(line, size)
    if not _apart.get():
        pen.text(place, line, ink, font, anchor=anchor)
        return

    # figures place texts by the start of their baseline, whatever the anchor is here
    assert isinstance(font, ImageFont.FreeTypeFont)
    left, top, *_ = font.getbbox(line, anchor=anchor)
    start, base, *_ = font.getbbox(line, anchor="ls")
    text_apart = Text(place[0] + left - start, place[1] + top - base, line, ink, size, str(font.path))
    pen._image.info.setdefault(TEXTS, []).append(text_apart)  # pyright: ignore


def put(page: Image.Image, image: Image.Image, left: int, top: int) -> None:
    """Paste an image with its texts into a page."""
    page.paste(image, (left, top))
    for text in image.info.get(TEXTS, ()):
        moved = replace(text, left=text.left + left, baseline=text.baseline + top)
        page.info.setdefault(TEXTS, []).append(moved)


def length(text: str, size: int) -> float:
    """Return the width of a text as ``write`` draws it."""
    line = one_line(text)
    return font_for(line, size).getlength(line)


def fitting(line: str, size: int, width: float | int) -> int:
    """Return how many characters at the start of a line fit into a width, at least 1."""
    font = font_for(line, size)
    if font.getlength(line) <= width:
        return max(1, len(line))

    # a bisection, since a text may have 100,000 characters; a character has about a pixel or more
    most = max(1, min(len(line), round(width)))
    return max(1, bisect_right(range(1, most + 1), width, key=lambda count: font.getlength(line[:count])))


def shortened(text: str, size: int, width: float | int) -> str:
    """Return a text on one line that fits into a width; an ellipsis stands for what does not fit."""
    line = one_line(text)
    if fitting(line, size, width) >= len(line):
        return line
    return line[: fitting(line, size, width - length(ELLIPSIS, size))] + ELLIPSIS


def shortened_inside(text: str, size: int, width: float | int) -> str:
    """Return a text that fits into a width, with an ellipsis in its middle: names may differ at their ends."""
    line = one_line(text)
    if fitting(line, size, width) >= len(line):
        return line
    half = (width - length(ELLIPSIS, size)) / 2
    ending = fitting(line[::-1], size, half)
    return line[: fitting(line, size, half)].rstrip() + ELLIPSIS + line[-ending:].lstrip()


def font_for(text: str, size: int) -> Font:
    """Return the first of the fonts that have the most characters of the text."""
    return _font_of(frozenset(text), size, _apart.get())


@lru_cache(maxsize=1024)
def _font_of(characters: frozenset[str], size: int, of_file: bool) -> Font:
    """Return the first of the fonts that have the most of some characters; ``of_file`` if it must have a file."""
    drawn = [character for character in characters if not character.isspace()]
    fonts = [font for font in _fonts(size) if not of_file or isinstance(getattr(font, "path", None), str)]
    return max(fonts, key=lambda font: sum(_has(font, character) for character in drawn))


@lru_cache(maxsize=8)
def _fonts(size: int) -> tuple[Font, ...]:
    fonts: list[Font] = [ImageFont.load_default(size)]
    matplotlib = find_spec("matplotlib")
    assert matplotlib is not None, "nibt depends on matplotlib"
    shipped = Path(str(matplotlib.origin)).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in (str(shipped), *_NAMES):
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue

    return tuple(fonts)


@lru_cache(maxsize=4096)
def _has(font: Font, character: str) -> bool:
    """Return whether a font has a character, and does not draw the box of a missing one."""
    # U+FFFF is no character of Unicode, so no font has it
    return _drawn(font, character) != _drawn(font, "\uffff")


def _drawn(font: Font, character: str) -> bytes:
    """Return the pixels of one character."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(character))
    page = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(page).text((-left, -top), character, 255, font)
    return page.tobytes()


SIDE = 560
MARGIN = 24
SMALL = 15
TILE = 190
_LABEL = 20
_LEAST_LABEL = 11
_MOST_LINES = 4  # the lines of one word
_PIXELS_SHOWN = 4  # the enlargement above which the pixels of an image are shown as squares


def stacked(rows: Sequence[Image.Image], width: int) -> Image.Image:
    """Stack rows of the width of the page."""
    page = Image.new("RGB", (width, sum(row.height for row in rows) + MARGIN * (len(rows) + 1)), PAPER)
    top = MARGIN
    for row in rows:
        put(page, row, 0, top)
        top += row.height + MARGIN
    return page


def below(upper: Image.Image, lower: Image.Image, gap: int = 0) -> Image.Image:
    """Draw an image below another one of the same width."""
    group = Image.new("RGB", (upper.width, upper.height + gap + lower.height), PAPER)
    put(group, upper, 0, 0)
    put(group, lower, 0, upper.height + gap)
    return group


def resized(image: Image.Image, side: int = SIDE) -> Image.Image:
    """Return a copy whose longer side is that of a panel; tiny images are enlarged without smoothing."""
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > _PIXELS_SHOWN else Image.Resampling.LANCZOS)


def uri(image: Image.Image, file_type: str = "PNG", **options: int) -> str:
    """Return an image as a data URI, for pages without network access."""
    buffer = BytesIO()
    image.save(buffer, file_type, **options)
    return f"data:image/{file_type.lower()};base64,{b64encode(buffer.getvalue()).decode()}"


def centered(images: list[Image.Image], width: int) -> Image.Image:
    """Center images side by side in a row."""
    row = Image.new("RGB", (width, max(image.height for image in images)), PAPER)
    left = (width - sum(image.width for image in images) - MARGIN * (len(images) - 1)) // 2
    for image in images:
        put(row, image, left, 0)
        left += image.width + MARGIN
    return row


def tile(image: Image.Image, name: str, number: str = "") -> Image.Image:
    """Draw a small image with its name and a number above it."""
    framed = Image.new("RGB", (max(image.width, 100), image.height + _LABEL + 12), PAPER)
    put(framed, image, (framed.width - image.width) // 2, _LABEL + 12)

    # the name gets smaller before it is shortened
    pen = ImageDraw.Draw(framed)
    room = framed.width - 6 - length(number, SMALL)
    size = next((size for size in range(_LABEL, _LEAST_LABEL, -1) if length(name, size) <= room), _LEAST_LABEL)
    write(pen, (2, 4), shortened_inside(name, size, room), INK, size)
    write(pen, (framed.width - 2, 8), number, INK, SMALL, anchor="rt")
    return framed


def text_rows(lines: Sequence[str], width: int, size: int = SMALL, ink: RGB = FAINT, paper: RGB = PAPER) -> Image.Image:
    """Draw centered lines of text, wrapped to the width."""
    wrapped = [row_text for line in lines for row_text in _wrapped(line, width - 2 * MARGIN, size)]
    height = 3 * size // 2
    row = Image.new("RGB", (width, height * len(wrapped)), paper)
    pen = ImageDraw.Draw(row)
    for number, line in enumerate(wrapped):
        write(pen, (width // 2, height * number), line, ink, size, anchor="mt")
    return row


def banner(text: str, width: int) -> Image.Image:
    """Draw an important line on a colored background, with a mark at its left edge."""
    inner = text_rows([text], width - 2 * MARGIN, ink=INK, paper=ALERT)
    row = Image.new("RGB", (width, inner.height + MARGIN), PAPER)
    pen = ImageDraw.Draw(row)
    pen.rectangle((MARGIN, 0, width - MARGIN - 1, row.height - 1), fill=ALERT)
    put(row, inner, MARGIN, MARGIN // 2)
    pen.rectangle((MARGIN, 0, MARGIN + 5, row.height - 1), fill=ALERT_EDGE)
    return row


def _wrapped(text: str, width: int, size: int) -> Iterator[str]:
    line = ""
    for word in _broken(text, width, size):
        candidate = f"{line} {word}" if line else word
        if line and length(candidate, size) > width:
            yield line
            line = word
        else:
            line = candidate
    yield line


def _broken(text: str, width: int, size: int) -> Iterator[str]:
    """Yield the words; a word wider than a line is broken, and shortened after ``_MOST_LINES``."""
    for word in one_line(text).split(" "):
        for _ in range(_MOST_LINES - 1):
            end = fitting(word, size, width)
            if end >= len(word):
                yield word
                break

            yield word[:end]
            word = word[end:]
        else:
            yield shortened(word, size, width)
