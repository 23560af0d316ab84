"""Drawing of texts on one line, with fonts that have their characters: Pillow's own, or a system font."""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from nibt.display import one_line
from nibt.report.colors import RGB

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_NAMES = (
    "DejaVuSans.ttf",
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


def font_for(text: str, size: int) -> Font:
    """Return the first font that has all characters of the text, or the first font if none has."""
    fonts = _fonts(size)
    return next(
        (font for font in fonts if all(_has(font, character) for character in set(text) if not character.isspace())),
        fonts[0],
    )


@lru_cache(maxsize=8)
def _fonts(size: int) -> tuple[Font, ...]:
    fonts: list[Font] = [ImageFont.load_default(size)]
    for name in _NAMES:
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
