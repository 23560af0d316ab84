"""Drawing of texts on one line, with fonts that have their characters: Pillow's own, matplotlib's, or a system font."""

from bisect import bisect_right
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from nibt.io import one_line
from nibt.report.colors import RGB

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


def write(
    pen: ImageDraw.ImageDraw, place: tuple[float | int, float | int], text: str, ink: RGB, size: int, anchor: str = "la"
) -> None:
    """Draw a text on one line."""
    line = one_line(text)
    pen.text(place, line, ink, font_for(line, size), anchor=anchor)


def length(text: str, size: int) -> float:
    """Return the width of a text as ``write`` draws it."""
    line = one_line(text)
    return font_for(line, size).getlength(line)


def fitting(line: str, size: int, width: float | int) -> int:
    """Return how many characters at the start of a line fit into a width, at least 1."""
    font, most = font_for(line, size), max(1, min(len(line), round(width)))  # a character has about a pixel or more
    return max(1, bisect_right(range(1, most + 1), width, key=lambda count: font.getlength(line[:count])))


def shortened(text: str, size: int, width: float | int) -> str:
    """Return a text on one line that fits into a width; an ellipsis stands for what does not fit."""
    line = one_line(text)
    if fitting(line, size, width) >= len(line):
        return line
    return line[: fitting(line, size, width - length(ELLIPSIS, size))] + ELLIPSIS


def font_for(text: str, size: int) -> Font:
    """Return the first of the fonts that have the most characters of the text."""
    characters = [character for character in set(text) if not character.isspace()]
    return max(_fonts(size), key=lambda font: sum(_has(font, character) for character in characters))


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
    return _drawn(font, character) != _drawn(font, "\uffff")


def _drawn(font: Font, character: str) -> bytes:
    """Return the pixels of one character."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(character))
    page = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(page).text((-left, -top), character, 255, font)
    return page.tobytes()
